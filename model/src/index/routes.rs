//! The routes of a domain, and the `Domain`s that complete them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use certs::DomainKey;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::quotas::Quotas;
use super::transit::Detours;
use crate::api::{Condition, ConditionStatus, DomainRouteStatus};
use crate::domain::DomainCertificate;
use crate::route::{Draft, Rejection, Route, Surroundings, Terms};
use crate::token::Opener;
use crate::{DomainId, Kind, Snapshot, StatusChange, StatusUpdate};

/// What is known of the routes, and which of them must be put together anew because something of it changed.
#[derive(Debug)]
pub(super) struct Routes {
    key: DomainKey,
    surroundings: Surroundings,
    known: BTreeMap<Box<str>, Known>,
    detours: Detours,
    stale: BTreeSet<Box<str>>,
}

/// The newest version of a route.
#[derive(Debug)]
struct Known {
    terms: Result<Terms, Rejection>,
    status: Arc<DomainRouteStatus>,
    opener: Opener,
    /// Why it is not in force, whatever the other routes are.
    rejection: Option<Rejection>,
}

impl Routes {
    /// No routes of a domain that holds `key`.
    pub(super) fn new(key: DomainKey) -> Self {
        let surroundings = Surroundings { certificates: BTreeMap::new(), verifies_clients: true };
        Self {
            key,
            surroundings,
            known: BTreeMap::new(),
            detours: Detours::default(),
            stale: BTreeSet::new(),
        }
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
                self.known.insert(name.into(), Known { terms, status, opener, rejection: None });
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

    /// Puts the routes that changed into `next`, and those that go by them. Answers the conditions that they do not show
    /// yet.
    pub(super) fn refresh(
        &mut self,
        next: &mut Snapshot,
        quotas: &mut Quotas,
        now: Timestamp,
    ) -> Vec<StatusUpdate> {
        let limited = quotas.refresh();
        let stale = std::mem::take(&mut self.stale);
        for name in &stale {
            self.refresh_route(name, next, quotas);
        }
        let limited: BTreeSet<Box<str>> = limited
            .iter()
            .map(|destination| {
                next.set_bandwidth(destination, quotas.limits(destination));
                format!("{}-{destination}", next.domain).into_boxed_str()
            })
            .collect();
        let detours = self.detours.affected(stale.iter().chain(&limited));
        let dead_ends = self.detours.refresh(&detours, next, quotas);
        let names = stale.union(&detours);
        names.filter_map(|name| self.conclude(name, dead_ends.get(name), next, now)).collect()
    }

    /// Puts the route `name` into `next`, or among the detours.
    fn refresh_route(&mut self, name: &str, next: &mut Snapshot, quotas: &Quotas) {
        let Some(Known { terms, status, opener, rejection }) = self.known.get_mut(name) else {
            self.detours.remove(name);
            next.drop_route(name);
            return;
        };
        let object = next.reference(Kind::DomainRoute, name);
        let route = terms.as_ref().map_err(Rejection::clone);
        let route = route.and_then(|terms| terms.route(object, &self.surroundings));
        *rejection = route.as_ref().err().cloned();
        match route {
            Ok(Draft::Detour(mut detour)) => {
                detour.set_status(status, opener);
                self.detours.put(name, detour);
            }
            Ok(Draft::Route(mut route)) => {
                route.set_status(status, opener);
                match &mut route {
                    Route::Outbound(route) => route.bandwidth = quotas.limits(&route.destination),
                    Route::Inbound(route) => route.set_cargo(self.detours.cargo(&next.domain, &route.source)),
                }
                self.detours.remove(name);
                next.put_route(name, route);
            }
            Err(_) => {
                if !self.detours.set_status(name, status, opener) {
                    next.set_route_status(name, status, opener);
                }
            }
        }
    }

    /// Notes in `next` whether the route `name` is rejected, and answers the condition if the route does not show it.
    fn conclude(
        &self,
        name: &str,
        dead_end: Option<&Rejection>,
        next: &mut Snapshot,
        now: Timestamp,
    ) -> Option<StatusUpdate> {
        let Known { status, rejection, .. } = self.known.get(name)?;
        let rejection = rejection.as_ref().or(dead_end);
        let object = next.reference(Kind::DomainRoute, name);
        next.note(object.clone(), rejection.map(|rejection| Arc::clone(&rejection.errors)));
        let condition = accepted_condition(rejection, now);
        (!shows(status, &condition))
            .then_some(StatusUpdate { object, change: StatusChange::Condition(condition) })
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
