//! This program as one of the contestants, in a process of its own.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dns::{NameChange, Names, Settings, ZoneSettings};
use model::Service;
use tokio::process::Command;
use tokio::runtime::Builder;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::contestants::Contestant;
use crate::{Failure, names};

/// While this file exists, tables change.
pub(crate) const CHANGE: &str = "change";

/// Changes a second.
const CHANGES: u32 = 1000;

/// How often [`CHANGE`] is looked for.
const CHECK: Duration = Duration::from_millis(100);

/// This program, as [`as_asked`] understands it.
pub(crate) fn command(
    contestant: Contestant,
    folder: &Path,
    address: SocketAddr,
) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let what = if contestant == Contestant::Bare { "serve-bare" } else { "serve" };
    command.arg(what).arg(address.to_string()).arg(folder);
    Ok(command)
}

/// Serves, if this process was started for that.
pub(crate) fn as_asked() -> Option<Result<(), Failure>> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next()?;
    let serve = match what.as_str() {
        "serve" => serve,
        "serve-bare" => serve_bare,
        _ => return None,
    };
    let (address, folder) = (arguments.next()?, arguments.next()?);
    Some(address.parse().map_err(Into::into).and_then(|address| serve(address, Path::new(&folder))))
}

/// The server of the mesh, with the names in the folder.
fn serve(address: SocketAddr, folder: &Path) -> Result<(), Failure> {
    let zone = ZoneSettings {
        domain: names::DOMAIN.parse()?,
        gateway: vec![address.ip()],
        gateway_port: 80,
        ttl: Duration::from_secs(5),
    };
    let names = Names::new(&zone);
    let count = std::fs::read_to_string(folder.join(names::HOSTS))?.lines().count() as u32;
    names.apply((0..count).map(|number| NameChange::Service(service(number, 0))));
    Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let bound = dns::bind(address, NonZeroUsize::MIN)?;
        tokio::spawn(change(names.clone(), count, folder.join(CHANGE)));
        let forever = CancellationToken::new();
        Ok(bound.serve(Settings::default(), names, Arc::default(), dns::QueryLog::default(), forever).await?)
    })
}

/// Gives one service after the other a new address, while the file exists.
async fn change(names: Names, count: u32, file: PathBuf) {
    for turn in 1.. {
        let mut ticks = interval(Duration::from_secs(1) / CHANGES);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        // Looked for once in many changes, beside which looking would count.
        if !file.exists() {
            sleep(CHECK).await;
            continue;
        }
        for number in 0..count.min(CHANGES) {
            ticks.tick().await;
            names.apply([NameChange::Service(service(number, turn))]);
        }
    }
}

/// The service of this number, which each turn moves to its other address.
fn service(number: u32, turn: u32) -> Arc<Service> {
    let (name, address) = names::service(number);
    let address = Ipv4Addr::from_bits(address.to_bits() ^ ((turn % 2) << 16));
    Arc::new(Service::new(
        name.parse().expect("a name of a service"),
        [SocketAddr::from((address, 80))].into(),
    ))
}

/// Sends the question back, with the same address as answer to each.
fn serve_bare(address: SocketAddr, _: &Path) -> Result<(), Failure> {
    const ANSWER: &[u8] = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x01";
    let socket = UdpSocket::bind(address)?;
    let mut buffer = [0; 512];
    loop {
        let (length, client) = socket.recv_from(&mut buffer)?;
        let end = length + ANSWER.len();
        if length < 12 || end > buffer.len() {
            continue;
        }
        // A response with authority and one record in the answer.
        buffer[2..4].copy_from_slice(&[0x84, 0]);
        buffer[6..8].copy_from_slice(&[0, 1]);
        buffer[length..end].copy_from_slice(ANSWER);
        socket.send_to(&buffer[..end], client)?;
    }
}
