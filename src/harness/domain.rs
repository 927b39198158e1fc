//! One domain on this machine: a folder with its configuration, its mesh, its Envoy and its services.

mod error;
mod home;
mod layout;
mod manifest;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ::http::{HeaderMap, Request, Response, StatusCode};
use bytes::Bytes;
use certs::PublicKey;
use harness::process::{Child, envoy_command};
use model::api::DomainRouteStatus;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::echo;
use crate::http::{self, Limits, Target};
use crate::status::Status;

pub use error::Error;
use error::io_error;
pub use home::Home;
pub use layout::Addresses;
pub use manifest::service_manifest;

/// How long a mesh or an Envoy may take to be ready.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long they may take to end before they are killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A domain whose mesh and Envoy are started and stopped at will. Dropping it kills them.
///
/// Where a domain has several gateways, each is such a value, and they share their home and their key.
pub struct Domain {
    /// Its ID.
    pub name: String,
    /// Its folder: `networkmesh.yaml`, `state/`, `logs/`, and `manifests/` where its objects live there.
    pub folder: PathBuf,
    /// Where its objects live.
    pub home: Home,
    /// Where everything listens.
    pub addresses: Addresses,
    /// Where its mesh answers commands.
    pub admin: Target,
    /// Its public key.
    pub public_key: PublicKey,
    /// Its mesh, while it runs.
    pub mesh: Option<Child>,
    /// Its Envoy, while it runs.
    pub envoy: Option<Child>,
    services: Vec<(CancellationToken, JoinHandle<io::Result<()>>)>,
}

impl Domain {
    /// Path of its configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("networkmesh.yaml")
    }

    /// Writes a file of its folder at once, as an editor does that renames.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &str, text: &str) -> Result<(), Error> {
        let path = self.folder.join(file);
        let temporary = self.folder.join(format!(".{}.new", file.replace('/', "-")));
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(io_error(&path.display().to_string()))
    }

    /// Applies the objects of a manifest. Those that were applied as the same file before, and are not in it any more,
    /// are deleted.
    ///
    /// # Errors
    /// The file cannot be written, or the API server refuses an object.
    pub async fn apply(&self, file: &str, manifest: &Value) -> Result<(), Error> {
        match &self.home {
            Home::Folder => self.write(&format!("manifests/{file}"), &manifest.to_string()),
            Home::Namespace(namespace) => Ok(namespace.apply(file, manifest).await?),
        }
    }

    /// Deletes the objects that were applied as this file.
    ///
    /// # Errors
    /// The file cannot be removed, or the API server refuses.
    pub async fn remove(&self, file: &str) -> Result<(), Error> {
        match &self.home {
            Home::Folder => {
                let path = self.folder.join("manifests").join(file);
                fs::remove_file(&path).map_err(io_error(&path.display().to_string()))
            }
            Home::Namespace(namespace) => Ok(namespace.remove(file).await?),
        }
    }

    /// The status of a route, as the mesh has stored it.
    ///
    /// # Errors
    /// There is no such route, or nothing is stored of it.
    pub async fn stored_status(&self, route: &str) -> Result<DomainRouteStatus, Error> {
        match &self.home {
            Home::Folder => {
                let path = self.folder.join(format!("state/domainroutes/{route}.json"));
                let text = fs::read(&path).map_err(io_error(&path.display().to_string()))?;
                Ok(serde_json::from_slice(&text)?)
            }
            Home::Namespace(namespace) => Ok(namespace.status_of(route).await?),
        }
    }

    /// The manifest of a route with token authentication from this domain to `destination`, which both sides apply.
    #[must_use]
    pub fn route_to(&self, destination: &Self) -> Value {
        manifest::route(self, destination)
    }

    /// Starts an echo service (HTTP and gRPC) and adds its manifests: a Service and its Endpoints.
    ///
    /// # Errors
    /// No socket, or a manifest cannot be written.
    pub async fn serve_echo(&mut self, service: &str) -> Result<SocketAddr, Error> {
        let ip = self.home.service_ip().map_err(io_error("an echo service"))?;
        let listener = TcpListener::bind((ip, 0)).await.map_err(io_error("an echo service"))?;
        let address = listener.local_addr().map_err(io_error("an echo service"))?;
        let stop = CancellationToken::new();
        let name = format!("{service}.{}", self.name);
        let task = tokio::spawn(echo::serve(listener, name, stop.clone()));
        self.services.push((stop, task));
        self.apply(&format!("{service}.json"), &service_manifest(service, &[address])).await?;
        Ok(address)
    }

    /// Starts the mesh with the `networkmesh` at `program`, and waits until it is ready.
    ///
    /// # Errors
    /// It does not get ready; the error shows the end of its log.
    pub async fn start_mesh(&mut self, program: &Path) -> Result<(), Error> {
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(self.config()).current_dir(&self.folder);
        let name = format!("mesh of {}", self.name);
        let mut mesh = Child::spawn(name, command, &self.folder.join("logs/mesh.log"))?;
        mesh.wait_ready(START_TIMEOUT, || ready(&self.admin, "/readyz")).await?;
        self.mesh = Some(mesh);
        Ok(())
    }

    /// Starts Envoy with the output of `networkmesh bootstrap`, and waits until it serves.
    ///
    /// # Errors
    /// It does not get ready; the error shows the end of its log.
    pub async fn start_envoy(&mut self, program: &Path, envoy: &Path) -> Result<(), Error> {
        let output = Command::new(program)
            .args(["bootstrap", "--config"])
            .arg(self.config())
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(io_error(&program.display().to_string()))?;
        if !output.status.success() {
            return Err(Error::Bootstrap(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        self.write("envoy.yaml", &String::from_utf8_lossy(&output.stdout))?;
        let mut command = envoy_command(envoy, &self.folder.join("envoy.yaml"), NonZeroU16::new(1));
        command.current_dir(&self.folder);
        let name = format!("Envoy of {}", self.name);
        let mut envoy = Child::spawn(name, command, &self.folder.join("logs/envoy.log"))?;
        let admin = Target::Tcp(self.addresses.envoy_admin);
        envoy.wait_ready(START_TIMEOUT, || ready(&admin, "/ready")).await?;
        self.envoy = Some(envoy);
        Ok(())
    }

    /// What `networkmesh status` shows.
    ///
    /// # Errors
    /// The mesh does not answer.
    pub async fn status(&self) -> Result<Status, Error> {
        let request = Request::get("/status").body(Bytes::new())?;
        let response = http::send(&self.admin, request, Limits::default()).await?;
        Ok(serde_json::from_slice(response.body())?)
    }

    /// Calls `url` as an application of this domain: through its Envoy.
    ///
    /// # Errors
    /// No whole answer came.
    pub async fn call(&self, url: &str) -> Result<Response<Bytes>, Error> {
        let request = Request::get(url).body(Bytes::new())?;
        Ok(http::send(&Target::Tcp(self.addresses.internal), request, Limits::default()).await?)
    }

    /// Calls this domain's external listener as a stranger would, with headers of the caller's choice.
    ///
    /// # Errors
    /// No whole answer came.
    pub async fn call_from_outside(&self, path: &str, headers: HeaderMap) -> Result<Response<Bytes>, Error> {
        let mut request = Request::get(path).body(Bytes::new())?;
        *request.headers_mut() = headers;
        Ok(http::send(&Target::Tcp(self.addresses.external), request, Limits::default()).await?)
    }

    /// Ends Envoy, the mesh and the services.
    ///
    /// # Errors
    /// A process cannot be ended.
    pub async fn stop(&mut self) -> Result<(), Error> {
        for mut process in self.envoy.take().into_iter().chain(self.mesh.take()) {
            process.stop(STOP_TIMEOUT).await?;
        }
        for (stop, task) in self.services.drain(..) {
            stop.cancel();
            task.abort();
        }
        Ok(())
    }
}

/// Asks a server whether it is ready, which it is when it answers 200.
async fn ready(target: &Target, path: &str) -> Result<(), String> {
    let request = Request::get(path).body(Bytes::new()).map_err(|error| error.to_string())?;
    match http::send(target, request, Limits::default()).await {
        Ok(response) if response.status() == StatusCode::OK => Ok(()),
        Ok(response) => Err(format!("{target}{path} answers {}", response.status())),
        Err(error) => Err(error.to_string()),
    }
}
