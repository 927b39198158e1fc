//! Why a name has the answer that it has.

use hickory_proto::rr::{Name, Record};
use model::{DomainId, ServiceName};

use crate::table::{Found, Names, Table};
use crate::zone::{NAME_SERVER, Place};

/// What a name is, and what it has now.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What it is.
    pub kind: NameKind,
    /// The domain that its form speaks of, known or not.
    pub domain: Option<DomainId>,
    /// The service that its form speaks of, known or not.
    pub service: Option<ServiceName>,
    /// All that it has. Where an alias leads to is not among it.
    pub records: Vec<Record>,
}

/// What a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// The zone `svc`.
    Zone,
    /// A domain, this one or one with a route: nothing is there, but names are below.
    Domain,
    /// This server.
    NameServer,
    /// A service of this domain, which clients reach at its own addresses.
    Service,
    /// A service of this domain, which clients reach through the gateway.
    ServiceThroughGateway,
    /// A service of this domain, which is really another host.
    Alias,
    /// A service of this domain to which nobody can be led yet.
    Pending,
    /// The port of a service of this domain.
    Port,
    /// Nothing by itself; the name of a port is below.
    AbovePort,
    /// One address of a service of this domain.
    Endpoint,
    /// A service of another domain, whether it exists or not: there is a route.
    OtherDomain,
    /// An address of services of this domain.
    Reverse,
    /// It would be of the zone, and does not exist.
    Missing,
    /// It is for others to know.
    NotOurs,
}

impl Names {
    /// What the name is, and what it has now.
    #[must_use]
    pub fn explain(&self, name: &Name) -> Explanation {
        let lower = name.to_lowercase();
        let labels: Vec<&[u8]> = lower.iter().collect();
        let table = self.read();
        let own = table.zone.domain.as_str().as_bytes();
        let (service, domain) = match labels[..] {
            [.., service, domain, b"svc"] => (Some(service), Some(domain)),
            [domain, b"svc"] => (None, Some(domain)),
            [service, domain] if domain == own => (Some(service), Some(domain)),
            [service] if service != b"svc" => (Some(service), Some(own)),
            _ => (None, None),
        };
        let found = table.find(&labels);
        let records =
            table.data(found).into_iter().map(|data| table.zone.record(name.clone(), data)).collect();
        Explanation {
            kind: kind(&table, found, &labels, service, domain == Some(own)),
            domain: domain.and_then(parsed),
            service: service.and_then(parsed),
            records,
        }
    }
}

fn kind(table: &Table, found: Found<'_>, labels: &[&[u8]], service: Option<&[u8]>, is_own: bool) -> NameKind {
    match found {
        Found::Host(_) if !is_own => NameKind::OtherDomain,
        Found::Host(_) => match service.and_then(|service| str::from_utf8(service).ok()) {
            Some(NAME_SERVER) => NameKind::NameServer,
            Some(service) if table.place(service) == Some(&Place::Gateway) => NameKind::ServiceThroughGateway,
            _ => NameKind::Service,
        },
        Found::Alias(_) => NameKind::Alias,
        Found::Pending => NameKind::Pending,
        Found::Port(_) => NameKind::Port,
        Found::Endpoint(_) => NameKind::Endpoint,
        Found::Reverse(_) => NameKind::Reverse,
        Found::Apex => NameKind::Zone,
        Found::Empty if labels.len() == 2 => NameKind::Domain,
        Found::Empty => NameKind::AbovePort,
        Found::Missing => NameKind::Missing,
        Found::NotOurs => NameKind::NotOurs,
    }
}

fn parsed<T: std::str::FromStr>(label: &[u8]) -> Option<T> {
    str::from_utf8(label).ok()?.parse().ok()
}
