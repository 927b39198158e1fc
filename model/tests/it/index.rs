use std::sync::Arc;

use jiff::Timestamp;
use networkmesh_model::api::{Condition, ConditionStatus, DomainRouteStatus};
use networkmesh_model::{DomainId, Event, Index, Kind, StatusChange, StatusUpdate};
use serde_json::{Value, json};

use crate::support::{
    ALICE, BOB_CERTIFICATE, Mesh, domain, endpoints, object_of, reference, route, service, slice, with,
    without,
};

fn bad_route() -> Value {
    with(route("alice", "bob"), "/spec/endpoint/host", json!("a b"))
}

fn condition(updates: &[StatusUpdate]) -> &Condition {
    let [StatusUpdate { change: StatusChange::Condition(condition), .. }] = updates else {
        panic!("{updates:?}")
    };
    condition
}

/// The manifest with the status that writing `updates` makes of it.
fn written(manifest: &Value, updates: &[StatusUpdate]) -> Value {
    let mut status: DomainRouteStatus = manifest
        .get("status")
        .map_or_else(Default::default, |status| serde_json::from_value(status.clone()).unwrap());
    for update in updates {
        update.change.apply(&mut status);
    }
    with(manifest.clone(), "/status", serde_json::to_value(status).unwrap())
}

#[test]
fn nothing_is_published_before_every_awaited_kind_was_read() {
    let mut index = Index::new("alice".parse().unwrap(), ALICE.clone(), [Kind::DomainRoute, Kind::Service]);
    index.apply(Event::Apply(object_of(&bad_route())));
    index.apply(Event::Init(Kind::DomainRoute));
    index.apply(Event::InitApply(object_of(&route("alice", "bob"))));
    assert_eq!(index.commit(Timestamp::UNIX_EPOCH), (None, vec![]));
    index.apply(Event::InitDone(Kind::DomainRoute));
    assert_eq!(index.commit(Timestamp::UNIX_EPOCH), (None, vec![]));
    index.apply(Event::Init(Kind::Service));
    index.apply(Event::InitDone(Kind::Service));
    let (snapshot, updates) = index.commit(Timestamp::UNIX_EPOCH);
    assert!(snapshot.unwrap().outbound.contains_key("bob"));
    assert_eq!(condition(&updates).status, ConditionStatus::True);
}

#[test]
fn what_changes_nothing_publishes_nothing() {
    let all = [
        route("alice", "bob"),
        domain("bob", &BOB_CERTIFICATE),
        service("echo"),
        endpoints("echo", "192.0.2.1", 80),
        slice("echo-1", "echo", "192.0.2.2", 80),
    ];
    let mut mesh = Mesh::of(&all);
    assert!(!mesh.commit().0);
    for manifest in &all {
        assert_eq!(mesh.put(manifest), (false, vec![]), "{manifest}");
        let kind = object_of(manifest).kind();
        assert_eq!(mesh.read_again(kind, std::slice::from_ref(manifest)), (false, vec![]), "{kind}");
    }
    assert!(!mesh.put(&with(service("echo"), "/metadata/annotations/note", json!("x"))).0);
    assert!(!mesh.put(&endpoints("unused", "192.0.2.1", 80)).0);
    assert!(!mesh.delete(Kind::DomainRoute, "alice-carol").0);
}

#[test]
fn what_did_not_change_stays_the_same_in_memory() {
    let mut mesh = Mesh::of(&[route("alice", "bob"), service("echo")]);
    let before = Arc::clone(&mesh.snapshot);
    assert!(mesh.put(&route("alice", "carol")).0);
    assert!(Arc::ptr_eq(&before.outbound["bob"], &mesh.snapshot.outbound["bob"]));
    assert!(Arc::ptr_eq(&before.services["echo"], &mesh.snapshot.services["echo"]));
}

#[test]
fn a_bad_object_keeps_the_last_good_one_and_is_told_so() {
    let mut mesh = Mesh::of(&[route("alice", "bob"), service("echo")]);
    let before = Arc::clone(&mesh.snapshot);

    let (published, updates) = mesh.put(&bad_route());
    assert!(published);
    assert_eq!(mesh.snapshot.outbound, before.outbound);
    assert_eq!(mesh.rejection(Kind::DomainRoute, "alice-bob").len(), 1);
    assert_eq!(updates[0].object, reference(Kind::DomainRoute, "alice-bob"));
    let told = condition(&updates);
    assert_eq!((told.type_.as_str(), told.status), ("Accepted", ConditionStatus::False));
    assert_eq!(told.reason, "Invalid");
    assert!(told.message.starts_with("spec.endpoint.host: \"a b\""), "{}", told.message);
    assert!(mesh.put(&bad_route()).1.is_empty(), "it did not change, so there is nothing to tell");
    let (_, updates) = mesh.put(&written(&bad_route(), &updates));
    assert!(updates.is_empty(), "its status says so already");

    mesh.put(&with(service("echo"), "/spec/type", json!("ExternalName")));
    assert_eq!(mesh.snapshot.services, before.services);
    assert_eq!(mesh.rejection(Kind::Service, "echo").len(), 1);

    let (_, updates) = mesh.put(&route("alice", "bob"));
    assert_eq!(
        (condition(&updates).status, condition(&updates).reason.as_str()),
        (ConditionStatus::True, "Valid")
    );
    mesh.put(&service("echo"));
    assert_eq!(mesh.snapshot, before);
}

#[test]
fn a_condition_that_was_lost_is_told_again_with_the_next_change() {
    let mut mesh = Mesh::empty();
    let (_, first) = mesh.put(&bad_route());
    let status = json!({"isDestinationAuthorized": true});
    let (_, second) = mesh.put(&with(bad_route(), "/status", status));
    assert_eq!(first, second);
}

#[test]
fn a_condition_that_was_written_publishes_the_new_status_and_tells_nothing() {
    let mut mesh = Mesh::empty();
    let (_, updates) = mesh.put(&route("alice", "bob"));
    let (published, updates) = mesh.put(&written(&route("alice", "bob"), &updates));
    assert!(published && updates.is_empty());
    assert_eq!(mesh.outbound("bob").status.conditions[0].type_, "Accepted");
}

#[test]
fn deletion_takes_the_object_and_its_rejection_away() {
    let bad_domain = domain("bob", "AAAA");
    let all = [
        (route("alice", "bob"), bad_route()),
        (service("echo"), with(service("echo"), "/spec/ports", json!([]))),
        (bad_domain.clone(), bad_domain),
        (endpoints("echo", "192.0.2.1", 80), endpoints("echo", "x", 80)),
        (slice("echo-1", "echo", "192.0.2.1", 80), slice("echo-1", "echo", "x", 80)),
    ];
    for (good, bad) in all {
        let reference = object_of(&good).reference();
        let mut mesh = Mesh::of(&[good, bad]);
        assert_eq!(mesh.snapshot.rejected.len(), 1, "{reference}");
        assert!(mesh.delete(reference.kind, &reference.name).0, "{reference}");
        assert_eq!(mesh.snapshot, Mesh::empty().snapshot, "{reference}");
    }
}

#[test]
fn a_new_reading_removes_what_it_does_not_name_good_or_bad() {
    let bad = [
        with(route("alice", "carol"), "/spec/endpoint/host", json!("")),
        with(service("bad"), "/spec/ports", json!([])),
        endpoints("bad", "x", 80),
        slice("bad", "echo", "x", 80),
        domain("carol", "AAAA"),
    ];
    let good = [
        route("alice", "bob"),
        service("echo"),
        endpoints("echo", "192.0.2.1", 80),
        slice("echo-1", "echo", "192.0.2.2", 80),
        domain("bob", &BOB_CERTIFICATE),
    ];
    let mut mesh = Mesh::of(&[bad.as_slice(), &good].concat());
    assert_eq!(mesh.snapshot.rejected.len(), bad.len());
    for (bad, good) in bad.iter().zip(&good) {
        let kind = object_of(bad).kind();
        mesh.read_again(kind, std::slice::from_ref(good));
        assert!(mesh.snapshot.rejected.keys().all(|rejected| rejected.kind != kind), "{kind}");
    }
    assert_eq!(mesh.snapshot, Mesh::of(&good).snapshot);
    for kind in Kind::ALL {
        mesh.read_again(kind, &[]);
    }
    assert_eq!(mesh.snapshot, Mesh::empty().snapshot);
}

#[test]
fn an_object_that_is_rejected_and_gone_within_one_commit_leaves_nothing() {
    let mut mesh = Mesh::empty();
    mesh.index.apply(Event::Apply(object_of(&domain("bob", "AAAA"))));
    assert!(!mesh.read_again(Kind::Domain, &[]).0);
    assert!(mesh.snapshot.rejected.is_empty());
}

#[test]
fn until_a_new_reading_is_done_the_old_state_stays() {
    let mut mesh = Mesh::of(&[route("alice", "bob")]);
    mesh.index.apply(Event::Init(Kind::DomainRoute));
    mesh.index.apply(Event::InitApply(object_of(&route("alice", "carol"))));
    assert!(!mesh.commit().0);
    mesh.index.apply(Event::Init(Kind::DomainRoute));
    mesh.index.apply(Event::InitDone(Kind::DomainRoute));
    assert!(mesh.commit().0);
    assert!(mesh.snapshot.outbound.is_empty(), "the reading that was given up must not count");
}

#[test]
fn an_object_that_a_reading_could_not_read_keeps_its_version() {
    let mut mesh = Mesh::of(&[route("alice", "bob"), route("alice", "carol")]);
    mesh.index.apply(Event::Init(Kind::DomainRoute));
    mesh.index.apply(Event::InitKeep(reference(Kind::DomainRoute, "alice-bob")));
    mesh.index.apply(Event::InitKeep(reference(Kind::DomainRoute, "alice-dave")));
    mesh.index.apply(Event::InitDone(Kind::DomainRoute));
    assert!(mesh.commit().0);
    assert_eq!(mesh.snapshot.outbound.keys().map(DomainId::as_str).collect::<Vec<_>>(), ["bob"]);
}

#[test]
fn the_end_of_a_reading_that_never_began_removes_nothing() {
    let mut mesh = Mesh::of(&[route("alice", "bob")]);
    mesh.index.apply(Event::InitDone(Kind::DomainRoute));
    assert!(!mesh.commit().0);
}

#[test]
fn objects_of_other_namespaces_are_none_of_our_business() {
    let mut mesh = Mesh::of(&[route("alice", "bob"), service("echo")]);
    for manifest in [bad_route(), service("other"), endpoints("echo", "192.0.2.1", 80)] {
        let foreign = with(manifest, "/metadata/namespace", json!("bob"));
        assert_eq!(mesh.put(&foreign), (false, vec![]));
        mesh.index.apply(Event::Delete(object_of(&foreign).reference()));
    }
    let mut reference = reference(Kind::DomainRoute, "alice-bob");
    reference.namespace = "bob".into();
    mesh.index.apply(Event::Delete(reference));
    assert!(!mesh.commit().0);
}

#[test]
fn a_wrong_object_never_affects_another_one() {
    let good =
        [route("alice", "bob"), route("carol", "alice"), service("echo"), endpoints("echo", "192.0.2.1", 80)];
    let bad = [
        with(route("alice", "dave"), "/spec/endpoint/ports", json!([])),
        with(route("alice", "bob"), "/metadata/name", json!("alice-bob-2")),
        with(route("bob", "alice"), "/spec/source", json!("BOB")),
        domain("bob", "AAAA"),
        domain("Bob", &BOB_CERTIFICATE),
        with(service("bad"), "/spec/ports", json!([])),
        slice("bad", "echo", "x", 80),
        endpoints("bad", "x", 80),
    ];
    let mixed = Mesh::of(&[&bad[..4], &good, &bad[4..]].concat()).snapshot;
    let alone = Mesh::of(&good).snapshot;
    assert_eq!(mixed.rejected.len(), bad.len());
    assert_eq!(
        (&mixed.outbound, &mixed.inbound, &mixed.services),
        (&alone.outbound, &alone.inbound, &alone.services)
    );
}

#[test]
fn a_domain_whose_certificate_goes_wrong_keeps_the_last_good_one() {
    let keyless = without(route("alice", "bob"), "/spec/tokenConfig/destinationPublicKey");
    let mut mesh = Mesh::of(&[domain("bob", &BOB_CERTIFICATE), keyless]);
    let before = Arc::clone(&mesh.snapshot);
    mesh.put(&domain("bob", "AAAA"));
    assert_eq!(mesh.snapshot.outbound, before.outbound);
    assert_eq!(mesh.rejection(Kind::Domain, "bob")[0].0, "spec.cert");
    mesh.put(&domain("bob", &BOB_CERTIFICATE));
    assert_eq!(mesh.snapshot, before);
}

#[test]
fn a_domain_without_a_certificate_is_nothing_wrong() {
    let mut mesh = Mesh::of(&[domain("bob", &BOB_CERTIFICATE), route("alice", "bob")]);
    assert!(
        mesh.put(&domain("bob", "")).0,
        "bob's certificate is no longer what his gateway is checked against"
    );
    assert_eq!(mesh.snapshot, Mesh::of(&[route("alice", "bob")]).snapshot);
}

#[test]
fn a_route_that_changes_side_leaves_the_first() {
    // The only names that can be read both ways: from alice to b-alice, and from alice-b to alice.
    let out = with(route("alice", "b-alice"), "/metadata/name", json!("alice-b-alice"));
    let back = with(route("alice-b", "alice"), "/metadata/name", json!("alice-b-alice"));
    let mut mesh = Mesh::of(std::slice::from_ref(&out));
    for manifest in [&back, &out, &back] {
        mesh.put(manifest);
        assert_eq!(mesh.snapshot, Mesh::of(std::slice::from_ref(manifest)).snapshot);
    }
    mesh.delete(Kind::DomainRoute, "alice-b-alice");
    assert_eq!(mesh.snapshot, Mesh::empty().snapshot);
}

#[test]
fn kinds_that_others_use_are_taken_in_and_passed_over() {
    let mut mesh = Mesh::of(&[route("alice", "bob")]);
    let mut cluster_route = bad_route();
    cluster_route["kind"] = json!("ClusterDomainRoute");
    assert_eq!(mesh.put(&cluster_route), (false, vec![]));
    assert_eq!(mesh.read_again(Kind::ClusterDomainRoute, &[]), (false, vec![]));
    assert_eq!(mesh.delete(Kind::Gateway, "a"), (false, vec![]));
}
