//! NSD, an authoritative name server of other people's making.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{net::TcpStream, process::Command};

use crate::{
    command::{Failed, run, system_command},
    free_address,
    process::{self, Child},
};

/// How long it may take to read its zones.
const START: Duration = Duration::from_secs(60);

/// A running NSD. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Nsd {
    address: SocketAddr,
    _process: Child,
}

/// NSD does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It refuses a zone, or its checker is missing.
    #[error("NSD takes no zone {zone}: {failed} (on Debian: apt-get install nsd)")]
    Zone {
        /// The name of the zone.
        zone: String,
        /// What the checker says.
        failed: Failed,
    },
    /// It does not start.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// It has no address.
    #[error("no address for NSD: {0}")]
    Address(io::Error),
    /// Its files cannot be written.
    #[error("cannot write {}: {error}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl Nsd {
    /// Starts NSD in `folder`, which is made, and waits until it serves. Each of the zones is its name and its master file
    /// (RFC 1035, 5), in which names are absolute.
    ///
    /// # Errors
    /// NSD is missing, or cannot read a zone; its log is in the error.
    pub async fn serve(folder: &Path, zones: &[(&str, &str)]) -> Result<Self, Error> {
        let address = free_address().map_err(Error::Address)?;
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let files: Vec<_> = (0..zones.len()).map(|number| format!("zone-{number}")).collect();
        for ((name, records), file) in zones.iter().zip(&files) {
            write(&folder.join(file), records)?;
            // NSD itself would start without the zone.
            run(system_command("nsd-checkzone").args([name, &file[..]]).current_dir(folder), START)
                .await
                .map_err(|failed| Error::Zone { zone: (*name).to_owned(), failed })?;
        }
        let zones: Vec<_> = zones.iter().zip(&files).map(|((name, _), file)| (*name, &file[..])).collect();
        let command = command(folder, address, &zones)?;
        let mut process = Child::spawn("NSD", command, &folder.join("log"))?;
        process.wait_ready(START, async || TcpStream::connect(address).await.map(drop)).await?;
        Ok(Self { address, _process: process })
    }

    /// Where it answers, over UDP and TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A command line that runs NSD in `folder`, where its configuration is written to. Each of the zones is its name and the
/// file in the folder that has its records.
///
/// Nothing of it is outside the folder, it stays who it is, and it answers as fast as it is asked.
///
/// # Errors
/// The configuration cannot be written.
pub fn command(folder: &Path, address: SocketAddr, zones: &[(&str, &str)]) -> Result<Command, Error> {
    let mut configuration = format!(
        "server:\n  ip-address: {}@{}\n  username: \"\"\n  zonesdir: \".\"\n  database: \"\"\n  pidfile: \"\"\n\
         \x20 xfrdfile: \"\"\n  xfrdir: \".\"\n  zonelistfile: \"zone.list\"\n\
         \x20 rrl-ratelimit: 0\n  rrl-whitelist-ratelimit: 0\n\
         remote-control:\n  control-enable: no\n",
        address.ip(),
        address.port()
    );
    for (name, file) in zones {
        configuration += &format!("zone:\n  name: \"{name}\"\n  zonefile: \"{file}\"\n");
    }
    write(&folder.join("nsd.conf"), &configuration)?;
    let mut command = system_command("nsd");
    command.args(["-d", "-c", "nsd.conf"]).current_dir(folder);
    Ok(command)
}

fn write(file: &Path, text: &str) -> Result<(), Error> {
    fs::write(file, text).map_err(failed(file))
}

fn failed(file: &Path) -> impl FnOnce(io::Error) -> Error {
    let file = file.to_owned();
    |error| Error::File { file, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONE: &str = "example. 5 IN SOA a. b. 1 1 1 1 1\nexample. 5 IN NS a.\n";

    #[tokio::test]
    async fn zones_are_served_or_refused_with_a_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let nsd = Nsd::serve(&folder.path().join("good"), &[("example.", ZONE)]).await.expect("serves");
        TcpStream::connect(nsd.address()).await.expect("listens");

        let broken = format!("{ZONE}example. 5 IN A nonsense\n");
        let error =
            Nsd::serve(&folder.path().join("broken"), &[("example.", &broken)]).await.expect_err("fails");
        assert!(error.to_string().starts_with("NSD takes no zone example.: "), "{error}");
    }
}
