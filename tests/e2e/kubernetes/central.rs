//! Several domains of one cluster, and the controller.

use kube::Api;
use kube::api::{Patch, PatchParams};
use model::api::{ClusterDomainRoute, ConditionStatus, DomainRoute};
use serde_json::json;

use super::own::{OwnServer, cluster_route, domain_object, new_leader, two_domains};
use crate::stream::Traffic;
use crate::world::{World, confirmed_revision, echoed, eventually, get};

/// Alice and bob on one API server, where two controllers run. Routes are as the controller makes them.
#[tokio::test]
async fn the_routes_of_a_cluster_come_up_roll_their_tokens_and_outlive_their_controller() {
    let own = OwnServer::start().await;
    let mut world = two_domains(&own, &own).await;
    let logs = world.folder.path();
    let mut controllers =
        [own.start_controller(logs, "first").await, own.start_controller(logs, "second").await];
    for domain in [&mut world.alice, &mut world.bob] {
        domain.serve_echo("echo").await.unwrap();
    }
    for (one, other) in [(&world.alice, &world.bob), (&world.bob, &world.alice)] {
        one.apply("domain.json", &domain_object(one)).await.unwrap();
        let route = cluster_route(one.route_to(other), 2);
        one.apply(&format!("to-{}.json", other.name), &route).await.unwrap();
    }
    world.start().await;
    world.agree().await;
    for (domain, host, service) in
        [(&world.alice, "echo.bob.svc", "echo.bob"), (&world.bob, "echo.alice.svc", "echo.alice")]
    {
        assert_eq!(echoed(&get(domain, host, "/").await).service, service);
    }
    let cluster_routes: Api<ClusterDomainRoute> = Api::all(own.cluster.client());
    for name in ["alice-bob", "bob-alice"] {
        eventually("the ClusterDomainRoute is ready", async || {
            let status = cluster_routes.get(name).await.unwrap().status.unwrap_or_default();
            let is_ready = status
                .conditions
                .iter()
                .any(|known| known.type_ == "Ready" && known.status == ConditionStatus::True);
            if is_ready { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
    }

    let traffic = Traffic::start(&world.alice, "echo.bob.svc").await;
    let first = confirmed_revision(&world.alice, &world.bob).await;
    rolled(&world, first + 2).await;

    // The one that leads is killed. What somebody changes by hand is put back by the other one.
    let leader = new_leader(&own, None).await;
    let controller = controllers.iter_mut().find(|controller| controller.leads(&leader));
    controller.unwrap().process.kill9().await.unwrap();
    let routes: Api<DomainRoute> = Api::namespaced(own.cluster.client(), "alice");
    let changed = json!({"spec": {"sourceWhiteIPList": ["192.0.2.1"]}});
    routes.patch("alice-bob", &PatchParams::default(), &Patch::Merge(changed)).await.unwrap();
    eventually("the route is as the ClusterDomainRoute says", async || {
        let route = routes.get("alice-bob").await.unwrap();
        if route.spec.source_white_ip_list.is_empty() { Ok(()) } else { Err(format!("{route:?}")) }
    })
    .await;
    assert_ne!(new_leader(&own, None).await, leader);
    let last = confirmed_revision(&world.alice, &world.bob).await;
    rolled(&world, last + 1).await;
    assert_eq!(traffic.failures().await, Vec::<String>::new());
}

/// Waits until alice sends a token of this revision, or a later one.
async fn rolled(world: &World, revision: i64) {
    eventually("the token rolls", async || {
        let confirmed = confirmed_revision(&world.alice, &world.bob).await;
        if confirmed >= revision { Ok(()) } else { Err(format!("revision {confirmed}")) }
    })
    .await;
}
