//! Tokens of routes, and who begins them.

use serde_json::{Value, json};

use super::cluster::{Cluster, shown};
use super::objects::{at, cluster_route, gateway, route_status, token};
use crate::action::Action;
use crate::watch::Kind;
use crate::world::{Key, Place};

#[test]
fn the_initializer_is_the_first_live_gateway_and_stays_it_while_it_lives() {
    let mut cluster = Cluster::of_alice_and_bob();
    cluster.put(Kind::Gateway, gateway("alice", "gw-0", 600));
    cluster.put(Kind::Gateway, gateway("alice", "gw-2", 5));
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "bob"));
    cluster.settle();
    let initializer = |cluster: &Cluster, home: &str| {
        let status = cluster.world.routes[&Place::new(home, "alice-bob")].status.clone();
        status.unwrap_or_default().token_status.revision_initializer
    };
    assert_eq!(initializer(&cluster, "alice"), "gw-1", "gw-0 is silent for ten minutes");
    assert_eq!(initializer(&cluster, "bob"), "", "the destination waits");
    cluster.put(Kind::Gateway, gateway("alice", "gw-0", 0));
    cluster.settle();
    assert_eq!(initializer(&cluster, "alice"), "gw-1");

    let keys = cluster.delete(Kind::Gateway, "alice", "gw-1");
    assert!(keys.contains(&Key::Tokens(Place::new("alice", "alice-bob"))), "{keys:?}");
    cluster.settle();
    assert_eq!(initializer(&cluster, "alice"), "gw-0");
    for seconds_ago in [-15, -30, -45] {
        cluster.put(Kind::Gateway, gateway("alice", "gw-2", seconds_ago));
        cluster.world.tick(at(seconds_ago));
    }
    cluster.settle();
    assert_eq!(initializer(&cluster, "alice"), "gw-2", "gw-0 is not heard any more");
}

#[test]
fn a_route_without_tokens_needs_no_initializer() {
    let mut cluster = Cluster::of_alice_and_bob();
    let mut route = cluster_route("alice", "bob");
    route["spec"]["authenticationType"] = json!("None");
    route["spec"].as_object_mut().unwrap().remove("tokenConfig");
    cluster.put(Kind::ClusterDomainRoute, route);
    let actions = cluster.settle();
    assert!(!actions.iter().any(|action| matches!(action, Action::SetInitializer { .. })), "{actions:?}");
    assert_eq!(cluster.shows("alice-bob", "Ready"), shown(true, "Success"));
    let types: Vec<_> =
        cluster.status("alice-bob").conditions.into_iter().map(|condition| condition.type_).collect();
    assert_eq!(types, ["Accepted", "Ready"]);
}

#[test]
fn a_token_of_the_destination_is_ready_when_all_its_live_gateways_have_it() {
    let mut cluster = Cluster::of_alice_and_bob();
    cluster.put(Kind::Gateway, gateway("bob", "gw-2", 5));
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "bob"));
    cluster.settle();
    let status = route_status(&token(1, false, &["gw-1"]), &[]);
    cluster.change(Kind::DomainRoute, "bob", "alice-bob", "/status", status);
    cluster.settle();
    let is_ready = |cluster: &Cluster| {
        let status = cluster.world.routes[&Place::new("bob", "alice-bob")].status.clone();
        status.unwrap().token_status.revision_token.is_ready
    };
    assert!(!is_ready(&cluster), "gw-2 does not have it");
    cluster.delete(Kind::Gateway, "bob", "gw-2");
    cluster.settle();
    assert!(is_ready(&cluster));
    assert_eq!(cluster.status("alice-bob").token_status.destination_tokens.len(), 1);
}

#[test]
fn a_cluster_route_is_ready_when_both_sides_have_the_same_token() {
    let mut cluster = Cluster::with_route();
    let ready = |cluster: &Cluster| cluster.shows("alice-bob", "Ready");
    let negotiation = |cluster: &Cluster| {
        (cluster.shows("alice-bob", "Running").0, cluster.shows("alice-bob", "Pending").0)
    };
    assert_eq!(ready(&cluster), shown(false, "DestinationIsNotAuthrized"));
    assert_eq!(negotiation(&cluster), (true, false));
    let set = |cluster: &mut Cluster, home: &str, status: Value| {
        cluster.change(Kind::DomainRoute, home, "alice-bob", "/status", status);
        cluster.settle();
    };
    set(&mut cluster, "alice", json!({"isDestinationUnreachable": true}));
    assert_eq!(ready(&cluster), shown(false, "DestinationUnreachable"));
    set(&mut cluster, "alice", json!({"isDestinationAuthorized": true}));
    assert_eq!(ready(&cluster), shown(false, "TokenNotGenerate"));
    let (one, two) = (token(1, true, &["gw-1"]), token(2, true, &["gw-1"]));
    set(&mut cluster, "alice", route_status(&one, std::slice::from_ref(&one)));
    assert_eq!(ready(&cluster), shown(false, "TokenNotGenerate"), "bob has none");
    set(&mut cluster, "bob", route_status(&one, std::slice::from_ref(&one)));
    assert_eq!(ready(&cluster), shown(true, "Success"));
    assert_eq!(negotiation(&cluster), (false, true));
    let since = cluster.condition("alice-bob", "Ready").last_transition_time;

    set(&mut cluster, "bob", route_status(&two, &[one.clone(), two.clone()]));
    assert_eq!(ready(&cluster), shown(true, "Success"), "bob accepts both");
    assert_eq!(cluster.condition("alice-bob", "Ready").last_transition_time, since);
    let status = cluster.status("alice-bob").token_status;
    assert_eq!((status.revision, status.source_tokens.len(), status.destination_tokens.len()), (2, 1, 2));
    assert!(status.destination_tokens.iter().all(|token| token.heart_beat_time.is_none()));
    assert_eq!(status.destination_tokens[1].token, "sealed-2");

    set(&mut cluster, "bob", route_status(&two, std::slice::from_ref(&two)));
    assert_eq!(ready(&cluster), shown(false, "TokenRevisionNotMatch"));
    cluster.delete(Kind::Gateway, "bob", "gw-1");
    cluster.settle();
    assert_eq!(ready(&cluster), shown(false, "HeartBeatTimeout"));
}
