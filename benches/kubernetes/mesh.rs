//! The program with its Envoy, from outside.

use std::fs;
use std::io;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use harness::process::{Child, envoy_command};
use networkmesh::harness::cluster::Cluster;
use networkmesh::harness::domain::{Domain, Home};
use networkmesh::http::{Limits, Target, send};
use networkmesh::status::Status;
use serde_json::json;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::counter::Counter;
use crate::world::DOMAIN;
use crate::{Failure, Setting};

/// Pause between two questions whether something is ready.
const POLL: Duration = Duration::from_millis(5);

/// The same, where the answer takes time.
const LONG_POLL: Duration = Duration::from_millis(100);

/// How long a start may take.
const START: Duration = Duration::from_secs(300);

/// How long a process may take to end.
const STOP: Duration = Duration::from_secs(20);

/// Where `networkmesh` is.
const PROGRAM: &str = env!("CARGO_BIN_EXE_networkmesh");

/// The mesh and the Envoy of a domain. They are killed when this is dropped.
pub(crate) struct Mesh {
    domain: Domain,
    envoy: PathBuf,
    counter: Counter,
}

/// When what had happened, from the start of the mesh.
pub(crate) struct Start {
    /// Envoy takes requests.
    pub(crate) serving: Duration,
    /// The mesh has read everything.
    pub(crate) ready: Duration,
    /// Envoy has acknowledged everything.
    pub(crate) acknowledged: Duration,
}

impl Mesh {
    /// A mesh that is not started.
    pub(crate) async fn new(setting: &Setting) -> Result<Self, Failure> {
        let counter = Counter::start(setting.server.kubeconfig()).await?;
        let cluster = Cluster::connect(&counter.kubeconfig).await?;
        let home = Home::Namespace(cluster.namespace(DOMAIN).await?);
        let key = json!({"domainKeyData": *setting.world.key.to_domain_key_data()});
        let folder = tempfile::tempdir_in(setting.folder.path())?.keep();
        let domain = Domain::lay_out(&folder, DOMAIN, home, &key)?;
        let bootstrap =
            Command::new(PROGRAM).args(["bootstrap", "--config"]).arg(domain.config()).output().await?;
        domain.write("envoy.yaml", &String::from_utf8(bootstrap.stdout)?)?;
        Ok(Self { domain, envoy: setting.envoy.clone(), counter })
    }

    /// The bytes between mesh and API server.
    pub(crate) fn counter(&self) -> &Counter {
        &self.counter
    }

    /// The process ID of the mesh.
    pub(crate) fn pid(&self) -> Result<u32, Failure> {
        self.domain.mesh.as_ref().and_then(Child::pid).ok_or_else(|| "the mesh has ended".into())
    }

    /// Starts what does not run, and waits until Envoy has acknowledged what is made of so many services and routes.
    pub(crate) async fn start(&mut self, services: usize, routes: usize) -> Result<Start, Failure> {
        let started = Instant::now();
        let mut command = Command::new(PROGRAM);
        command.arg("run").arg("--config").arg(self.domain.config()).current_dir(&self.domain.folder);
        self.domain.mesh = Some(Child::spawn("the mesh", command, &self.log("mesh.log"))?);
        if self.domain.envoy.is_none() {
            let mut command =
                envoy_command(&self.envoy, &self.domain.folder.join("envoy.yaml"), NonZeroU16::new(1));
            command.current_dir(&self.domain.folder).stdin(Stdio::null());
            self.domain.envoy = Some(Child::spawn("Envoy", command, &self.log("envoy.log"))?);
        }
        let envoy = Target::Tcp(self.domain.addresses.envoy_admin);
        let admin = &self.domain.admin;
        let start = async {
            tokio::try_join!(
                until_ready(&envoy, "/ready", started),
                until_ready(admin, "/readyz", started),
                until_acknowledged(admin, services, routes, started),
            )
        };
        let (serving, ready, acknowledged) = timeout(START, start)
            .await
            .map_err(|_| format!("no start; see {}", self.log("").display()))??;
        Ok(Start { serving, ready, acknowledged })
    }

    /// Ends the mesh.
    pub(crate) async fn stop_mesh(&mut self) -> Result<(), Failure> {
        stop(self.domain.mesh.take()).await
    }

    /// Ends Envoy.
    pub(crate) async fn stop_envoy(&mut self) -> Result<(), Failure> {
        stop(self.domain.envoy.take()).await
    }

    /// Drops what the last run of the mesh has left.
    pub(crate) fn forget(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.domain.folder.join("state")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn log(&self, name: impl AsRef<Path>) -> PathBuf {
        self.domain.folder.join("logs").join(name)
    }
}

async fn stop(process: Option<Child>) -> Result<(), Failure> {
    if let Some(mut process) = process {
        process.stop(STOP).await?;
    }
    Ok(())
}

async fn until_ready(target: &Target, path: &str, started: Instant) -> Result<Duration, Failure> {
    loop {
        if ask(target, path).await.is_some_and(|response| response.status() == StatusCode::OK) {
            return Ok(started.elapsed());
        }
        sleep(POLL).await;
    }
}

/// The status of a large domain takes the mesh a while, so it is asked for only once Envoy can have everything.
async fn until_acknowledged(
    admin: &Target,
    services: usize,
    routes: usize,
    started: Instant,
) -> Result<Duration, Failure> {
    until_ready(admin, "/readyz", started).await?;
    loop {
        let asked = started.elapsed();
        let response = ask(admin, "/status").await.ok_or("the mesh does not answer")?;
        let status: Status = serde_json::from_slice(response.body())?;
        let Some(envoy) = status.envoys.first() else {
            sleep(LONG_POLL).await;
            continue;
        };
        let acknowledged = |ty| envoy.resources.get(ty).map_or(0, |counts| counts.acked);
        let is_complete = envoy.resources.values().all(|counts| counts.sent == counts.acked)
            && acknowledged("ClusterLoadAssignment") >= services
            && acknowledged("RouteConfiguration") >= routes
            && acknowledged("Listener") > 0;
        if is_complete {
            return Ok(asked);
        }
        sleep(LONG_POLL).await;
    }
}

async fn ask(target: &Target, path: &str) -> Option<Response<Bytes>> {
    let request = Request::get(path).body(Bytes::new()).ok()?;
    let limits = Limits { body: 1 << 30, ..Limits::default() };
    send(target, request, limits).await.ok()
}
