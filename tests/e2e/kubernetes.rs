//! What only a domain in Kubernetes has.

mod central;
mod outage;
mod own;
mod replicas;

use kube::api::ListParams;
use networkmesh::harness::domain::Home;

use self::own::{OwnServer, two_domains};
use super::world::{Source, World, echoed, get, token};

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
