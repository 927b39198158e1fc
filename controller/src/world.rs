//! What the controller knows, and which keys a change concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use kube::core::ObjectMeta;
use model::api::{ClusterDomainRoute, Domain, DomainRoute, DomainRouteSpec, Gateway};
use model::{DomainId, FieldErrors, Heartbeats, public_key_of};

use crate::cluster_route::owner_of;
use crate::namespaces::{DELETED_LABEL, PARTNER};
use crate::watch::{Change, Kind, Object};

/// Namespace and name of an object; the namespace of cluster-wide ones is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Place {
    /// Where the object with this metadata is.
    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }

    /// The object `name` of `namespace`.
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What has to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The namespace of the domain of this name.
    Namespace(String),
    /// The `DomainRoute`s and the status of the `ClusterDomainRoute` of this name.
    ClusterRoute(String),
    /// The tokens of a `DomainRoute`.
    Tokens(Place),
    /// A gateway, which may be gone.
    Gateway(Place),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(name) => write!(f, "Domain {name}"),
            Self::ClusterRoute(name) => write!(f, "ClusterDomainRoute {name}"),
            Self::Tokens(place) => write!(f, "DomainRoute {place}"),
            Self::Gateway(place) => write!(f, "Gateway {place}"),
        }
    }
}

/// A `Domain`, as far as it matters.
#[derive(Debug)]
pub(crate) struct KnownDomain {
    /// Whose it is: empty, or [`PARTNER`].
    pub(crate) role: String,
    /// The protocol that it prefers, if it says so.
    pub(crate) protocol: Option<String>,
    /// Its public key as base64 of PEM, if it has a certificate.
    pub(crate) key: Result<Option<String>, FieldErrors>,
}

/// A namespace, as far as it matters.
#[derive(Debug)]
pub(crate) struct KnownNamespace {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) is_terminating: bool,
}

/// All objects that were seen.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) domains: BTreeMap<String, KnownDomain>,
    pub(crate) namespaces: BTreeMap<String, KnownNamespace>,
    pub(crate) cluster_routes: BTreeMap<String, ClusterDomainRoute>,
    pub(crate) routes: BTreeMap<Place, DomainRoute>,
    pub(crate) gateways: BTreeMap<Place, Gateway>,
    /// Why objects cannot be read.
    pub(crate) unreadable: BTreeMap<(Kind, Place), String>,
    /// Heartbeats by namespace.
    heartbeats: BTreeMap<String, Heartbeats>,
    /// Names of the `ClusterDomainRoute`s by the domains at their ends.
    ends: BTreeMap<String, BTreeSet<String>>,
    /// Names of the `ClusterDomainRoute`s that make a detour: which domains forward for one, others of them tell.
    detours: BTreeSet<String>,
    /// The `DomainRoute`s by the name of the `ClusterDomainRoute` that they say they belong to.
    owned: BTreeMap<String, BTreeSet<Place>>,
    /// What was listed so far, of the kinds that are being listed.
    listing: BTreeMap<Kind, BTreeSet<Place>>,
    listed: BTreeSet<Kind>,
}

impl World {
    /// Whether every kind was listed once: what is not there then does not exist.
    pub(crate) fn is_complete(&self) -> bool {
        self.listed.len() == Kind::ALL.len()
    }

    /// Takes a change in, at `now`. Answers what it concerns.
    pub(crate) fn apply(&mut self, change: Change, now: Timestamp) -> BTreeSet<Key> {
        match change {
            Change::Listing(kind) => {
                self.listing.insert(kind, BTreeSet::new());
                BTreeSet::new()
            }
            Change::Listed(object) => {
                self.listing.entry(object.kind()).or_default().insert(object.place());
                self.put(object, now)
            }
            Change::AllListed(kind) => {
                self.listed.insert(kind);
                let Some(listed) = self.listing.remove(&kind) else { return BTreeSet::new() };
                self.unreadable.retain(|(of, place), _| *of != kind || listed.contains(place));
                let gone: Vec<Place> =
                    self.places(kind).into_iter().filter(|place| !listed.contains(place)).collect();
                gone.iter().flat_map(|place| self.remove(kind, place)).collect()
            }
            Change::Put(object) => {
                if let Some(listed) = self.listing.get_mut(&object.kind()) {
                    listed.insert(object.place());
                }
                self.put(object, now)
            }
            Change::Unreadable { kind, place, error } => {
                if let Some(listed) = self.listing.get_mut(&kind) {
                    listed.insert(place.clone());
                }
                self.unreadable.insert((kind, place), error);
                BTreeSet::new()
            }
            Change::Gone(kind, place) => self.remove(kind, &place),
        }
    }

    /// A period is over in which every live gateway was to be heard. Answers what concerns those that were not, and
    /// those that have been silent for long.
    pub(crate) fn tick(&mut self, now: Timestamp) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        let mut changed = Vec::new();
        for (namespace, heartbeats) in &mut self.heartbeats {
            let before = heartbeats.live();
            heartbeats.tick();
            if heartbeats.live() != before {
                changed.push(namespace.clone());
            }
        }
        for namespace in changed {
            keys.extend(self.of_gateways(&namespace));
        }
        let abandoned = self.gateways.keys().filter(|place| crate::gateways::is_abandoned(self, place, now));
        keys.extend(abandoned.cloned().map(Key::Gateway));
        keys
    }

    /// The gateways of `namespace` that are alive.
    pub(crate) fn live(&self, namespace: &str) -> BTreeSet<String> {
        self.heartbeats.get(namespace).map(Heartbeats::live).unwrap_or_default()
    }

    /// Whether the domain of this name lives in this cluster: routes stand in its namespace.
    pub(crate) fn is_home(&self, domain: &str) -> bool {
        let may_be = domain.parse::<DomainId>().is_ok_and(|id| !id.is_reserved());
        let is_partner = self.domains.get(domain).is_some_and(|domain| domain.role == PARTNER);
        let is_there = self.namespaces.get(domain).is_some_and(|namespace| {
            !namespace.is_terminating && !namespace.labels.contains_key(DELETED_LABEL)
        });
        may_be && is_there && !is_partner
    }

    /// The `DomainRoute`s that say they belong to the `ClusterDomainRoute` of this name.
    pub(crate) fn owned_by(&self, cluster_route: &str) -> impl Iterator<Item = &DomainRoute> {
        self.owned.get(cluster_route).into_iter().flatten().filter_map(|place| self.routes.get(place))
    }

    fn put(&mut self, object: Object, now: Timestamp) -> BTreeSet<Key> {
        let place = object.place();
        self.unreadable.remove(&(object.kind(), place.clone()));
        match object {
            Object::Domain(domain) => {
                self.domains.insert(place.name.clone(), KnownDomain::new(&domain));
                self.of_domain(place.name)
            }
            Object::Namespace(namespace) => {
                let known = KnownNamespace {
                    is_terminating: namespace.metadata.deletion_timestamp.is_some(),
                    labels: namespace.metadata.labels.unwrap_or_default(),
                };
                self.namespaces.insert(place.name.clone(), known);
                self.of_domain(place.name)
            }
            Object::ClusterDomainRoute(route) => {
                self.forget_ends(&place.name);
                for end in [&route.spec.route.source, &route.spec.route.destination] {
                    self.ends.entry(end.clone()).or_default().insert(place.name.clone());
                }
                let mut keys = BTreeSet::from([Key::ClusterRoute(place.name.clone())]);
                let after = route.spec.route.forwarder().map(str::to_owned);
                let before = self.cluster_routes.get(&place.name).map(|before| &before.spec.route);
                if before.and_then(DomainRouteSpec::forwarder) != after.as_deref() {
                    keys.extend(self.of_detours());
                }
                match after {
                    Some(_) => self.detours.insert(place.name.clone()),
                    None => self.detours.remove(&place.name),
                };
                self.cluster_routes.insert(place.name, *route);
                keys
            }
            Object::DomainRoute(route) => {
                let mut keys = self.forget_owner(&place);
                if let Some(owner) = owner_of(&route) {
                    self.owned.entry(owner.to_owned()).or_default().insert(place.clone());
                }
                self.routes.insert(place.clone(), *route);
                keys.extend(self.of_route(&place));
                keys.insert(Key::Tokens(place));
                keys
            }
            Object::Gateway(gateway) => {
                let heartbeats = self.heartbeats.entry(place.namespace.clone()).or_default();
                let before = heartbeats.live();
                let status = gateway.status.as_ref();
                let heartbeat = status.and_then(|status| status.heartbeat_time.as_ref()).map(|time| time.0);
                heartbeats.heard(&place.name, heartbeat, now);
                let lives_changed = heartbeats.live() != before;
                let namespace = place.namespace.clone();
                let network = |gateway: &Gateway| {
                    gateway.status.as_ref().map(|status| status.network_status.clone()).unwrap_or_default()
                };
                let network_changed =
                    self.gateways.get(&place).is_none_or(|before| network(before) != network(&gateway));
                self.gateways.insert(place, *gateway);
                if lives_changed {
                    self.of_gateways(&namespace)
                } else if network_changed {
                    self.of_ends(&namespace)
                } else {
                    BTreeSet::new()
                }
            }
        }
    }

    fn remove(&mut self, kind: Kind, place: &Place) -> BTreeSet<Key> {
        let name = &place.name;
        self.unreadable.remove(&(kind, place.clone()));
        match kind {
            Kind::Domain => {
                self.domains.remove(name);
                self.of_domain(name.clone())
            }
            Kind::Namespace => {
                self.namespaces.remove(name);
                self.of_domain(name.clone())
            }
            Kind::ClusterDomainRoute => {
                self.forget_ends(name);
                self.cluster_routes.remove(name);
                let others = if self.detours.remove(name) { self.of_detours() } else { BTreeSet::new() };
                [Key::ClusterRoute(name.clone())].into_iter().chain(others).collect()
            }
            Kind::DomainRoute => {
                let mut keys = self.forget_owner(place);
                self.routes.remove(place);
                keys.extend(self.of_route(place));
                keys
            }
            Kind::Gateway => {
                self.gateways.remove(place);
                if let Some(heartbeats) = self.heartbeats.get_mut(&place.namespace) {
                    heartbeats.gone(name);
                }
                self.of_gateways(&place.namespace)
            }
        }
    }

    fn places(&self, kind: Kind) -> Vec<Place> {
        let names = |names: Vec<&String>| names.into_iter().map(|name| Place::new("", name)).collect();
        match kind {
            Kind::Domain => names(self.domains.keys().collect()),
            Kind::Namespace => names(self.namespaces.keys().collect()),
            Kind::ClusterDomainRoute => names(self.cluster_routes.keys().collect()),
            Kind::DomainRoute => self.routes.keys().cloned().collect(),
            Kind::Gateway => self.gateways.keys().cloned().collect(),
        }
    }

    fn forget_ends(&mut self, cluster_route: &str) {
        let Some(route) = self.cluster_routes.get(cluster_route) else { return };
        for end in [&route.spec.route.source, &route.spec.route.destination] {
            if let Some(names) = self.ends.get_mut(end) {
                names.remove(cluster_route);
            }
        }
    }

    fn forget_owner(&mut self, place: &Place) -> BTreeSet<Key> {
        let Some(owner) = self.routes.get(place).and_then(owner_of) else { return BTreeSet::new() };
        if let Some(owned) = self.owned.get_mut(owner) {
            owned.remove(place);
        }
        BTreeSet::from([Key::ClusterRoute(owner.to_owned())])
    }

    /// What a `Domain`, or its namespace, concerns.
    fn of_domain(&self, name: String) -> BTreeSet<Key> {
        let mut keys = self.of_ends(&name);
        keys.extend(self.of_detours());
        keys.insert(Key::Namespace(name));
        keys
    }

    /// The `ClusterDomainRoute`s that make a detour.
    fn of_detours(&self) -> BTreeSet<Key> {
        self.detours.iter().cloned().map(Key::ClusterRoute).collect()
    }

    /// The `ClusterDomainRoute`s from and to a domain.
    fn of_ends(&self, domain: &str) -> BTreeSet<Key> {
        self.ends.get(domain).into_iter().flatten().cloned().map(Key::ClusterRoute).collect()
    }

    /// The `ClusterDomainRoute`s that a `DomainRoute` concerns: the one that it belongs to, and the one in whose way it
    /// may stand.
    fn of_route(&self, place: &Place) -> BTreeSet<Key> {
        let owner = self.routes.get(place).and_then(owner_of).map(str::to_owned);
        owner.into_iter().chain([place.name.clone()]).map(Key::ClusterRoute).collect()
    }

    /// What the gateways of a namespace concern.
    fn of_gateways(&self, namespace: &str) -> BTreeSet<Key> {
        let first = Place::new(namespace, "");
        let routes = self.routes.range(first..).map(|(place, _)| place);
        let routes = routes.take_while(|place| place.namespace == namespace);
        routes.cloned().map(Key::Tokens).chain(self.of_ends(namespace)).collect()
    }
}

impl KnownDomain {
    fn new(domain: &Domain) -> Self {
        Self {
            role: domain.spec.role.clone(),
            protocol: domain
                .spec
                .inter_conn_protocols
                .first()
                .filter(|protocol| !protocol.is_empty())
                .cloned(),
            key: public_key_of(domain),
        }
    }
}

/// Whether an object is about to be gone.
pub(crate) fn is_terminating(object: &impl kube::Resource) -> bool {
    object.meta().deletion_timestamp.is_some()
}
