//! Detours through other domains, as each domain on the way sees them.

use std::sync::Arc;

use networkmesh_model::{
    DomainId, InboundRoute, Kind, OutboundAuth, OutboundRoute, StatusChange, StatusUpdate, TOKEN_BYTES, Way,
};
use serde_json::{Value, json};

use crate::support::{ALICE, Mesh, listed, object_of, route, with, without};

/// A direct route without tokens.
fn straight(source: &str, destination: &str) -> Value {
    let manifest = without(route(source, destination), "/spec/tokenConfig");
    with(manifest, "/spec/authenticationType", json!("None"))
}

/// A route that goes by `via`.
fn detour(source: &str, destination: &str, via: &str) -> Value {
    with(straight(source, destination), "/spec/transit", json!({"domain": {"domainID": via}}))
}

/// The chain a, b, c, d as it stands with `here`, which is called alice in it.
fn chain(here: &str) -> Mesh {
    let name = |domain: &'static str| if domain == here { "alice" } else { domain };
    let (a, b, c, d) = (name("a"), name("b"), name("c"), name("d"));
    let all = [
        (vec![a, b], straight(a, b)),
        (vec![b, c], straight(b, c)),
        (vec![c, d], straight(c, d)),
        (vec![b, c, d], detour(b, d, c)),
        (vec![a, b, c, d], detour(a, d, b)),
    ];
    let manifests: Vec<Value> =
        all.into_iter().filter(|(stands, _)| stands.contains(&"alice")).map(|(_, route)| route).collect();
    let mesh = Mesh::of(&manifests);
    assert!(mesh.snapshot.rejected.is_empty(), "{:?}", mesh.snapshot.rejected);
    mesh
}

fn ids(domains: &[DomainId]) -> Vec<&str> {
    domains.iter().map(DomainId::as_str).collect()
}

fn passed(route: &OutboundRoute) -> Vec<&str> {
    let Way::Transit(transit) = &route.way else { panic!("{route:?}") };
    ids(&transit.domains)
}

fn forwards(route: &InboundRoute) -> Vec<(&str, Vec<&str>)> {
    route.forwards.iter().map(|forward| (forward.destination.as_str(), ids(&forward.origins))).collect()
}

fn reasons(updates: &[StatusUpdate]) -> Vec<(&str, &str)> {
    updates
        .iter()
        .map(|update| match &update.change {
            StatusChange::Condition(condition) => (update.object.name.as_str(), condition.reason.as_str()),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn at_the_source_requests_leave_by_the_route_to_the_next_domain() {
    let mesh = chain("a");
    let route = mesh.outbound("d");
    assert_eq!(passed(route), ["b"]);
    let (hop, direct) = route.first_hop();
    assert_eq!(hop.destination.as_str(), "b");
    assert_eq!(direct.endpoint.host.to_string(), "b.example.com");
    let Way::Transit(transit) = &route.way else { panic!("{route:?}") };
    assert!(Arc::ptr_eq(&transit.next, &mesh.snapshot.outbound["b"]));
    assert!(mesh.snapshot.inbound.is_empty() && mesh.snapshot.forwarded.is_empty());
}

#[test]
fn every_domain_on_the_way_knows_who_brings_what() {
    let b = chain("b");
    assert_eq!(passed(b.outbound("d")), ["c"]);
    assert_eq!(forwards(b.inbound("a")), [("d", vec!["a"])]);
    assert_eq!(b.snapshot.forwarded["a-d"].carrier.as_str(), "a");

    let c = chain("c");
    assert_eq!(forwards(c.inbound("b")), [("d", vec!["a", "b"])]);
    assert_eq!(c.snapshot.forwarded["a-d"].carrier.as_str(), "b");
    assert_eq!(c.snapshot.forwarded["b-d"].carrier.as_str(), "b");
    assert!(c.inbound("b").origins.is_empty());

    let d = chain("d");
    assert_eq!(ids(&d.inbound("c").origins), ["a", "b"]);
    assert!(d.inbound("c").forwards.is_empty() && d.snapshot.forwarded.is_empty());
    let carrier = |source| d.inbound(source).carrier.as_ref().map(DomainId::as_str);
    assert_eq!((carrier("a"), carrier("b"), carrier("c")), (Some("c"), Some("c"), None));
}

#[test]
fn a_detour_may_go_by_another_detour() {
    let mesh = Mesh::of(&[
        detour("alice", "d", "c"),
        detour("alice", "c", "b"),
        straight("alice", "b"),
        straight("b", "alice"),
        detour("c", "alice", "b"),
        detour("d", "alice", "c"),
    ]);
    assert!(mesh.snapshot.rejected.is_empty(), "{:?}", mesh.snapshot.rejected);
    assert_eq!(passed(mesh.outbound("d")), ["b", "c"]);
    assert_eq!(mesh.outbound("d").first_hop().0.destination.as_str(), "b");
    assert_eq!(ids(&mesh.inbound("b").origins), ["c", "d"]);
    assert_eq!(mesh.inbound("d").carrier.as_ref().map(DomainId::as_str), Some("b"));

    let between = Mesh::of(&[
        straight("a", "alice"),
        detour("a", "c", "alice"),
        detour("a", "d", "c"),
        straight("alice", "c"),
        detour("alice", "d", "c"),
    ]);
    assert!(between.snapshot.rejected.is_empty(), "{:?}", between.snapshot.rejected);
    assert_eq!(forwards(between.inbound("a")), [("c", vec!["a"]), ("d", vec!["a"])]);
}

#[test]
fn whatever_changes_of_a_route_changes_those_that_go_by_it_at_once() {
    let mut mesh = Mesh::of(&[
        detour("alice", "d", "c"),
        detour("alice", "c", "b"),
        route("alice", "b"),
        straight("alice", "x"),
    ]);
    let token = ALICE.public_key().seal(&[7; TOKEN_BYTES]).unwrap();
    let status = json!({"tokenStatus": {"revisionToken": {"token": token, "revision": 3, "isReady": true}}});
    mesh.put(&with(route("alice", "b"), "/status", status));
    let sending = |mesh: &Mesh| match &mesh.outbound("d").first_hop().0.auth {
        OutboundAuth::Token { sending, .. } => sending.as_ref().map(|token| token.revision),
        other => panic!("{other:?}"),
    };
    assert_eq!(sending(&mesh), Some(3));
    let before = Arc::clone(&mesh.snapshot);
    mesh.put(&with(route("alice", "b"), "/spec/endpoint/host", json!("new.example")));
    let direct = mesh.outbound("d").first_hop().1;
    assert_eq!(direct.endpoint.host.to_string(), "new.example");
    assert!(Arc::ptr_eq(&before.outbound["x"], &mesh.snapshot.outbound["x"]));
    mesh.put(&straight("alice", "c"));
    assert_eq!(passed(mesh.outbound("d")), ["c"]);
    let changed: Vec<_> = mesh.snapshot.changes_since(&before).collect();
    assert_eq!(changed.len(), 3, "b, c and d: {changed:?}");
}

#[test]
fn a_detour_without_its_next_route_is_not_there_until_that_is() {
    let mut mesh = Mesh::empty();
    let (_, updates) = mesh.put(&detour("alice", "d", "b"));
    assert_eq!(reasons(&updates), [("alice-d", "TransitRouteMissing")]);
    let path = "spec.transit.domain.domainID";
    let problem = "needs the DomainRoute alice-b, which is not in force here";
    assert_eq!(mesh.rejection(Kind::DomainRoute, "alice-d"), [(path, problem)]);

    let (_, updates) = mesh.put(&straight("alice", "b"));
    assert_eq!(reasons(&updates), [("alice-b", "Valid"), ("alice-d", "Valid")]);
    assert_eq!(passed(mesh.outbound("d")), ["b"]);
    let (_, updates) = mesh.delete(Kind::DomainRoute, "alice-b");
    assert_eq!(reasons(&updates), [("alice-d", "TransitRouteMissing")]);
    assert!(mesh.snapshot.outbound.is_empty(), "the old version leads nowhere");
}

#[test]
fn a_permission_needs_a_way_in_and_a_way_on() {
    let permission = detour("a", "d", "alice");
    let missing = |manifests: &[Value]| {
        let mesh = Mesh::of(&[manifests, std::slice::from_ref(&permission)].concat());
        assert!(mesh.snapshot.forwarded.is_empty());
        mesh.rejection(Kind::DomainRoute, "a-d")[0].1.to_owned()
    };
    let needs = |route: &str| format!("needs the DomainRoute {route}, which is not in force here");
    assert_eq!(missing(&[]), needs("a-alice"));
    assert_eq!(missing(&[straight("a", "alice")]), needs("alice-d"));
    assert_eq!(missing(&[straight("alice", "d")]), needs("a-alice"));
    let elsewhere = Mesh::of(&[detour("a", "d", "b"), straight("alice", "d")]);
    assert_eq!(elsewhere.rejection(Kind::DomainRoute, "a-d")[0].1, needs("b-d"));
    let unfinished = Mesh::of(&[detour("a", "alice", "c")]);
    assert_eq!(unfinished.rejection(Kind::DomainRoute, "a-alice")[0].1, needs("c-alice"));
}

#[test]
fn permissions_follow_the_routes_that_they_stand_for() {
    let mut mesh = Mesh::of(&[straight("a", "alice"), straight("alice", "d"), detour("a", "d", "alice")]);
    assert_eq!(forwards(mesh.inbound("a")), [("d", vec!["a"])]);
    mesh.put(&with(straight("a", "alice"), "/spec/sourceWhiteIPList", json!(["192.0.2.1"])));
    assert_eq!(forwards(mesh.inbound("a")), [("d", vec!["a"])], "a new version keeps them");
    mesh.delete(Kind::DomainRoute, "alice-d");
    assert!(mesh.inbound("a").forwards.is_empty());
    mesh.put(&straight("alice", "d"));
    assert_eq!(forwards(mesh.inbound("a")), [("d", vec!["a"])]);
    mesh.delete(Kind::DomainRoute, "a-d");
    assert!(mesh.inbound("a").forwards.is_empty() && mesh.snapshot.forwarded.is_empty());
}

#[test]
fn loops_are_refused_and_named() {
    let mesh = Mesh::of(&[detour("alice", "b", "c"), detour("alice", "c", "b")]);
    assert_eq!(
        mesh.rejection(Kind::DomainRoute, "alice-b")[0].1,
        "leads in a loop: alice-b, alice-c, alice-b"
    );
    assert!(mesh.snapshot.outbound.is_empty() && mesh.snapshot.rejected.len() == 2);

    let back = Mesh::of(&[
        straight("a", "alice"),
        straight("alice", "a"),
        detour("a", "d", "alice"),
        detour("alice", "d", "a"),
    ]);
    assert_eq!(back.rejection(Kind::DomainRoute, "a-d")[0].1, "leads in a loop: a, alice, a");
    assert_eq!(back.rejection(Kind::DomainRoute, "alice-d")[0].1, "leads in a loop: alice, a, alice");
    assert!(back.inbound("a").forwards.is_empty());

    let mut mesh = Mesh::of(&[detour("alice", "b", "c"), straight("alice", "c")]);
    let (_, updates) = mesh.put(&detour("alice", "c", "b"));
    assert_eq!(reasons(&updates), [("alice-b", "TransitLoop"), ("alice-c", "TransitLoop")]);
    assert!(mesh.snapshot.outbound.is_empty());
    let (_, updates) = mesh.put(&straight("alice", "c"));
    assert_eq!(reasons(&updates), [("alice-b", "Valid"), ("alice-c", "Valid")]);
}

#[test]
fn tokens_of_a_detour_are_negotiated_from_end_to_end() {
    let over_b = |manifest| with(manifest, "/spec/transit", json!({"domain": {"domainID": "b"}}));
    let token = ALICE.public_key().seal(&[7; TOKEN_BYTES]).unwrap();
    let status = json!({"tokenStatus": {"tokens": [{"token": token, "revision": 5, "isReady": true}]}});
    let mesh = Mesh::of(&[
        straight("alice", "b"),
        straight("b", "alice"),
        with(over_b(route("alice", "d")), "/status", status.clone()),
        with(over_b(route("d", "alice")), "/status", status),
    ]);
    assert!(
        matches!(&mesh.outbound("d").auth, OutboundAuth::Token { sending: Some(token), .. } if token.revision == 5)
    );
    assert_eq!(mesh.inbound("d").accepted().len(), 1);
    assert_eq!(mesh.inbound("d").status.token_status.tokens.len(), 1);
}

#[test]
fn the_newest_status_counts_while_the_newest_version_is_wrong() {
    let mut mesh = Mesh::of(&[straight("alice", "b"), detour("alice", "d", "b")]);
    let wrong = with(detour("alice", "d", "b"), "/spec/interConnProtocol", json!("bfia"));
    mesh.put(&with(wrong, "/status", json!({"isDestinationAuthorized": true})));
    assert!(mesh.outbound("d").status.is_destination_authorized);
    assert_eq!(mesh.rejection(Kind::DomainRoute, "alice-d")[0].0, "spec.interConnProtocol");
    mesh.put(&with(straight("alice", "b"), "/spec/endpoint/host", json!("new.example")));
    assert_eq!(mesh.outbound("d").first_hop().1.endpoint.host.to_string(), "new.example");
}

#[test]
fn what_a_detour_would_ignore_is_refused() {
    let path = |manifest: Value| {
        let mesh = Mesh::of(&[straight("alice", "b"), straight("b", "alice"), manifest]);
        let errors: Vec<_> = mesh.snapshot.rejected.values().flat_map(|errors| listed(errors)).collect();
        let [(path, _)] = errors[..] else { panic!("{errors:?}") };
        path.to_owned()
    };
    let (out, back) = (detour("alice", "d", "b"), detour("d", "alice", "b"));
    for manifest in [&out, &back] {
        assert_eq!(path(with(manifest.clone(), "/spec/mTLSConfig", json!({}))), "spec.mTLSConfig");
        let mtls = with(manifest.clone(), "/spec/authenticationType", json!("MTLS"));
        assert_eq!(path(mtls), "spec.authenticationType");
        let domain = "spec.transit.domain.domainID";
        for (transit, expected) in [
            (json!({}), domain),
            (json!({"domain": {"domainID": ""}}), domain),
            (json!({"domain": {"domainID": "alice"}}), domain),
            (json!({"domain": {"domainID": "d"}}), domain),
            (json!({"transitMethod": "REVERSE-TUNNEL"}), "spec.transit.transitMethod"),
        ] {
            assert_eq!(path(with(manifest.clone(), "/spec/transit", transit)), expected);
        }
    }
    let list = with(back.clone(), "/spec/sourceWhiteIPList", json!(["192.0.2.1"]));
    assert_eq!(path(list.clone()), "spec.sourceWhiteIPList");
    let headers = with(back, "/spec/requestHeadersToAdd", json!({"a": "b"}));
    assert_eq!(path(headers), "spec.requestHeadersToAdd");
    assert!(object_of(&list).check().is_err());
    assert_eq!(object_of(&out).check(), Ok(()));
}

#[test]
fn offline_a_permission_is_checked_as_such() {
    assert_eq!(object_of(&detour("a", "d", "alice")).check(), Ok(()));
    let errors = object_of(&straight("a", "d")).check().unwrap_err();
    assert_eq!(errors.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), ["spec.source"]);
}
