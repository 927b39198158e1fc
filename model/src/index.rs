//! The one owner of what is known: [`Event`]s in, [`Snapshot`]s and [`StatusUpdate`]s out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use certs::DomainKey;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use crate::api::{Condition, ConditionStatus, DomainRoute};
use crate::domain::{self, DomainCertificate};
use crate::endpoints::{self, EndpointGroup};
use crate::error::FieldErrors;
use crate::route::{self, Rejection};
use crate::{
    DomainId, Event, Kind, Object, ObjectRef, Snapshot, StatusChange, StatusUpdate, service, snapshot,
};

/// All objects of a domain, parsed.
///
/// Objects that are wrong keep their last good version in force and are listed in [`Snapshot::rejected`]; a wrong
/// object never affects another one. Of a wrong route, the status is still followed: its tokens go on.
#[derive(Debug)]
pub struct Index {
    domain: DomainId,
    key: DomainKey,
    awaited: BTreeSet<Kind>,
    reading: BTreeMap<Kind, Vec<Object>>,
    // What depends on no other object is kept parsed.
    certificates: BTreeMap<DomainId, DomainCertificate>,
    endpoints: BTreeMap<String, Vec<EndpointGroup>>,
    slices: BTreeMap<String, Slice>,
    // What depends on others is kept as it came, and parsed again when one of them changes.
    routes: BTreeMap<String, DomainRoute>,
    services: BTreeMap<String, core::Service>,
    stale_routes: BTreeSet<String>,
    stale_services: BTreeSet<String>,
    /// What the next snapshot is to be.
    next: Snapshot,
    snapshot: Arc<Snapshot>,
    published: bool,
}

/// A parsed `EndpointSlice`.
#[derive(Debug)]
struct Slice {
    /// Name of its service.
    service: Option<String>,
    group: EndpointGroup,
}

impl Index {
    /// An index of `domain`, which holds `key`. Nothing is published before each kind of `awaited` was read once.
    #[must_use]
    pub fn new(domain: DomainId, key: DomainKey, awaited: impl IntoIterator<Item = Kind>) -> Self {
        Self {
            next: Snapshot::empty(domain.clone()),
            snapshot: Arc::new(Snapshot::empty(domain.clone())),
            domain,
            key,
            awaited: awaited.into_iter().collect(),
            reading: BTreeMap::new(),
            certificates: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            slices: BTreeMap::new(),
            routes: BTreeMap::new(),
            services: BTreeMap::new(),
            stale_routes: BTreeSet::new(),
            stale_services: BTreeSet::new(),
            published: false,
        }
    }

    /// Takes an event in. Call [`Self::commit`] once all events at hand are in.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Init(kind) => {
                self.reading.insert(kind, Vec::new());
            }
            Event::InitApply(object) => self.reading.entry(object.kind()).or_default().push(object),
            Event::InitDone(kind) => {
                // A reading that never began says nothing about what is gone.
                if let Some(objects) = self.reading.remove(&kind) {
                    self.replace(kind, objects);
                }
                self.awaited.remove(&kind);
            }
            Event::Apply(object) => self.put(object),
            Event::Delete(reference) => self.delete(&reference),
        }
    }

    /// Parses what changed. Answers the new snapshot, if it differs from the last one, and the conditions that the
    /// changed objects do not show yet.
    ///
    /// Nothing remembers that a condition was answered: whoever writes it tries until it is written or the object
    /// changes, and a condition that was lost is answered again with the object's next change.
    pub fn commit(&mut self, now: Timestamp) -> (Option<Arc<Snapshot>>, Vec<StatusUpdate>) {
        if !self.awaited.is_empty() {
            return (None, Vec::new());
        }
        let stale_routes = std::mem::take(&mut self.stale_routes);
        let updates = stale_routes.iter().filter_map(|name| self.refresh_route(name, now)).collect();
        self.refresh_services();
        if self.published && self.next == *self.snapshot {
            return (None, updates);
        }
        self.published = true;
        self.snapshot = Arc::new(self.next.clone());
        (Some(Arc::clone(&self.snapshot)), updates)
    }

    /// Makes `objects` all that there are of `kind`.
    fn replace(&mut self, kind: Kind, objects: Vec<Object>) {
        let named: BTreeSet<ObjectRef> = objects.iter().map(Object::reference).collect();
        for gone in self.known(kind).difference(&named) {
            self.delete(gone);
        }
        for object in objects {
            self.put(object);
        }
    }

    /// The objects of `kind` that make a difference, be they good or not.
    fn known(&self, kind: Kind) -> BTreeSet<ObjectRef> {
        let names: Vec<&str> = match kind {
            Kind::Domain => self.certificates.keys().map(DomainId::as_str).collect(),
            Kind::DomainRoute => self.routes.keys().map(String::as_str).collect(),
            Kind::Service => self.services.keys().map(String::as_str).collect(),
            Kind::Endpoints => self.endpoints.keys().map(String::as_str).collect(),
            Kind::EndpointSlice => self.slices.keys().map(String::as_str).collect(),
            Kind::ClusterDomainRoute | Kind::Gateway => Vec::new(),
        };
        let rejected = self.next.rejected.keys().filter(|reference| reference.kind == kind).cloned();
        names.into_iter().map(|name| self.reference(kind, name)).chain(rejected).collect()
    }

    fn reference(&self, kind: Kind, name: &str) -> ObjectRef {
        let namespace = if kind.is_namespaced() { self.domain.as_str() } else { "" };
        ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// False for objects of other domains.
    fn concerns(&self, reference: &ObjectRef) -> bool {
        !reference.kind.is_namespaced() || reference.namespace == self.domain.as_str()
    }

    fn put(&mut self, object: Object) {
        let reference = object.reference();
        if !self.concerns(&reference) {
            return;
        }
        match object {
            Object::Domain(domain) => {
                if let Some((id, certificate)) = self.accept(reference, domain::parse(&domain)) {
                    self.set_certificate(&id, certificate);
                }
            }
            Object::DomainRoute(route) => {
                if self.routes.get(&reference.name) != Some(&*route) {
                    self.stale_routes.insert(reference.name.clone());
                    self.routes.insert(reference.name, *route);
                }
            }
            Object::Service(service) => {
                self.stale_services.insert(reference.name.clone());
                self.services.insert(reference.name, *service);
            }
            Object::Endpoints(object) => {
                let name = reference.name.clone();
                if let Some(groups) = self.accept(reference, endpoints::parse_endpoints(&object)) {
                    self.stale_services.insert(name.clone());
                    self.endpoints.insert(name, groups);
                }
            }
            Object::EndpointSlice(object) => {
                let name = reference.name.clone();
                if let Some(group) = self.accept(reference, endpoints::parse_slice(&object)) {
                    self.set_slice(&name, Some(Slice { service: service_of(&object), group }));
                }
            }
            Object::ClusterDomainRoute(_) | Object::Gateway(_) => {}
        }
    }

    fn delete(&mut self, reference: &ObjectRef) {
        if !self.concerns(reference) {
            return;
        }
        snapshot::remove(&mut self.next.rejected, reference);
        let name = &reference.name;
        match reference.kind {
            Kind::Domain => {
                if let Ok(id) = name.parse() {
                    self.set_certificate(&id, None);
                }
            }
            Kind::DomainRoute => {
                self.routes.remove(name);
                self.stale_routes.insert(name.clone());
            }
            Kind::Service => {
                self.services.remove(name);
                self.stale_services.insert(name.clone());
            }
            Kind::Endpoints => {
                self.endpoints.remove(name);
                self.stale_services.insert(name.clone());
            }
            Kind::EndpointSlice => self.set_slice(name, None),
            Kind::ClusterDomainRoute | Kind::Gateway => {}
        }
    }

    /// The parsed object, or `None` after noting why it is rejected.
    fn accept<T>(&mut self, object: ObjectRef, parsed: Result<T, FieldErrors>) -> Option<T> {
        match parsed {
            Ok(value) => {
                snapshot::remove(&mut self.next.rejected, &object);
                Some(value)
            }
            Err(errors) => {
                snapshot::replace(&mut self.next.rejected, object, Arc::new(errors));
                None
            }
        }
    }

    fn set_certificate(&mut self, id: &DomainId, certificate: Option<DomainCertificate>) {
        if self.certificates.get(id) == certificate.as_ref() {
            return;
        }
        match certificate {
            Some(certificate) => self.certificates.insert(id.clone(), certificate),
            None => self.certificates.remove(id),
        };
        let domain = &self.domain;
        let names = [format!("{domain}-{id}"), format!("{id}-{domain}")];
        self.stale_routes.extend(names.into_iter().filter(|name| self.routes.contains_key(name)));
    }

    fn set_slice(&mut self, name: &str, slice: Option<Slice>) {
        self.stale_services.extend(slice.as_ref().and_then(|slice| slice.service.clone()));
        let old = match slice {
            Some(slice) => self.slices.insert(name.to_owned(), slice),
            None => self.slices.remove(name),
        };
        self.stale_services.extend(old.and_then(|old| old.service));
    }

    fn refresh_route(&mut self, name: &str, now: Timestamp) -> Option<StatusUpdate> {
        let Some(object) = self.routes.get(name) else {
            self.next.drop_route(name);
            return None;
        };
        let context =
            route::Context { domain: &self.domain, key: &self.key, certificates: &self.certificates };
        let parsed = route::parse(object, &context);
        let mut status = object.status.clone().unwrap_or_default();
        let change = StatusChange::Condition(accepted_condition(parsed.as_ref().err(), now));
        if parsed.is_err() {
            self.next.set_route_status(name, &status, &self.key);
        }
        let object = self.reference(Kind::DomainRoute, name);
        if let Some(route) = self.accept(object.clone(), parsed.map_err(|rejection| rejection.errors)) {
            self.next.put_route(name, route);
        }
        change.apply(&mut status).then_some(StatusUpdate { object, change })
    }

    fn refresh_services(&mut self) {
        let stale = std::mem::take(&mut self.stale_services);
        let mut groups: BTreeMap<&String, Vec<&EndpointGroup>> = BTreeMap::new();
        for name in &stale {
            groups.insert(name, self.endpoints.get(name).into_iter().flatten().collect());
        }
        for slice in self.slices.values() {
            if let Some(groups) = slice.service.as_ref().and_then(|service| groups.get_mut(service)) {
                groups.push(&slice.group);
            }
        }
        let parse = |(name, groups): (_, Vec<_>)| {
            (name, self.services.get(name).map(|object| service::parse(object, groups.into_iter())))
        };
        let parsed: Vec<_> = groups.into_iter().map(parse).collect();
        for (name, parsed) in parsed {
            let Some(parsed) = parsed else {
                snapshot::remove(&mut self.next.services, name.as_str());
                continue;
            };
            if let Some(service) = self.accept(self.reference(Kind::Service, name), parsed) {
                self.next.put_service(service);
            }
        }
    }
}

fn service_of(slice: &EndpointSlice) -> Option<String> {
    slice.labels().get(service::SLICE_SERVICE).cloned()
}

fn accepted_condition(rejection: Option<&Rejection>, now: Timestamp) -> Condition {
    Condition {
        type_: "Accepted".to_owned(),
        status: if rejection.is_none() { ConditionStatus::True } else { ConditionStatus::False },
        reason: rejection.map_or("Valid", |rejection| rejection.reason).to_owned(),
        message: rejection.map(|rejection| rejection.errors.to_string()).unwrap_or_default(),
        last_transition_time: Some(Time(now)),
    }
}
