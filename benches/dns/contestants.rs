//! Who takes part, and how each is started.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::ValueEnum;
use harness::{nsd, system_command};
use tokio::net::UdpSocket;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::{Failure, Place, SERVERS, go, names, process, serve};

/// Ten thousand names take some servers a moment.
const START: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(50);

/// A query for the first name, which a server that is ready answers.
const QUERY: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09service-0\x05alice\x03svc\x00\x00\x01\x00\x01";

/// A DNS server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contestant {
    /// This project's.
    Networkmesh,
    /// One that sends the same answer to everything: what the system lets a program do at most.
    Bare,
    /// NSD.
    Nsd,
    /// Knot DNS.
    Knot,
    /// unbound, with local data.
    Unbound,
    /// CoreDNS with its plugin `hosts`.
    CorednsHosts,
    /// CoreDNS with its plugin `file`.
    CorednsFile,
    /// CoreDNS with a plugin that answers from a table in memory, as Kuscia's does.
    CorednsMemory,
}

impl Contestant {
    pub(crate) const ALL: &'static [Self] = &[
        Self::Networkmesh,
        Self::Bare,
        Self::Nsd,
        Self::Knot,
        Self::Unbound,
        Self::CorednsHosts,
        Self::CorednsFile,
        Self::CorednsMemory,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Networkmesh => "networkmesh",
            Self::Bare => "bare responder",
            Self::Nsd => "NSD",
            Self::Knot => "Knot",
            Self::Unbound => "unbound",
            Self::CorednsHosts => "CoreDNS `hosts`",
            Self::CorednsFile => "CoreDNS `file`",
            Self::CorednsMemory => "CoreDNS, from memory",
        }
    }

    fn is_coredns(self) -> bool {
        matches!(self, Self::CorednsHosts | Self::CorednsFile | Self::CorednsMemory)
    }
}

/// The programs of others that had to be built.
#[derive(Default)]
pub(crate) struct Programs {
    coredns: PathBuf,
}

impl Programs {
    /// Builds what the contestants need.
    pub(crate) async fn find(contestants: &[Contestant]) -> Result<Self, Failure> {
        let mut programs = Self::default();
        if contestants.iter().any(|contestant| contestant.is_coredns()) {
            programs.coredns = go::build("benches/peers/coredns", "coredns").await?;
        }
        Ok(programs)
    }
}

/// A server that answers.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    /// All its processes: NSD has several.
    pids: Vec<u32>,
    /// While this file exists, those that can change their tables.
    change: Option<PathBuf>,
    process: Child,
}

impl Running {
    pub(crate) async fn start(
        contestant: Contestant,
        programs: &Programs,
        folder: &Path,
        place: Place,
    ) -> Result<Self, Failure> {
        let address = harness::free_address()?;
        let mut command = command(contestant, programs, folder, address)?;
        let log = std::fs::File::create(folder.join("server.log"))?;
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        let process = command.spawn().map_err(|error| {
            let program = command.as_std().get_program().display().to_string();
            format!("{program}: {error}; on Debian: apt-get install nsd knot unbound")
        })?;
        let leader = process.id().ok_or("the server has ended")?;
        timeout(START, answer(address)).await.map_err(|_| {
            let log = std::fs::read_to_string(folder.join("server.log")).unwrap_or_default();
            format!("{} does not answer: {log}", contestant.name())
        })??;
        let pids = family(leader)?;
        if place == Place::Pinned {
            for &pid in &pids {
                process::pin(pid, SERVERS).await?;
            }
        }
        let changes = matches!(contestant, Contestant::Networkmesh | Contestant::CorednsMemory);
        Ok(Self { address, pids, change: changes.then(|| folder.join(serve::CHANGE)), process })
    }

    /// Processor time since the start.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        self.pids.iter().map(|&pid| process::cpu(pid)).sum()
    }

    /// Resident memory, in megabytes; what processes share counts for each.
    pub(crate) fn megabytes(&self) -> Result<f64, Failure> {
        self.pids.iter().map(|&pid| process::resident_megabytes(pid)).sum()
    }

    /// Lets the table change from now on; false where it cannot.
    pub(crate) async fn change(&self) -> Result<bool, Failure> {
        match &self.change {
            Some(file) => {
                std::fs::write(file, "")?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        if let Some(file) = self.change.filter(|file| file.exists()) {
            std::fs::remove_file(file)?;
        }
        if let Some(leader) = self.process.id() {
            Command::new("kill").arg(leader.to_string()).status().await?;
        }
        self.process.wait().await?;
        Ok(())
    }
}

fn command(
    contestant: Contestant,
    programs: &Programs,
    folder: &Path,
    address: SocketAddr,
) -> Result<Command, Failure> {
    let (ip, port) = (address.ip(), address.port());
    let config = folder.join("config");
    let here = folder.display();
    let (mut command, options, text): (Command, &[&str], String) = match contestant {
        Contestant::Networkmesh | Contestant::Bare => {
            return Ok(serve::command(contestant, folder, address)?);
        }
        Contestant::Nsd => return Ok(nsd::command(folder, address, &[("svc", names::ZONE)])?),
        Contestant::Knot => (
            system_command("knotd"),
            &["-c"],
            format!(
                "server:\n  listen: {ip}@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n  rundir: {here}\n\
                 database:\n  storage: {here}\ncontrol:\n  listen: {here}/knot.sock\nlog:\n  - target: stderr\n    any: warning\n\
                 zone:\n  - domain: svc\n    file: {here}/{}\n    zonefile-sync: -1\n    journal-content: none\n",
                names::ZONE
            ),
        ),
        Contestant::Unbound => (
            system_command("unbound"),
            &["-d", "-c"],
            format!(
                "server:\n interface: {ip}\n port: {port}\n num-threads: 1\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n \
                 directory: \"{here}\"\n pidfile: \"\"\n use-syslog: no\n verbosity: 0\n module-config: \"iterator\"\n \
                 include: \"{here}/{}\"\nremote-control:\n control-enable: no\n",
                names::UNBOUND
            ),
        ),
        Contestant::CorednsHosts | Contestant::CorednsFile | Contestant::CorednsMemory => {
            let plugin = match contestant {
                Contestant::CorednsHosts => {
                    format!("hosts {here}/{} {{\n  ttl 5\n  no_reverse\n }}", names::HOSTS)
                }
                Contestant::CorednsFile => format!("file {here}/{}", names::ZONE),
                _ => format!("memory {here}/{} {here}/{}", names::HOSTS, serve::CHANGE),
            };
            (
                Command::new(&programs.coredns),
                &["-conf"],
                format!("svc.:{port} {{\n bind {ip}\n {plugin}\n}}\n"),
            )
        }
    };
    std::fs::write(&config, text)?;
    command.args(options).arg(config);
    Ok(command)
}

/// Returns once somebody answers there.
async fn answer(address: SocketAddr) -> Result<(), Failure> {
    let socket = UdpSocket::bind((address.ip(), 0)).await?;
    socket.connect(address).await?;
    let mut buffer = [0; 512];
    loop {
        // Errors say that nobody listens yet.
        if socket.send(QUERY).await.is_ok() {
            let received = timeout(POLL, socket.recv(&mut buffer)).await;
            let is_fine = |length| length > QUERY.len() && buffer[..2] == QUERY[..2] && buffer[3] & 0xf == 0;
            if received.is_ok_and(|received| received.is_ok_and(is_fine)) {
                return Ok(());
            }
        }
        sleep(POLL).await;
    }
}

/// A process, its children, and theirs.
fn family(pid: u32) -> Result<Vec<u32>, Failure> {
    let mut all = vec![pid];
    for child in std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?.split_whitespace() {
        all.extend(family(child.parse()?)?);
    }
    Ok(all)
}
