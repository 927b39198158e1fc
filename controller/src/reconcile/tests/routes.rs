//! Routes that cluster routes make.

use serde_json::{Value, json};

use super::cluster::{Cluster, shown};
use super::objects::{at, cluster_route, domain, gateway, key_of};
use crate::action::Action;
use crate::watch::Kind;
use crate::world::Place;

#[test]
fn a_cluster_route_makes_a_route_on_each_side_that_lives_here_with_the_keys_of_the_domains() {
    let mut cluster = Cluster::of_alice_and_bob();
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "bob"));
    cluster.settle();
    assert_eq!(cluster.routes(), ["alice/alice-bob", "bob/alice-bob"]);
    for home in ["alice", "bob"] {
        let route = &cluster.world.routes[&Place::new(home, "alice-bob")];
        let tokens = route.spec.token_config.as_ref().unwrap();
        assert_eq!(tokens.source_public_key, key_of("alice").public_key);
        assert_eq!(tokens.destination_public_key, key_of("bob").public_key);
        let labels: Vec<_> = route.metadata.labels.as_ref().unwrap().iter().collect();
        let text = |text: &str| text.to_owned();
        assert_eq!(
            labels,
            [
                (&text("kuscia.secretflow/clusterdomainroute-destination"), &text("bob")),
                (&text("kuscia.secretflow/clusterdomainroute-source"), &text("alice")),
                (&text("team"), &text("blue")),
            ]
        );
        let owner = &route.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("ClusterDomainRoute", "alice-bob"));
        assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(false)));
    }
    assert_eq!(cluster.shows("alice-bob", "Accepted"), shown(true, "Valid"));
}

#[test]
fn no_route_is_made_where_the_domain_is_a_partner_or_gone() {
    let mut cluster = Cluster::of_alice_and_bob();
    let mut partner = domain("carol", Some(&key_of("carol")));
    partner["spec"]["role"] = json!("partner");
    cluster.put(Kind::Domain, partner);
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "carol"));
    cluster.put(Kind::ClusterDomainRoute, cluster_route("carol", "dave"));
    cluster.settle();
    assert_eq!(cluster.routes(), ["alice/alice-carol"]);
    assert_eq!(cluster.shows("carol-dave", "Accepted"), shown(false, "NoDomainHere"));
    assert_eq!(cluster.shows("carol-dave", "Ready"), shown(false, "NoDomainHere"));

    cluster.delete(Kind::Domain, "", "alice");
    cluster.settle();
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "bob"));
    cluster.settle();
    assert_eq!(
        cluster.routes(),
        ["alice/alice-carol", "bob/alice-bob"],
        "what it left stays, nothing is added"
    );
}

#[test]
fn a_partner_that_calls_needs_no_endpoint() {
    let mut cluster = Cluster::of_alice_and_bob();
    let mut route = cluster_route("carol", "bob");
    route["spec"].as_object_mut().unwrap().remove("endpoint");
    cluster.put(Kind::Domain, {
        let mut partner = domain("carol", Some(&key_of("carol")));
        partner["spec"]["role"] = json!("partner");
        partner
    });
    cluster.put(Kind::ClusterDomainRoute, route);
    cluster.settle();
    assert_eq!(cluster.routes(), ["bob/carol-bob"]);
    assert_eq!(cluster.shows("carol-bob", "Accepted"), shown(true, "Valid"));
}

#[test]
fn a_route_follows_its_cluster_route_and_whatever_others_change_is_put_back() {
    let mut cluster = Cluster::with_route();
    let good = cluster.object(Kind::DomainRoute, "bob", "alice-bob")["spec"].clone();
    for (pointer, value) in [
        ("/spec/endpoint/host", json!("elsewhere.example")),
        ("/spec/bodyEncryption", json!({"algorithm": "AES"})),
        ("/spec/tokenConfig/sourcePublicKey", Value::Null),
        ("/metadata/labels/team", Value::Null),
        ("/metadata/ownerReferences/0/blockOwnerDeletion", json!(true)),
    ] {
        cluster.change(Kind::DomainRoute, "bob", "alice-bob", pointer, value);
        let actions = cluster.settle();
        assert!(matches!(&actions[..], [Action::ApplyRoute(_), ..]), "{pointer}: {actions:?}");
        assert_eq!(cluster.object(Kind::DomainRoute, "bob", "alice-bob")["spec"], good, "{pointer}");
    }
    cluster.change(
        Kind::ClusterDomainRoute,
        "",
        "alice-bob",
        "/spec/tokenConfig/rollingUpdatePeriod",
        json!(60),
    );
    cluster.change(Kind::ClusterDomainRoute, "", "alice-bob", "/metadata/labels/team", Value::Null);
    cluster.settle();
    for home in ["alice", "bob"] {
        let route = cluster.object(Kind::DomainRoute, home, "alice-bob");
        assert_eq!(route["spec"]["tokenConfig"]["rollingUpdatePeriod"], 60);
        assert_eq!(route["metadata"]["labels"]["team"], Value::Null);
    }
}

#[test]
fn keys_follow_the_certificate_and_outlive_it_but_what_the_cluster_route_says_counts_first() {
    let mut cluster = Cluster::with_route();
    let source_key = |cluster: &Cluster| {
        let route = &cluster.world.routes[&Place::new("bob", "alice-bob")];
        route.spec.token_config.as_ref().unwrap().source_public_key.clone()
    };
    cluster.put(Kind::Domain, domain("alice", Some(&key_of("alice-renewed"))));
    cluster.settle();
    assert_eq!(source_key(&cluster), key_of("alice-renewed").public_key);

    for broken in
        [domain("alice", None), json!({"metadata": {"name": "alice"}, "spec": {"cert": "nonsense"}})]
    {
        cluster.put(Kind::Domain, broken);
        cluster.settle();
        assert_eq!(source_key(&cluster), key_of("alice-renewed").public_key, "the last good key stays");
        assert_eq!(cluster.shows("alice-bob", "Accepted"), shown(true, "Valid"));
    }

    let given = json!(key_of("alice").public_key);
    cluster.change(Kind::ClusterDomainRoute, "", "alice-bob", "/spec/tokenConfig/sourcePublicKey", given);
    cluster.put(Kind::Domain, domain("alice", Some(&key_of("alice-renewed"))));
    cluster.settle();
    assert_eq!(source_key(&cluster), key_of("alice").public_key);
}

#[test]
fn a_missing_key_is_told_once_with_the_remedy() {
    let mut cluster = Cluster::of_alice_and_bob();
    cluster.put(Kind::Domain, domain("bob", None));
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "bob"));
    let warnings = |actions: &[Action]| {
        let warning = |action: &Action| match action {
            Action::WriteClusterRouteStatus { warning, .. } => warning.clone(),
            _ => None,
        };
        actions.iter().filter_map(warning).map(|warning| warning.reason).collect::<Vec<_>>()
    };
    assert_eq!(warnings(&cluster.settle()), ["PublicKeyMissing"]);
    let accepted = cluster.condition("alice-bob", "Accepted");
    assert_eq!(
        accepted.message,
        "Domain bob has no certificate to take its public key from; set its spec.cert"
    );
    cluster.put(Kind::Gateway, gateway("alice", "gw-2", 1));
    cluster.change(
        Kind::ClusterDomainRoute,
        "",
        "alice-bob",
        "/spec/tokenConfig/rollingUpdatePeriod",
        json!(60),
    );
    assert_eq!(warnings(&cluster.settle()), [""; 0], "it is known");
    cluster.put(Kind::Domain, domain("bob", Some(&key_of("bob"))));
    cluster.settle();
    assert_eq!(cluster.shows("alice-bob", "Accepted"), shown(true, "Valid"));
}

#[test]
fn a_route_that_was_made_by_hand_is_neither_changed_nor_deleted() {
    let mut cluster = Cluster::of_alice_and_bob();
    let mut by_hand = cluster_route("alice", "bob");
    by_hand["metadata"]["namespace"] = json!("bob");
    cluster.put(Kind::DomainRoute, by_hand.clone());
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "bob"));
    cluster.settle();
    assert_eq!(cluster.object(Kind::DomainRoute, "bob", "alice-bob")["spec"], by_hand["spec"]);
    assert_eq!(cluster.shows("alice-bob", "Accepted"), shown(false, "DomainRouteInTheWay"));
    assert!(cluster.condition("alice-bob", "Accepted").message.starts_with("DomainRoute bob/alice-bob "));
    assert_eq!(cluster.routes(), ["alice/alice-bob", "bob/alice-bob"], "the other side is made");

    cluster.delete(Kind::DomainRoute, "bob", "alice-bob");
    cluster.settle();
    assert_eq!(cluster.shows("alice-bob", "Accepted"), shown(true, "Valid"));
    let mut by_hand = cluster_route("bob", "alice");
    by_hand["metadata"]["namespace"] = json!("bob");
    cluster.put(Kind::DomainRoute, by_hand);
    cluster.delete(Kind::ClusterDomainRoute, "", "alice-bob");
    cluster.settle();
    assert_eq!(cluster.routes(), ["bob/bob-alice"]);
}

#[test]
fn routes_are_deleted_with_their_cluster_route_or_when_it_no_longer_leads_there() {
    let mut cluster = Cluster::of_alice_and_bob();
    for name in ["alice-bob", "carol", "bob-carol"] {
        cluster.put(Kind::Domain, domain(name, Some(&key_of(name))));
    }
    // The same name in both ways.
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice-bob", "carol"));
    cluster.settle();
    assert_eq!(cluster.routes(), ["alice-bob/alice-bob-carol", "carol/alice-bob-carol"]);
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "bob-carol"));
    cluster.settle();
    assert_eq!(cluster.routes(), ["alice/alice-bob-carol", "bob-carol/alice-bob-carol"]);

    // Something waits for the routes to be gone; they must not be made again.
    let mut leaving = cluster.object(Kind::ClusterDomainRoute, "", "alice-bob-carol").clone();
    leaving["metadata"]["deletionTimestamp"] = json!(at(1).to_string());
    cluster.put(Kind::ClusterDomainRoute, leaving);
    cluster.settle();
    assert_eq!(cluster.routes(), [""; 0]);
}

#[test]
fn an_invalid_cluster_route_is_told_by_field_and_its_last_good_routes_stay() {
    let mut cluster = Cluster::with_route();
    let good = cluster.object(Kind::DomainRoute, "alice", "alice-bob")["spec"].clone();
    cluster.change(Kind::ClusterDomainRoute, "", "alice-bob", "/spec/endpoint/host", json!("http://x"));
    let actions = cluster.settle();
    assert!(
        matches!(&actions[..], [Action::WriteClusterRouteStatus { warning: Some(_), .. }]),
        "{actions:?}"
    );
    assert_eq!(cluster.object(Kind::DomainRoute, "alice", "alice-bob")["spec"], good);
    assert_eq!(cluster.shows("alice-bob", "Accepted"), shown(false, "Invalid"));
    assert!(cluster.condition("alice-bob", "Accepted").message.starts_with("spec.endpoint.host: "));
}
