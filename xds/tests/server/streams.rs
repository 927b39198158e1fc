use std::error::Error;

use envoy_types::pb::{
    envoy::{
        config::core::v3::{BuildVersion, Node, node::UserAgentVersionType},
        service::discovery::v3::{
            DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
        r#type::v3::SemanticVersion,
    },
    google::rpc,
};
use networkmesh_xds::{ResourceType::Listener, Version, bind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::support::{DeltaClient, Result, Server, connect, hello, socket, unix};

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
    let (address, _folder) = socket()?;
    let server = Server::start(bind(&address)?);
    server.set(Listener, "web", "1");

    let mut client = DeltaClient::open(&address).await?;
    client.send(subscription("alice")).await?;
    let response = client.receive().await?;
    assert_eq!(response.resources[0].name, "web");
    assert_eq!(response.resources[0].version, Version::of(b"1").to_string());
    let any = response.resources[0].resource.as_ref().ok_or("there is a body")?;
    assert_eq!((any.type_url.as_str(), any.value.as_slice()), (Listener.type_url(), &b"1"[..]));
    client.ack(&response).await?;
    server.clients.acknowledged(Listener, "web", Version::of(b"1")).await;

    server.set(Listener, "web", "bad");
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
    server.set(Listener, "web", "1");

    let (requests, stream) = mpsc::channel::<DiscoveryRequest>(8);
    let mut client = AggregatedDiscoveryServiceClient::new(connect(&address).await?);
    let mut responses = client.stream_aggregated_resources(ReceiverStream::new(stream)).await?.into_inner();
    let type_url = Listener.type_url().to_owned();
    requests.send(DiscoveryRequest { type_url: type_url.clone(), ..DiscoveryRequest::default() }).await?;
    let first: DiscoveryResponse = responses.message().await?.ok_or("a response")?;
    assert_eq!(first.resources[0].value, b"1");
    let (version_info, response_nonce) = (first.version_info.clone(), first.nonce);
    let ack = DiscoveryRequest { type_url, version_info, response_nonce, ..DiscoveryRequest::default() };
    requests.send(ack).await?;
    server.clients.acknowledged(Listener, "web", Version::of(b"1")).await;

    server.set(Listener, "other", "2");
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
    client.send(hello("alice")).await?;
    server.shutdown.cancel();
    for client in [client, silent] {
        assert_eq!(client.end_code().await, Some(Code::Unavailable));
    }
    server.task.await??;
    assert!(!path.exists());
    assert_eq!(server.clients.snapshot(), []);
    Ok(())
}

#[tokio::test]
async fn an_address_in_use_is_named_in_the_error() -> Result {
    let taken = bind(&"127.0.0.1:0".parse()?)?;
    let error = bind(taken.address()).err().ok_or("the port is taken")?;
    assert_eq!(error.to_string(), format!("cannot listen on {}", taken.address()));
    let cause = error.source().ok_or("there is a cause")?.to_string();
    assert!(!cause.is_empty() && !error.to_string().contains(&cause), "each is told once: {cause}");
    Ok(())
}
