//! What a domain looks like at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use certs::DomainKey;

use crate::api::DomainRouteStatus;
use crate::error::FieldErrors;
use crate::route::Route;
use crate::{DomainId, InboundRoute, ObjectRef, OutboundRoute, Service, ServiceName};

/// The whole valid configuration of a domain. It never changes; a new one replaces it.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The domain itself.
    pub domain: DomainId,
    /// The ways out, by destination.
    pub outbound: BTreeMap<DomainId, Arc<OutboundRoute>>,
    /// The ways in, by source.
    pub inbound: BTreeMap<DomainId, Arc<InboundRoute>>,
    /// The services of this domain.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// Objects whose newest version is not in force, and why. An earlier, good version of them may be above.
    pub rejected: BTreeMap<ObjectRef, FieldErrors>,
}

impl Snapshot {
    /// A domain without anything.
    #[must_use]
    pub fn empty(domain: DomainId) -> Self {
        Self {
            domain,
            outbound: BTreeMap::new(),
            inbound: BTreeMap::new(),
            services: BTreeMap::new(),
            rejected: BTreeMap::new(),
        }
    }

    /// Puts `route` in the place of what was made of the object `name` before, be it for the other side.
    pub(crate) fn put_route(&mut self, name: &str, route: Route) {
        match route {
            Route::Outbound(route) => {
                self.drop_inbound(name);
                replace(&mut self.outbound, route.destination.clone(), route);
            }
            Route::Inbound(route) => {
                self.drop_outbound(name);
                replace(&mut self.inbound, route.source.clone(), route);
            }
        }
    }

    /// Drops what was made of the object `name`.
    pub(crate) fn drop_route(&mut self, name: &str) {
        self.drop_inbound(name);
        self.drop_outbound(name);
    }

    /// Gives what was made of the object `name` the object's newest status.
    pub(crate) fn set_route_status(&mut self, name: &str, status: &DomainRouteStatus, key: &DomainKey) {
        let outbound = destination_in(name, &self.domain).and_then(|id| self.outbound.get_mut(id));
        if let Some(route) = outbound.filter(|route| route.status != *status) {
            Arc::make_mut(route).set_status(status, key);
        }
        let inbound = source_in(name, &self.domain).and_then(|id| self.inbound.get_mut(id));
        if let Some(route) = inbound.filter(|route| route.status != *status) {
            Arc::make_mut(route).set_status(status, key);
        }
    }

    /// Puts `service` in the place of the one of its name.
    pub(crate) fn put_service(&mut self, service: Service) {
        replace(&mut self.services, service.name.clone(), service);
    }

    fn drop_outbound(&mut self, name: &str) {
        if let Some(destination) = destination_in(name, &self.domain) {
            self.outbound.remove(destination);
        }
    }

    fn drop_inbound(&mut self, name: &str) {
        if let Some(source) = source_in(name, &self.domain) {
            self.inbound.remove(source);
        }
    }
}

/// Where the route `name` leads if `domain` is its source: routes are called `<source>-<destination>`.
fn destination_in<'a>(name: &'a str, domain: &DomainId) -> Option<&'a str> {
    name.strip_prefix(domain.as_str())?.strip_prefix('-')
}

/// Where the route `name` comes from if `domain` is its destination.
fn source_in<'a>(name: &'a str, domain: &DomainId) -> Option<&'a str> {
    name.strip_suffix(domain.as_str())?.strip_suffix('-')
}

/// Inserts `value`, but leaves an equal one in place: whoever compares snapshots sees by its address that it is the
/// same.
fn replace<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, Arc<V>>, key: K, value: V) {
    if map.get(&key).is_none_or(|old| **old != value) {
        map.insert(key, Arc::new(value));
    }
}
