use std::collections::{BTreeMap, BTreeSet};

use certs::DomainKey;
use model::api::{ClusterDomainRouteStatus, Condition, ConditionStatus};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::watch::{Change, Kind, Object};
use crate::world::Place;

/// The time at which all of this happens.
const NOW: i64 = 1_800_000_000;

fn at(seconds_ago: i64) -> Timestamp {
    Timestamp::from_second(NOW - seconds_ago).unwrap()
}

/// An API server with a controller that sees all at once.
struct Cluster {
    world: World,
    objects: BTreeMap<(Kind, Place), Value>,
    version: u64,
}

impl Cluster {
    fn new() -> Self {
        let mut world = World::default();
        for kind in Kind::ALL {
            assert!(!world.is_complete());
            world.apply(Change::Listing(kind), at(0));
            world.apply(Change::AllListed(kind), at(0));
        }
        assert!(world.is_complete());
        Self { world, objects: BTreeMap::new(), version: 0 }
    }

    /// A cluster in which alice and bob live, with a gateway each.
    fn of_alice_and_bob() -> Self {
        let mut cluster = Self::new();
        for name in ["alice", "bob"] {
            cluster.put(Kind::Domain, domain(name, Some(&key_of(name))));
        }
        cluster.settle();
        for name in ["alice", "bob"] {
            cluster.put(Kind::Gateway, gateway(name, "gw-1", 5));
        }
        cluster
    }

    fn put(&mut self, kind: Kind, mut object: Value) -> BTreeSet<Key> {
        let place = place_of(&object);
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let known = self.objects.get(&(kind, place.clone()));
        let uid = known
            .map_or_else(|| json!(format!("uid-{}", self.version)), |known| known["metadata"]["uid"].clone());
        object["metadata"]["uid"] = uid;
        self.objects.insert((kind, place), object.clone());
        self.world.apply(Change::Put(parse(kind, object)), at(0))
    }

    fn delete(&mut self, kind: Kind, namespace: &str, name: &str) -> BTreeSet<Key> {
        let place = Place::new(namespace, name);
        self.objects.remove(&(kind, place.clone())).expect("it is there");
        self.world.apply(Change::Gone(kind, place), at(0))
    }

    /// Works on everything until nothing is left to do.
    fn settle(&mut self) -> Vec<Action> {
        let mut done = Vec::new();
        for _ in 0..20 {
            let actions: Vec<Action> =
                self.keys().iter().flat_map(|key| reconcile(&self.world, key, at(0))).collect();
            if actions.is_empty() {
                return done;
            }
            for action in actions {
                done.push(action.clone());
                self.perform(action);
            }
        }
        panic!("it never ends: {done:#?}");
    }

    /// Everything that there is to look at.
    fn keys(&self) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        for (kind, place) in self.objects.keys() {
            keys.extend(match kind {
                Kind::Domain | Kind::Namespace => [Key::Namespace(place.name.clone())],
                Kind::ClusterDomainRoute => [Key::ClusterRoute(place.name.clone())],
                Kind::DomainRoute => [Key::Tokens(place.clone())],
                Kind::Gateway => [Key::Gateway(place.clone())],
            });
        }
        let owners = self.world.routes.values().filter_map(cluster_route::owner_of);
        keys.extend(owners.map(|owner| Key::ClusterRoute(owner.to_owned())));
        keys
    }

    /// Does what the API server would, and answers what that concerns; `None` for a write that saw an older version.
    fn perform(&mut self, action: Action) -> Option<BTreeSet<Key>> {
        let keys = match action {
            Action::CreateNamespace { name, labels } => {
                assert!(!self.objects.contains_key(&(Kind::Namespace, Place::new("", &name))));
                self.put(Kind::Namespace, json!({"metadata": {"name": name, "labels": labels}}))
            }
            Action::LabelNamespace { name, labels } => {
                let mut namespace = self.object(Kind::Namespace, "", &name).clone();
                for (label, value) in labels {
                    let all = namespace["metadata"]["labels"].as_object_mut().unwrap();
                    match value {
                        Some(value) => all.insert(label, json!(value)),
                        None => all.remove(&label),
                    };
                }
                self.put(Kind::Namespace, namespace)
            }
            Action::CreateRoute(route) => {
                assert!(!self.world.routes.contains_key(&Place::of(&route.metadata)));
                self.put(Kind::DomainRoute, json!(*route))
            }
            Action::ApplyRoute(route) => {
                let before =
                    self.of_version(&Place::of(&route.metadata), route.metadata.resource_version.as_ref())?;
                let mut object = json!(*route);
                object["status"] = before["status"].clone();
                self.put(Kind::DomainRoute, object)
            }
            Action::DeleteRoute { place, uid } => {
                assert_eq!(uid, self.world.routes[&place].metadata.uid);
                self.delete(Kind::DomainRoute, &place.namespace, &place.name)
            }
            Action::SetInitializer { place, version, gateway } => {
                let mut route = self.of_version(&place, version.as_ref())?;
                route["status"]["tokenStatus"]["revisionInitializer"] = json!(gateway);
                self.put(Kind::DomainRoute, route)
            }
            Action::WriteRouteStatus { place, version, status } => {
                let mut route = self.of_version(&place, version.as_ref())?;
                route["status"] = json!(*status);
                self.put(Kind::DomainRoute, route)
            }
            Action::WriteClusterRouteStatus { name, version, status, .. } => {
                let mut route = self.object(Kind::ClusterDomainRoute, "", &name).clone();
                assert_eq!(route["metadata"]["resourceVersion"], json!(version));
                route["status"] = json!(*status);
                self.put(Kind::ClusterDomainRoute, route)
            }
            Action::DeleteGateway { place, .. } => self.delete(Kind::Gateway, &place.namespace, &place.name),
        };
        Some(keys)
    }

    /// The `DomainRoute` at `place`, if this is its version.
    fn of_version(&self, place: &Place, version: Option<&String>) -> Option<Value> {
        let route = self.object(Kind::DomainRoute, &place.namespace, &place.name);
        (route["metadata"]["resourceVersion"] == json!(version)).then(|| route.clone())
    }

    fn object(&self, kind: Kind, namespace: &str, name: &str) -> &Value {
        &self.objects[&(kind, Place::new(namespace, name))]
    }

    fn change(&mut self, kind: Kind, namespace: &str, name: &str, pointer: &str, value: Value) {
        let mut object = self.object(kind, namespace, name).clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        match object.pointer_mut(parent).unwrap() {
            Value::Object(fields) if value.is_null() => drop(fields.remove(field)),
            parent => parent[field] = value,
        }
        self.put(kind, object);
    }

    /// The places of all `DomainRoute`s.
    fn routes(&self) -> Vec<String> {
        self.world.routes.keys().map(ToString::to_string).collect()
    }

    fn labels(&self, namespace: &str) -> &BTreeMap<String, String> {
        &self.world.namespaces[namespace].labels
    }

    fn status(&self, name: &str) -> ClusterDomainRouteStatus {
        self.world.cluster_routes[name].status.clone().unwrap()
    }

    fn condition(&self, name: &str, type_: &str) -> Condition {
        self.status(name).conditions.iter().find(|condition| condition.type_ == type_).unwrap().clone()
    }

    /// Status and reason of a condition.
    fn shows(&self, name: &str, type_: &str) -> (bool, String) {
        let condition = self.condition(name, type_);
        (condition.status == ConditionStatus::True, condition.reason)
    }
}

fn shown(holds: bool, reason: &str) -> (bool, String) {
    (holds, reason.to_owned())
}

fn place_of(object: &Value) -> Place {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    Place { namespace: text("namespace"), name: text("name") }
}

fn parse(kind: Kind, mut object: Value) -> Object {
    object["apiVersion"] = json!("kuscia.secretflow/v1alpha1");
    object["kind"] = json!(kind.to_string());
    match kind {
        Kind::Domain => Object::Domain(serde_json::from_value(object).unwrap()),
        Kind::Namespace => Object::Namespace(serde_json::from_value(object).unwrap()),
        Kind::ClusterDomainRoute => Object::ClusterDomainRoute(serde_json::from_value(object).unwrap()),
        Kind::DomainRoute => Object::DomainRoute(serde_json::from_value(object).unwrap()),
        Kind::Gateway => Object::Gateway(serde_json::from_value(object).unwrap()),
    }
}

/// The certificate of a domain, made once per name.
fn key_of(name: &str) -> Certified {
    static KEYS: std::sync::Mutex<BTreeMap<String, Certified>> = std::sync::Mutex::new(BTreeMap::new());
    let mut keys = KEYS.lock().unwrap();
    keys.entry(name.to_owned()).or_insert_with(|| Certified::new(name)).clone()
}

#[derive(Clone)]
struct Certified {
    public_key: String,
    certificate: String,
}

impl Certified {
    fn new(name: &str) -> Self {
        let key = DomainKey::generate().unwrap();
        let authority = certs::DomainAuthority::new(name, &key, std::time::SystemTime::now()).unwrap();
        Self { public_key: key.public_key().to_base64_pem(), certificate: authority.certificate_base64_pem() }
    }
}

fn domain(name: &str, key: Option<&Certified>) -> Value {
    let cert = key.map(|key| key.certificate.clone()).unwrap_or_default();
    json!({"metadata": {"name": name}, "spec": {"cert": cert}})
}

fn gateway(namespace: &str, name: &str, seconds_ago: i64) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name},
        "status": {"address": "192.0.2.1", "heartbeatTime": at(seconds_ago).to_string()},
    })
}

fn cluster_route(source: &str, destination: &str) -> Value {
    json!({
        "metadata": {"name": format!("{source}-{destination}"), "labels": {"team": "blue"}},
        "spec": {
            "source": source,
            "destination": destination,
            "endpoint": {"host": "gateway.example", "ports": [{"name": "http", "protocol": "HTTP", "port": 1080}]},
            "authenticationType": "Token",
            "tokenConfig": {"tokenGenMethod": "RSA-GEN", "rollingUpdatePeriod": 86400},
        },
    })
}

fn token(revision: i64, ready: bool, gateways: &[&str]) -> Value {
    json!({"revision": revision, "token": format!("sealed-{revision}"), "isReady": ready,
           "effectiveInstances": gateways, "heartBeatTime": at(1).to_string()})
}

fn route_status(newest: &Value, tokens: &[Value]) -> Value {
    json!({"isDestinationAuthorized": true, "tokenStatus": {
        "revisionInitializer": "gw-1", "revisionToken": newest, "tokens": tokens}})
}

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
    let mut cluster = Cluster::of_alice_and_bob();
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "bob"));
    cluster.settle();
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
    let mut cluster = Cluster::of_alice_and_bob();
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "bob"));
    cluster.settle();
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
    let mut cluster = Cluster::of_alice_and_bob();
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "bob"));
    cluster.settle();
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
    let mut cluster = Cluster::of_alice_and_bob();
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "bob"));
    cluster.settle();
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

#[test]
fn the_health_of_the_endpoint_is_told_per_live_gateway_and_port() {
    let mut cluster = Cluster::of_alice_and_bob();
    cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "bob"));
    let network = |healthy: i64| {
        json!([{"type": "DomainRoute", "name": "alice-to-bob-http", "totalEndpointsCount": 1,
                "healthyEndpointsCount": healthy}])
    };
    for (name, healthy) in [("gw-1", 1), ("gw-2", 0)] {
        let mut gateway = gateway("alice", name, 5);
        gateway["status"]["networkStatus"] = network(healthy);
        let keys = cluster.put(Kind::Gateway, gateway);
        assert!(keys.contains(&Key::ClusterRoute("alice-bob".to_owned())), "{keys:?}");
    }
    cluster.settle();
    let health = |cluster: &Cluster| {
        let statuses = cluster.status("alice-bob").endpoint_statuses;
        statuses.into_iter().map(|(name, status)| (name, status.endpoint_healthy)).collect::<Vec<_>>()
    };
    assert_eq!(health(&cluster), [("gw-1-http".to_owned(), true), ("gw-2-http".to_owned(), false)]);
    cluster.delete(Kind::Gateway, "alice", "gw-2");
    cluster.settle();
    assert_eq!(health(&cluster), [("gw-1-http".to_owned(), true)]);
}

#[test]
fn gateways_that_are_silent_for_an_hour_are_deleted() {
    let mut cluster = Cluster::new();
    cluster.put(Kind::Gateway, gateway("alice", "recent", 3599));
    cluster.put(Kind::Gateway, gateway("alice", "old", 3601));
    let mut never_heard = gateway("alice", "never", 0);
    never_heard.as_object_mut().unwrap().remove("status");
    never_heard["metadata"]["creationTimestamp"] = json!(at(3601).to_string());
    cluster.put(Kind::Gateway, never_heard);
    // The clock of this one is behind.
    cluster.put(Kind::Gateway, gateway("alice", "behind", 9000));
    cluster.put(Kind::Gateway, gateway("alice", "behind", 8985));
    let keys = cluster.world.tick(at(0));
    let gateways = ["never", "old"].map(|name| Key::Gateway(Place::new("alice", name)));
    assert_eq!(keys, gateways.into());
    let actions = cluster.settle();
    assert_eq!(actions.len(), 2, "{actions:?}");
    let left: Vec<_> = cluster.world.gateways.keys().map(|place| place.name.as_str()).collect();
    assert_eq!(left, ["behind", "recent"]);
}

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
