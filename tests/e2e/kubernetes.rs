//! What only a domain in Kubernetes has.

mod central;
mod outage;
mod own;
mod replicas;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use model::api::Gateway;
use networkmesh::harness::domain::Home;

use self::own::{OwnServer, two_domains};
use super::partner::Partner;
use super::world::{Source, World, apply_route, echoed, eventually, get, token};

#[tokio::test]
async fn tokens_are_kept_encrypted() {
    let world = World::two_domains(Source::Kubernetes).await;
    let tokens = [token(&world.alice, "bob").await, token(&world.bob, "alice").await];
    for domain in [&world.alice, &world.bob] {
        let Home::Namespace(namespace) = &domain.home else { panic!("in Kubernetes") };
        let routes = namespace.routes().list(&ListParams::default()).await.unwrap();
        assert_eq!(routes.items.len(), 2);
        for route in routes {
            let text = serde_json::to_string(&route).unwrap();
            assert!(text.contains("revisionToken"), "{text}");
            assert!(tokens.iter().all(|token| !text.contains(token.trim_end_matches('='))), "{text}");
        }
    }
}

#[tokio::test]
async fn a_gateway_tells_that_it_lives_what_it_serves_and_what_an_operator_must_see() {
    let world = World::two_domains(Source::Kubernetes).await;
    let Home::Namespace(namespace) = &world.alice.home else { panic!("in Kubernetes") };
    let (client, name) = (namespace.cluster().client(), namespace.name());

    let gateways: Api<Gateway> = Api::namespaced(client.clone(), name);
    let gateway = gateways.get("alice-gateway").await.unwrap().status.unwrap();
    assert_eq!(gateway.public_key, world.alice.public_key.to_base64_pem());
    assert_eq!(gateway.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(gateway.address, world.alice.addresses.external.ip().to_string());
    eventually("the next heartbeat", async || {
        let next = gateways.get("alice-gateway").await.unwrap().status.unwrap();
        assert_eq!(next.uptime, gateway.uptime);
        if next.heartbeat_time > gateway.heartbeat_time { Ok(()) } else { Err(format!("{next:?}")) }
    })
    .await;

    let services: Api<Service> = Api::namespaced(client.clone(), name);
    eventually("the ready time", async || {
        let service = services.get("echo").await.unwrap();
        let time = service.annotations().get(model::READY_TIME).cloned().ok_or("there is none")?;
        time.parse::<Timestamp>().map(drop).map_err(|error| format!("{time}: {error}"))
    })
    .await;

    // Alice's route names another key of hers, and then the right one again.
    let mut wrong = world.alice.route_to(&world.bob);
    wrong["spec"]["tokenConfig"]["sourcePublicKey"] = Partner::new("other").public_key().into();
    for (route, type_, reason) in
        [(wrong, "Warning", "KeyMismatch"), (world.alice.route_to(&world.bob), "Normal", "Valid")]
    {
        apply_route(&world.alice, &route).await;
        let events: Api<Event> = Api::namespaced(client.clone(), name);
        eventually("the Event", async || {
            let events = events.list(&ListParams::default()).await.unwrap().items;
            let is_there = events.iter().any(|event| {
                let about = event.regarding.as_ref().and_then(|about| about.name.as_deref());
                about == Some("alice-bob")
                    && event.type_.as_deref() == Some(type_)
                    && event.reason.as_deref() == Some(reason)
            });
            if is_there { Ok(()) } else { Err(format!("{events:?}")) }
        })
        .await;
    }
}

#[tokio::test]
async fn two_institutions_with_an_api_server_each_agree() {
    let (mine, theirs) = (OwnServer::start().await, OwnServer::start().await);
    let mut world = two_domains(&mine, &theirs).await;
    for domain in [&mut world.alice, &mut world.bob] {
        domain.serve_echo("echo").await.unwrap();
    }
    for route in [world.alice.route_to(&world.bob), world.bob.route_to(&world.alice)] {
        world.connect(&route).await;
    }
    world.start().await;
    world.agree().await;
    assert_eq!(echoed(&get(&world.alice, "echo.bob.svc", "/").await).service, "echo.bob");
    assert_eq!(echoed(&get(&world.bob, "echo.alice.svc", "/").await).service, "echo.alice");
}
