//! Routes by way of other domains.

use serde_json::{Value, json};

use super::cluster::{Cluster, shown};
use super::objects::{cluster_route, domain, key_of};
use crate::watch::Kind;
use crate::world::{Key, Place};

fn detour(source: &str, destination: &str, transit: &str) -> Value {
    let mut route = cluster_route(source, destination);
    route["spec"]["transit"] = json!({"transitMethod": "THIRD-DOMAIN", "domain": {"domainID": transit}});
    route
}

#[test]
fn a_detour_stands_with_every_domain_that_forwards_for_it() {
    let mut cluster = Cluster::of_alice_and_bob();
    for name in ["carol", "dave"] {
        cluster.put(Kind::Domain, domain(name, Some(&key_of(name))));
    }
    cluster.put(Kind::ClusterDomainRoute, detour("alice", "dave", "bob"));
    cluster.settle();
    assert_eq!(cluster.routes(), ["alice/alice-dave", "bob/alice-dave", "dave/alice-dave"]);
    let spec = |home: &str| cluster.world.routes[&Place::new(home, "alice-dave")].spec.clone();
    assert_eq!(spec("bob"), spec("alice"));
    assert_eq!(cluster.shows("alice-dave", "Accepted"), shown(true, "Valid"));

    // Bob reaches dave by way of carol, so she forwards for alice too.
    let keys = cluster.put(Kind::ClusterDomainRoute, detour("bob", "dave", "carol"));
    assert!(keys.contains(&Key::ClusterRoute("alice-dave".to_owned())), "{keys:?}");
    cluster.settle();
    let all = [
        "alice/alice-dave",
        "bob/alice-dave",
        "bob/bob-dave",
        "carol/alice-dave",
        "carol/bob-dave",
        "dave/alice-dave",
        "dave/bob-dave",
    ];
    assert_eq!(cluster.routes(), all);

    let keys = cluster.put(Kind::ClusterDomainRoute, cluster_route("bob", "dave"));
    assert!(keys.contains(&Key::ClusterRoute("alice-dave".to_owned())), "{keys:?}");
    cluster.settle();
    let without_carol: Vec<&str> = all.into_iter().filter(|place| !place.starts_with("carol/")).collect();
    assert_eq!(cluster.routes(), without_carol);

    let keys = cluster.delete(Kind::ClusterDomainRoute, "", "bob-dave");
    assert_eq!(keys, [Key::ClusterRoute("bob-dave".to_owned())].into(), "it made no detour any more");
    cluster.delete(Kind::ClusterDomainRoute, "", "alice-dave");
    cluster.settle();
    assert_eq!(cluster.routes(), [] as [&str; 0]);
}

#[test]
fn a_detour_is_made_where_its_forwarder_comes_to_live_and_circles_end() {
    let mut cluster = Cluster::of_alice_and_bob();
    cluster.put(Kind::ClusterDomainRoute, detour("alice", "bob", "carol"));
    cluster.put(Kind::ClusterDomainRoute, detour("alice", "carol", "bob"));
    cluster.put(Kind::ClusterDomainRoute, detour("carol", "bob", "alice"));
    cluster.settle();
    assert_eq!(
        cluster.routes(),
        [
            "alice/alice-bob",
            "alice/alice-carol",
            "alice/carol-bob",
            "bob/alice-bob",
            "bob/alice-carol",
            "bob/carol-bob"
        ]
    );
    cluster.put(Kind::Domain, domain("carol", Some(&key_of("carol"))));
    cluster.settle();
    assert!(cluster.routes().contains(&"carol/alice-bob".to_owned()), "{:?}", cluster.routes());
}
