//! What Envoys make of what they are told, shown at the objects.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::google::rpc::Status as Reason;
use model::api::{Condition, ConditionStatus};
use networkmesh::harness::domain::Domain;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use xds::ResourceType;

use super::world::{Source, World, admin, answers, eventually, networkmesh};

scenes!(
    a_route_says_whether_envoy_took_what_was_made_of_it,
    what_one_envoy_rejects_is_told_at_its_object_and_hurts_no_other,
);

const WORDS: &str = "I do not like this one";

async fn a_route_says_whether_envoy_took_what_was_made_of_it(on: Source) {
    let world = World::two_domains(on).await;
    for (domain, route) in
        [(&world.alice, "alice-bob"), (&world.alice, "bob-alice"), (&world.bob, "alice-bob")]
    {
        programmed(domain, route, |condition| condition.status == ConditionStatus::True).await;
    }
}

async fn what_one_envoy_rejects_is_told_at_its_object_and_hurts_no_other(on: Source) {
    let world = World::two_domains(on).await;
    let picky = connect_and_reject(
        &world.alice,
        &[(ResourceType::RouteConfiguration, "to|bob"), (ResourceType::Cluster, "svc|echo.alice.svc")],
    )
    .await;
    let is_told = |condition: &Condition| {
        let message = &condition.message;
        condition.status == ConditionStatus::False
            && condition.reason == "Rejected"
            && ["picky", "RouteConfiguration to|bob", WORDS].iter().all(|part| message.contains(part))
    };
    programmed(&world.alice, "alice-bob", is_told).await;
    programmed(&world.alice, "bob-alice", |condition| condition.status == ConditionStatus::True).await;

    eventually("the service's cluster is told too", async || {
        let status = world.alice.status().await.unwrap();
        let echo = status.services.iter().find(|service| service.host == "echo.alice.svc").unwrap();
        let told = echo.conditions.iter().any(|condition| condition.message.contains(WORDS));
        if told { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    let shown = networkmesh(["status", "--admin", &admin(&world.alice)]).await;
    assert_eq!(shown.code, Some(1), "{shown:?}");
    for line in [
        format!("DomainRoute alice/alice-bob: Envoy picky rejects RouteConfiguration to|bob: {WORDS}"),
        format!("Service alice/echo: Envoy picky rejects Cluster svc|echo.alice.svc: {WORDS}"),
    ] {
        assert!(shown.out.contains(&line), "{line}\n{shown:?}");
    }
    answers(&world.alice, "echo.bob.svc", 200).await;
    answers(&world.bob, "echo.alice.svc", 200).await;

    picky.abort();
    programmed(&world.alice, "alice-bob", |condition| condition.status == ConditionStatus::True).await;
}

/// Waits until a route's condition is as it should be.
async fn programmed(domain: &Domain, route: &str, is: impl Fn(&Condition) -> bool) {
    eventually(&format!("{route} at {} is programmed as it should be", domain.name), async || {
        let status = domain.status().await.unwrap();
        let route = status.routes.into_iter().find(|known| known.name == route).ok_or("no route")?;
        let condition = route.conditions.into_iter().find(|condition| condition.type_ == "Programmed");
        if condition.as_ref().is_some_and(&is) { Ok(()) } else { Err(format!("{condition:?}")) }
    })
    .await;
}

/// A second gateway of `domain`, which asks for these resources and rejects whatever comes.
pub(crate) async fn connect_and_reject(
    domain: &Domain,
    resources: &[(ResourceType, &str)],
) -> JoinHandle<()> {
    let socket = domain.folder.join("xds.sock");
    let channel =
        Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().connect().await.unwrap();
    let (requests, requests_out) = mpsc::channel(8);
    for (ty, name) in resources {
        let request = DeltaDiscoveryRequest {
            node: Some(Node { id: "picky".to_owned(), ..Node::default() }),
            type_url: ty.type_url().to_owned(),
            resource_names_subscribe: vec![(*name).to_owned()],
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(request).await.unwrap();
    }
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let responses = client.delta_aggregated_resources(ReceiverStream::new(requests_out)).await;
    let mut responses = responses.unwrap().into_inner();
    tokio::spawn(async move {
        while let Ok(Some(response)) = responses.message().await {
            let nack = DeltaDiscoveryRequest {
                type_url: response.type_url,
                response_nonce: response.nonce,
                error_detail: Some(Reason { message: WORDS.to_owned(), ..Reason::default() }),
                ..DeltaDiscoveryRequest::default()
            };
            if requests.send(nack).await.is_err() {
                return;
            }
        }
    })
}
