//! The server on real sockets, with gRPC clients.

use std::{error::Error, path::Path};

use envoy_types::pb::{
    envoy::{
        config::core::v3::{BuildVersion, Node, node::UserAgentVersionType},
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
        r#type::v3::SemanticVersion,
    },
    google::rpc,
};
use networkmesh_xds::{
    Bound, Cache, Change, Clients, Limits, ListenAddress, ResourceType, ServeError, Version, bind,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming, transport::Endpoint};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

struct Server {
    cache: Cache,
    clients: Clients,
    shutdown: CancellationToken,
    task: JoinHandle<std::result::Result<(), ServeError>>,
}

impl Server {
    fn start(bound: Bound) -> Self {
        let (cache, clients, shutdown) = (Cache::new(), Clients::new(), CancellationToken::new());
        let task = tokio::spawn(bound.serve(cache.clone(), clients.clone(), shutdown.clone()));
        Self { cache, clients, shutdown, task }
    }

    fn set(&self, name: &str, body: &str) {
        let body = body.as_bytes().to_vec().into();
        self.cache.apply([Change::Set(ResourceType::Listener, name.to_owned(), body)]);
    }
}

fn unix(path: &Path) -> ListenAddress {
    ListenAddress::Unix(path.to_owned())
}

async fn connect(
    address: &ListenAddress,
) -> Result<AggregatedDiscoveryServiceClient<tonic::transport::Channel>> {
    let uri = match address {
        ListenAddress::Unix(path) => format!("unix://{}", path.display()),
        ListenAddress::Tcp(address) => format!("http://{address}"),
    };
    Ok(AggregatedDiscoveryServiceClient::new(Endpoint::from_shared(uri)?.connect().await?))
}

struct DeltaClient {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl DeltaClient {
    async fn open(address: &ListenAddress) -> Result<Self> {
        let (requests, stream) = mpsc::channel(8);
        let stream = ReceiverStream::new(stream);
        let responses = connect(address).await?.delta_aggregated_resources(stream).await?.into_inner();
        Ok(Self { requests, responses })
    }

    async fn send(&self, request: DeltaDiscoveryRequest) -> Result {
        let type_url = ResourceType::Listener.type_url().to_owned();
        Ok(self.requests.send(DeltaDiscoveryRequest { type_url, ..request }).await?)
    }

    async fn receive(&mut self) -> Result<DeltaDiscoveryResponse> {
        Ok(self.responses.message().await?.ok_or("the stream has ended")?)
    }

    async fn ack(&self, response: &DeltaDiscoveryResponse) -> Result {
        let response_nonce = response.nonce.clone();
        self.send(DeltaDiscoveryRequest { response_nonce, ..DeltaDiscoveryRequest::default() }).await
    }

    /// How the server ends the stream.
    async fn end(mut self) -> Option<Status> {
        loop {
            match self.responses.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    }
}

fn subscription(id: &str) -> DeltaDiscoveryRequest {
    let build = BuildVersion {
        version: Some(SemanticVersion { major_number: 1, minor_number: 40, patch: 0 }),
        metadata: None,
    };
    let node = Node {
        id: id.to_owned(),
        cluster: "gateways".to_owned(),
        user_agent_name: "envoy".to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(build)),
        ..Node::default()
    };
    DeltaDiscoveryRequest { node: Some(node), ..DeltaDiscoveryRequest::default() }
}

#[tokio::test]
async fn a_delta_client_on_a_unix_socket_is_served_and_listed() -> Result {
    let folder = tempfile::tempdir()?;
    let address = unix(&folder.path().join("xds.sock"));
    let server = Server::start(bind(&address)?);
    server.set("web", "1");

    let mut client = DeltaClient::open(&address).await?;
    client.send(subscription("alice")).await?;
    let response = client.receive().await?;
    assert_eq!(response.resources[0].name, "web");
    assert_eq!(response.resources[0].version, Version::of(b"1").to_string());
    let any = response.resources[0].resource.as_ref().ok_or("there is a body")?;
    assert_eq!((any.type_url.as_str(), any.value.as_slice()), (ResourceType::Listener.type_url(), &b"1"[..]));
    client.ack(&response).await?;
    server.clients.acknowledged(ResourceType::Listener, "web", Version::of(b"1")).await;

    server.set("web", "bad");
    let response = client.receive().await?;
    let error_detail = Some(rpc::Status { message: "it is bad".to_owned(), ..rpc::Status::default() });
    let nack =
        DeltaDiscoveryRequest { error_detail, response_nonce: response.nonce, ..subscription("ignored") };
    let mut changes = server.clients.changes();
    client.send(nack).await?;
    changes.changed().await?;

    let listed = serde_json::to_value(server.clients.snapshot())?;
    assert_eq!(listed[0]["node"], "alice");
    assert_eq!(listed[0]["cluster"], "gateways");
    assert_eq!(listed[0]["userAgent"], "envoy 1.40.0");
    assert_eq!(listed[0]["peer"], format!("process {}", std::process::id()));
    assert_eq!(listed[0]["protocol"], "delta");
    let listeners = &listed[0]["types"]["Listener"];
    assert_eq!(listeners["resources"]["web"]["acked"], Version::of(b"1").to_string());
    assert_eq!(listeners["resources"]["web"]["nack"]["message"], "it is bad");

    drop(client);
    while !server.clients.snapshot().is_empty() {
        changes.changed().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_state_of_the_world_client_on_tcp_is_served() -> Result {
    let bound = bind(&"127.0.0.1:0".parse()?)?;
    let address = bound.address().clone();
    let server = Server::start(bound);
    server.set("web", "1");

    let (requests, stream) = mpsc::channel::<DiscoveryRequest>(8);
    let mut client = connect(&address).await?;
    let mut responses = client.stream_aggregated_resources(ReceiverStream::new(stream)).await?.into_inner();
    let type_url = ResourceType::Listener.type_url().to_owned();
    requests.send(DiscoveryRequest { type_url: type_url.clone(), ..DiscoveryRequest::default() }).await?;
    let first: DiscoveryResponse = responses.message().await?.ok_or("a response")?;
    assert_eq!(first.resources[0].value, b"1");
    let (version_info, response_nonce) = (first.version_info.clone(), first.nonce);
    let ack = DiscoveryRequest { type_url, version_info, response_nonce, ..DiscoveryRequest::default() };
    requests.send(ack).await?;
    server.clients.acknowledged(ResourceType::Listener, "web", Version::of(b"1")).await;

    server.set("other", "2");
    let second = responses.message().await?.ok_or("a response")?;
    assert_eq!(second.resources.len(), 2);
    assert_ne!(first.version_info, second.version_info);
    Ok(())
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_removes_the_socket() -> Result {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("xds.sock");
    let server = Server::start(bind(&unix(&path))?);
    let client = DeltaClient::open(&unix(&path)).await?;
    let silent = DeltaClient::open(&unix(&path)).await?;
    client.send(subscription("alice")).await?;
    server.shutdown.cancel();
    for client in [client, silent] {
        assert_eq!(client.end().await.map(|status| status.code()), Some(Code::Unavailable));
    }
    server.task.await??;
    assert!(!path.exists());
    assert_eq!(server.clients.snapshot(), []);
    Ok(())
}

#[tokio::test]
async fn a_client_that_does_not_read_delays_nobody() -> Result {
    let folder = tempfile::tempdir()?;
    let address = unix(&folder.path().join("xds.sock"));
    let server = Server::start(bind(&address)?);
    server.set("large", &"x".repeat(8 << 20));
    let stalled = DeltaClient::open(&address).await?;
    stalled.send(subscription("stalled")).await?;

    let mut client = DeltaClient::open(&address).await?;
    let web =
        DeltaDiscoveryRequest { resource_names_subscribe: vec!["web".to_owned()], ..subscription("alice") };
    client.send(web).await?;
    let mut response = client.receive().await?;
    for round in 0..20 {
        client.ack(&response).await?;
        server.set("web", &round.to_string());
        response = client.receive().await?;
        assert_eq!(response.resources.len(), 1);
    }
    server.shutdown.cancel();
    server.task.await??;
    Ok(())
}

#[tokio::test]
async fn a_client_that_asks_for_too_much_loses_its_stream_only() -> Result {
    let folder = tempfile::tempdir()?;
    let address = unix(&folder.path().join("xds.sock"));
    let limits = Limits { request_bytes: 1024, names_per_request: 3, streams: 3, ..Limits::default() };
    let server = Server::start(bind(&address)?.with_limits(limits));
    let mut good = DeltaClient::open(&address).await?;
    good.send(subscription("good")).await?;

    let ask = |names: Vec<String>| DeltaDiscoveryRequest {
        resource_names_subscribe: names,
        ..subscription("greedy")
    };
    let many = DeltaClient::open(&address).await?;
    many.send(ask(vec!["a".to_owned(); 4])).await?;
    assert_eq!(many.end().await.map(|status| status.code()), Some(Code::ResourceExhausted));
    let large = DeltaClient::open(&address).await?;
    large.send(ask(vec!["a".repeat(2048)])).await?;
    assert_eq!(large.end().await.map(|status| status.code()), Some(Code::OutOfRange));

    server.set("web", "1");
    assert_eq!(good.receive().await?.resources.len(), 1);

    let mut others = Vec::new();
    for id in ["second", "third"] {
        let mut other = DeltaClient::open(&address).await?;
        other.send(subscription(id)).await?;
        other.receive().await?;
        others.push(other);
    }
    let fourth = DeltaClient::open(&address).await?;
    fourth.send(subscription("fourth")).await?;
    assert_eq!(fourth.end().await.map(|status| status.code()), Some(Code::ResourceExhausted));
    Ok(())
}

#[tokio::test]
async fn an_address_in_use_is_named_in_the_error() -> Result {
    let taken = bind(&"127.0.0.1:0".parse()?)?;
    let error = bind(taken.address()).err().ok_or("the port is taken")?;
    assert!(error.to_string().starts_with(&format!("cannot listen on {}: ", taken.address())), "{error}");
    Ok(())
}
