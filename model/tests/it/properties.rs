use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use networkmesh_model::{
    Changed, DomainId, Event, FieldErrors, Host, InboundRoute, Kind, ObjectRef, OutboundRoute, Protocol,
    Service, ServiceName, Snapshot, TOKEN_BYTES, Way,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{
    ALICE, BOB_CERTIFICATE, Mesh, domain, endpoints, object_of, route, service, slice, with,
};

/// Sealed tokens, each opened often.
static TOKENS: LazyLock<[String; 2]> =
    LazyLock::new(|| [1, 2].map(|byte| ALICE.public_key().seal(&[byte; TOKEN_BYTES]).unwrap()));

/// Something that happens to the objects of a domain.
#[derive(Clone, Debug)]
enum Step {
    Put(Value),
    Delete(Value),
    /// All objects of a kind are read anew, and nothing changed.
    ReadAgain(Kind),
    /// All objects of a kind are read anew, and there are none.
    Clear(Kind),
    Commit,
}

fn kinds() -> impl Strategy<Value = Kind> {
    let kinds = [Kind::Domain, Kind::DomainRoute, Kind::Service, Kind::Endpoints, Kind::EndpointSlice];
    proptest::sample::select(kinds.to_vec())
}

/// Objects that share few names, some of them wrong. `Domain`s, `Endpoints` and slices are always good, because the
/// last good version of one of them shows in another object.
fn manifests() -> impl Strategy<Value = Value> {
    let name = || proptest::sample::select(["a", "b"].as_slice());
    let peer = || proptest::sample::select(["bob", "carol"].as_slice());
    let ip = || proptest::sample::select(["192.0.2.1", "192.0.2.2", "2001:db8::1"].as_slice());
    prop_oneof![
        (peer(), any::<bool>(), any::<bool>(), 1_u16..3, 0_usize..3).prop_map(
            |(peer, outbound, good, port, tokens)| {
                let route = if outbound { route("alice", peer) } else { route(peer, "alice") };
                let token = |sealed| json!({"token": sealed, "revision": 1, "isReady": true});
                let tokens: Vec<_> = TOKENS[..tokens].iter().map(token).collect();
                let route = with(route, "/status", json!({"tokenStatus": {"tokens": tokens}}));
                let route = with(route, "/spec/endpoint/ports/0/port", json!(port));
                if good { route } else { with(route, "/spec/interConnProtocol", json!("bfia")) }
            }
        ),
        (ends(), detours(), any::<bool>()).prop_map(|((source, destination), via, tokens)| {
            let route = route(source, destination);
            let route = if tokens { route } else { with(route, "/spec/authenticationType", json!("None")) };
            let via = via.filter(|via| ![source, destination].contains(via));
            if let Some(via) = via {
                return with(route, "/spec/transit", json!({"domain": {"domainID": via}}));
            }
            route
        }),
        (peer(), any::<bool>(), any::<bool>()).prop_map(|(peer, outbound, pins)| {
            let route = if outbound { route("alice", peer) } else { route(peer, "alice") };
            let route = with(route, "/spec/authenticationType", json!("MTLS"));
            let route = with(route, "/spec/endpoint/ports/0/isTLS", json!(true));
            // Bob's own certificate is for neither of alice's keys, nor a pin but with his Domain.
            if pins {
                with(route, "/spec/mTLSConfig", json!({"sourceClientCert": *BOB_CERTIFICATE}))
            } else {
                route
            }
        }),
        (name(), peer(), 0_u64..3, any::<bool>()).prop_map(|(name, peer, limit, task)| {
            let limit_of = format!("kuscia.secretflow/bandwidth-limit-{peer}");
            let task = if task { "task" } else { "" };
            let annotations = json!({limit_of: limit.to_string(), "kuscia.secretflow/task-id": task});
            with(service(name), "/metadata/annotations", annotations)
        }),
        (peer(), any::<bool>())
            .prop_map(|(peer, cert)| domain(peer, if cert { &BOB_CERTIFICATE } else { "" })),
        (name(), any::<bool>(), any::<bool>()).prop_map(|(name, good, grpc)| {
            let service = if good { service(name) } else { with(service(name), "/spec/ports", json!([])) };
            let protocol = if grpc { "GRPC" } else { "HTTP" };
            with(service, "/metadata/annotations", json!({"kuscia.secretflow/protocol": protocol}))
        }),
        (name(), ip(), 1_u16..3).prop_map(|(name, ip, port)| endpoints(name, ip, port)),
        (name(), name(), ip(), 1_u16..3)
            .prop_map(|(slice_name, name, ip, port)| slice(slice_name, name, ip, port)),
    ]
}

/// Two of few domains.
fn ends() -> impl Strategy<Value = (&'static str, &'static str)> {
    let domains = || proptest::sample::select(["alice", "bob", "carol", "dave"].as_slice());
    (domains(), domains()).prop_filter("two domains", |(source, destination)| source != destination)
}

/// A domain in between, or none.
fn detours() -> impl Strategy<Value = Option<&'static str>> {
    proptest::option::weighted(0.7, proptest::sample::select(["alice", "bob", "carol", "dave"].as_slice()))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => manifests().prop_map(Step::Put),
        2 => manifests().prop_map(Step::Delete),
        1 => kinds().prop_map(Step::ReadAgain),
        1 => kinds().prop_map(Step::Clear),
        3 => Just(Step::Commit),
    ];
    vec(step, 0..60)
}

fn plain_service(number: usize, protocol: Protocol) -> Arc<Service> {
    Arc::new(Service {
        protocol,
        ..Service::new(format!("service-{number}").parse().unwrap(), Arc::default())
    })
}

/// What follows a domain by the changes alone.
#[derive(Default)]
struct Follower {
    outbound: BTreeMap<DomainId, Arc<OutboundRoute>>,
    inbound: BTreeMap<DomainId, Arc<InboundRoute>>,
    services: BTreeMap<ServiceName, Arc<Service>>,
}

impl Follower {
    fn follow(&mut self, old: &Snapshot, new: &Snapshot) {
        for change in new.changes_since(old) {
            match change {
                Changed::Outbound(peer, route) => follow(&mut self.outbound, peer, route),
                Changed::Inbound(peer, route) => follow(&mut self.inbound, peer, route),
                Changed::Service(name, service) => follow(&mut self.services, name, service),
            }
        }
        assert!(self.outbound.iter().eq(&new.outbound));
        assert!(self.inbound.iter().eq(&new.inbound));
        assert!(self.services.iter().eq(&new.services));
    }
}

fn follow<K: Ord + Clone, V: Clone + PartialEq>(map: &mut BTreeMap<K, V>, key: &K, value: Option<&V>) {
    assert!(map.get(key) != value, "this is no change");
    match value {
        Some(value) => map.insert(key.clone(), value.clone()),
        None => map.remove(key),
    };
}

/// Takes the steps one by one. Answers what came out, and the objects that are left.
fn walk(steps: &[Step]) -> (Mesh, Vec<Value>) {
    let mut mesh = Mesh::empty();
    let mut left: BTreeMap<ObjectRef, Value> = BTreeMap::new();
    let mut follower = Follower::default();
    let mut commit = |mesh: &mut Mesh| {
        let old = Arc::clone(&mesh.snapshot);
        let (published, _) = mesh.commit();
        assert_eq!(published, *old != *mesh.snapshot);
        follower.follow(&old, &mesh.snapshot);
    };
    for step in steps {
        match step {
            Step::Put(manifest) => {
                let object = object_of(manifest);
                left.insert(object.reference(), manifest.clone());
                mesh.index.apply(Event::Apply(object));
            }
            Step::Delete(manifest) => {
                let reference = object_of(manifest).reference();
                left.remove(&reference);
                mesh.index.apply(Event::Delete(reference));
            }
            Step::ReadAgain(kind) | Step::Clear(kind) => {
                if matches!(step, Step::Clear(_)) {
                    left.retain(|reference, _| reference.kind != *kind);
                }
                mesh.index.apply(Event::Init(*kind));
                for (_, manifest) in left.iter().filter(|(reference, _)| reference.kind == *kind) {
                    mesh.index.apply(Event::InitApply(object_of(manifest)));
                }
                mesh.index.apply(Event::InitDone(*kind));
            }
            Step::Commit => commit(&mut mesh),
        }
    }
    commit(&mut mesh);
    (mesh, left.into_values().collect())
}

/// What is left of a snapshot without the objects that are rejected: of those, only history tells what is in force. Where
/// one of them may be a part of detours, these are left out too.
fn without_rejected(snapshot: &Snapshot) -> Snapshot {
    let mut snapshot = snapshot.clone();
    let rejected = snapshot.rejected.clone();
    let is_service = |name: &str| {
        rejected.keys().any(|reference| reference.kind == Kind::Service && reference.name == name)
    };
    let is_of_detours =
        |errors: &FieldErrors| errors.iter().any(|error| error.path.starts_with("spec.transit"));
    let keeps_a_route = rejected
        .iter()
        .any(|(reference, errors)| reference.kind == Kind::DomainRoute && !is_of_detours(errors));
    if keeps_a_route {
        snapshot.forwarded.clear();
        let others = snapshot.rejected.into_iter().filter(|(_, errors)| !is_of_detours(errors));
        snapshot.rejected = others.collect();
    }
    let keeps_a_limit = rejected.keys().any(|reference| reference.kind == Kind::Service);
    snapshot.outbound = snapshot
        .outbound
        .into_iter()
        .filter(|(_, route)| !rejected.contains_key(&route.object))
        .filter(|(_, route)| !(keeps_a_route || keeps_a_limit) || matches!(route.way, Way::Direct(_)))
        .map(|(destination, route)| {
            let mut route = OutboundRoute::clone(&route);
            if keeps_a_limit {
                route.bandwidth = Arc::default();
            }
            (destination, Arc::new(route))
        })
        .collect();
    snapshot.inbound = snapshot
        .inbound
        .into_iter()
        .filter(|(_, route)| !rejected.contains_key(&route.object))
        .filter(|(_, route)| !keeps_a_route || route.carrier.is_none())
        .map(|(source, route)| {
            let mut route = InboundRoute::clone(&route);
            if keeps_a_route {
                (route.origins, route.forwards) = (Arc::default(), Arc::default());
            }
            (source, Arc::new(route))
        })
        .collect();
    snapshot.services =
        snapshot.services.into_iter().filter(|(name, _)| !is_service(name.as_str())).collect();
    snapshot
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn the_way_to_a_state_does_not_matter_and_can_be_followed_by_the_changes(steps in steps()) {
        let (walked, left) = walk(&steps);
        let fresh = Mesh::of(&left);
        prop_assert_eq!(without_rejected(&walked.snapshot), without_rejected(&fresh.snapshot));
    }

    #[test]
    fn changes_among_many_services_are_found_exactly(
        first in vec(0_usize..1000, 0..1000),
        edits in vec((0_usize..1000, any::<bool>()), 0..30),
    ) {
        let mut old = Snapshot::empty("alice".parse().unwrap());
        for number in first {
            let service = plain_service(number, Protocol::Http);
            old.services.insert(service.name.clone(), service);
        }
        let mut follower = Follower { services: old.services.clone().into_iter().collect(), ..Follower::default() };
        let mut new = old.clone();
        for (number, put) in edits {
            let service = plain_service(number, Protocol::Grpc);
            if put {
                new.services.insert(service.name.clone(), service);
            } else {
                new.services.remove(&service.name);
            }
        }
        follower.follow(&old, &new);
    }

    #[test]
    fn a_domain_id_is_read_back_from_its_text(text in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?") {
        let id: DomainId = text.parse().unwrap();
        prop_assert_eq!(id.as_str(), &text);
        prop_assert_eq!(id.to_string().parse::<DomainId>().unwrap(), id);
    }

    #[test]
    fn a_domain_id_is_a_label_or_refused(text in ".{0,70}") {
        let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_label = !text.is_empty()
            && text.len() <= 63
            && text.chars().all(is_inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        prop_assert_eq!(text.parse::<DomainId>().is_ok(), is_label);
    }

    #[test]
    fn an_address_is_read_back_from_its_text(address: std::net::IpAddr) {
        let host = Host::Address(address);
        prop_assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
    }

    #[test]
    fn whatever_is_taken_for_a_host_is_read_back_from_its_text(text in "[A-Za-z0-9.:\\[\\]-]{0,30}|.{0,20}") {
        if let Ok(host) = text.parse::<Host>() {
            prop_assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
        }
    }

    #[test]
    fn no_text_makes_the_manifest_reader_panic(text in "(.|\n){0,200}") {
        let _ = networkmesh_model::read_manifests(&text, "alice");
    }
}
