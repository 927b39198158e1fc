//! The services of a domain, and where their addresses come from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::endpoints::{EndpointGroup, Slice};
use crate::service::Definition;
use crate::{Service, ServiceName, Snapshot};

/// What is known of services beside what the snapshot tells, and which of them may have other addresses now.
#[derive(Debug, Default)]
pub(super) struct Services {
    known: BTreeMap<ServiceName, Known>,
    /// The service of each slice.
    slices: BTreeMap<Arc<str>, ServiceName>,
    stale: BTreeSet<ServiceName>,
}

/// What is known of a service, or of one that may come.
#[derive(Debug, Default)]
struct Known {
    groups: Box<[(Origin, EndpointGroup)]>,
}

/// The object that tells addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// The `Endpoints` that bear the service's name.
    Endpoints,
    /// The `EndpointSlice` of this name.
    Slice(Arc<str>),
}

impl Services {
    /// Names of the `Endpoints`.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &str> {
        let told = |known: &Known| known.groups.iter().any(|(origin, _)| *origin == Origin::Endpoints);
        self.known.iter().filter(move |(_, known)| told(known)).map(|(name, _)| name.as_str())
    }

    /// Names of the slices.
    pub(super) fn slices(&self) -> impl Iterator<Item = &str> {
        self.slices.keys().map(|name| &**name)
    }

    /// Puts a service into `next`, with the addresses that are known of it.
    pub(super) fn put(&mut self, definition: Definition, next: &mut Snapshot) {
        let Definition { service, .. } = definition;
        let (name, known) = self.known(service.name.clone());
        let endpoints = known.addresses_of(&service);
        next.put_service(Service { name, endpoints, ..service });
    }

    /// Drops the service `name` from `next`. Its addresses are kept: it may come back.
    pub(super) fn delete(&mut self, name: ServiceName, next: &mut Snapshot) {
        next.drop_service(&name);
        self.stale.insert(name);
    }

    /// Takes over what the `Endpoints` of a service say.
    pub(super) fn set_endpoints(&mut self, name: ServiceName, groups: Box<[EndpointGroup]>) {
        self.set_groups(name, &Origin::Endpoints, groups);
    }

    /// Takes over what a slice says; `None`: it is gone.
    pub(super) fn set_slice(&mut self, name: &str, slice: Option<Slice>) {
        let (name, old) = match self.slices.remove_entry(name) {
            Some((name, old)) => (name, Some(old)),
            None => (name.into(), None),
        };
        let origin = Origin::Slice(Arc::clone(&name));
        let new = slice.as_ref().and_then(|slice| slice.service.as_ref());
        if let Some(old) = old.filter(|old| Some(old) != new) {
            self.set_groups(old, &origin, Box::default());
        }
        if let Some(Slice { service: Some(service), group }) = slice {
            let service = self.set_groups(service, &origin, [group].into());
            self.slices.insert(name, service);
        }
    }

    /// Gives the services in `next` their newest addresses.
    pub(super) fn refresh(&mut self, next: &mut Snapshot) {
        for name in std::mem::take(&mut self.stale) {
            let Some(known) = self.known.get(&name) else { continue };
            match next.services.get(&name) {
                Some(service) => {
                    let endpoints = known.addresses_of(service);
                    if service.endpoints != endpoints {
                        next.put_service(Service { endpoints, ..Service::clone(service) });
                    }
                }
                None if known.groups.is_empty() => {
                    self.known.remove(&name);
                }
                None => {}
            }
        }
    }

    /// What is known of the service `name`, and its name in the memory that all copies share.
    fn known(&mut self, name: ServiceName) -> (ServiceName, &mut Known) {
        let entry = self.known.entry(name);
        (entry.key().clone(), entry.or_default())
    }

    /// Puts `groups` in the place of those from `origin`, and answers the name in shared memory. Equal ones stay: a
    /// service may share their addresses.
    fn set_groups(
        &mut self,
        name: ServiceName,
        origin: &Origin,
        groups: Box<[EndpointGroup]>,
    ) -> ServiceName {
        let (name, known) = self.known(name);
        let old = known.groups.iter().filter(|(other, _)| other == origin).map(|(_, group)| group);
        if !old.eq(&groups) {
            let others = std::mem::take(&mut known.groups).into_iter().filter(|(other, _)| other != origin);
            known.groups = others.chain(groups.into_iter().map(|group| (origin.clone(), group))).collect();
        }
        self.stale.insert(name.clone());
        name
    }
}

impl Known {
    /// The addresses of `service`: none where it is another host.
    fn addresses_of(&self, service: &Service) -> Arc<[SocketAddr]> {
        if service.external.is_some() { Arc::default() } else { self.addresses(&service.port_name) }
    }

    /// The addresses of all groups for a port, sorted, each once; those of a group itself where no other has more.
    fn addresses(&self, port_name: &str) -> Arc<[SocketAddr]> {
        let groups = self.groups.iter().filter_map(|(_, group)| group.addresses(port_name));
        let groups: Vec<&Arc<[SocketAddr]>> = groups.collect();
        if let [only] = groups.as_slice() {
            return Arc::clone(only);
        }
        let all: BTreeSet<SocketAddr> = groups.iter().flat_map(|group| group.iter().copied()).collect();
        match groups.into_iter().find(|group| group.len() == all.len()) {
            Some(group) => Arc::clone(group),
            None => all.into_iter().collect(),
        }
    }
}
