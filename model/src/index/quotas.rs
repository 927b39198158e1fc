//! What the tasks of a domain may send where.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::service::Quota;
use crate::{BandwidthLimit, DomainId, ServiceName};

/// The quotas of services, and the limits that they make by destination.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    /// Those with a limit at all.
    known: BTreeMap<ServiceName, Quota>,
    /// By destination: the services that limit what goes there.
    limiting: BTreeMap<DomainId, BTreeSet<ServiceName>>,
    limits: BTreeMap<DomainId, Arc<[BandwidthLimit]>>,
    stale: BTreeSet<DomainId>,
}

/// What has one limit together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Sharing<'a> {
    /// The services of this task.
    Task(&'a str),
    /// This service, which is of no task.
    Service(&'a ServiceName),
}

impl Quotas {
    /// Takes over the quota of a service; the empty one if it is gone.
    pub(super) fn set(&mut self, service: &ServiceName, quota: Quota) {
        if self.known.get(service).map_or(quota.limits.is_empty(), |known| *known == quota) {
            return;
        }
        for (destination, _) in self.known.remove(service).into_iter().flat_map(|old| old.limits) {
            if let Some(limiting) = self.limiting.get_mut(&destination) {
                limiting.remove(service);
            }
            self.stale.insert(destination);
        }
        for (destination, _) in &quota.limits {
            self.limiting.entry(destination.clone()).or_default().insert(service.clone());
            self.stale.insert(destination.clone());
        }
        if !quota.limits.is_empty() {
            self.known.insert(service.clone(), quota);
        }
    }

    /// The limits to `destination`, as of the last [`Self::refresh`], sorted.
    pub(super) fn limits(&self, destination: &DomainId) -> Arc<[BandwidthLimit]> {
        self.limits.get(destination).cloned().unwrap_or_default()
    }

    /// Puts the limits together anew where something changed, and answers where.
    pub(super) fn refresh(&mut self) -> BTreeSet<DomainId> {
        let stale = std::mem::take(&mut self.stale);
        for destination in &stale {
            let limits = self.put_together(destination);
            if limits.is_empty() {
                self.limiting.remove(destination);
                self.limits.remove(destination);
            } else {
                self.limits.insert(destination.clone(), limits);
            }
        }
        stale
    }

    fn put_together(&self, destination: &DomainId) -> Arc<[BandwidthLimit]> {
        let mut tasks: BTreeMap<Sharing<'_>, (Vec<ServiceName>, u64)> = BTreeMap::new();
        for service in self.limiting.get(destination).into_iter().flatten() {
            let Some(Quota { task, limits: of_service }) = self.known.get(service) else { continue };
            let Some((_, limit)) = of_service.iter().find(|(other, _)| other == destination) else {
                continue;
            };
            let sharing = task.as_deref().map_or(Sharing::Service(service), Sharing::Task);
            let (services, least) = tasks.entry(sharing).or_insert((Vec::new(), *limit));
            services.push(service.clone());
            *least = *limit.min(least);
        }
        let tasks = tasks.into_values();
        let mut limits: Vec<_> =
            tasks.map(|(services, limit)| BandwidthLimit { services: services.into(), limit }).collect();
        limits.sort_by(|one, other| one.services.cmp(&other.services));
        limits.into()
    }
}
