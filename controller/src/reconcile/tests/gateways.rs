//! Gateways and what they tell.

use serde_json::json;

use super::cluster::Cluster;
use super::objects::{at, cluster_route, gateway};
use crate::watch::Kind;
use crate::world::{Key, Place};

#[test]
fn the_health_of_the_endpoint_is_told_per_live_gateway_and_port() {
    let mut cluster = Cluster::of_alice_and_bob();
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "bob"));
    let network = |healthy: i64| {
        json!([{"type": "DomainRoute", "name": "alice-to-bob-http", "totalEndpointsCount": 1,
                "healthyEndpointsCount": healthy}])
    };
    for (name, healthy) in [("gw-1", 1), ("gw-2", 0)] {
        let mut gateway = gateway("alice", name, 5);
        gateway["status"]["networkStatus"] = network(healthy);
        let keys = cluster.put(Kind::Gateway, gateway);
        assert!(keys.contains(&Key::ClusterRoute("alice-bob".to_owned())), "{keys:?}");
    }
    cluster.settle();
    let health = |cluster: &Cluster| {
        let statuses = cluster.status("alice-bob").endpoint_statuses;
        statuses.into_iter().map(|(name, status)| (name, status.endpoint_healthy)).collect::<Vec<_>>()
    };
    assert_eq!(health(&cluster), [("gw-1-http".to_owned(), true), ("gw-2-http".to_owned(), false)]);
    cluster.delete(Kind::Gateway, "alice", "gw-2");
    cluster.settle();
    assert_eq!(health(&cluster), [("gw-1-http".to_owned(), true)]);
}

#[test]
fn gateways_that_are_silent_for_an_hour_are_deleted() {
    let mut cluster = Cluster::new();
    cluster.put(Kind::Gateway, gateway("alice", "recent", 3599));
    cluster.put(Kind::Gateway, gateway("alice", "old", 3601));
    let mut never_heard = gateway("alice", "never", 0);
    never_heard.as_object_mut().unwrap().remove("status");
    never_heard["metadata"]["creationTimestamp"] = json!(at(3601).to_string());
    cluster.put(Kind::Gateway, never_heard);
    // The clock of this one is behind.
    cluster.put(Kind::Gateway, gateway("alice", "behind", 9000));
    cluster.put(Kind::Gateway, gateway("alice", "behind", 8985));
    let keys = cluster.world.tick(at(0));
    let gateways = ["never", "old"].map(|name| Key::Gateway(Place::new("alice", name)));
    assert_eq!(keys, gateways.into());
    let actions = cluster.settle();
    assert_eq!(actions.len(), 2, "{actions:?}");
    let left: Vec<_> = cluster.world.gateways.keys().map(|place| place.name.as_str()).collect();
    assert_eq!(left, ["behind", "recent"]);
}
