//! How the names change.

use std::net::IpAddr;
use std::sync::Arc;

use model::{DomainId, Service, ServiceName};

use super::{Entry, Table};
use crate::address::Addresses;
use crate::zone::{NAME_SERVER, Place};

/// A change of the names.
#[derive(Clone, Debug)]
pub enum NameChange {
    /// The service is there, instead of what was under its name.
    Service(Arc<Service>),
    /// There is a service of this name, but nobody can be led to it yet.
    Pending(ServiceName),
    /// There is no service of this name any more.
    NoService(ServiceName),
    /// There is a route to this domain.
    Route(DomainId),
    /// There is none any more.
    NoRoute(DomainId),
}

impl Table {
    pub(super) fn apply(&mut self, change: NameChange) {
        match change {
            NameChange::Service(service) if service.name.as_str() == NAME_SERVER => {}
            NameChange::Pending(name) if name.as_str() == NAME_SERVER => {}
            NameChange::Service(service) => {
                self.pending.remove(&service.name);
                let entry = Entry { place: Place::of(&service), service };
                self.reverse.extend(entry.reverse());
                let name = entry.service.name.clone();
                if let Some(before) = self.services.insert(name, entry) {
                    self.forget_addresses(&before);
                }
            }
            NameChange::Pending(name) => {
                self.forget_service(&name);
                self.pending.insert(name);
            }
            NameChange::NoService(name) => {
                self.forget_service(&name);
                self.pending.remove(&name);
            }
            NameChange::Route(domain) => {
                self.domains.insert(domain);
            }
            NameChange::NoRoute(domain) => {
                self.domains.remove(&domain);
            }
        }
    }

    fn forget_service(&mut self, name: &ServiceName) {
        if let Some(before) = self.services.remove(name) {
            self.forget_addresses(&before);
        }
    }

    /// Forgets the addresses that a service had, but for those that it still has.
    fn forget_addresses(&mut self, before: &Entry) {
        let now = self.services.get(&before.service.name);
        for (address, name) in before.reverse() {
            if !now.and_then(Entry::own_addresses).is_some_and(|own| own.contains(address)) {
                self.reverse.remove(&(address, name));
            }
        }
    }
}

impl Entry {
    /// The addresses of the service itself.
    fn own_addresses(&self) -> Option<&Addresses> {
        match &self.place {
            Place::Here(addresses) if self.service.external.is_none() => Some(addresses),
            _ => None,
        }
    }

    /// What leads back to it.
    fn reverse(&self) -> impl Iterator<Item = (IpAddr, Option<ServiceName>)> + use<'_> {
        let own = self.own_addresses().into_iter().flat_map(Addresses::iter);
        own.map(|address| (address, Some(self.service.name.clone())))
    }
}
