//! The detours of a domain, and what they make of its other routes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::course::{DeadEnd, MAX_DOMAINS, Stretch, course, join};
use super::quotas::Quotas;
use crate::api::DomainRouteStatus;
use crate::error::{FieldErrors, Problem};
use crate::route::{Cargo, Detour, Place, Rejection, Route};
use crate::token::Opener;
use crate::{DomainId, Forward, Snapshot, Way};

/// The detours, by the names of their objects, and what depends on what. All costs follow their number, not that of
/// the other routes.
#[derive(Debug, Default)]
pub(super) struct Detours {
    known: BTreeMap<Box<str>, Known>,
    /// By the name of a route, be it there or not: the detours that looked for it.
    dependents: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
    /// By carrier: the detours whose requests it brings.
    carried: BTreeMap<DomainId, BTreeSet<Box<str>>>,
    /// Carriers for which something else is carried since they were last put together.
    stale_carriers: BTreeSet<DomainId>,
}

#[derive(Debug)]
struct Known {
    detour: Detour,
    /// Names of the routes that it looked for.
    asked: BTreeSet<Box<str>>,
    carrier: Option<DomainId>,
}

impl Detours {
    /// Takes over a detour, which goes nowhere before the next [`Self::refresh`].
    pub(super) fn put(&mut self, name: &str, detour: Detour) {
        match self.known.get_mut(name) {
            Some(known) => {
                let ends = |detour: &Detour| (detour.source.clone(), detour.destination.clone());
                if ends(&known.detour) != ends(&detour) {
                    self.stale_carriers.extend(known.carrier.clone());
                }
                known.detour = detour;
            }
            None => {
                let known = Known { detour, asked: BTreeSet::new(), carrier: None };
                self.known.insert(name.into(), known);
            }
        }
    }

    /// Forgets what was known by this name.
    pub(super) fn remove(&mut self, name: &str) {
        self.set_asked(name, BTreeSet::new());
        self.set_carrier(name, None);
        self.known.remove(name);
    }

    /// Takes over the newest status of the detour `name`; false: there is none.
    pub(super) fn set_status(
        &mut self,
        name: &str,
        status: &Arc<DomainRouteStatus>,
        opener: &mut Opener,
    ) -> bool {
        let known = self.known.get_mut(name);
        known.map(|known| known.detour.set_status(status, opener)).is_some()
    }

    /// The detours among `changed` routes, and those that go by one of them.
    pub(super) fn affected<'a>(&self, changed: impl Iterator<Item = &'a Box<str>>) -> BTreeSet<Box<str>> {
        let mut affected = BTreeSet::new();
        if self.known.is_empty() {
            return affected;
        }
        for name in changed {
            affected.extend(self.known.get_key_value(name).map(|(name, _)| name.clone()));
            affected.extend(self.dependents.get(name).into_iter().flatten().cloned());
        }
        affected
    }

    /// Puts the `affected` detours into `next` anew, and what they make of the routes of their carriers. Answers those
    /// that lead nowhere: they are not in `next` any more.
    pub(super) fn refresh(
        &mut self,
        affected: &BTreeSet<Box<str>>,
        next: &mut Snapshot,
        quotas: &Quotas,
    ) -> BTreeMap<Box<str>, Rejection> {
        let mut rejections = BTreeMap::new();
        let mut courses: Vec<(&str, Vec<DomainId>)> = Vec::new();
        for name in affected {
            match self.find_course(name, next) {
                Ok(passed) => courses.push((name, passed)),
                Err(rejection) => {
                    next.drop_route(name);
                    self.set_carrier(name, None);
                    rejections.insert(name.clone(), rejection);
                }
            }
        }
        // A way out holds those that it goes by, and these pass fewer domains.
        courses.sort_by_key(|(_, passed)| passed.len());
        for (name, passed) in courses {
            let carrier = self.place(name, &passed, next, quotas);
            self.set_carrier(name, carrier);
        }
        for carrier in std::mem::take(&mut self.stale_carriers) {
            let cargo = self.cargo(&next.domain, &carrier);
            next.set_cargo(&carrier, cargo);
        }
        rejections
    }

    /// What the gateway of `carrier` brings to that of `domain`.
    pub(super) fn cargo(&self, domain: &DomainId, carrier: &DomainId) -> Cargo {
        let names = self.carried.get(carrier).into_iter().flatten();
        let mut origins: BTreeMap<&DomainId, BTreeSet<&DomainId>> = BTreeMap::new();
        for Known { detour, .. } in names.filter_map(|name| self.known.get(name)) {
            origins.entry(&detour.destination).or_default().insert(&detour.source);
        }
        let here = origins.remove(domain).unwrap_or_default();
        let forward = |(destination, origins): (&DomainId, BTreeSet<&DomainId>)| Forward {
            destination: destination.clone(),
            origins: origins.into_iter().cloned().collect(),
        };
        Cargo {
            origins: here.into_iter().cloned().collect(),
            forwards: origins.into_iter().map(forward).collect(),
        }
    }

    /// Finds out which domains the requests of the detour `name` pass on the way from here, or on the way to here, and
    /// notes which routes were looked for.
    fn find_course(&mut self, name: &str, next: &Snapshot) -> Result<Vec<DomainId>, Rejection> {
        let mut asked = BTreeSet::new();
        let found = self.known.get(name).map_or(Ok(Vec::new()), |known| {
            known.detour.passed(&next.domain, |from, to| {
                let stretch_name = format!("{from}-{to}").into_boxed_str();
                let stretch = self.stretch(&stretch_name, from, to, next);
                asked.insert(stretch_name);
                stretch
            })
        });
        self.set_asked(name, asked);
        found.map_err(|dead_end| rejection(&dead_end))
    }

    /// What is known of the way between two domains. Nothing is known of that between two others but its detours: the
    /// rest does not stand here.
    fn stretch(&self, name: &str, from: &DomainId, to: &DomainId, next: &Snapshot) -> Stretch {
        let known = self.known.get(name).map(|known| &known.detour);
        if let Some(detour) = known.filter(|detour| detour.source == *from && detour.destination == *to) {
            return Stretch::Via(detour.via.clone());
        }
        let is_direct = if *from == next.domain {
            next.outbound.get(to).is_some_and(|route| matches!(route.way, Way::Direct(_)))
        } else if *to == next.domain {
            next.inbound.get(from).is_some_and(|route| route.carrier.is_none())
        } else {
            true
        };
        if is_direct { Stretch::Direct } else { Stretch::Missing }
    }

    /// Puts the detour `name` into `next`, given the domains that its requests pass. Answers its carrier.
    fn place(
        &self,
        name: &str,
        passed: &[DomainId],
        next: &mut Snapshot,
        quotas: &Quotas,
    ) -> Option<DomainId> {
        let Known { detour, .. } = self.known.get(name)?;
        let neighbour = passed.last()?;
        match &detour.place {
            Place::Source(auth) => {
                let by = Arc::clone(next.outbound.get(neighbour)?);
                let bandwidth = quotas.limits(&detour.destination);
                next.put_route(name, Route::Outbound(detour.outbound(auth, passed, by, bandwidth)));
                return None;
            }
            Place::Destination(auth) => {
                next.put_route(name, Route::Inbound(detour.inbound(auth, neighbour.clone())));
            }
            Place::Between => next.put_forwarded(name, detour.forwarded(neighbour.clone())),
        }
        Some(neighbour.clone())
    }

    fn set_asked(&mut self, name: &str, asked: BTreeSet<Box<str>>) {
        let Some(known) = self.known.get_mut(name) else { return };
        for old in known.asked.difference(&asked) {
            if let Some(dependents) = self.dependents.get_mut(old) {
                dependents.remove(name);
                if dependents.is_empty() {
                    self.dependents.remove(old);
                }
            }
        }
        for new in asked.difference(&known.asked) {
            self.dependents.entry(new.clone()).or_default().insert(name.into());
        }
        known.asked = asked;
    }

    fn set_carrier(&mut self, name: &str, carrier: Option<DomainId>) {
        let Some(known) = self.known.get_mut(name).filter(|known| known.carrier != carrier) else { return };
        if let Some(old) = std::mem::replace(&mut known.carrier, carrier.clone()) {
            if let Some(carried) = self.carried.get_mut(&old) {
                carried.remove(name);
                if carried.is_empty() {
                    self.carried.remove(&old);
                }
            }
            self.stale_carriers.insert(old);
        }
        if let Some(new) = carrier {
            self.carried.entry(new.clone()).or_default().insert(name.into());
            self.stale_carriers.insert(new);
        }
    }
}

impl Detour {
    /// The domains that its requests pass: at the source, those from the first gateway to the one that the route names;
    /// elsewhere those before `here`, the source first and the carrier last.
    fn passed(
        &self,
        here: &DomainId,
        mut stretch: impl FnMut(&DomainId, &DomainId) -> Stretch,
    ) -> Result<Vec<DomainId>, DeadEnd> {
        let mut passed = course(&self.source, &self.destination, &mut stretch)?;
        let turn = if matches!(self.place, Place::Source(_)) { &self.via } else { here };
        let Some(turn) = passed.iter().position(|domain| domain == turn) else {
            let [.., last, destination] = passed.as_slice() else { return Ok(passed) };
            return Err(DeadEnd::Missing(format!("{last}-{destination}")));
        };
        match self.place {
            Place::Source(_) => {
                passed.truncate(turn + 1);
                passed.remove(0);
            }
            Place::Destination(_) => passed.truncate(turn),
            Place::Between => {
                // What is forwarded goes on as this domain's own requests do.
                passed.truncate(turn + 1);
                let mut whole = passed.clone();
                for domain in course(here, &self.destination, stretch)?.into_iter().skip(1) {
                    join(&mut whole, domain)?;
                }
                passed.truncate(turn);
            }
        }
        Ok(passed)
    }
}

fn rejection(dead_end: &DeadEnd) -> Rejection {
    let (reason, problem) = match dead_end {
        DeadEnd::Missing(route) => (
            "TransitRouteMissing",
            Problem::new(
                format!("needs the DomainRoute {route}, which is not in force here"),
                format!("add {route} or mend it, or remove this route"),
            ),
        ),
        DeadEnd::Loop(names) => (
            "TransitLoop",
            Problem::new(
                format!("leads in a loop: {}", names.join(", ")),
                "let one of these routes lead to its destination without a detour, or by another domain",
            ),
        ),
        DeadEnd::TooLong => (
            "TransitTooLong",
            Problem::new(
                format!("leads by more than {MAX_DOMAINS} domains"),
                "let routes on the way name domains that are nearer to their destination",
            ),
        ),
    };
    Rejection::new(reason, FieldErrors::one("spec.transit.domain.domainID", problem))
}
