//! An API server with a controller that sees all at once.

use std::collections::{BTreeMap, BTreeSet};

use model::api::{ClusterDomainRouteStatus, Condition, ConditionStatus};
use serde_json::{Value, json};

use super::objects::{at, cluster_route, domain, gateway, key_of, parse, place_of};
use crate::action::Action;
use crate::cluster_route::owner_of;
use crate::reconcile::reconcile;
use crate::watch::{Change, Kind};
use crate::world::{Key, Place, World};

/// An API server with a controller that sees all at once.
pub(super) struct Cluster {
    pub(super) world: World,
    pub(super) objects: BTreeMap<(Kind, Place), Value>,
    version: u64,
}

impl Cluster {
    pub(super) fn new() -> Self {
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
    pub(super) fn of_alice_and_bob() -> Self {
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

    /// The same with a route from alice to bob, which is made on both sides.
    pub(super) fn with_route() -> Self {
        let mut cluster = Self::of_alice_and_bob();
        cluster.put(Kind::ClusterDomainRoute, cluster_route("alice", "bob"));
        cluster.settle();
        cluster
    }

    pub(super) fn put(&mut self, kind: Kind, mut object: Value) -> BTreeSet<Key> {
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

    pub(super) fn delete(&mut self, kind: Kind, namespace: &str, name: &str) -> BTreeSet<Key> {
        let place = Place::new(namespace, name);
        self.objects.remove(&(kind, place.clone())).expect("it is there");
        self.world.apply(Change::Gone(kind, place), at(0))
    }

    /// Works on everything until nothing is left to do.
    pub(super) fn settle(&mut self) -> Vec<Action> {
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
    pub(super) fn keys(&self) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        for (kind, place) in self.objects.keys() {
            keys.extend(match kind {
                Kind::Domain | Kind::Namespace => [Key::Namespace(place.name.clone())],
                Kind::ClusterDomainRoute => [Key::ClusterRoute(place.name.clone())],
                Kind::DomainRoute => [Key::Tokens(place.clone())],
                Kind::Gateway => [Key::Gateway(place.clone())],
            });
        }
        let owners = self.world.routes.values().filter_map(owner_of);
        keys.extend(owners.map(|owner| Key::ClusterRoute(owner.to_owned())));
        keys
    }

    /// Does what the API server would, and answers what that concerns; `None` for a write that saw an older version.
    pub(super) fn perform(&mut self, action: Action) -> Option<BTreeSet<Key>> {
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

    pub(super) fn object(&self, kind: Kind, namespace: &str, name: &str) -> &Value {
        &self.objects[&(kind, Place::new(namespace, name))]
    }

    pub(super) fn change(&mut self, kind: Kind, namespace: &str, name: &str, pointer: &str, value: Value) {
        let mut object = self.object(kind, namespace, name).clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        match object.pointer_mut(parent).unwrap() {
            Value::Object(fields) if value.is_null() => drop(fields.remove(field)),
            parent => parent[field] = value,
        }
        self.put(kind, object);
    }

    /// The places of all `DomainRoute`s.
    pub(super) fn routes(&self) -> Vec<String> {
        self.world.routes.keys().map(ToString::to_string).collect()
    }

    pub(super) fn labels(&self, namespace: &str) -> &BTreeMap<String, String> {
        &self.world.namespaces[namespace].labels
    }

    pub(super) fn status(&self, name: &str) -> ClusterDomainRouteStatus {
        self.world.cluster_routes[name].status.clone().unwrap()
    }

    pub(super) fn condition(&self, name: &str, type_: &str) -> Condition {
        self.status(name).conditions.iter().find(|condition| condition.type_ == type_).unwrap().clone()
    }

    /// Status and reason of a condition.
    pub(super) fn shows(&self, name: &str, type_: &str) -> (bool, String) {
        let condition = self.condition(name, type_);
        (condition.status == ConditionStatus::True, condition.reason)
    }
}

pub(super) fn shown(holds: bool, reason: &str) -> (bool, String) {
    (holds, reason.to_owned())
}
