//! The names of a domain, for look-ups in the time of a packet.
//!
//! Readers hold the lock for one answer, a writer for the changes of one moment: so a query sees all of them or none.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record};
use model::{DomainId, Service, ServiceName};

/// How long clients may keep an answer, unless told otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(5);

/// What all names of a domain have in common.
#[derive(Clone, Debug)]
pub struct ZoneSettings {
    /// The domain.
    pub domain: DomainId,
    /// Where applications reach the gateway: the addresses of names that lead to it.
    pub gateway: Vec<IpAddr>,
    /// The port of the gateway there, for SRV records.
    pub gateway_port: u16,
    /// How long clients may keep an answer, in whole seconds.
    pub ttl: Duration,
}

/// A change of the names.
#[derive(Clone, Debug)]
pub enum NameChange {
    /// The service is there, instead of what was under its name.
    Service(Arc<Service>),
    /// There is no service of this name any more.
    NoService(ServiceName),
    /// There is a route to this domain.
    Route(DomainId),
    /// There is none any more.
    NoRoute(DomainId),
}

/// The names that a server answers for. Clones are the same table.
#[derive(Clone, Debug)]
pub struct Names {
    table: Arc<RwLock<Table>>,
}

impl Names {
    /// No service and no route.
    #[must_use]
    pub fn new(settings: &ZoneSettings) -> Self {
        Self { table: Arc::new(RwLock::new(Table::new(settings))) }
    }

    /// Makes all these changes at one moment.
    pub fn apply(&self, changes: impl IntoIterator<Item = NameChange>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        changes.into_iter().for_each(|change| table.apply(change));
    }

    /// The table as it is now; it does not change before the guard is gone.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names as they are at one moment.
#[derive(Debug)]
pub(crate) struct Table {
    domain: Box<[u8]>,
    gateway: Addresses,
    ttl: u32,
    serial: u32,
    services: HashMap<Box<[u8]>, Addresses>,
    domains: HashSet<Box<[u8]>>,
}

/// What the table knows of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<'t> {
    /// The name is a host; it may have no address of one family, or none at all.
    Host(&'t Addresses),
    /// The name exists, and has no records (RFC 8020).
    Empty,
    /// The name would be one of ours, and does not exist.
    Missing,
    /// The name belongs to others.
    NotOurs,
}

/// The addresses of a host: sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) v4: Box<[Ipv4Addr]>,
    pub(crate) v6: Box<[Ipv6Addr]>,
}

impl Table {
    fn new(settings: &ZoneSettings) -> Self {
        Self {
            domain: settings.domain.as_str().as_bytes().into(),
            gateway: settings.gateway.iter().copied().collect(),
            ttl: u32::try_from(settings.ttl.as_secs()).unwrap_or(u32::MAX),
            serial: 1,
            services: HashMap::new(),
            domains: HashSet::new(),
        }
    }

    fn apply(&mut self, change: NameChange) {
        self.serial = self.serial.wrapping_add(1);
        match change {
            NameChange::Service(service) => {
                let name = service.name.as_str().as_bytes().into();
                let addresses = if service.through_gateway || service.external.is_some() {
                    self.gateway.clone()
                } else {
                    service.endpoints.iter().map(SocketAddr::ip).collect()
                };
                self.services.insert(name, addresses);
            }
            NameChange::NoService(name) => {
                self.services.remove(name.as_str().as_bytes());
            }
            NameChange::Route(domain) => {
                self.domains.insert(domain.as_str().as_bytes().into());
            }
            NameChange::NoRoute(domain) => {
                self.domains.remove(domain.as_str().as_bytes());
            }
        }
    }

    /// How long answers live, in seconds.
    pub(crate) fn ttl(&self) -> u32 {
        self.ttl
    }

    /// The record that goes with negative answers, so that they are cached no longer than positive ones (RFC 2308, 3).
    pub(crate) fn soa(&self) -> Record {
        let name = |text| Name::from_ascii(text).expect("a constant name");
        let soa = SOA::new(name("svc."), name("hostmaster.svc."), self.serial, 3600, 600, 86_400, self.ttl);
        Record::from_rdata(name("svc."), self.ttl, RData::SOA(soa))
    }

    /// What is known of a name: `labels` are in lower case, from left to right, without the root's.
    pub(crate) fn find(&self, labels: &[&[u8]]) -> Found<'_> {
        let own = &*self.domain;
        match labels {
            [b"svc"] => Found::Empty,
            [domain, b"svc"] if *domain == own || self.domains.contains(*domain) => Found::Empty,
            [service, domain, b"svc"] if *domain == own => {
                self.services.get(*service).map_or(Found::Missing, Found::Host)
            }
            [_, domain, b"svc"] if self.domains.contains(*domain) => Found::Host(&self.gateway),
            [.., b"svc"] => Found::Missing,
            [service, domain] if *domain == own => {
                self.services.get(*service).map_or(Found::NotOurs, Found::Host)
            }
            [service] => self.services.get(*service).map_or(Found::NotOurs, Found::Host),
            _ => Found::NotOurs,
        }
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut all: Vec<IpAddr> = addresses.into_iter().map(|address| address.to_canonical()).collect();
        all.sort_unstable();
        all.dedup();
        let v4 = |address: &IpAddr| if let IpAddr::V4(address) = address { Some(*address) } else { None };
        let v6 = |address: &IpAddr| if let IpAddr::V6(address) = address { Some(*address) } else { None };
        Self { v4: all.iter().filter_map(v4).collect(), v6: all.iter().filter_map(v6).collect() }
    }
}
