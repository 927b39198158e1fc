//! What tasks may send where.

use std::sync::Arc;

use networkmesh_model::{BandwidthLimit, Kind, ServiceName, Snapshot};
use serde_json::{Value, json};

use crate::support::{Mesh, route, service, with};

/// A service of a task, with limits by destination.
fn limited(name: &str, task: &str, limits: &[(&str, &str)]) -> Value {
    let mut manifest = service(name);
    if !task.is_empty() {
        manifest["metadata"]["annotations"]["kuscia.secretflow/task-id"] = json!(task);
    }
    for (destination, limit) in limits {
        let annotation = format!("kuscia.secretflow/bandwidth-limit-{destination}");
        manifest["metadata"]["annotations"][annotation] = json!(limit);
    }
    manifest
}

fn limits<'a>(snapshot: &'a Snapshot, destination: &str) -> Vec<(Vec<&'a str>, u64)> {
    let shown =
        |limit: &'a BandwidthLimit| (limit.services.iter().map(ServiceName::as_str).collect(), limit.limit);
    snapshot.outbound[destination].bandwidth.iter().map(shown).collect()
}

#[test]
fn services_of_a_task_share_one_limit_and_others_have_their_own() {
    let manifests = [
        limited("z", "task", &[("bob", "300"), ("carol", "5")]),
        limited("a", "task", &[("bob", "200")]),
        limited("m", "", &[("bob", "1")]),
        limited("n", "", &[("bob", "2"), ("carol", "0"), ("dave", "7")]),
        limited("other", "", &[("bob", "-1")]),
        route("alice", "bob"),
        route("alice", "carol"),
    ];
    let mesh = Mesh::of(&manifests);
    let of_bob = vec![(vec!["a", "z"], 200), (vec!["m"], 1), (vec!["n"], 2)];
    assert_eq!(limits(&mesh.snapshot, "bob"), of_bob);
    assert_eq!(limits(&mesh.snapshot, "carol"), [(vec!["z"], 5)]);
    let backwards: Vec<Value> = manifests.into_iter().rev().collect();
    assert_eq!(*Mesh::of(&backwards).snapshot, *mesh.snapshot);
}

#[test]
fn limits_follow_their_services_and_change_no_other_route() {
    let over = json!({"domain": {"domainID": "bob"}});
    let mut mesh = Mesh::of(&[
        limited("a", "task", &[("bob", "200")]),
        route("alice", "bob"),
        route("alice", "carol"),
        with(route("alice", "dave"), "/spec/transit", over),
    ]);
    let before = Arc::clone(&mesh.snapshot);
    mesh.put(&limited("b", "task", &[("bob", "100")]));
    assert_eq!(limits(&mesh.snapshot, "bob"), [(vec!["a", "b"], 100)]);
    assert!(Arc::ptr_eq(&before.outbound["carol"], &mesh.snapshot.outbound["carol"]));
    assert_eq!(mesh.outbound("dave").first_hop().0.bandwidth[0].limit, 100);
    mesh.put(&limited("b", "other", &[("dave", "9")]));
    assert_eq!(limits(&mesh.snapshot, "bob"), [(vec!["a"], 200)]);
    assert_eq!(limits(&mesh.snapshot, "dave"), [(vec!["b"], 9)]);
    mesh.delete(Kind::Service, "b");
    assert!(mesh.outbound("dave").bandwidth.is_empty());
    mesh.put(&with(limited("a", "", &[("bob", "3")]), "/spec/ports", json!([])));
    assert_eq!(limits(&mesh.snapshot, "bob"), [(vec!["a"], 200)], "the last good version stays");
    mesh.read_again(Kind::Service, &[]);
    assert_eq!(limits(&mesh.snapshot, "bob"), []);
}

#[test]
fn limits_that_are_no_numbers_or_for_no_domain_are_refused() {
    for (destination, limit, problem) in [
        ("bob", "fast", "\"fast\" is no number"),
        ("bob", "1.5", "\"1.5\" is no number"),
        ("bob", "", "\"\" is no number"),
        ("Bob", "1", "\"Bob\" is not a DNS label (RFC 1123)"),
    ] {
        let mesh = Mesh::of(&[limited("a", "", &[(destination, limit)])]);
        let path = format!("metadata.annotations[kuscia.secretflow/bandwidth-limit-{destination}]");
        assert_eq!(mesh.rejection(Kind::Service, "a"), [(path.as_str(), problem)]);
    }
}
