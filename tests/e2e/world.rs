//! Domains on this machine, and what every test asks of them.

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ::http::{Request, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use certs::DomainKey;
use harness::envoy_binary::Locator;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use networkmesh::harness::domain::{Domain, Home};
use networkmesh::harness::echo::Echoed;
use networkmesh::http::{Limits, Target, send};
use networkmesh::status::RouteStatus;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::process::Command;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep, timeout};

use super::cluster;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_networkmesh");

/// Longer than anything takes on a busy machine: reached only by a test that fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(25);

/// Lines of each log that a failed test shows.
const SHOWN_LINES: usize = 40;

/// Where the objects of all domains of a scene live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// In folders of manifests.
    Directory,
    /// In namespaces of a Kubernetes API server.
    Kubernetes,
}

/// Makes each of the scenes two tests, one on each source. A scene takes its [`Source`].
macro_rules! scenes {
    ($($scene:ident),+ $(,)?) => { $(
        mod $scene {
            use crate::world::Source;

            #[tokio::test]
            async fn directory() {
                super::$scene(Source::Directory).await;
            }

            #[tokio::test]
            async fn kubernetes() {
                super::$scene(Source::Kubernetes).await;
            }
        }
    )+ };
}

/// Two domains, each with a mesh, an Envoy and a service `echo`.
pub(crate) struct World {
    pub(crate) alice: Domain,
    pub(crate) bob: Domain,
    pub(crate) envoy: PathBuf,
    // Dropped after the domains, whose processes write into it.
    pub(crate) folder: Folder,
    /// The scene's turn to write objects of the whole cluster, if it does.
    pub(crate) turn: Option<MutexGuard<'static, ()>>,
}

impl World {
    /// Everything runs, and both ways have a token.
    pub(crate) async fn two_domains(on: Source) -> Self {
        Self::with_routes(on, |_| ()).await
    }

    /// The same, with routes as `change` makes them of the usual ones.
    pub(crate) async fn with_routes(on: Source, change: impl Fn(&mut Value)) -> Self {
        let mut world = Self::laid_out(on, &json!({}), &json!({})).await;
        for mut route in [world.alice.route_to(&world.bob), world.bob.route_to(&world.alice)] {
            change(&mut route);
            world.connect(&route).await;
        }
        world.start().await;
        world.agree().await;
        world
    }

    /// Nothing runs but the services, and there are no routes. The configurations are the usual ones with `alice` and
    /// `bob` merged over them.
    pub(crate) async fn laid_out(on: Source, alice: &Value, bob: &Value) -> Self {
        let folder = Folder::new(on);
        let mut world = Self {
            alice: folder.domain("alice", alice).await,
            bob: folder.domain("bob", bob).await,
            envoy: envoy().await,
            folder,
            turn: None,
        };
        for domain in [&mut world.alice, &mut world.bob] {
            domain.serve_echo("echo").await.unwrap_or_else(|error| panic!("{error}"));
        }
        world
    }

    /// Gives a route to both sides.
    pub(crate) async fn connect(&self, route: &Value) {
        apply_route(&self.alice, route).await;
        apply_route(&self.bob, route).await;
    }

    /// Waits for the scene's turn to write `Domain`s, which all domains of a cluster share.
    pub(crate) async fn take_turn(&mut self, on: Source) {
        if on == Source::Kubernetes {
            self.turn = Some(cluster::turn().await);
        }
    }

    pub(crate) async fn start(&mut self) {
        let program = Path::new(PROGRAM);
        let started = async {
            tokio::try_join!(self.alice.start_mesh(program), self.bob.start_mesh(program))?;
            tokio::try_join!(
                self.alice.start_envoy(program, &self.envoy),
                self.bob.start_envoy(program, &self.envoy)
            )
        };
        started.await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits for tokens both ways.
    pub(crate) async fn agree(&self) {
        confirmed_revision(&self.alice, &self.bob).await;
        confirmed_revision(&self.bob, &self.alice).await;
    }
}

/// Domain alice alone, without Envoy.
pub(crate) struct Alone {
    pub(crate) alice: Domain,
    pub(crate) folder: Folder,
}

impl Alone {
    /// Nothing runs yet.
    pub(crate) async fn laid_out(on: Source, config: &Value) -> Self {
        let folder = Folder::new(on);
        Self { alice: folder.domain("alice", config).await, folder }
    }

    pub(crate) async fn start_mesh(&mut self) {
        self.alice.start_mesh(Path::new(PROGRAM)).await.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The folder of a test. When the test fails, the ends of all logs in it are shown.
pub(crate) struct Folder {
    on: Source,
    folder: TempDir,
}

impl Folder {
    /// A folder for domains whose objects live there, or in namespaces of their own.
    pub(crate) fn new(on: Source) -> Self {
        Self { on, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A domain whose mesh answers commands on a Unix socket, which shows secrets too.
    pub(crate) async fn domain(&self, name: &str, config: &Value) -> Domain {
        let home = match self.on {
            Source::Directory => Home::Folder,
            Source::Kubernetes => Home::Namespace(cluster::namespace(name).await),
        };
        let mut config = config.clone();
        if config["listen"]["admin"].is_null() {
            config["listen"]["admin"] = "unix:admin.sock".into();
        }
        Domain::lay_out(self.path(), name, home, &config).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The logs of all domains.
    pub(crate) fn logs(&self) -> Vec<PathBuf> {
        let entries =
            |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        entries(self.path().to_owned()).flat_map(|domain| entries(domain.join("logs"))).collect()
    }
}

impl Drop for Folder {
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in self.logs() {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let end = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
                eprintln!("--- the end of {}:\n{end}", log.display());
            }
        }
    }
}

/// An Envoy, fetched if need be.
pub(crate) async fn envoy() -> PathBuf {
    Locator::from_env().locate(&|_| ()).await.unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) async fn apply_route(domain: &Domain, route: &Value) {
    let file = format!("{}.json", route["metadata"]["name"].as_str().unwrap());
    domain.apply(&file, route).await.unwrap_or_else(|error| panic!("{error}"));
}

/// Turns a route into one from the domain `source`, whose public key is `key`.
pub(crate) fn set_source(route: &mut Value, source: &str, key: &str) {
    let destination = route["spec"]["destination"].as_str().unwrap().to_owned();
    route["metadata"]["name"] = format!("{source}-{destination}").into();
    route["spec"]["source"] = source.into();
    route["spec"]["tokenConfig"]["sourcePublicKey"] = key.into();
}

/// Turns a route into one to the domain `destination`, whose gateway is at `endpoint`.
pub(crate) fn set_destination(route: &mut Value, destination: &str, endpoint: SocketAddr) {
    let source = route["spec"]["source"].as_str().unwrap().to_owned();
    route["metadata"]["name"] = format!("{source}-{destination}").into();
    route["spec"]["destination"] = destination.into();
    route["spec"]["endpoint"]["host"] = endpoint.ip().to_string().into();
    route["spec"]["endpoint"]["ports"][0]["port"] = endpoint.port().into();
}

/// Turns a route into one without token authentication.
pub(crate) fn set_unauthenticated(route: &mut Value) {
    route["spec"]["authenticationType"] = "None".into();
    route["spec"].as_object_mut().unwrap().remove("tokenConfig");
}

/// Tries until `attempt` succeeds; it says what is missing.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(last) if Instant::now() >= deadline => panic!("not within {DEADLINE:?}: {what}; {last}"),
            Err(_) => sleep(POLL).await,
        }
    }
}

/// The route of that name in the status of `domain`.
pub(crate) async fn route_status(domain: &Domain, route: &str) -> Result<RouteStatus, String> {
    let status = domain.status().await.map_err(|error| error.to_string())?;
    let found = status.routes.iter().find(|known| known.name == route).cloned();
    found.ok_or_else(|| format!("no route {route} in {status:?}"))
}

/// Waits until `domain` refuses the route for that reason. Answers what it says of that.
pub(crate) async fn refused(domain: &Domain, route: &str, reason: &str) -> String {
    eventually(reason, async || {
        let status = domain.stored_status(route).await.map_err(|error| error.to_string())?;
        let accepted = status.conditions.iter().find(|condition| condition.type_ == "Accepted");
        let refused = accepted.filter(|accepted| accepted.reason == reason);
        refused.map(|refused| refused.message.clone()).ok_or_else(|| format!("{status:?}"))
    })
    .await
}

/// The revision of the token that `source` sends to `destination`, once the destination has confirmed it.
pub(crate) async fn confirmed_revision(source: &Domain, destination: &Domain) -> i64 {
    let name = format!("{}-{}", source.name, destination.name);
    eventually("a confirmed token", async || {
        let route = route_status(source, &name).await?;
        let confirmed = Some(&route).filter(|route| route.holds("Authenticated"));
        let revision = confirmed.and_then(|route| route.token_revisions.last().copied());
        revision.ok_or_else(|| format!("{route:?}"))
    })
    .await
}

/// The private key of `domain`.
pub(crate) fn key_of(domain: &Domain) -> DomainKey {
    let config: Value = serde_json::from_str(&fs::read_to_string(domain.config()).unwrap()).unwrap();
    DomainKey::from_domain_key_data(config["domainKeyData"].as_str().unwrap()).unwrap()
}

/// An address at which no service of `domain` listens.
pub(crate) fn nobody_at(domain: &Domain) -> SocketAddr {
    (domain.home.service_ip().unwrap(), 9).into()
}

/// A service that is another host.
pub(crate) fn external(name: &str, host: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [{
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": {}},
            "spec": {"type": "ExternalName", "externalName": host, "ports": [{"name": "http", "port": 80}]},
        }],
    })
}

/// The same service, but its clients are to go through the gateway.
pub(crate) fn labelled(mut manifest: Value) -> Value {
    manifest["items"][0]["metadata"]["labels"]["kuscia.secretflow/loadbalancer"] = "domainroute".into();
    manifest
}

/// Asks the server at `dns`, over UDP, for an address of `name`.
pub(crate) async fn resolve(dns: SocketAddr, name: &str) -> Option<IpAddr> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), RecordType::A));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.connect(dns).await.unwrap();
    socket.send(&query.to_vec().unwrap()).await.unwrap();
    let mut buffer = [0; 512];
    let size = timeout(DEADLINE, socket.recv(&mut buffer)).await.expect("an answer").unwrap();
    let answer = Message::from_vec(&buffer[..size]).unwrap();
    assert_eq!(answer.metadata.id, query.metadata.id);
    answer.answers.iter().find_map(|record| match &record.data {
        RData::A(address) => Some(address.0.into()),
        _ => None,
    })
}

/// The token that `source` sends to `destination`.
pub(crate) async fn token(source: &Domain, destination: &str) -> String {
    let status = source.stored_status(&format!("{}-{destination}", source.name)).await.unwrap();
    let sealed = status.token_status.revision_token.token;
    STANDARD.encode(key_of(source).open(&sealed, model::TOKEN_BYTES).unwrap())
}

/// Calls a service of any domain as an application of `domain`, with the `Host` header as given.
pub(crate) async fn get(domain: &Domain, host: &str, path: &str) -> Response<Bytes> {
    call(domain, Request::get(path).header("host", host).body(Bytes::new()).unwrap()).await
}

/// Sends a request as an application of `domain`.
pub(crate) async fn call(domain: &Domain, request: Request<Bytes>) -> Response<Bytes> {
    send(&Target::Tcp(domain.addresses.internal), request, Limits::default()).await.unwrap()
}

/// What the echo service saw.
#[track_caller]
pub(crate) fn echoed(response: &Response<Bytes>) -> Echoed {
    assert_eq!(response.status(), StatusCode::OK, "{response:?}");
    serde_json::from_slice(response.body()).unwrap()
}

/// The gateways that an error has passed, each with what it says.
#[track_caller]
pub(crate) fn hops(answer: &Response<Bytes>) -> &str {
    answer.headers()["kuscia-error-message"].to_str().unwrap()
}

/// Waits until a service of any domain answers applications of `domain` with `status`.
pub(crate) async fn answers(domain: &Domain, host: &str, status: u16) -> Response<Bytes> {
    eventually(&format!("{host} answers {status}"), async || {
        let url = format!("http://{host}/");
        let response = domain.call(&url).await.map_err(|error| error.to_string())?;
        if response.status() == status { Ok(response) } else { Err(format!("{response:?}")) }
    })
    .await
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `networkmesh` to its end.
pub(crate) async fn networkmesh(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
    run(Command::new(PROGRAM).args(arguments), "build the program").await
}

/// Runs a program to its end; `remedy` is for where it is missing.
pub(crate) async fn run(command: &mut Command, remedy: &str) -> Ran {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let name = format!("{:?}", command.as_std());
    let output = timeout(DEADLINE, command.output()).await.unwrap_or_else(|_| panic!("{name} does not end"));
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}; {remedy}"));
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The value of `--admin` for `domain`.
pub(crate) fn admin(domain: &Domain) -> String {
    domain.admin.to_string()
}
