//! A client that takes everything and acknowledges it at once.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    google::protobuf::Any,
};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{
    net::UnixStream,
    sync::{Notify, mpsc},
    task::AbortHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint, Uri},
};
use xds::{Protocol, ResourceType};

use crate::{Failure, common::envoy::NODE, file::Resource, meter::Metered, ours::now};

/// How long a state is awaited.
const PATIENCE: Duration = Duration::from_secs(300);
/// As Envoy has it, so that a large response does not wait for the window.
const WINDOW_BYTES: u32 = 16 << 20;
/// More requests than a client here has on their way.
const REQUESTS: usize = 64;

/// A connected client. It disconnects when this is dropped.
pub(crate) struct Client {
    shared: Arc<Shared>,
    received_bytes: Arc<AtomicU64>,
    task: AbortHandle,
}

#[derive(Default)]
struct Shared {
    held: Mutex<Held>,
    changed: Notify,
}

/// What the client holds.
#[derive(Default)]
struct Held {
    /// Hashes of contents, by type and name.
    contents: HashMap<ResourceType, HashMap<String, u64>>,
    responses: u64,
    /// When the last of them came.
    last: Duration,
    /// The types of which a response is awaited, and when the first came since.
    awaited: Vec<ResourceType>,
    came: Option<Duration>,
}

impl Client {
    /// Connects and subscribes as Envoy does: to all clusters, listeners and scopes, and to the others of these by name.
    pub(crate) async fn connect(
        socket: &Path,
        protocol: Protocol,
        resources: &[Resource],
    ) -> Result<Self, Failure> {
        let received_bytes = Arc::new(AtomicU64::new(0));
        let channel = connect(socket.to_owned(), Arc::clone(&received_bytes)).await?;
        let grpc = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        let shared = Arc::new(Shared::default());
        let names = names(resources);
        let task = match protocol {
            Protocol::Delta => tokio::spawn(delta(grpc, names, Arc::clone(&shared))),
            Protocol::StateOfTheWorld => tokio::spawn(state_of_the_world(grpc, names, Arc::clone(&shared))),
        };
        Ok(Self { shared, received_bytes, task: task.abort_handle() })
    }

    /// Waits until something is held of each of these names.
    pub(crate) async fn until_named(&self, resources: &[Resource]) -> Result<(), Failure> {
        self.until(|held| {
            resources.iter().all(|resource| {
                held.contents.get(&resource.ty).is_some_and(|known| known.contains_key(&resource.name))
            })
        })
        .await
    }

    /// Waits until each of these resources is held with its content, and answers when the last response had come, since
    /// the Unix epoch.
    pub(crate) async fn until_held(&self, resources: &HashMap<&str, &Resource>) -> Result<Duration, Failure> {
        let wanted: Vec<_> = resources.iter().map(|(name, it)| (it.ty, *name, hash(&it.body))).collect();
        self.until(|held| {
            wanted.iter().all(|(ty, name, content)| {
                held.contents.get(ty).and_then(|known| known.get(*name)) == Some(content)
            })
        })
        .await?;
        Ok(self.shared.lock().last)
    }

    /// Forgets what came, and awaits a response of one of these types.
    pub(crate) fn arm(&self, types: Vec<ResourceType>) {
        let mut held = self.shared.lock();
        held.awaited = types;
        held.came = None;
    }

    /// When the first response of the awaited types had come, since the Unix epoch.
    pub(crate) fn came(&self) -> Option<Duration> {
        self.shared.lock().came
    }

    pub(crate) fn responses(&self) -> u64 {
        self.shared.lock().responses
    }

    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    async fn until(&self, mut condition: impl FnMut(&Held) -> bool) -> Result<(), Failure> {
        let wait = async {
            while !condition(&self.shared.lock()) {
                self.shared.changed.notified().await;
            }
        };
        timeout(PATIENCE, wait).await.map_err(|_| "the client does not get what it waits for".into())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a response came at this time, before it is acknowledged.
    fn note(&self, ty: ResourceType, at: Duration) {
        let mut held = self.lock();
        held.responses += 1;
        held.last = at;
        if held.came.is_none() && held.awaited.contains(&ty) {
            held.came = Some(at);
        }
    }

    /// Takes in what a response holds.
    fn take<'a>(&self, ty: ResourceType, resources: impl Iterator<Item = (String, &'a Any)>) {
        let mut held = self.lock();
        let known = held.contents.entry(ty).or_default();
        for (name, content) in resources {
            known.insert(name, hash(&content.value));
        }
        drop(held);
        self.changed.notify_one();
    }
}

async fn connect(socket: PathBuf, received: Arc<AtomicU64>) -> Result<Channel, Failure> {
    let connector = tower::service_fn(move |_: Uri| {
        let (socket, received) = (socket.clone(), Arc::clone(&received));
        async move {
            let stream = UnixStream::connect(socket).await?;
            Ok::<_, std::io::Error>(TokioIo::new(Metered { stream, received }))
        }
    });
    let endpoint = Endpoint::from_static("http://localhost")
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    Ok(endpoint.connect_with_connector(connector).await?)
}

/// What is asked for: no names stand for all.
fn names(resources: &[Resource]) -> Vec<(ResourceType, Vec<String>)> {
    let asked = |ty| {
        let of_type = resources.iter().filter(move |resource| resource.ty == ty);
        match ty {
            ResourceType::Cluster | ResourceType::Listener | ResourceType::ScopedRouteConfiguration => {
                Some((ty, Vec::new()))
            }
            _ => Some((ty, of_type.map(|resource| resource.name.clone()).collect()))
                .filter(|(_, names): &(_, Vec<_>)| !names.is_empty()),
        }
    };
    ResourceType::ALL.into_iter().filter_map(asked).collect()
}

async fn delta(
    mut grpc: AggregatedDiscoveryServiceClient<Channel>,
    names: Vec<(ResourceType, Vec<String>)>,
    shared: Arc<Shared>,
) -> Result<(), Failure> {
    let (requests, outgoing) = mpsc::channel(REQUESTS);
    for (ty, names) in names {
        let request = DeltaDiscoveryRequest {
            node: Some(Node { id: NODE.to_owned(), ..Node::default() }),
            type_url: ty.type_url().to_owned(),
            resource_names_subscribe: names,
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(request).await?;
    }
    let stream = grpc.delta_aggregated_resources(ReceiverStream::new(outgoing)).await?;
    let mut responses: Streaming<DeltaDiscoveryResponse> = stream.into_inner();
    while let Some(response) = responses.message().await? {
        let came = now();
        let ty = ResourceType::from_type_url(&response.type_url).ok_or("an unknown type")?;
        shared.note(ty, came);
        let ack = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(ack).await?;
        let resources = response.resources.iter();
        shared.take(ty, resources.filter_map(|it| Some((it.name.clone(), it.resource.as_ref()?))));
    }
    Ok(())
}

async fn state_of_the_world(
    mut grpc: AggregatedDiscoveryServiceClient<Channel>,
    names: Vec<(ResourceType, Vec<String>)>,
    shared: Arc<Shared>,
) -> Result<(), Failure> {
    let (requests, outgoing) = mpsc::channel(REQUESTS);
    let names: HashMap<_, _> = names.into_iter().collect();
    for ty in ResourceType::ALL.into_iter().filter(|ty| names.contains_key(ty)) {
        let request = DiscoveryRequest {
            node: Some(Node { id: NODE.to_owned(), ..Node::default() }),
            type_url: ty.type_url().to_owned(),
            resource_names: names[&ty].clone(),
            ..DiscoveryRequest::default()
        };
        requests.send(request).await?;
    }
    let stream = grpc.stream_aggregated_resources(ReceiverStream::new(outgoing)).await?;
    let mut responses: Streaming<DiscoveryResponse> = stream.into_inner();
    while let Some(response) = responses.message().await? {
        let came = now();
        let ty = ResourceType::from_type_url(&response.type_url).ok_or("an unknown type")?;
        shared.note(ty, came);
        let ack = DiscoveryRequest {
            type_url: response.type_url,
            version_info: response.version_info,
            response_nonce: response.nonce,
            resource_names: names.get(&ty).cloned().unwrap_or_default(),
            ..DiscoveryRequest::default()
        };
        requests.send(ack).await?;
        shared.take(ty, response.resources.iter().map(|content| (name_of(content), content)));
    }
    Ok(())
}

/// The name of a resource of any type: it is the first field of all of them.
fn name_of(content: &Any) -> String {
    #[derive(Clone, PartialEq, Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
    }
    Named::decode(content.value.as_slice()).unwrap_or_default().name
}

fn hash(content: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(content)
}
