//! The one owner of what is known: [`Event`]s in, [`Snapshot`]s and [`StatusUpdate`]s out.

mod course;
mod quotas;
mod routes;
mod services;
mod transit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use certs::DomainKey;
use jiff::Timestamp;
use quotas::Quotas;
use routes::Routes;
use services::Services;

use crate::api::DomainRouteStatus;
use crate::domain::{self, DomainCertificate};
use crate::endpoints::{self, EndpointGroup, Slice};
use crate::error::FieldErrors;
use crate::route::{self, Rejection, Terms};
use crate::service::{self, Definition, Quota};
use crate::{DomainId, Event, Kind, Object, ObjectRef, ServiceName, Snapshot, StatusUpdate};

/// All objects of a domain, parsed.
///
/// Objects that are wrong keep their last good version in force and are listed in [`Snapshot::rejected`]; a wrong
/// object never affects another one. Of a wrong route, the status is still followed: its tokens go on. Of a wrong
/// service, the addresses are.
///
/// A change costs what changed, however much else there is.
#[derive(Debug)]
pub struct Index {
    awaited: BTreeSet<Kind>,
    reading: BTreeMap<Kind, Reading>,
    routes: Routes,
    services: Services,
    quotas: Quotas,
    /// What the next snapshot is to be, but for what these still owe it.
    next: Snapshot,
    published: Option<Arc<Snapshot>>,
}

/// A reading of all objects of a kind, as far as it has come.
#[derive(Debug, Default)]
struct Reading {
    objects: Vec<(ObjectRef, Parsed)>,
    /// Objects that are there but cannot be read.
    kept: Vec<ObjectRef>,
}

/// An object, parsed as far as it can be without others.
#[derive(Debug)]
enum Parsed {
    Domain(Result<(DomainId, Option<DomainCertificate>), FieldErrors>),
    Route(Result<Terms, Rejection>, Arc<DomainRouteStatus>),
    Service(Result<Definition, FieldErrors>),
    Endpoints(Result<Box<[EndpointGroup]>, FieldErrors>),
    Slice(Result<Slice, FieldErrors>),
}

impl Index {
    /// An index of `domain`, which holds `key`. Nothing is published before each kind of `awaited` was read once.
    #[must_use]
    pub fn new(domain: DomainId, key: DomainKey, awaited: impl IntoIterator<Item = Kind>) -> Self {
        Self {
            awaited: awaited.into_iter().collect(),
            reading: BTreeMap::new(),
            routes: Routes::new(key),
            services: Services::default(),
            quotas: Quotas::default(),
            next: Snapshot::empty(domain),
            published: None,
        }
    }

    /// Says whether the external listener verifies client certificates (default: it does). Where not, routes into this
    /// domain that rely on them are rejected.
    #[must_use]
    pub fn with_client_certificates(mut self, are_verified: bool) -> Self {
        self.routes.set_client_certificates(are_verified);
        self
    }

    /// Takes an event in. Call [`Self::commit`] once all events at hand are in.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Init(kind) => {
                self.reading.insert(kind, Reading::default());
            }
            Event::InitApply(object) => {
                let kind = object.kind();
                let parsed = self.parse(object);
                self.reading.entry(kind).or_default().objects.extend(parsed);
            }
            Event::InitKeep(reference) => {
                self.reading.entry(reference.kind).or_default().kept.push(reference);
            }
            Event::InitDone(kind) => {
                // A reading that never began says nothing about what is gone.
                if let Some(reading) = self.reading.remove(&kind) {
                    self.replace(kind, reading);
                }
                self.awaited.remove(&kind);
            }
            Event::Apply(object) => {
                if let Some((reference, parsed)) = self.parse(object) {
                    self.put(reference, parsed);
                }
            }
            Event::Delete(reference) => self.delete(&reference),
        }
    }

    /// Puts together what changed. Answers the new snapshot, if it differs from the last one, and the conditions that
    /// the changed objects do not show yet.
    ///
    /// Nothing remembers that a condition was answered: whoever writes it tries until it is written or the next one of
    /// its route comes. One that was lost is answered again when what the route says to this domain, or its status,
    /// changes.
    pub fn commit(&mut self, now: Timestamp) -> (Option<Arc<Snapshot>>, Vec<StatusUpdate>) {
        if !self.awaited.is_empty() {
            return (None, Vec::new());
        }
        let updates = self.routes.refresh(&mut self.next, &mut self.quotas, now);
        self.services.refresh(&mut self.next);
        if self.published.as_deref() == Some(&self.next) {
            return (None, updates);
        }
        let snapshot = Arc::new(self.next.clone());
        self.published = Some(Arc::clone(&snapshot));
        (Some(snapshot), updates)
    }

    /// Makes the objects of a reading all that there are of `kind`.
    fn replace(&mut self, kind: Kind, Reading { objects, kept }: Reading) {
        let read = objects.iter().map(|(reference, _)| reference);
        let named: BTreeSet<&str> = read.chain(&kept).map(|reference| reference.name.as_str()).collect();
        let gone = self.known(kind).filter(|name| !named.contains(name));
        let gone: Vec<ObjectRef> = gone.map(|name| self.next.reference(kind, name)).collect();
        for reference in &gone {
            self.delete(reference);
        }
        for (reference, parsed) in objects {
            self.put(reference, parsed);
        }
    }

    /// Names of the objects of `kind` that make a difference, be they good or not.
    fn known(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let good: Box<dyn Iterator<Item = &str>> = match kind {
            Kind::Domain => Box::new(self.routes.domains()),
            Kind::DomainRoute => Box::new(self.routes.names()),
            Kind::Service => Box::new(self.next.services.keys().map(ServiceName::as_str)),
            Kind::Endpoints => Box::new(self.services.endpoints()),
            Kind::EndpointSlice => Box::new(self.services.slices()),
            Kind::ClusterDomainRoute | Kind::Gateway => Box::new(std::iter::empty()),
        };
        let rejected = self.next.rejected.keys().filter(move |reference| reference.kind == kind);
        good.chain(rejected.map(|reference| reference.name.as_str()))
    }

    /// Parses an object; `None` for one that does not concern this domain.
    fn parse(&self, object: Object) -> Option<(ObjectRef, Parsed)> {
        let reference = object.reference();
        if !self.concerns(&reference) {
            return None;
        }
        let parsed = match object {
            Object::Domain(domain) => Parsed::Domain(domain::parse(&domain)),
            Object::DomainRoute(route) => {
                let terms = route::parse(&route, &self.next.domain, self.routes.own_key());
                Parsed::Route(terms, Arc::new(route.status.unwrap_or_default()))
            }
            Object::Service(service) => Parsed::Service(service::parse(&service)),
            Object::Endpoints(object) => Parsed::Endpoints(endpoints::parse_endpoints(&object)),
            Object::EndpointSlice(object) => Parsed::Slice(endpoints::parse_slice(&object)),
            Object::ClusterDomainRoute(_) | Object::Gateway(_) => return None,
        };
        Some((reference, parsed))
    }

    /// False for objects of other domains.
    fn concerns(&self, reference: &ObjectRef) -> bool {
        !reference.kind.is_namespaced() || reference.namespace == self.next.domain.as_str()
    }

    fn put(&mut self, reference: ObjectRef, parsed: Parsed) {
        match parsed {
            Parsed::Domain(parsed) => {
                if let Some((id, certificate)) = self.accept(reference, parsed) {
                    self.routes.set_certificate(&self.next.domain, id, certificate);
                }
            }
            Parsed::Route(terms, status) => self.routes.put(&reference.name, terms, status),
            Parsed::Service(parsed) => {
                if let Some(mut definition) = self.accept(reference, parsed) {
                    self.quotas.set(&definition.service.name, std::mem::take(&mut definition.quota));
                    self.services.put(definition, &mut self.next);
                }
            }
            Parsed::Endpoints(parsed) => {
                let name = reference.name.parse();
                if let (Some(groups), Ok(name)) = (self.accept(reference, parsed), name) {
                    self.services.set_endpoints(name, groups);
                }
            }
            Parsed::Slice(parsed) => {
                let name = reference.name.clone();
                if let Some(slice) = self.accept(reference, parsed) {
                    self.services.set_slice(&name, Some(slice));
                }
            }
        }
    }

    fn delete(&mut self, reference: &ObjectRef) {
        if !self.concerns(reference) {
            return;
        }
        self.next.forget_rejection(reference);
        let name = &reference.name;
        match reference.kind {
            Kind::Domain => {
                if let Ok(id) = name.parse() {
                    self.routes.set_certificate(&self.next.domain, id, None);
                }
            }
            Kind::DomainRoute => self.routes.delete(name),
            Kind::Service => {
                if let Ok(name) = name.parse() {
                    self.quotas.set(&name, Quota::default());
                    self.services.delete(name, &mut self.next);
                }
            }
            Kind::Endpoints => {
                if let Ok(name) = name.parse() {
                    self.services.set_endpoints(name, Box::default());
                }
            }
            Kind::EndpointSlice => self.services.set_slice(name, None),
            Kind::ClusterDomainRoute | Kind::Gateway => {}
        }
    }

    fn accept<T>(&mut self, object: ObjectRef, parsed: Result<T, FieldErrors>) -> Option<T> {
        self.next.accept(object, parsed)
    }
}
