//! What standard tools ask for: the status of clients, health, and reflection.

use std::collections::BTreeMap;

use envoy_types::pb::{
    envoy::{
        admin::v3::ClientResourceStatus,
        config::core::v3::Node,
        service::{
            discovery::v3::DeltaDiscoveryRequest,
            status::v3::{
                ClientStatusRequest, ClientStatusResponse, ConfigStatus,
                client_status_discovery_service_client::ClientStatusDiscoveryServiceClient,
            },
        },
        r#type::matcher::v3::{
            NodeMatcher, RegexMatcher, StringMatcher, StructMatcher, ValueMatcher,
            string_matcher::MatchPattern,
            struct_matcher::{PathSegment, path_segment::Segment},
            value_matcher,
        },
    },
    google::{
        protobuf::{Struct, Value, value::Kind},
        rpc,
    },
};
use networkmesh_xds::{Cache, Change, Limits, ListenAddress, Peer, ResourceType::Listener, Version, bind};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, prost::Message};
use tokio_stream::once;
use tonic::{
    Code, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{DeltaClient, Result, Server, connect, hello, socket};

const ADS: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";

/// A client that holds one version of `good`, rejects the second of `bad`, has not answered `late`, and is told that
/// `absent` is not there.
async fn client_in_all_states(server: &Server, address: &ListenAddress) -> Result<DeltaClient> {
    for name in ["bad", "good", "late"] {
        server.set(Listener, name, "1");
    }
    let mut client = DeltaClient::open(address).await?;
    let value = Value { kind: Some(Kind::StringValue("edge".to_owned())) };
    let metadata = Some(Struct { fields: [("role".to_owned(), value)].into() });
    let node = Some(Node { metadata, ..hello("alice-1").node.unwrap_or_default() });
    let names = ["*", "absent"].map(str::to_owned).into();
    client.send(DeltaDiscoveryRequest { node, resource_names_subscribe: names, ..hello("") }).await?;
    let response = client.receive().await?;
    client.ack(&response).await?;

    server.set(Listener, "bad", "2");
    let response = client.receive().await?;
    let error_detail = Some(rpc::Status { message: "it is bad".to_owned(), ..rpc::Status::default() });
    let response_nonce = response.nonce;
    let mut changes = server.clients.changes();
    client.send(DeltaDiscoveryRequest { error_detail, response_nonce, ..Default::default() }).await?;
    changes.changed().await?;
    server.set(Listener, "late", "2");
    client.receive().await?;
    Ok(client)
}

async fn status(address: &ListenAddress, request: ClientStatusRequest) -> Result<ClientStatusResponse> {
    let mut client = ClientStatusDiscoveryServiceClient::new(connect(address).await?);
    let fetched = client.fetch_client_status(request.clone()).await?.into_inner();
    let mut streamed = client.stream_client_status(once(request)).await?.into_inner();
    assert_eq!(streamed.message().await?.as_ref(), Some(&fetched));
    assert_eq!(streamed.message().await?, None);
    Ok(fetched)
}

#[tokio::test]
async fn the_status_of_a_client_tells_each_resource() -> Result {
    let (address, _folder) = socket()?;
    let server = Server::start(bind(&address)?);
    let _client = client_in_all_states(&server, &address).await?;
    let status = status(&address, ClientStatusRequest::default()).await?;
    assert_eq!(status.config.len(), 1);
    let config = &status.config[0];
    assert_eq!(config.node.as_ref().map(|node| node.id.as_str()), Some("alice-1"));

    let resources: BTreeMap<_, _> =
        config.generic_xds_configs.iter().map(|resource| (resource.name.as_str(), resource)).collect();
    let told: Vec<_> = resources
        .values()
        .map(|it| (it.name.as_str(), it.config_status(), it.client_status(), it.version_info.clone()))
        .collect();
    let (first, second) = (Version::of(b"1").to_string(), Version::of(b"2").to_string());
    assert_eq!(
        told,
        [
            ("absent", ConfigStatus::NotSent, ClientResourceStatus::DoesNotExist, String::new()),
            ("bad", ConfigStatus::Error, ClientResourceStatus::Nacked, second.clone()),
            ("good", ConfigStatus::Synced, ClientResourceStatus::Acked, first),
            ("late", ConfigStatus::Stale, ClientResourceStatus::Acked, second.clone()),
        ]
    );
    let error = resources["bad"].error_state.as_ref().ok_or("it was rejected")?;
    assert_eq!((error.details.as_str(), &error.version_info), ("it is bad", &second));
    assert!(resources["good"].error_state.is_none());
    for resource in resources.values() {
        assert_eq!(resource.type_url, Listener.type_url());
        assert_eq!(resource.xds_config, None, "nobody has said what may be shown");
    }
    Ok(())
}

#[tokio::test]
async fn contents_are_shown_as_far_as_the_program_allows() -> Result {
    let (address, _folder) = socket()?;
    let shown = |_, name: &str, body: &[u8]| (name != "bad").then(|| [body, b" without keys"].concat());
    let server = Server::start(bind(&address)?.with_contents(shown));
    let _client = client_in_all_states(&server, &address).await?;
    let contents = |status: ClientStatusResponse| {
        let resources = status.config.into_iter().flat_map(|config| config.generic_xds_configs);
        resources.map(|resource| resource.xds_config.map(|any| any.value)).collect::<Vec<_>>()
    };
    let all = status(&address, ClientStatusRequest::default()).await?;
    let text = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(contents(all), [None, None, text("1 without keys"), text("2 without keys")]);
    let none = ClientStatusRequest { exclude_resource_contents: true, ..ClientStatusRequest::default() };
    assert_eq!(contents(status(&address, none).await?), [const { None }; 4]);
    Ok(())
}

#[tokio::test]
async fn a_report_that_is_too_large_is_refused() -> Result {
    let (address, _folder) = socket()?;
    let limits = Limits { report_bytes: 10_000, ..Limits::default() };
    let server = Server::start(bind(&address)?.with_limits(limits).with_contents(|_, _, _| None));
    server.set(Listener, "large", &"x".repeat(10_000));
    let mut client = DeltaClient::open(&address).await?;
    client.send(hello("alice-1")).await?;
    let response = client.receive().await?;
    client.ack(&response).await?;

    let mut asker = ClientStatusDiscoveryServiceClient::new(connect(&address).await?);
    let without_contents = ClientStatusRequest { exclude_resource_contents: true, ..Default::default() };
    let refused = asker.fetch_client_status(ClientStatusRequest::default()).await;
    assert_eq!(refused.err().map(|status| status.code()), Some(Code::ResourceExhausted));
    assert_eq!(asker.fetch_client_status(without_contents.clone()).await?.into_inner().config.len(), 1);

    server.cache.apply((0..20).map(|n| Change::Set(Listener, format!("small-{n}"), "1".into())));
    assert_eq!(client.receive().await?.resources.len(), 20);
    let refused = asker.fetch_client_status(without_contents.clone()).await;
    assert_eq!(refused.err().map(|status| status.code()), Some(Code::ResourceExhausted));
    let nobody =
        StringMatcher { match_pattern: Some(MatchPattern::Exact("nobody".to_owned())), ignore_case: false };
    let node_matchers = vec![NodeMatcher { node_id: Some(nobody), node_metadatas: Vec::new() }];
    let narrowed = ClientStatusRequest { node_matchers, ..Default::default() };
    assert_eq!(asker.fetch_client_status(narrowed).await?.into_inner().config.len(), 0);
    Ok(())
}

#[tokio::test]
async fn whom_a_view_may_be_hidden_from_is_not_told_the_status_of_others() -> Result {
    let (local, _folder) = socket()?;
    let anyone = "127.0.0.1:0".parse()?;
    for (address, hides, code) in
        [(&local, true, None), (&anyone, true, Some(Code::PermissionDenied)), (&anyone, false, None)]
    {
        let bound = bind(address)?;
        let address = bound.address().clone();
        let cache = Cache::new();
        let shown = cache.clone();
        let views = move |_: &networkmesh_xds::Node, _: &Peer| Some(shown.clone());
        let server = if hides {
            Server::start_with(bound, views, cache)
        } else {
            Server::start_with(bound, cache.clone(), cache)
        };
        let mut client = ClientStatusDiscoveryServiceClient::new(connect(&address).await?);
        let request = ClientStatusRequest::default();
        let fetched = client.fetch_client_status(request.clone()).await;
        assert_eq!(fetched.err().map(|status| status.code()), code, "{address}");
        let streamed = client.stream_client_status(once(request)).await;
        assert_eq!(streamed.err().map(|status| status.code()), code, "{address}");
        drop(client);
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn only_the_clients_asked_for_are_told() -> Result {
    let (address, _folder) = socket()?;
    let server = Server::start(bind(&address)?);
    let _client = client_in_all_states(&server, &address).await?;
    let text = |pattern| StringMatcher { match_pattern: Some(pattern), ignore_case: false };
    let id = |pattern| NodeMatcher { node_id: Some(text(pattern)), node_metadatas: Vec::new() };
    let role = |key: &str, role: &str| {
        let pattern = value_matcher::MatchPattern::StringMatch(text(MatchPattern::Exact(role.to_owned())));
        let path = vec![PathSegment { segment: Some(Segment::Key(key.to_owned())) }];
        let value = Some(ValueMatcher { match_pattern: Some(pattern) });
        NodeMatcher { node_id: None, node_metadatas: vec![StructMatcher { path, value }] }
    };
    let asked = |node_matchers| ClientStatusRequest { node_matchers, ..ClientStatusRequest::default() };
    for (matchers, found) in [
        (vec![id(MatchPattern::Exact("alice-1".to_owned()))], 1),
        (vec![id(MatchPattern::Exact("alice".to_owned()))], 0),
        (vec![id(MatchPattern::Prefix("alice".to_owned()))], 1),
        (vec![id(MatchPattern::Exact("bob".to_owned())), id(MatchPattern::Suffix("-1".to_owned()))], 1),
        (vec![role("role", "edge")], 1),
        (vec![role("role", "inner")], 0),
        (vec![role("rule", "edge")], 0),
    ] {
        assert_eq!(status(&address, asked(matchers.clone())).await?.config.len(), found, "{matchers:?}");
    }
    let regex = asked(vec![id(MatchPattern::SafeRegex(RegexMatcher::default()))]);
    let mut client = ClientStatusDiscoveryServiceClient::new(connect(&address).await?);
    let refused = client.fetch_client_status(regex).await;
    assert_eq!(refused.err().map(|status| status.code()), Some(Code::Unimplemented));
    Ok(())
}

#[tokio::test]
async fn a_server_is_healthy_once_it_has_something_to_serve_until_its_shutdown() -> Result {
    let (address, _folder) = socket()?;
    let server = Server::start(bind(&address)?);
    let mut health = HealthClient::new(connect(&address).await?);
    let about = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", ADS] {
        let checked = health.check(about(service)).await?.into_inner();
        assert_eq!(checked.status(), ServingStatus::NotServing);
    }
    assert_eq!(health.check(about("nonsense")).await.err().map(|status| status.code()), Some(Code::NotFound));

    let mut watched = health.watch(about(ADS)).await?.into_inner();
    let mut told = Vec::new();
    told.extend(watched.message().await?.map(|response| response.status()));
    server.cache.replace([]);
    told.extend(watched.message().await?.map(|response| response.status()));
    assert_eq!(health.check(about("")).await?.into_inner().status(), ServingStatus::Serving);
    server.shutdown.cancel();
    told.extend(watched.message().await?.map(|response| response.status()));
    assert_eq!(told, [ServingStatus::NotServing, ServingStatus::Serving, ServingStatus::NotServing]);
    assert!(watched.message().await?.is_none(), "nothing more is to be told");
    server.task.await??;
    Ok(())
}

/// What a tool asks by reflection, of both versions.
async fn reflect(
    channel: &Channel,
    request: v1::server_reflection_request::MessageRequest,
) -> Result<v1::server_reflection_response::MessageResponse> {
    let request = v1::ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let old = v1alpha::ServerReflectionRequest::decode(request.encode_to_vec().as_slice())?;
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut responses = client.server_reflection_info(once(request)).await?.into_inner();
    let response = responses.message().await?.and_then(|response| response.message_response);
    let response = response.ok_or("an answer")?;

    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut responses = client.server_reflection_info(once(old)).await?.into_inner();
    let old = responses.message().await?.ok_or("an answer")?;
    let old = v1::ServerReflectionResponse::decode(old.encode_to_vec().as_slice())?;
    assert_eq!(old.message_response.as_ref(), Some(&response));
    Ok(response)
}

/// Carries messages of which only the descriptors are known.
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(
        &mut self,
        message: DynamicMessage,
        out: &mut EncodeBuf<'_>,
    ) -> std::result::Result<(), Status> {
        message.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> std::result::Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), bytes);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

#[tokio::test]
async fn a_tool_that_knows_no_service_finds_and_calls_one_by_reflection() -> Result {
    use v1::{
        server_reflection_request::MessageRequest::{FileContainingSymbol, ListServices},
        server_reflection_response::MessageResponse::{FileDescriptorResponse, ListServicesResponse},
    };
    let (address, _folder) = socket()?;
    let server = Server::start(bind(&address)?.with_reflection(tonic_health::pb::FILE_DESCRIPTOR_SET)?);
    server.cache.replace([]);
    let channel = connect(&address).await?;

    let ListServicesResponse(listed) = reflect(&channel, ListServices(String::new())).await? else {
        return Err("services were asked for".into());
    };
    let names: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
    for name in [ADS, "envoy.service.status.v3.ClientStatusDiscoveryService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|listed| listed == name), "{names:?}");
    }

    let symbol = FileContainingSymbol("grpc.health.v1.Health".to_owned());
    let FileDescriptorResponse(files) = reflect(&channel, symbol).await? else {
        return Err("a file was asked for".into());
    };
    let mut pool = DescriptorPool::new();
    for file in &files.file_descriptor_proto {
        pool.decode_file_descriptor_proto(file.as_slice())?;
    }
    let service = pool.get_service_by_name("grpc.health.v1.Health").ok_or("the file has the service")?;
    let method = service.methods().find(|method| method.name() == "Check").ok_or("it can be checked")?;
    let request = DynamicMessage::new(method.input());
    let path = format!("/{}/{}", service.full_name(), method.name()).parse()?;
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let response =
        grpc.unary(tonic::Request::new(request), path, Dynamic(method.output())).await?.into_inner();
    let status = response.get_field_by_name("status").ok_or("the answer has a status")?;
    assert_eq!(status.as_enum_number(), Some(ServingStatus::Serving as i32));
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_no_descriptors_are_refused() -> Result {
    assert!(bind(&socket()?.0)?.with_reflection(b"no descriptors").is_err());
    Ok(())
}
