//! The routes of a domain, and the `Domain`s that complete them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use certs::DomainKey;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{Condition, ConditionStatus, DomainRouteStatus};
use crate::domain::DomainCertificate;
use crate::route::{Rejection, Surroundings, Terms};
use crate::token::Opener;
use crate::{DomainId, Kind, Snapshot, StatusChange, StatusUpdate};

/// What is known of the routes, and which of them must be put together anew because something of it changed.
#[derive(Debug)]
pub(super) struct Routes {
    key: DomainKey,
    surroundings: Surroundings,
    known: BTreeMap<Box<str>, Known>,
    stale: BTreeSet<Box<str>>,
}

/// The newest version of a route.
#[derive(Debug)]
struct Known {
    terms: Result<Terms, Rejection>,
    status: Arc<DomainRouteStatus>,
    opener: Opener,
}

impl Routes {
    /// No routes of a domain that holds `key`.
    pub(super) fn new(key: DomainKey) -> Self {
        let surroundings = Surroundings { certificates: BTreeMap::new(), verifies_clients: true };
        Self { key, surroundings, known: BTreeMap::new(), stale: BTreeSet::new() }
    }

    /// The key of this domain.
    pub(super) fn own_key(&self) -> &DomainKey {
        &self.key
    }

    /// Says whether the external listener verifies client certificates, before any route is known.
    pub(super) fn set_client_certificates(&mut self, are_verified: bool) {
        self.surroundings.verifies_clients = are_verified;
    }

    /// Names of the routes.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(|name| &**name)
    }

    /// Names of the domains with a certificate.
    pub(super) fn domains(&self) -> impl Iterator<Item = &str> {
        self.surroundings.certificates.keys().map(DomainId::as_str)
    }

    /// Takes over the newest version of the route `name`.
    pub(super) fn put(
        &mut self,
        name: &str,
        terms: Result<Terms, Rejection>,
        status: Arc<DomainRouteStatus>,
    ) {
        match self.known.get_mut(name) {
            Some(known) if known.terms == terms && known.status == status => return,
            Some(known) => {
                known.terms = terms;
                known.status = status;
            }
            None => {
                let opener = Opener::new(self.key.clone());
                self.known.insert(name.into(), Known { terms, status, opener });
            }
        }
        self.stale.insert(name.into());
    }

    /// Forgets the route `name`.
    pub(super) fn delete(&mut self, name: &str) {
        if self.known.remove(name).is_some() {
            self.stale.insert(name.into());
        }
    }

    /// Takes over the certificate of the domain `id`, for the routes between it and `domain`.
    pub(super) fn set_certificate(
        &mut self,
        domain: &DomainId,
        id: DomainId,
        certificate: Option<DomainCertificate>,
    ) {
        let certificates = &mut self.surroundings.certificates;
        if certificates.get(&id) == certificate.as_ref() {
            return;
        }
        let names = [format!("{domain}-{id}"), format!("{id}-{domain}")].map(String::into_boxed_str);
        self.stale.extend(names.into_iter().filter(|name| self.known.contains_key(name)));
        match certificate {
            Some(certificate) => certificates.insert(id, certificate),
            None => certificates.remove(&id),
        };
    }

    /// Puts the routes that changed into `next`. Answers the conditions that they do not show yet.
    pub(super) fn refresh(&mut self, next: &mut Snapshot, now: Timestamp) -> Vec<StatusUpdate> {
        let stale = std::mem::take(&mut self.stale);
        stale.iter().filter_map(|name| self.refresh_route(name, next, now)).collect()
    }

    fn refresh_route(&mut self, name: &str, next: &mut Snapshot, now: Timestamp) -> Option<StatusUpdate> {
        let Some(Known { terms, status, opener }) = self.known.get_mut(name) else {
            next.drop_route(name);
            return None;
        };
        let object = next.reference(Kind::DomainRoute, name);
        let route = terms.as_ref().map_err(Rejection::clone);
        let route = route.and_then(|terms| terms.route(object.clone(), &self.surroundings));
        let condition = accepted_condition(route.as_ref().err(), now);
        if let Some(mut route) = next.accept(object.clone(), route.map_err(|rejection| rejection.errors)) {
            route.set_status(status, opener);
            next.put_route(name, route);
        } else {
            next.set_route_status(name, status, opener);
        }
        let shows_it = shows(status, &condition);
        (!shows_it).then_some(StatusUpdate { object, change: StatusChange::Condition(condition) })
    }
}

fn accepted_condition(rejection: Option<&Rejection>, now: Timestamp) -> Condition {
    Condition {
        type_: "Accepted".to_owned(),
        status: if rejection.is_none() { ConditionStatus::True } else { ConditionStatus::False },
        reason: rejection.map_or("Valid", |rejection| rejection.reason).to_owned(),
        message: rejection.map(|rejection| rejection.errors.to_string()).unwrap_or_default(),
        gateway: None,
        last_transition_time: Some(Time(now)),
    }
}

/// Whether writing `condition` would change nothing but a time.
fn shows(status: &DomainRouteStatus, condition: &Condition) -> bool {
    let shown = status.conditions.iter().find(|shown| shown.type_ == condition.type_);
    shown.is_some_and(|shown| {
        (shown.status, &shown.reason, &shown.message)
            == (condition.status, &condition.reason, &condition.message)
    })
}
