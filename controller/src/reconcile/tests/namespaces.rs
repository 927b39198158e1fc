//! Namespaces of domains.

use std::collections::BTreeMap;

use serde_json::json;

use super::cluster::Cluster;
use super::objects::{at, domain};
use crate::watch::Kind;

#[test]
fn a_domain_gets_its_namespace_and_leaves_it_marked_when_it_goes() {
    let mut cluster = Cluster::new();
    cluster.put(Kind::Domain, domain("alice", None));
    cluster.settle();
    let label = |name: &str| format!("kuscia.secretflow/{name}");
    let owned = BTreeMap::from([(label("domain-name"), "alice".to_owned())]);
    assert_eq!(cluster.labels("alice"), &owned);

    cluster.delete(Kind::Domain, "", "alice");
    cluster.settle();
    assert_eq!(cluster.labels("alice")[&label("deleted")], "true");

    let mut partner = domain("alice", None);
    partner["spec"]["role"] = json!("partner");
    partner["spec"]["interConnProtocols"] = json!(["bfia", "kuscia"]);
    cluster.put(Kind::Domain, partner);
    cluster.settle();
    let as_partner = BTreeMap::from([
        (label("domain-name"), "alice".to_owned()),
        (label("role"), "partner".to_owned()),
        (label("interconn-protocols"), "bfia".to_owned()),
    ]);
    assert_eq!(cluster.labels("alice"), &as_partner);
    cluster.put(Kind::Domain, domain("alice", None));
    cluster.settle();
    assert_eq!(cluster.labels("alice"), &owned);
}

#[test]
fn namespaces_of_others_are_left_alone() {
    let mut cluster = Cluster::new();
    for name in ["kube-system", "default", "shop"] {
        cluster.put(Kind::Namespace, json!({"metadata": {"name": name, "labels": {}}}));
    }
    for name in ["kube-system", "default", "with.dots"] {
        cluster.put(Kind::Domain, domain(name, None));
    }
    assert_eq!(cluster.settle(), []);
    let mut leaving = json!({"metadata": {"name": "alice", "labels": {}}});
    leaving["metadata"]["deletionTimestamp"] = json!(at(1).to_string());
    cluster.put(Kind::Namespace, leaving);
    cluster.put(Kind::Domain, domain("alice", None));
    assert_eq!(cluster.settle(), [], "it is created once the old one is gone");
}
