//! One domain on this machine: a folder with its configuration, its mesh, its Envoy and its services.

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
use certs::{DomainKey, KeyError, PublicKey};
use harness::free_address;
use harness::process::{self, Child, envoy_command};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::echo;
use crate::http::{self, Limits, Target};
use crate::status::Status;

pub use manifest::service_manifest;

/// How long a mesh or an Envoy may take to be ready.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long they may take to end before they are killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A domain whose mesh and Envoy are started and stopped at will. Dropping it kills them.
pub struct Domain {
    /// Its ID.
    pub name: String,
    /// Its folder: `networkmesh.yaml`, `manifests/`, `state/`, `logs/`.
    pub folder: PathBuf,
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

/// The addresses of a domain, all on loopback.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Envoy, for other domains.
    pub external: SocketAddr,
    /// Envoy, for this domain's applications.
    pub internal: SocketAddr,
    /// Envoy's own admin interface.
    pub envoy_admin: SocketAddr,
    /// The mesh's handshake service.
    pub handshake: SocketAddr,
    /// The mesh's DNS.
    pub dns: SocketAddr,
}

/// What went wrong with a domain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or socket.
    #[error("{what}: {error}")]
    Io {
        /// The file or socket.
        what: String,
        /// The system's answer.
        error: io::Error,
    },
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A process does not do as it should.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// `networkmesh bootstrap` failed.
    #[error("networkmesh bootstrap: {0}")]
    Bootstrap(String),
    /// A call failed.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// A request cannot be made.
    #[error(transparent)]
    Request(#[from] ::http::Error),
    /// An answer is not the JSON that was expected.
    #[error("an answer is not the JSON that was expected: {0}")]
    Json(#[from] serde_json::Error),
}

impl Addresses {
    fn free() -> io::Result<Self> {
        Ok(Self {
            external: free_address()?,
            internal: free_address()?,
            envoy_admin: free_address()?,
            handshake: free_address()?,
            dns: free_address()?,
        })
    }
}

impl Domain {
    /// Makes the folder of domain `name` in `parent`, with a new key. `extra` is merged over the fields of
    /// `networkmesh.yaml`.
    ///
    /// # Errors
    /// The folder, an address or a key cannot be had.
    pub fn lay_out(parent: &Path, name: &str, extra: &Value) -> Result<Self, Error> {
        let folder = parent.join(name);
        let addresses = Addresses::free().map_err(io_error("a free address"))?;
        let key = DomainKey::generate()?;
        for folder in [folder.join("manifests"), folder.join("logs")] {
            fs::create_dir_all(&folder).map_err(io_error(&folder.display().to_string()))?;
        }
        let mut config = json!({
            "domainID": name,
            "domainKeyData": *key.to_domain_key_data(),
            "instance": format!("{name}-gateway"),
            "listen": {
                "external": addresses.external,
                "internal": addresses.internal,
                "handshake": addresses.handshake,
                "xds": "unix:xds.sock",
                "dns": addresses.dns,
                "admin": free_address().map_err(io_error("a free address"))?,
            },
            "envoy": {"admin": addresses.envoy_admin, "accessLog": "logs"},
            "dns": {"upstreams": ["127.0.0.1:9"]},
        });
        merge(&mut config, extra);
        let admin = config["listen"]["admin"].as_str().unwrap_or_default();
        let admin = match (admin.strip_prefix("unix:"), admin.parse()) {
            (Some(path), _) => Target::Unix(folder.join(path)),
            (None, Ok(address)) => Target::Tcp(address),
            (None, Err(error)) => return Err(io_error("listen.admin")(io::Error::other(error))),
        };
        let domain = Self {
            name: name.to_owned(),
            folder,
            addresses,
            admin,
            public_key: key.public_key().clone(),
            mesh: None,
            envoy: None,
            services: Vec::new(),
        };
        // JSON is YAML too.
        domain.write("networkmesh.yaml", &config.to_string())?;
        Ok(domain)
    }

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

    /// Adds a manifest to it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn apply(&self, file: &str, manifest: &Value) -> Result<(), Error> {
        self.write(&format!("manifests/{file}"), &manifest.to_string())
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
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(io_error("an echo service"))?;
        let address = listener.local_addr().map_err(io_error("an echo service"))?;
        let stop = CancellationToken::new();
        let name = format!("{service}.{}", self.name);
        let task = tokio::spawn(echo::serve(listener, name, stop.clone()));
        self.services.push((stop, task));
        self.apply(&format!("{service}.json"), &service_manifest(service, &[address]))?;
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

/// Objects are merged field by field, everything else is replaced.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                merge(base.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (base, value) => *base = value.clone(),
    }
}

fn io_error(what: &str) -> impl FnOnce(io::Error) -> Error {
    let what = what.to_owned();
    move |error| Error::Io { what, error }
}
