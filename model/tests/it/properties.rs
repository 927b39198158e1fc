use std::collections::BTreeMap;

use networkmesh_model::{DomainId, Event, Host, Kind, ObjectRef, Snapshot};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{BOB_CERTIFICATE, Mesh, domain, endpoints, object_of, route, service, slice, with};

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
        (peer(), any::<bool>(), any::<bool>(), 1_u16..3).prop_map(|(peer, outbound, good, port)| {
            let route = if outbound { route("alice", peer) } else { route(peer, "alice") };
            let route = with(route, "/spec/endpoint/ports/0/port", json!(port));
            if good { route } else { with(route, "/spec/interConnProtocol", json!("bfia")) }
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

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => manifests().prop_map(Step::Put),
        2 => manifests().prop_map(Step::Delete),
        1 => kinds().prop_map(Step::ReadAgain),
        1 => kinds().prop_map(Step::Clear),
        3 => Just(Step::Commit),
    ];
    vec(step, 0..40)
}

/// Takes the steps one by one. Answers what came out, and the objects that are left.
fn walk(steps: &[Step]) -> (Mesh, Vec<Value>) {
    let mut mesh = Mesh::empty();
    let mut left: BTreeMap<ObjectRef, Value> = BTreeMap::new();
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
            Step::Commit => {
                mesh.commit();
            }
        }
    }
    mesh.commit();
    (mesh, left.into_values().collect())
}

/// What is left of a snapshot without the objects that are rejected: of those, only history tells what is in force.
fn without_rejected(snapshot: &Snapshot) -> Snapshot {
    let mut snapshot = snapshot.clone();
    let rejected = snapshot.rejected.clone();
    let is_service = |name: &str| {
        rejected.keys().any(|reference| reference.kind == Kind::Service && reference.name == name)
    };
    snapshot.outbound =
        snapshot.outbound.into_iter().filter(|(_, route)| !rejected.contains_key(&route.object)).collect();
    snapshot.inbound =
        snapshot.inbound.into_iter().filter(|(_, route)| !rejected.contains_key(&route.object)).collect();
    snapshot.services =
        snapshot.services.into_iter().filter(|(name, _)| !is_service(name.as_str())).collect();
    snapshot
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn the_way_to_a_state_does_not_matter(steps in steps()) {
        let (walked, left) = walk(&steps);
        let fresh = Mesh::of(&left);
        prop_assert_eq!(without_rejected(&walked.snapshot), without_rejected(&fresh.snapshot));
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
