//! The gRPC server: carries requests and states into sessions, and responses out of them.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::{
    config::core::v3::{self as core, node::UserAgentVersionType},
    service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
        aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
    },
};
use futures_util::{Stream, stream};
use jiff::Timestamp;
use tokio::time::{sleep, sleep_until};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status, Streaming,
    transport::{
        Server,
        server::{TcpIncoming, UdsConnectInfo},
    },
};
use tracing::info;

use crate::{
    cache::{Cache, State},
    listen::{BindError, ListenAddress, Listener},
    limits::Limits,
    session::{Protocol, Request, Response},
    status::{Clients, Connection, Node},
};

/// How often an idle connection is probed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// After what silence a probed connection is given up.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a new stream may wait with its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(30);
/// How long connections may take to end after the shutdown began.
const SHUTDOWN: Duration = Duration::from_secs(3);
/// How many bytes are kept of each thing a client says about itself.
const NODE_BYTES: usize = 256;

/// Listens on an address, without accepting connections yet. Call it within a Tokio runtime.
pub fn bind(address: &ListenAddress) -> Result<Bound, BindError> {
    let error = |error| BindError { address: address.clone(), error };
    let listener = Listener::bind(address).map_err(error)?;
    let address = listener.address().map_err(error)?;
    Ok(Bound { listener, address, limits: Limits::default() })
}

/// A bound address, ready to serve.
pub struct Bound {
    listener: Listener,
    address: ListenAddress,
    limits: Limits,
}

/// The transport failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve xDS on {address}")]
pub struct ServeError {
    /// The address that was served.
    pub address: ListenAddress,
    #[source]
    source: tonic::transport::Error,
}

impl Bound {
    /// Replaces the default limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The address, with the port that was chosen if it was asked for as 0.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Serves the cache until the shutdown, then ends all streams, and removes a Unix socket's file.
    ///
    /// Connected clients are listed in `clients`. Several servers may share a cache and a list of clients.
    pub async fn serve(
        self,
        cache: Cache,
        clients: Clients,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        info!(address = %self.address, "serving xDS");
        let request_bytes = self.limits.request_bytes;
        let ads = Ads { cache, clients, limits: self.limits, shutdown: shutdown.clone() };
        let service = AggregatedDiscoveryServiceServer::new(ads).max_decoding_message_size(request_bytes);
        let router = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_service(service);
        let stop = shutdown.clone().cancelled_owned();
        let serve = async {
            match self.listener {
                Listener::Unix(listener, _file) => {
                    router.serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop).await
                }
                Listener::Tcp(listener) => {
                    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                    router.serve_with_incoming_shutdown(incoming, stop).await
                }
            }
        };
        let overdue = async {
            shutdown.cancelled().await;
            sleep(SHUTDOWN).await;
        };
        tokio::select! {
            served = serve => served.map_err(|source| ServeError { address: self.address, source }),
            () = overdue => Ok(()),
        }
    }
}

struct Ads {
    cache: Cache,
    clients: Clients,
    limits: Limits,
    shutdown: CancellationToken,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<DiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::StreamAggregatedResourcesStream>, Status> {
        Ok(tonic::Response::new(self.open(Protocol::StateOfTheWorld, request)))
    }

    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn delta_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(tonic::Response::new(self.open(Protocol::Delta, request)))
    }
}

impl Ads {
    /// The responses to a stream of requests. They are made as the client takes them, so nothing queues up for a
    /// slow one, and dropping them ends the session.
    fn open<Req, Res>(&self, protocol: Protocol, request: tonic::Request<Streaming<Req>>) -> Responses<Res>
    where
        Req: Into<Request> + Send + 'static,
        Res: From<Response> + Send + 'static,
    {
        let driver = Driver {
            protocol,
            peer: peer(&request),
            opened: Instant::now(),
            requests: request.into_inner(),
            states: self.cache.watch(),
            clients: self.clients.clone(),
            limits: self.limits.clone(),
            shutdown: self.shutdown.clone(),
            connection: None,
        };
        Box::pin(stream::try_unfold(driver, |mut driver| async move {
            let response = driver.response().await?;
            Ok(response.map(|response| (Res::from(response), driver)))
        }))
    }
}

/// Drives one session.
struct Driver<Req> {
    protocol: Protocol,
    peer: String,
    opened: Instant,
    requests: Streaming<Req>,
    states: tokio::sync::watch::Receiver<std::sync::Arc<State>>,
    clients: Clients,
    limits: Limits,
    shutdown: CancellationToken,
    /// From the first request on, as that tells who the client is.
    connection: Option<Connection>,
}

impl<Req: Into<Request>> Driver<Req> {
    /// Waits for the next response. `None` at the end of the stream.
    async fn response(&mut self) -> Result<Option<Response>, Status> {
        loop {
            let now = Instant::now();
            let wakeup = match &self.connection {
                None => Some(self.opened + FIRST_REQUEST),
                Some(connection) => {
                    let mut session = connection.session();
                    if let Some(response) = session.next(now) {
                        return Ok(Some(response));
                    }
                    session.wakeup(now)
                }
            };
            tokio::select! {
                () = self.shutdown.cancelled() => return Err(Status::unavailable("the server is shutting down")),
                request = self.requests.message() => match request? {
                    None => return Ok(None),
                    Some(request) => self.receive(request.into())?,
                },
                Ok(()) = self.states.changed(), if self.connection.is_some() => self.update(),
                () = sleep_until(wakeup.unwrap_or(now).into()), if wakeup.is_some() => {
                    if self.connection.is_none() {
                        return Err(Status::deadline_exceeded("no request came"));
                    }
                }
            }
        }
    }

    fn receive(&mut self, mut request: Request) -> Result<(), Status> {
        if self.connection.is_none() {
            let node = request.node.take().map(Node::from).unwrap_or_default();
            info!(node = node.id, peer = self.peer, protocol = ?self.protocol, "a client connects");
            let connection = self.clients.connect(node, self.peer.clone(), self.protocol, &self.limits);
            self.connection = Some(connection.ok_or_else(|| Status::resource_exhausted("too many streams"))?);
            self.update();
        }
        let Some(connection) = &self.connection else { return Ok(()) };
        let taken = connection.session().request(request, Timestamp::now());
        connection.tick();
        taken.map_err(|violation| Status::resource_exhausted(violation.to_string()))
    }

    fn update(&mut self) {
        let state = self.states.borrow_and_update().clone();
        if let Some(connection) = &self.connection {
            connection.session().update(state);
        }
    }
}

impl From<core::Node> for Node {
    fn from(node: core::Node) -> Self {
        let version = match node.user_agent_version_type {
            Some(UserAgentVersionType::UserAgentVersion(version)) => version,
            Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build
                .version
                .map(|version| format!("{}.{}.{}", version.major_number, version.minor_number, version.patch))
                .unwrap_or_default(),
            None => String::new(),
        };
        let user_agent = format!("{} {version}", node.user_agent_name);
        let shorten = |text: &str| text[..text.floor_char_boundary(NODE_BYTES)].to_owned();
        Self {
            id: shorten(&node.id),
            cluster: shorten(&node.cluster),
            user_agent: shorten(user_agent.trim()),
        }
    }
}

/// Where a request comes from, for people.
fn peer<T>(request: &tonic::Request<T>) -> String {
    if let Some(address) = request.remote_addr() {
        return address.to_string();
    }
    let credentials = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    match credentials.and_then(|credentials| credentials.pid()) {
        Some(pid) => format!("process {pid}"),
        None => "unix socket".to_owned(),
    }
}
