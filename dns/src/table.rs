//! The names of a domain, for look-ups in the time of a packet.
//!
//! Readers hold the lock for one answer, a writer for the changes of one moment: so a query sees all of them or none.

mod changes;
mod records;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::SystemTime;

use foldhash::fast::RandomState;
use hickory_proto::rr::rdata::{CNAME, PTR};
use hickory_proto::rr::{Name, RData, Record};
use model::{DomainId, Service, ServiceName};

pub use self::changes::NameChange;
use crate::address::{Addresses, endpoint_address, reverse_address};
use crate::zone::{NAME_SERVER, Place, Zone, ZoneSettings, apex, has_port};

/// The names that a server answers for. Clones are the same table.
///
/// | name | what it is |
/// |---|---|
/// | `<service>`, `<service>.<self>`, `<service>.<self>.svc` | a service: its addresses, the gateway's or an alias; nothing while it is pending |
/// | `_<port>._tcp.<service>.<self>.svc` | SRV |
/// | `<address, with hyphens>.<service>.<self>.svc` | one of a service's addresses |
/// | `<service>.<other>.svc`, where there is a route to `<other>` | the gateway's addresses |
/// | `kuscia-dns.<self>.svc` | this server, at the gateway's addresses |
/// | `svc` | SOA, NS |
/// | the rest of `svc` | does not exist |
/// | the reverse name of an address of a service | PTR |
///
/// The two short forms are for clients without a search path. They are ours for existing services only: an unknown
/// single label may well be a host that an upstream knows.
#[derive(Clone, Debug)]
pub struct Names {
    table: Arc<RwLock<Table>>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Services of the domain.
    pub services: usize,
    /// Other domains with a route.
    pub domains: usize,
    /// Pairs of a service and one of its addresses.
    pub addresses: usize,
    /// The serial number of the zone, which grows with each change.
    pub serial: u32,
}

impl Names {
    /// No service and no route. The first serial number is the time, so that the numbers of a later start are greater.
    #[must_use]
    pub fn new(settings: &ZoneSettings) -> Self {
        let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let table = Table {
            zone: Arc::new(Zone::new(settings)),
            // Serial numbers go round (RFC 1982).
            serial: since_epoch.as_secs() as u32,
            services: HashMap::default(),
            pending: BTreeSet::new(),
            domains: HashSet::default(),
            reverse: BTreeSet::new(),
        };
        Self { table: Arc::new(RwLock::new(table)) }
    }

    /// Makes all these changes at one moment. A service by the name of this server, `kuscia-dns`, gets none.
    pub fn apply(&self, changes: impl IntoIterator<Item = NameChange>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            table.serial = table.serial.wrapping_add(1);
            table.apply(change);
        }
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let table = self.read();
        Counts {
            services: table.services.len(),
            domains: table.domains.len(),
            addresses: table.reverse.len(),
            serial: table.serial,
        }
    }

    /// The table as it is now; it does not change before the guard is gone.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names as they are at one moment.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) zone: Arc<Zone>,
    serial: u32,
    services: HashMap<ServiceName, Entry, RandomState>,
    /// Services to which nobody can be led yet. They are many for a moment at the start, and few later.
    pending: BTreeSet<ServiceName>,
    domains: HashSet<DomainId, RandomState>,
    /// The services at an address. `None` is never in it, and comes before every service.
    reverse: BTreeSet<(IpAddr, Option<ServiceName>)>,
}

/// A service, which it shares with whoever else knows it, and what most queries are for.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    place: Place,
    service: Arc<Service>,
}

/// What the table knows of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<'t> {
    /// The name is a host; it may have no address of one family, or none at all.
    Host(&'t Addresses),
    /// The name is another one for this host.
    Alias(&'t Name),
    /// The name is that of the port of this service.
    Port(&'t Service),
    /// The name is that of one of a service's addresses.
    Endpoint(IpAddr),
    /// The name is the reverse one of an address of a service.
    Reverse(IpAddr),
    /// The name is that of the zone.
    Apex,
    /// The name exists, and has no records (RFC 8020).
    Empty,
    /// The name is that of a service to which nobody can be led yet. It has no records, and is for nobody else to tell.
    Pending,
    /// The name would be one of ours, and does not exist.
    Missing,
    /// The name belongs to others.
    NotOurs,
}

impl Table {
    /// What is known of a name: `labels` are in lower case, from left to right, without the root's.
    pub(crate) fn find(&self, labels: &[&[u8]]) -> Found<'_> {
        let own = self.zone.domain.as_str().as_bytes();
        match labels {
            [b"svc"] => Found::Apex,
            [domain, b"svc"] if *domain == own || self.leads_to(domain) => Found::Empty,
            [service, domain, b"svc"] if *domain == own => self.host(service).unwrap_or(Found::Missing),
            [_, domain, b"svc"] if self.leads_to(domain) => Found::Host(&self.zone.gateway),
            [b"_tcp", service, domain, b"svc"] if *domain == own => self
                .service(service)
                .filter(|entry| has_port(&entry.service))
                .map_or(Found::Missing, |_| Found::Empty),
            [port, b"_tcp", service, domain, b"svc"] if *domain == own => {
                self.port(port, service).map_or(Found::Missing, Found::Port)
            }
            [address, service, domain, b"svc"] if *domain == own => {
                self.endpoint(address, service).map_or(Found::Missing, Found::Endpoint)
            }
            [.., b"svc"] => Found::Missing,
            [service, domain] if *domain == own => self.host(service).unwrap_or(Found::NotOurs),
            [service] => self.host(service).unwrap_or(Found::NotOurs),
            [.., b"arpa"] => {
                let address =
                    reverse_address(labels).filter(|address| self.services_at(*address).next().is_some());
                address.map_or(Found::NotOurs, Found::Reverse)
            }
            _ => Found::NotOurs,
        }
    }

    /// What all the records of a name say.
    pub(crate) fn data(&self, found: Found<'_>) -> Vec<RData> {
        match found {
            Found::Host(addresses) => addresses.data(),
            Found::Alias(target) => vec![RData::CNAME(CNAME(target.clone()))],
            Found::Port(service) => self.zone.ports(service),
            Found::Endpoint(address) => vec![RData::from(address)],
            Found::Reverse(address) => {
                self.services_at(address).map(|service| RData::PTR(PTR(self.zone.host(service)))).collect()
            }
            Found::Apex => self.zone.apex(self.serial),
            Found::Empty | Found::Pending | Found::Missing | Found::NotOurs => Vec::new(),
        }
    }

    /// The serial number of the zone.
    pub(crate) fn serial(&self) -> u32 {
        self.serial
    }

    /// The record that goes with negative answers.
    pub(crate) fn soa(&self) -> Record {
        Record::from_rdata(apex(), self.zone.negative_ttl, self.zone.soa(self.serial))
    }

    /// Whether both have the same names, whatever their serial numbers.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn equals(&self, other: &Self) -> bool {
        (&self.services, &self.pending) == (&other.services, &other.pending)
            && (&self.domains, &self.reverse) == (&other.domains, &other.reverse)
    }

    /// Where clients find a service of this domain.
    pub(crate) fn place(&self, service: &str) -> Option<&Place> {
        self.services.get(service).map(|entry| &entry.place)
    }

    fn service(&self, label: &[u8]) -> Option<&Entry> {
        self.services.get(str::from_utf8(label).ok()?)
    }

    fn is_pending(&self, label: &[u8]) -> bool {
        str::from_utf8(label).is_ok_and(|label| self.pending.contains(label))
    }

    fn leads_to(&self, domain: &[u8]) -> bool {
        str::from_utf8(domain).is_ok_and(|domain| self.domains.contains(domain))
    }

    fn host(&self, service: &[u8]) -> Option<Found<'_>> {
        if service == NAME_SERVER.as_bytes() {
            return Some(Found::Host(&self.zone.gateway));
        }
        let Some(entry) = self.service(service) else {
            return self.is_pending(service).then_some(Found::Pending);
        };
        Some(match &entry.place {
            Place::Here(addresses) => Found::Host(addresses),
            Place::Gateway => Found::Host(&self.zone.gateway),
            Place::Alias(target) => Found::Alias(target),
        })
    }

    fn port(&self, label: &[u8], service: &[u8]) -> Option<&Service> {
        let service = &*self.service(service)?.service;
        (has_port(service) && label.strip_prefix(b"_")? == service.port_name.as_bytes()).then_some(service)
    }

    fn endpoint(&self, label: &[u8], service: &[u8]) -> Option<IpAddr> {
        let Place::Here(addresses) = &self.service(service)?.place else { return None };
        endpoint_address(label).filter(|address| addresses.contains(*address))
    }

    fn services_at(&self, address: IpAddr) -> impl Iterator<Item = &ServiceName> {
        let of_address = self.reverse.range((address, None)..).take_while(move |(at, _)| *at == address);
        of_address.filter_map(|(_, service)| service.as_ref())
    }
}

#[cfg(test)]
mod tests;
