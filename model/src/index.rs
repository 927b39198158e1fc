//! The one owner of what is known: [`Event`]s in, [`Snapshot`]s and [`StatusUpdate`]s out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certs::{DomainKey, PublicKey};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use crate::api::{Condition, ConditionStatus, Domain, DomainRoute};
use crate::error::{FieldErrors, Problem};
use crate::route::{self, DomainCertificate, Rejection, Route};
use crate::{DomainId, Kind, Object, ObjectRef, Snapshot, StatusChange, StatusUpdate, service};

/// What a source tells the index.
///
/// A source that (re)reads all objects of a kind says `Init`, then `InitApply` for each, then `InitDone`; until then
/// the old state of that kind stays. Objects that a finished reading did not name are gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A reading of all objects of this kind begins.
    Init(Kind),
    /// An object of that reading.
    InitApply(Object),
    /// The reading of this kind is complete.
    InitDone(Kind),
    /// An object was added or changed.
    Apply(Object),
    /// An object is gone.
    Delete(ObjectRef),
}

/// All objects of a domain, parsed.
///
/// Objects that are wrong keep their last good version in force and are listed in [`Snapshot::rejected`]; a wrong
/// object never affects another one.
#[derive(Debug)]
pub struct Index {
    domain: DomainId,
    key: DomainKey,
    awaited: BTreeSet<Kind>,
    reading: BTreeMap<Kind, Vec<Object>>,
    certificates: BTreeMap<String, DomainCertificate>,
    routes: BTreeMap<String, DomainRoute>,
    services: BTreeMap<String, core::Service>,
    endpoints: BTreeMap<String, core::Endpoints>,
    slices: BTreeMap<String, EndpointSlice>,
    stale: Stale,
    conditions: BTreeMap<String, Condition>,
    snapshot: Arc<Snapshot>,
    published: bool,
}

/// The names of what must be parsed again.
#[derive(Debug, Default)]
struct Stale {
    routes: BTreeSet<String>,
    services: BTreeSet<String>,
    rejected: BTreeMap<ObjectRef, Option<FieldErrors>>,
}

impl Index {
    /// An index of `domain`, which holds `key`. Nothing is published before each kind of `awaited` was read once.
    #[must_use]
    pub fn new(domain: DomainId, key: DomainKey, awaited: impl IntoIterator<Item = Kind>) -> Self {
        Self {
            snapshot: Arc::new(Snapshot::empty(domain.clone())),
            domain,
            key,
            awaited: awaited.into_iter().collect(),
            reading: BTreeMap::new(),
            certificates: BTreeMap::new(),
            routes: BTreeMap::new(),
            services: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            slices: BTreeMap::new(),
            stale: Stale::default(),
            conditions: BTreeMap::new(),
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
                let objects = self.reading.remove(&kind).unwrap_or_default();
                let named: BTreeSet<ObjectRef> = objects.iter().map(Object::reference).collect();
                for gone in self.references(kind).into_iter().filter(|reference| !named.contains(reference)) {
                    self.delete(&gone);
                }
                for object in objects {
                    self.put(object);
                }
                self.awaited.remove(&kind);
            }
            Event::Apply(object) => self.put(object),
            Event::Delete(reference) => self.delete(&reference),
        }
    }

    /// Parses what changed. Answers the new snapshot, if it differs from the last one, and the conditions that do.
    pub fn commit(&mut self, now: Timestamp) -> (Option<Arc<Snapshot>>, Vec<StatusUpdate>) {
        if !self.awaited.is_empty() {
            return (None, Vec::new());
        }
        let stale = std::mem::take(&mut self.stale);
        let mut snapshot = Snapshot::clone(&self.snapshot);
        let mut updates = Vec::new();
        for (reference, errors) in stale.rejected {
            note_rejection(&mut snapshot, reference, errors);
        }
        for name in stale.routes {
            updates.extend(self.refresh_route(&name, &mut snapshot, now));
        }
        for name in stale.services {
            self.refresh_service(&name, &mut snapshot);
        }
        let changed = !self.published || snapshot != *self.snapshot;
        self.published = true;
        if changed {
            self.snapshot = Arc::new(snapshot);
        }
        (changed.then(|| Arc::clone(&self.snapshot)), updates)
    }

    fn references(&self, kind: Kind) -> Vec<ObjectRef> {
        let namespaced =
            |name: &String| ObjectRef { kind, namespace: self.domain.to_string(), name: name.clone() };
        match kind {
            Kind::Domain => self
                .certificates
                .keys()
                .map(|name| ObjectRef { kind, namespace: String::new(), name: name.clone() })
                .chain(self.snapshot.rejected.keys().filter(|reference| reference.kind == kind).cloned())
                .collect(),
            Kind::DomainRoute => self.routes.keys().map(namespaced).collect(),
            Kind::Service => self.services.keys().map(namespaced).collect(),
            Kind::Endpoints => self.endpoints.keys().map(namespaced).collect(),
            Kind::EndpointSlice => self.slices.keys().map(namespaced).collect(),
            Kind::ClusterDomainRoute | Kind::Gateway => Vec::new(),
        }
    }

    fn put(&mut self, object: Object) {
        let reference = object.reference();
        if reference.kind.is_namespaced() && reference.namespace != self.domain.as_str() {
            return;
        }
        match object {
            Object::Domain(domain) => self.put_domain(reference, &domain),
            Object::DomainRoute(route) => {
                self.stale.routes.insert(reference.name.clone());
                self.routes.insert(reference.name, *route);
            }
            Object::Service(service) => {
                self.stale.services.insert(reference.name.clone());
                self.services.insert(reference.name, *service);
            }
            Object::Endpoints(endpoints) => {
                self.stale.services.insert(reference.name.clone());
                self.endpoints.insert(reference.name, *endpoints);
            }
            Object::EndpointSlice(slice) => {
                self.stale.services.extend(service_of(&slice));
                if let Some(old) = self.slices.insert(reference.name, *slice) {
                    self.stale.services.extend(service_of(&old));
                }
            }
            Object::ClusterDomainRoute(_) | Object::Gateway(_) => {}
        }
    }

    fn put_domain(&mut self, reference: ObjectRef, domain: &Domain) {
        match domain_certificate(domain) {
            Ok(certificate) => {
                self.stale.rejected.insert(reference.clone(), None);
                if self.certificates.get(&reference.name) != certificate.as_ref() {
                    self.stale.routes.extend(self.routes.keys().cloned());
                }
                match certificate {
                    Some(certificate) => self.certificates.insert(reference.name, certificate),
                    None => self.certificates.remove(&reference.name),
                };
            }
            Err(errors) => {
                self.stale.rejected.insert(reference, Some(errors));
            }
        }
    }

    fn delete(&mut self, reference: &ObjectRef) {
        if reference.kind.is_namespaced() && reference.namespace != self.domain.as_str() {
            return;
        }
        let name = &reference.name;
        match reference.kind {
            Kind::Domain => {
                self.stale.rejected.insert(reference.clone(), None);
                if self.certificates.remove(name).is_some() {
                    self.stale.routes.extend(self.routes.keys().cloned());
                }
            }
            Kind::DomainRoute => {
                self.routes.remove(name);
                self.stale.routes.insert(name.clone());
            }
            Kind::Service => {
                self.services.remove(name);
                self.stale.services.insert(name.clone());
            }
            Kind::Endpoints => {
                self.endpoints.remove(name);
                self.stale.services.insert(name.clone());
            }
            Kind::EndpointSlice => {
                if let Some(old) = self.slices.remove(name) {
                    self.stale.services.extend(service_of(&old));
                }
            }
            Kind::ClusterDomainRoute | Kind::Gateway => {}
        }
    }

    fn refresh_route(&mut self, name: &str, snapshot: &mut Snapshot, now: Timestamp) -> Option<StatusUpdate> {
        let reference =
            ObjectRef { kind: Kind::DomainRoute, namespace: self.domain.to_string(), name: name.to_owned() };
        let Some(object) = self.routes.get(name) else {
            self.conditions.remove(name);
            drop_route(snapshot, &reference);
            note_rejection(snapshot, reference, None);
            return None;
        };
        let context =
            route::Context { domain: &self.domain, key: &self.key, certificates: &self.certificates };
        let Some(parsed) = route::parse(object, &context) else {
            drop_route(snapshot, &reference);
            note_rejection(snapshot, reference, None);
            return None;
        };
        let condition = accepted_condition(parsed.as_ref().err(), now);
        match parsed {
            Ok(route) => {
                put_route(snapshot, route);
                note_rejection(snapshot, reference.clone(), None);
            }
            Err(rejection) => note_rejection(snapshot, reference.clone(), Some(rejection.errors)),
        }
        self.condition_update(reference, condition)
    }

    /// An update, unless the object already says so or was told so before.
    fn condition_update(&mut self, object: ObjectRef, condition: Condition) -> Option<StatusUpdate> {
        let change = StatusChange::Condition(condition.clone());
        let mut status = self.routes.get(&object.name)?.status.clone().unwrap_or_default();
        if !change.apply(&mut status) {
            self.conditions.insert(object.name, condition);
            return None;
        }
        let told = self.conditions.insert(object.name.clone(), condition.clone());
        let same = |told: Condition| {
            (told.status, told.reason, told.message)
                == (condition.status, condition.reason, condition.message)
        };
        (!told.is_some_and(same)).then_some(StatusUpdate { object, change })
    }

    fn refresh_service(&self, name: &str, snapshot: &mut Snapshot) {
        let reference =
            ObjectRef { kind: Kind::Service, namespace: self.domain.to_string(), name: name.to_owned() };
        let Some(object) = self.services.get(name) else {
            snapshot.services.retain(|service, _| service.as_str() != name);
            note_rejection(snapshot, reference, None);
            return;
        };
        let slices = self.slices.values().filter(|slice| service_of(slice).as_deref() == Some(name));
        match service::parse(object, self.endpoints.get(name), slices) {
            Ok(service) => {
                if snapshot.services.get(&service.name).is_none_or(|old| **old != service) {
                    snapshot.services.insert(service.name.clone(), Arc::new(service));
                }
                note_rejection(snapshot, reference, None);
            }
            Err(errors) => note_rejection(snapshot, reference, Some(errors)),
        }
    }
}

fn service_of(slice: &EndpointSlice) -> Option<String> {
    slice.labels().get(service::SLICE_SERVICE).cloned()
}

fn put_route(snapshot: &mut Snapshot, route: Route) {
    match route {
        Route::Outbound(route) => {
            snapshot.inbound.retain(|_, old| old.object != route.object);
            if snapshot.outbound.get(&route.destination).is_none_or(|old| **old != route) {
                snapshot.outbound.insert(route.destination.clone(), Arc::new(route));
            }
        }
        Route::Inbound(route) => {
            snapshot.outbound.retain(|_, old| old.object != route.object);
            if snapshot.inbound.get(&route.source).is_none_or(|old| **old != route) {
                snapshot.inbound.insert(route.source.clone(), Arc::new(route));
            }
        }
    }
}

fn drop_route(snapshot: &mut Snapshot, reference: &ObjectRef) {
    snapshot.outbound.retain(|_, route| route.object != *reference);
    snapshot.inbound.retain(|_, route| route.object != *reference);
}

fn note_rejection(snapshot: &mut Snapshot, reference: ObjectRef, errors: Option<FieldErrors>) {
    match errors {
        Some(errors) => snapshot.rejected.insert(reference, errors),
        None => snapshot.rejected.remove(&reference),
    };
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

/// The certificate of a domain; `None` where it has none.
pub(crate) fn domain_certificate(domain: &Domain) -> Result<Option<DomainCertificate>, FieldErrors> {
    let certificate = &domain.spec.cert;
    if certificate.is_empty() {
        return Ok(None);
    }
    let mut errors = FieldErrors::default();
    let parsed = PublicKey::from_certificate_base64_pem(certificate).map_err(|error| {
        Problem::new(error.to_string(), "give the base64 of the PEM of the domain's certificate")
    });
    let parsed = parsed.map(|key| DomainCertificate { pem: decode_pem(certificate), key });
    errors.check("spec.cert", parsed).map(Some).ok_or(errors)
}

/// The PEM text of a certificate that was read before, so that it is base64 of text.
fn decode_pem(base64: &str) -> String {
    let compact: String = base64.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(compact).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
