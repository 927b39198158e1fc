use envoy_types::pb::envoy::service::{
    cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient,
    discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse},
    listener::v3::listener_discovery_service_client::ListenerDiscoveryServiceClient,
    route::v3::virtual_host_discovery_service_client::VirtualHostDiscoveryServiceClient,
};
use networkmesh_xds::{
    Bound,
    ResourceType::{self, *},
    Version, bind,
};
use tokio::sync::mpsc;
use tokio_stream::{once, wrappers::ReceiverStream};
use tonic::{Code, Streaming, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use crate::support::{Result, Server, connect, hello_for, socket};

/// The services and methods of Envoy's API, the parts of the latter without `Delta` and `Stream`.
const METHODS: [(ResourceType, &str, &str); 8] = [
    (Cluster, "cluster.v3.ClusterDiscoveryService", "Clusters"),
    (ClusterLoadAssignment, "endpoint.v3.EndpointDiscoveryService", "Endpoints"),
    (Secret, "secret.v3.SecretDiscoveryService", "Secrets"),
    (TypedExtensionConfig, "extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs"),
    (Listener, "listener.v3.ListenerDiscoveryService", "Listeners"),
    (RouteConfiguration, "route.v3.RouteDiscoveryService", "Routes"),
    (ScopedRouteConfiguration, "route.v3.ScopedRoutesDiscoveryService", "ScopedRoutes"),
    (VirtualHost, "route.v3.VirtualHostDiscoveryService", "VirtualHosts"),
];

async fn serve() -> Result<(Server, Channel, tempfile::TempDir)> {
    let (address, folder) = socket()?;
    let bound: Bound = bind(&address)?;
    Ok((Server::start(bound), connect(&address).await?, folder))
}

/// Opens a stream without any generated code. The request after the first is an acknowledgement, if there is one.
async fn stream<Req, Res>(
    channel: Channel,
    path: String,
    requests: ReceiverStream<Req>,
) -> Result<Streaming<Res>>
where
    Req: prost::Message + 'static,
    Res: prost::Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let path: PathAndQuery = path.parse()?;
    Ok(grpc.streaming(tonic::Request::new(requests), path, ProstCodec::default()).await?.into_inner())
}

#[tokio::test]
async fn every_type_has_a_delta_stream_that_implies_it() -> Result {
    let (server, channel, _folder) = serve().await?;
    for (ty, service, method) in METHODS {
        server.set(ty, "a", "1");
        let (requests, stream_out) = mpsc::channel(1);
        requests.send(hello_for("envoy", &["a"])).await?;
        let path = format!("/envoy.service.{service}/Delta{method}");
        let mut responses: Streaming<DeltaDiscoveryResponse> =
            stream(channel.clone(), path, ReceiverStream::new(stream_out)).await?;
        let response = responses.message().await?.ok_or("a response")?;
        assert_eq!(response.type_url, ty.type_url());
        assert_eq!(response.resources.len(), 1, "{ty}");
        let ack =
            DeltaDiscoveryRequest { response_nonce: response.nonce, ..DeltaDiscoveryRequest::default() };
        requests.send(ack).await?;
        server.clients.acknowledged(ty, "a", Version::of(b"1")).await;
    }
    Ok(())
}

#[tokio::test]
async fn every_type_but_one_has_a_stream_of_its_whole_state() -> Result {
    let (server, channel, _folder) = serve().await?;
    for (ty, service, method) in METHODS {
        server.set(ty, "a", "1");
        let (requests, stream_out) = mpsc::channel(1);
        let request =
            DiscoveryRequest { resource_names: vec!["a".to_owned()], ..DiscoveryRequest::default() };
        requests.send(request).await?;
        let path = format!("/envoy.service.{service}/Stream{method}");
        let opened: Result<Streaming<DiscoveryResponse>> =
            stream(channel.clone(), path, ReceiverStream::new(stream_out)).await;
        if ty == VirtualHost {
            let refused = opened.err().ok_or("VHDS is delta only")?.downcast::<tonic::Status>()?;
            assert_eq!(refused.code(), Code::Unimplemented);
            continue;
        }
        let response = opened?.message().await?.ok_or("a response")?;
        assert_eq!((response.type_url.as_str(), response.resources.len()), (ty.type_url(), 1));
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_of_one_type_refuses_the_others() -> Result {
    let (_server, channel, _folder) = serve().await?;
    let request = DeltaDiscoveryRequest {
        type_url: Listener.type_url().to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    let mut clusters = ClusterDiscoveryServiceClient::new(channel);
    let mut responses = clusters.delta_clusters(once(request)).await?.into_inner();
    let refused = responses.message().await.err().ok_or("it serves clusters only")?;
    assert_eq!(refused.code(), Code::InvalidArgument);
    Ok(())
}

#[tokio::test]
async fn fetching_is_not_served() -> Result {
    let (_server, channel, _folder) = serve().await?;
    let fetched =
        ListenerDiscoveryServiceClient::new(channel).fetch_listeners(DiscoveryRequest::default()).await;
    assert_eq!(fetched.err().map(|status| status.code()), Some(Code::Unimplemented));
    Ok(())
}

#[tokio::test]
async fn a_host_asked_for_in_vain_is_answered_with_its_alias() -> Result {
    let (server, channel, _folder) = serve().await?;
    server.set(VirtualHost, "routes/known", "1");
    let (requests, stream_out) = mpsc::channel(8);
    requests.send(hello_for("envoy", &["routes/unknown"])).await?;
    let mut client = VirtualHostDiscoveryServiceClient::new(channel);
    let mut responses = client.delta_virtual_hosts(ReceiverStream::new(stream_out)).await?.into_inner();
    let absent = responses.message().await?.ok_or("an answer")?;
    assert_eq!(absent.removed_resources, Vec::<String>::new());
    assert_eq!(absent.resources[0].name, "routes/unknown");
    assert_eq!(absent.resources[0].aliases, ["routes/unknown"]);
    assert_eq!(absent.resources[0].resource, None);
    let ack = |response: &DeltaDiscoveryResponse| DeltaDiscoveryRequest {
        response_nonce: response.nonce.clone(),
        ..DeltaDiscoveryRequest::default()
    };
    requests.send(ack(&absent)).await?;

    server.set(VirtualHost, "routes/unknown", "2");
    let present = responses.message().await?.ok_or("the host")?;
    assert_eq!(present.resources[0].resource.as_ref().map(|any| any.value.as_slice()), Some(&b"2"[..]));
    requests.send(ack(&present)).await?;
    server.cache.apply([networkmesh_xds::Change::Remove(VirtualHost, "routes/unknown".to_owned())]);
    let removed = responses.message().await?.ok_or("the removal")?;
    assert_eq!((removed.resources.len(), removed.removed_resources), (0, vec!["routes/unknown".to_owned()]));
    Ok(())
}
