//! What only a domain in Kubernetes has.

use std::path::Path;

use kube::api::ListParams;
use networkmesh::harness::balancer::Balancer;
use networkmesh::harness::domain::{Domain, Home};
use serde_json::json;

use super::stream::Traffic;
use super::world::{
    PROGRAM, Source, World, answers, confirmed_revision, eventually, route_status, set_destination, token,
};

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
async fn a_domain_goes_on_when_one_of_its_gateways_dies() {
    let mut world = World::laid_out(Source::Kubernetes, &json!({}), &json!({})).await;
    let mut second = world.bob.lay_out_replica("2", &json!({})).unwrap();
    let balancer =
        Balancer::start(vec![world.bob.addresses.external, second.addresses.external]).await.unwrap();
    let mut route = world.alice.route_to(&world.bob);
    set_destination(&mut route, "bob", balancer.address());
    world.connect(&route).await;
    world.connect(&world.bob.route_to(&world.alice)).await;
    second.start_mesh(Path::new(PROGRAM)).await.unwrap();
    second.start_envoy(Path::new(PROGRAM), &world.envoy).await.unwrap();
    world.start().await;
    world.agree().await;
    for gateway in [&world.bob, &second] {
        answers(gateway, "echo.alice.svc", 200).await;
        knows_token(gateway, confirmed_revision(&world.alice, &world.bob).await).await;
    }
    answers(&world.alice, "echo.bob.svc", 200).await;

    second.mesh.take().unwrap().kill9().await.unwrap();
    second.envoy.take().unwrap().kill9().await.unwrap();
    answers(&world.alice, "echo.bob.svc", 200).await;
    let traffic = Traffic::start(&world.alice, "echo.bob.svc").await;
    traffic.more(20).await;
    assert_eq!(traffic.failures().await, Vec::<String>::new());
}

/// Waits until a gateway of bob accepts the token of that revision from alice.
async fn knows_token(gateway: &Domain, revision: i64) {
    eventually("the gateway knows the token", async || {
        let route = route_status(gateway, "alice-bob").await?;
        if route.token_revisions.contains(&revision) { Ok(()) } else { Err(format!("{route:?}")) }
    })
    .await;
}
