//! A server and its clients.

use std::{error::Error, path::Path};

use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use networkmesh_xds::{Bound, Cache, Change, Clients, ListenAddress, ResourceType, ServeError, Views};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A running server.
pub(crate) struct Server {
    pub(crate) cache: Cache,
    pub(crate) clients: Clients,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<std::result::Result<(), ServeError>>,
}

impl Server {
    /// Shows one cache to all.
    pub(crate) fn start(bound: Bound) -> Self {
        let cache = Cache::new();
        Self::start_with(bound, cache.clone(), cache)
    }

    /// Shows these views; `cache` is the one that [`Server::set`] sets.
    pub(crate) fn start_with(bound: Bound, views: impl Views, cache: Cache) -> Self {
        let (clients, shutdown) = (Clients::new(), CancellationToken::new());
        let task = tokio::spawn(bound.serve(views, clients.clone(), shutdown.clone()));
        Self { cache, clients, shutdown, task }
    }

    pub(crate) fn set(&self, ty: ResourceType, name: &str, body: &str) {
        set(&self.cache, ty, name, body);
    }

    pub(crate) async fn stop(self) -> Result {
        self.shutdown.cancel();
        Ok(self.task.await??)
    }
}

pub(crate) fn set(cache: &Cache, ty: ResourceType, name: &str, body: &str) {
    cache.apply([Change::Set(ty, name.to_owned(), body.as_bytes().to_vec().into())]);
}

/// A Unix socket in a folder of its own.
pub(crate) fn socket() -> Result<(ListenAddress, TempDir)> {
    let folder = tempfile::tempdir()?;
    Ok((unix(&folder.path().join("xds.sock")), folder))
}

pub(crate) fn unix(path: &Path) -> ListenAddress {
    ListenAddress::Unix(path.to_owned())
}

pub(crate) fn endpoint(address: &ListenAddress) -> Result<Endpoint> {
    let uri = match address {
        ListenAddress::Unix(path) => format!("unix://{}", path.display()),
        ListenAddress::Tcp(address) => format!("http://{address}"),
    };
    Ok(Endpoint::from_shared(uri)?)
}

pub(crate) async fn connect(address: &ListenAddress) -> Result<Channel> {
    Ok(endpoint(address)?.connect().await?)
}

/// An aggregated delta stream that asks for one type, listeners unless told otherwise.
pub(crate) struct DeltaClient {
    pub(crate) ty: ResourceType,
    pub(crate) requests: mpsc::Sender<DeltaDiscoveryRequest>,
    pub(crate) responses: Streaming<DeltaDiscoveryResponse>,
}

impl DeltaClient {
    pub(crate) async fn open(address: &ListenAddress) -> Result<Self> {
        Self::open_on(connect(address).await?).await
    }

    pub(crate) async fn open_on(channel: Channel) -> Result<Self> {
        let (requests, stream) = mpsc::channel(8);
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let responses = client.delta_aggregated_resources(ReceiverStream::new(stream)).await?.into_inner();
        Ok(Self { ty: ResourceType::Listener, requests, responses })
    }

    pub(crate) async fn send(&self, request: DeltaDiscoveryRequest) -> Result {
        let type_url = self.ty.type_url().to_owned();
        Ok(self.requests.send(DeltaDiscoveryRequest { type_url, ..request }).await?)
    }

    pub(crate) async fn receive(&mut self) -> Result<DeltaDiscoveryResponse> {
        Ok(self.responses.message().await?.ok_or("the stream has ended")?)
    }

    pub(crate) async fn ack(&self, response: &DeltaDiscoveryResponse) -> Result {
        let response_nonce = response.nonce.clone();
        self.send(DeltaDiscoveryRequest { response_nonce, ..DeltaDiscoveryRequest::default() }).await
    }

    /// How the server ends the stream.
    pub(crate) async fn end(mut self) -> Option<Status> {
        loop {
            match self.responses.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    }

    pub(crate) async fn end_code(self) -> Option<Code> {
        self.end().await.map(|status| status.code())
    }
}

/// The first request of a node with this id.
pub(crate) fn hello(id: &str) -> DeltaDiscoveryRequest {
    let node = Node { id: id.to_owned(), ..Node::default() };
    DeltaDiscoveryRequest { node: Some(node), ..DeltaDiscoveryRequest::default() }
}

/// The same, asking for these names.
pub(crate) fn hello_for(id: &str, names: &[&str]) -> DeltaDiscoveryRequest {
    let resource_names_subscribe = names.iter().map(|name| (*name).to_owned()).collect();
    DeltaDiscoveryRequest { resource_names_subscribe, ..hello(id) }
}
