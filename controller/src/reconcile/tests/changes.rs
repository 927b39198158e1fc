//! What a change concerns.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::cluster::Cluster;
use super::objects::{at, cluster_route, domain, gateway, key_of, parse, route_status, token};
use crate::reconcile::reconcile;
use crate::watch::{Change, Kind};
use crate::world::{Key, Place};

#[test]
fn a_change_concerns_its_own_routes_only() {
    let mut cluster = Cluster::of_alice_and_bob();
    cluster.put(Kind::Domain, domain("carol", Some(&key_of("carol"))));
    for (source, destination) in [("alice", "bob"), ("bob", "alice"), ("bob", "carol")] {
        cluster.put(Kind::ClusterDomainRoute, cluster_route(source, destination));
    }
    cluster.settle();
    let cluster_route = |name: &str| Key::ClusterRoute(name.to_owned());
    assert_eq!(
        cluster.put(Kind::Domain, domain("carol", None)),
        BTreeSet::from([Key::Namespace("carol".to_owned()), cluster_route("bob-carol")])
    );
    let route = cluster.object(Kind::DomainRoute, "alice", "bob-alice").clone();
    assert_eq!(
        cluster.put(Kind::DomainRoute, route),
        BTreeSet::from([Key::Tokens(Place::new("alice", "bob-alice")), cluster_route("bob-alice")])
    );
    assert_eq!(
        cluster.put(Kind::Gateway, gateway("alice", "gw-1", 1)),
        BTreeSet::new(),
        "a heartbeat, no more"
    );
    assert_eq!(
        cluster.put(Kind::Gateway, gateway("alice", "gw-2", 1)),
        BTreeSet::from([
            Key::Tokens(Place::new("alice", "alice-bob")),
            Key::Tokens(Place::new("alice", "bob-alice")),
            cluster_route("alice-bob"),
            cluster_route("bob-alice"),
        ])
    );
}

#[test]
fn what_is_missing_in_a_listing_is_gone_at_its_end() {
    let mut cluster = Cluster::of_alice_and_bob();
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "bob"));
    cluster.put(Kind::ClusterDomainRoute, cluster_route("bob", "alice"));
    cluster.put(Kind::ClusterDomainRoute, cluster_route("carol", "bob"));
    cluster.settle();
    let kept =
        parse(Kind::ClusterDomainRoute, cluster.object(Kind::ClusterDomainRoute, "", "alice-bob").clone());
    let world = &mut cluster.world;
    world.apply(Change::Listing(Kind::ClusterDomainRoute), at(0));
    // That listing breaks off; another one begins.
    world.apply(Change::Listing(Kind::ClusterDomainRoute), at(0));
    world.apply(Change::Listed(kept), at(0));
    assert_eq!(world.cluster_routes.len(), 3);
    world.apply(
        Change::Unreadable {
            kind: Kind::ClusterDomainRoute,
            place: Place::new("", "carol-bob"),
            error: "no spec".to_owned(),
        },
        at(0),
    );
    let keys = world.apply(Change::AllListed(Kind::ClusterDomainRoute), at(0));
    assert_eq!(keys, BTreeSet::from([Key::ClusterRoute("bob-alice".to_owned())]));
    let actions = reconcile(&cluster.world, &Key::ClusterRoute("bob-alice".to_owned()), at(0));
    assert_eq!(actions.len(), 2, "{actions:?}");
    assert!(cluster.world.cluster_routes.contains_key("carol-bob"), "it is there, though nobody can read it");
}

/// Something that happens to a cluster.
#[derive(Clone, Debug)]
enum Happening {
    Domain { who: usize, role: bool, certified: bool },
    DomainGone(usize),
    Route { from: usize, to: usize, host: bool, renamed: bool },
    RouteGone { from: usize, to: usize },
    ByHand { at: usize, from: usize, to: usize },
    Edited { at: usize, from: usize, to: usize },
    Gateway { at: usize, number: usize },
    GatewayGone { at: usize, number: usize },
    Token { at: usize, from: usize, to: usize, revision: i64, ready: bool },
}

const NAMES: [&str; 3] = ["alice", "bob", "carol"];

fn happening() -> impl Strategy<Value = Happening> {
    let who = || 0..NAMES.len();
    prop_oneof![
        (who(), any::<bool>(), any::<bool>()).prop_map(|(who, role, certified)| Happening::Domain {
            who,
            role,
            certified
        }),
        who().prop_map(Happening::DomainGone),
        (who(), who(), any::<bool>(), any::<bool>()).prop_map(|(from, to, host, renamed)| Happening::Route {
            from,
            to,
            host,
            renamed
        }),
        (who(), who()).prop_map(|(from, to)| Happening::RouteGone { from, to }),
        (who(), who(), who()).prop_map(|(at, from, to)| Happening::ByHand { at, from, to }),
        (who(), who(), who()).prop_map(|(at, from, to)| Happening::Edited { at, from, to }),
        (who(), 0..3_usize).prop_map(|(at, number)| Happening::Gateway { at, number }),
        (who(), 0..3_usize).prop_map(|(at, number)| Happening::GatewayGone { at, number }),
        (who(), who(), who(), 1..4_i64, any::<bool>()).prop_map(|(at, from, to, revision, ready)| {
            Happening::Token { at, from, to, revision, ready }
        }),
    ]
}

impl Cluster {
    /// What happens, and what it concerns.
    fn happen(&mut self, happening: &Happening) -> BTreeSet<Key> {
        let name = |from: usize, to: usize| format!("{}-{}", NAMES[from], NAMES[to]);
        let exists = |cluster: &Self, kind, namespace: &str, name: &str| {
            cluster.objects.contains_key(&(kind, Place::new(namespace, name)))
        };
        match *happening {
            Happening::Domain { who, role, certified } => {
                let key = certified.then(|| key_of(NAMES[who]));
                let mut domain = domain(NAMES[who], key.as_ref());
                domain["spec"]["role"] = json!(if role { "partner" } else { "" });
                self.put(Kind::Domain, domain)
            }
            Happening::DomainGone(who) if exists(self, Kind::Domain, "", NAMES[who]) => {
                self.delete(Kind::Domain, "", NAMES[who])
            }
            Happening::Route { from, to, host, renamed } => {
                let mut route = cluster_route(NAMES[from], NAMES[to]);
                if !host {
                    route["spec"]["endpoint"]["host"] = json!("not a host");
                }
                if renamed {
                    // A route that is turned round.
                    route["metadata"]["name"] = json!(name(to, from));
                }
                self.put(Kind::ClusterDomainRoute, route)
            }
            Happening::RouteGone { from, to }
                if exists(self, Kind::ClusterDomainRoute, "", &name(from, to)) =>
            {
                self.delete(Kind::ClusterDomainRoute, "", &name(from, to))
            }
            Happening::ByHand { at, from, to }
                if !exists(self, Kind::DomainRoute, NAMES[at], &name(from, to)) =>
            {
                let mut route = cluster_route(NAMES[from], NAMES[to]);
                route["metadata"]["namespace"] = json!(NAMES[at]);
                self.put(Kind::DomainRoute, route)
            }
            Happening::Edited { at, from, to }
                if exists(self, Kind::DomainRoute, NAMES[at], &name(from, to)) =>
            {
                let mut route = self.object(Kind::DomainRoute, NAMES[at], &name(from, to)).clone();
                route["spec"]["endpoint"]["host"] = json!("edited.example");
                self.put(Kind::DomainRoute, route)
            }
            Happening::Gateway { at, number } => {
                self.put(Kind::Gateway, gateway(NAMES[at], &format!("gw-{number}"), 5))
            }
            Happening::GatewayGone { at, number }
                if exists(self, Kind::Gateway, NAMES[at], &format!("gw-{number}")) =>
            {
                self.delete(Kind::Gateway, NAMES[at], &format!("gw-{number}"))
            }
            Happening::Token { at, from, to, revision, ready }
                if exists(self, Kind::DomainRoute, NAMES[at], &name(from, to)) =>
            {
                let mut route = self.object(Kind::DomainRoute, NAMES[at], &name(from, to)).clone();
                let token = token(revision, ready, &["gw-0"]);
                route["status"] = route_status(&token, std::slice::from_ref(&token));
                self.put(Kind::DomainRoute, route)
            }
            _ => BTreeSet::new(),
        }
    }

    /// Works on `keys`, and on what follows from that, until nothing is left: what the leader does.
    fn follow(&mut self, mut keys: BTreeSet<Key>) {
        for _ in 0..300 {
            let Some(key) = keys.pop_first() else { return };
            for action in reconcile(&self.world, &key, at(0)) {
                let concerned = self.perform(action);
                keys.extend(concerned.unwrap_or_else(|| BTreeSet::from([key.clone()])));
            }
        }
        panic!("it never ends");
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_keys_that_it_concerns_are_all_that_has_to_be_looked_at(
        happenings in proptest::collection::vec(happening(), 1..24)
    ) {
        let mut cluster = Cluster::new();
        for happening in &happenings {
            let keys = cluster.happen(happening);
            cluster.follow(keys);
            for key in cluster.keys() {
                let left = reconcile(&cluster.world, &key, at(0));
                prop_assert!(left.is_empty(), "{key} after {happening:?}: {left:#?}");
            }
        }
    }
}
