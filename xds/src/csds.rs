//! The client status discovery service (`envoy.service.status.v3`): who is connected, and how far each client is.
//!
//! Whoever [`Views::may_inspect`] lets may ask. Each stream is a client of its own, so one that does without aggregation is told once
//! for each of its streams. Reports are made one at a time, and only up to a size ([`Limits`](crate::Limits)).

mod matcher;

use std::{fmt, sync::Arc};

use envoy_types::pb::{
    envoy::{
        admin::v3::{ClientResourceStatus, UpdateFailureState},
        service::status::v3::{
            ClientConfig, ClientStatusRequest, ClientStatusResponse, ConfigStatus,
            client_config::GenericXdsConfig,
            client_status_discovery_service_server::ClientStatusDiscoveryService,
        },
    },
    google::protobuf::{Any, Timestamp},
};
use futures_util::StreamExt;
use prost::Message;
use tokio::{sync::Semaphore, task::spawn_blocking};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use self::matcher::Unsupported;
use crate::{
    node::{Node, Peer},
    resource::{Resource, ResourceType},
    session::Session,
    status::{Clients, ResourceStatus},
    view::Views,
};

/// The name of the service.
pub(crate) const SERVICE: &str = "envoy.service.status.v3.ClientStatusDiscoveryService";

/// What a resource takes in a report beside its content: its entry, and that encoded.
const ENTRY_BYTES: usize = 512;

/// What may be shown of resources.
#[derive(Clone, Default)]
pub(crate) struct Contents(Option<Arc<Redact>>);

type Redact = dyn Fn(ResourceType, &str, &[u8]) -> Option<Vec<u8>> + Send + Sync;

/// Answers from the list of clients.
#[derive(Clone)]
pub(crate) struct Csds {
    pub(crate) views: Arc<dyn Views>,
    pub(crate) clients: Clients,
    pub(crate) contents: Contents,
    pub(crate) report_bytes: usize,
    /// Lets one report be made at a time.
    pub(crate) turn: Arc<Semaphore>,
    pub(crate) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl ClientStatusDiscoveryService for Csds {
    type StreamClientStatusStream = BoxStream<ClientStatusResponse>;

    async fn stream_client_status(
        &self,
        request: Request<Streaming<ClientStatusRequest>>,
    ) -> Result<Response<Self::StreamClientStatusStream>, Status> {
        self.authorize(&request)?;
        let csds = self.clone();
        let responses = request.into_inner().then(move |request| {
            let csds = csds.clone();
            async move { csds.answer(request?).await }
        });
        Ok(Response::new(Box::pin(responses.take_until(self.shutdown.clone().cancelled_owned()))))
    }

    async fn fetch_client_status(
        &self,
        request: Request<ClientStatusRequest>,
    ) -> Result<Response<ClientStatusResponse>, Status> {
        self.authorize(&request)?;
        self.answer(request.into_inner()).await.map(Response::new)
    }
}

impl Csds {
    fn authorize<T>(&self, request: &Request<T>) -> Result<(), Status> {
        match request.extensions().get::<Peer>() {
            Some(peer) if self.views.may_inspect(peer) => Ok(()),
            _ => Err(Status::permission_denied("the status of clients is not for everybody")),
        }
    }

    /// Answers on a thread that no stream waits for: redacting all that clients hold takes a while.
    async fn answer(&self, request: ClientStatusRequest) -> Result<ClientStatusResponse, Status> {
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else {
            return Err(Status::unavailable("the server is shutting down"));
        };
        let csds = self.clone();
        let answered = spawn_blocking(move || {
            // Held to the end even if nobody waits for the report any more.
            let _turn = turn;
            csds.report(&request)
        })
        .await;
        // Not what it panicked with: that may quote a resource.
        answered.unwrap_or_else(|_| Err(Status::internal("the status cannot be told")))
    }

    /// The clients that a request asks for: all of them, unless it has matchers, of which one must match.
    fn report(&self, request: &ClientStatusRequest) -> Result<ClientStatusResponse, Status> {
        let matches = |node: &Node| -> Result<bool, Unsupported> {
            let mut wanted = request.node_matchers.is_empty();
            for matcher in &request.node_matchers {
                wanted |= matcher::matches(matcher, node)?;
            }
            Ok(wanted)
        };
        let unsupported = |unsupported: Unsupported| Status::unimplemented(unsupported.to_string());
        let sizes = self.clients.visit(|node, session| {
            let bytes = || node.metadata.encoded_len() + session.entries() * ENTRY_BYTES;
            matches(node).map(|wanted| if wanted { bytes() } else { 0 })
        });
        let sizes: Vec<usize> = sizes.into_iter().collect::<Result<_, _>>().map_err(unsupported)?;
        let entry_bytes = sizes.into_iter().sum();
        self.check(entry_bytes, "match fewer nodes")?;

        let seen =
            self.clients.visit(|node, session| Ok(matches(node)?.then(|| (node.into(), resources(session)))));
        let seen: Result<Vec<_>, _> = seen.into_iter().filter_map(Result::transpose).collect();
        let seen = seen.map_err(unsupported)?;
        let hidden = Contents::default();
        let contents = if request.exclude_resource_contents { &hidden } else { &self.contents };
        let shown = seen.iter().flat_map(|(_, resources)| resources).filter_map(|(_, sent)| sent.as_ref());
        let content_bytes: usize = shown.map(|(_, resource)| resource.body().len()).sum();
        if contents.0.is_some() {
            self.check(entry_bytes + content_bytes, "match fewer nodes, or exclude contents")?;
        }
        // Contents come last, when no session is kept from its work.
        let config = seen.into_iter().map(|(node, resources)| ClientConfig {
            node: Some(node),
            generic_xds_configs: resources
                .into_iter()
                .map(|(config, sent)| GenericXdsConfig {
                    xds_config: sent.and_then(|(ty, resource)| contents.of(ty, &resource)),
                    ..config
                })
                .collect(),
            ..ClientConfig::default()
        });
        Ok(ClientStatusResponse { config: config.collect() })
    }

    /// Refuses a report of this size if that is too large.
    fn check(&self, bytes: usize, hint: &str) -> Result<(), Status> {
        if bytes <= self.report_bytes {
            return Ok(());
        }
        let message = format!("the report would take {bytes} bytes of at most {}: {hint}", self.report_bytes);
        Err(Status::resource_exhausted(message))
    }
}

impl Contents {
    pub(crate) fn new(
        redact: impl Fn(ResourceType, &str, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(redact)))
    }

    fn of(&self, ty: ResourceType, resource: &Resource) -> Option<Any> {
        let redact = self.0.as_ref()?;
        let value = redact(ty, resource.name(), resource.body())?;
        Some(Any { type_url: ty.type_url().to_owned(), value })
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Contents").field(&self.0.is_some()).finish()
    }
}

/// All that a client was told of, without contents, and what it was sent, if that is still in the state.
fn resources(session: &Session) -> Vec<(GenericXdsConfig, Option<(ResourceType, Resource)>)> {
    let types = session.status();
    let told = types.iter().flat_map(|(ty, of_type)| of_type.resources.iter().map(move |it| (*ty, it)));
    let with_content = told.map(|(ty, (name, status))| {
        let current = session.resource(ty, name);
        let sent = current.filter(|resource| Some(resource.version()) == status.sent);
        (resource(ty, name, status), sent.map(|resource| (ty, resource.clone())))
    });
    with_content.collect()
}

fn resource(ty: ResourceType, name: &str, status: &ResourceStatus) -> GenericXdsConfig {
    let nack = status.nack.as_ref().filter(|nack| Some(nack.version) == status.sent);
    let (config_status, client_status) = match status.sent {
        None => (ConfigStatus::NotSent, ClientResourceStatus::DoesNotExist),
        Some(_) if nack.is_some() => (ConfigStatus::Error, ClientResourceStatus::Nacked),
        sent if status.acked == sent => (ConfigStatus::Synced, ClientResourceStatus::Acked),
        Some(_) if status.acked.is_some() => (ConfigStatus::Stale, ClientResourceStatus::Acked),
        Some(_) => (ConfigStatus::Stale, ClientResourceStatus::Requested),
    };
    GenericXdsConfig {
        type_url: ty.type_url().to_owned(),
        name: name.to_owned(),
        version_info: status.sent.map(|version| version.to_string()).unwrap_or_default(),
        config_status: config_status.into(),
        client_status: client_status.into(),
        error_state: nack.map(|nack| UpdateFailureState {
            last_update_attempt: Some(Timestamp {
                seconds: nack.at.as_second(),
                nanos: nack.at.subsec_nanosecond(),
            }),
            details: nack.message.to_string(),
            version_info: nack.version.to_string(),
            ..UpdateFailureState::default()
        }),
        ..GenericXdsConfig::default()
    }
}
