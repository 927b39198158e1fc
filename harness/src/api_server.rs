//! A real Kubernetes API server with an etcd of its own.
//!
//! Only the API server runs: none of Kubernetes' controllers do. So nobody empties a deleted namespace, makes service
//! accounts, writes the endpoints of a Service, or deletes what a deleted object owns.

mod binary;
mod credentials;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;
use tokio_rustls::rustls;

pub use self::binary::Error as BinaryError;
use self::credentials::Credentials;
use crate::{
    command::{Failed, run},
    free_address,
    process::{self, Child},
};

/// How long the server may take to start on a busy machine.
const START: Duration = Duration::from_secs(120);

/// How long the server may take to send all clients away.
const STOP: Duration = Duration::from_secs(20);

/// How long etcd may take to compact.
const COMPACT: Duration = Duration::from_secs(20);

/// A Kubernetes API server, with RBAC, tokens for service accounts, and etcd in the same process. The process ends when
/// this value is dropped, or the process that owns it ends.
#[derive(Debug)]
pub struct ApiServer {
    binary: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
    etcd: Etcd,
    credentials: Credentials,
    kubeconfig: PathBuf,
    process: Option<Child>,
}

/// Where etcd listens.
#[derive(Debug)]
struct Etcd {
    client: SocketAddr,
    peer: SocketAddr,
}

/// The API server does not do as it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no program to run.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// No port is free.
    #[error("no address for the API server: {0}")]
    Address(io::Error),
    /// A key or certificate cannot be made.
    #[error("no certificate for the API server: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The certificate just made is not to the client's liking.
    #[error("no TLS to the API server: {0}")]
    Tls(#[from] rustls::Error),
    /// A file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The process does not start, become ready or stop.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// etcd does not compact.
    #[error("cannot compact etcd: {0}")]
    Compact(Failed),
}

impl ApiServer {
    /// Starts an empty API server, which keeps its data, its log `api-server.log` and kubeconfig files in `folder`, and
    /// waits until it is ready.
    ///
    /// Go builds the program once, into the cache folder that [`Locator`](crate::envoy_binary::Locator) uses; `report`
    /// is told so. Processes that do so at the same time wait for the first.
    ///
    /// # Errors
    /// When the program cannot be built, or the server is not ready in two minutes; the message says what to do about
    /// it, or shows the end of the log.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(folder: &Path, report: &(dyn Fn(&str) + Sync)) -> Result<Self, Error> {
        let binary = binary::locate(report).await?;
        let [address, client, peer] = addresses().map_err(Error::Address)?;
        let credentials = Credentials::new(folder, address.ip())?;
        let kubeconfig = credentials.write_kubeconfig(&url(address), "admin", credentials.admin_token())?;
        let mut server = Self {
            binary,
            folder: folder.into(),
            address,
            etcd: Etcd { client, peer },
            credentials,
            kubeconfig,
            process: None,
        };
        server.start_again().await?;
        Ok(server)
    }

    /// The server's address as clients want it: `https://127.128.4.1:40001`.
    pub fn url(&self) -> String {
        url(self.address)
    }

    /// The kubeconfig of somebody who may do everything.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Writes the kubeconfig of whoever has the token, which the owner alone can read, and returns its path. A file that
    /// was written under this name before is replaced.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig_for(&self, name: &str, token: &str) -> Result<PathBuf, Error> {
        self.credentials.write_kubeconfig(&self.url(), name, token)
    }

    /// The process ID, unless the server is down.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().and_then(Child::pid)
    }

    /// Ends the server as an operator would: clients are told that it goes. Its data are kept.
    ///
    /// # Errors
    /// When the process cannot be signalled or waited for.
    pub async fn stop(&mut self) -> Result<(), Error> {
        if let Some(mut process) = self.process.take() {
            process.stop(STOP).await?;
        }
        Ok(())
    }

    /// Ends the server by SIGKILL, as a crash would. Its data are kept.
    ///
    /// # Errors
    /// When the process cannot be signalled or waited for.
    pub async fn kill(&mut self) -> Result<(), Error> {
        if let Some(mut process) = self.process.take() {
            process.kill9().await?;
        }
        Ok(())
    }

    /// Starts the server with the same data at the same address, and waits until it is ready. Where it still runs, it
    /// is stopped first.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_again(&mut self) -> Result<(), Error> {
        self.stop().await?;
        let log = self.folder.join("api-server.log");
        let process = self.process.insert(Child::spawn_tethered("the API server", self.command(), &log)?);
        let (credentials, address) = (&self.credentials, self.address);
        process.wait_ready(START, || credentials.ask_ready(address)).await?;
        Ok(())
    }

    /// Has etcd forget all revisions but the newest.
    ///
    /// Lists of an older resource version, and further pages of lists begun before, then get `410 Gone`. Watches from an
    /// older version get it once the server has been started again, compacted or not: the API server answers them from
    /// a memory of its own, which begins anew.
    ///
    /// # Errors
    /// When etcd does not answer in 20 seconds, as it does while the server is down.
    pub async fn compact(&self) -> Result<(), Error> {
        let mut command = Command::new(&self.binary);
        command.arg("compact").arg(self.etcd.client.to_string());
        run(&mut command, COMPACT).await.map_err(Error::Compact)?;
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("serve")
            .arg(self.folder.join("etcd"))
            .args([self.etcd.client, self.etcd.peer].map(|address| address.to_string()))
            .arg(format!("--bind-address={}", self.address.ip()))
            .arg(format!("--secure-port={}", self.address.port()))
            .arg(format!("--advertise-address={}", self.address.ip()))
            // The Service `kubernetes` cannot have the loopback address as its endpoint.
            .arg("--endpoint-reconciler-type=none")
            .arg("--service-cluster-ip-range=10.0.0.0/12")
            .arg("--allow-privileged=true")
            .arg("--authorization-mode=RBAC")
            // It would refuse pods, as nobody makes each namespace's service account `default`.
            .arg("--disable-admission-plugins=ServiceAccount")
            .args(self.credentials.flags());
        command
    }
}

fn addresses() -> io::Result<[SocketAddr; 3]> {
    Ok([free_address()?, free_address()?, free_address()?])
}

fn url(address: SocketAddr) -> String {
    format!("https://{address}")
}
