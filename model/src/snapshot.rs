//! What a domain looks like at one moment.

use std::borrow::Borrow;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use crate::api::DomainRouteStatus;
use crate::error::FieldErrors;
use crate::route::{Cargo, Route};
use crate::token::Opener;
use crate::{
    BandwidthLimit, DomainId, ForwardedRoute, InboundRoute, Kind, ObjectRef, OutboundRoute, Service,
    ServiceName,
};

/// The whole valid configuration of a domain. It never changes; a new one replaces it.
///
/// Its maps are persistent: a copy costs nothing and shares all that did not change, and [`Snapshot::changes_since`]
/// and `==` pass over what is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The domain itself.
    pub domain: DomainId,
    /// The ways out, by destination.
    pub outbound: OrdMap<DomainId, Arc<OutboundRoute>>,
    /// The ways in, by source.
    pub inbound: OrdMap<DomainId, Arc<InboundRoute>>,
    /// The routes between other domains whose requests pass this one, by the names of their objects. All that makes a
    /// difference to the gateway stands in [`InboundRoute::forwards`].
    pub forwarded: OrdMap<Arc<str>, Arc<ForwardedRoute>>,
    /// The services of this domain.
    pub services: OrdMap<ServiceName, Arc<Service>>,
    /// Objects whose newest version is not in force, and why. An earlier, good version of them may be above.
    pub rejected: OrdMap<ObjectRef, Arc<FieldErrors>>,
}

/// One difference between two [`Snapshot`]s: what is in the newer one; `None` if it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed<'a> {
    /// The way to this destination.
    Outbound(&'a DomainId, Option<&'a Arc<OutboundRoute>>),
    /// The way from this source.
    Inbound(&'a DomainId, Option<&'a Arc<InboundRoute>>),
    /// The service of this name.
    Service(&'a ServiceName, Option<&'a Arc<Service>>),
}

impl Snapshot {
    /// A domain without anything.
    #[must_use]
    pub fn empty(domain: DomainId) -> Self {
        Self {
            domain,
            outbound: OrdMap::new(),
            inbound: OrdMap::new(),
            forwarded: OrdMap::new(),
            services: OrdMap::new(),
            rejected: OrdMap::new(),
        }
    }

    /// What differs from `old`, at a cost of what differs: outbound routes, then inbound ones, then services, each in
    /// the order of their names. What is rejected makes no difference by itself,
    /// nor does [`Self::forwarded`].
    pub fn changes_since<'a>(&'a self, old: &'a Self) -> impl Iterator<Item = Changed<'a>> {
        let outbound = changed(&old.outbound, &self.outbound);
        let inbound = changed(&old.inbound, &self.inbound);
        let services = changed(&old.services, &self.services);
        outbound
            .map(|(destination, route)| Changed::Outbound(destination, route))
            .chain(inbound.map(|(source, route)| Changed::Inbound(source, route)))
            .chain(services.map(|(name, service)| Changed::Service(name, service)))
    }

    /// The object `name` of `kind`, in the namespace of this domain if its kind needs one.
    pub(crate) fn reference(&self, kind: Kind, name: &str) -> ObjectRef {
        let namespace = if kind.is_namespaced() { self.domain.as_str() } else { "" };
        ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Puts `route` in the place of what was made of the object `name` before, be it for the other side.
    pub(crate) fn put_route(&mut self, name: &str, route: Route) {
        remove(&mut self.forwarded, name);
        match route {
            Route::Outbound(route) => {
                self.drop_inbound(name);
                replace(&mut self.outbound, route.destination.clone(), Arc::new(route));
            }
            Route::Inbound(route) => {
                self.drop_outbound(name);
                replace(&mut self.inbound, route.source.clone(), Arc::new(route));
            }
        }
    }

    /// Puts `route` in the place of what was made of the object `name` before.
    pub(crate) fn put_forwarded(&mut self, name: &str, route: ForwardedRoute) {
        self.drop_inbound(name);
        self.drop_outbound(name);
        replace(&mut self.forwarded, name.into(), Arc::new(route));
    }

    /// Drops what was made of the object `name`.
    pub(crate) fn drop_route(&mut self, name: &str) {
        remove(&mut self.forwarded, name);
        self.drop_inbound(name);
        self.drop_outbound(name);
    }

    /// Gives what was made of the object `name` the object's newest status.
    pub(crate) fn set_route_status(
        &mut self,
        name: &str,
        status: &Arc<DomainRouteStatus>,
        opener: &mut Opener,
    ) {
        if let Some(route) = destination_in(name, &self.domain).and_then(|id| self.outbound.get(id))
            && route.status != *status
        {
            let mut route = OutboundRoute::clone(route);
            route.set_status(status, opener);
            self.outbound.insert(route.destination.clone(), Arc::new(route));
        }
        if let Some(route) = source_in(name, &self.domain).and_then(|id| self.inbound.get(id))
            && route.status != *status
        {
            let mut route = InboundRoute::clone(route);
            route.set_status(status, opener);
            self.inbound.insert(route.source.clone(), Arc::new(route));
        }
    }

    /// Limits what goes to `destination`.
    pub(crate) fn set_bandwidth(&mut self, destination: &DomainId, bandwidth: Arc<[BandwidthLimit]>) {
        if let Some(route) = self.outbound.get(destination) {
            let route = OutboundRoute { bandwidth, ..OutboundRoute::clone(route) };
            replace(&mut self.outbound, destination.clone(), Arc::new(route));
        }
    }

    /// Lets the gateway of `carrier` bring `cargo`.
    pub(crate) fn set_cargo(&mut self, carrier: &DomainId, cargo: Cargo) {
        if let Some(route) = self.inbound.get(carrier).filter(|route| route.carrier.is_none()) {
            let mut route = InboundRoute::clone(route);
            route.set_cargo(cargo);
            replace(&mut self.inbound, carrier.clone(), Arc::new(route));
        }
    }

    /// Puts `service` in the place of the one of its name.
    pub(crate) fn put_service(&mut self, service: Service) {
        replace(&mut self.services, service.name.clone(), Arc::new(service));
    }

    /// Drops the service `name`.
    pub(crate) fn drop_service(&mut self, name: &ServiceName) {
        remove(&mut self.services, name);
    }

    /// What was made of `object`, or `None` after noting why it is rejected.
    pub(crate) fn accept<T>(&mut self, object: ObjectRef, parsed: Result<T, FieldErrors>) -> Option<T> {
        let (value, errors) = match parsed {
            Ok(value) => (Some(value), None),
            Err(errors) => (None, Some(Arc::new(errors))),
        };
        self.note(object, errors);
        value
    }

    /// Notes what is wrong with `object`, or that nothing is.
    pub(crate) fn note(&mut self, object: ObjectRef, errors: Option<Arc<FieldErrors>>) {
        match errors {
            Some(errors) => replace(&mut self.rejected, object, errors),
            None => self.forget_rejection(&object),
        }
    }

    /// Drops what was noted of `object`.
    pub(crate) fn forget_rejection(&mut self, object: &ObjectRef) {
        remove(&mut self.rejected, object);
    }

    fn drop_outbound(&mut self, name: &str) {
        if let Some(destination) = destination_in(name, &self.domain) {
            remove(&mut self.outbound, destination);
        }
    }

    fn drop_inbound(&mut self, name: &str) {
        if let Some(source) = source_in(name, &self.domain) {
            remove(&mut self.inbound, source);
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

/// The keys at which `new` differs from `old`, and what `new` has there. Values in the same place in memory are not
/// looked into.
fn changed<'a, K: Ord, V: Eq>(
    old: &'a OrdMap<K, Arc<V>>,
    new: &'a OrdMap<K, Arc<V>>,
) -> impl Iterator<Item = (&'a K, Option<&'a Arc<V>>)> {
    old.diff(new).map(|item| match item {
        DiffItem::Add(key, value) | DiffItem::Update { new: (key, value), .. } => (key, Some(value)),
        DiffItem::Remove(key, _) => (key, None),
    })
}

/// Inserts `value`, but leaves an equal one in place, and with it all that the map shares with its copies.
fn replace<K: Ord + Clone, V: Eq>(map: &mut OrdMap<K, Arc<V>>, key: K, value: Arc<V>) {
    if map.get(&key) != Some(&value) {
        map.insert(key, value);
    }
}

/// Removes what is at `key`. The map is not touched, and so goes on sharing all, where there is nothing.
fn remove<K, V: Clone, Q>(map: &mut OrdMap<K, V>, key: &Q)
where
    K: Ord + Clone + Borrow<Q>,
    Q: Ord + ?Sized,
{
    if map.contains_key(key) {
        map.remove(key);
    }
}
