//! What the services of a domain have under their names.
//!
//! | name below `<self>.svc` | records |
//! |---|---|
//! | `<service>` | A, AAAA: its ready addresses; the gateway's, if its clients are to go through it. CNAME, if it is really another host |
//! | `_<port>._tcp.<service>` | SRV: where that port is (RFC 2782) |
//! | `<address, with hyphens>.<service>` | A or AAAA: one of the ready addresses |

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::rdata::{CNAME, NS, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record};
use model::{DomainId, Host, HostPort, Service, ServiceName};

use crate::address::{Addresses, endpoint_label};

/// How long clients may keep an answer, unless told otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(5);

/// How long clients may keep it at most that a name is not there, in seconds: it may be there the next moment.
const MAX_NEGATIVE_TTL: u32 = 5;

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

/// The service that stands for this server itself, where the gateway is; no service of the domain can take its place.
pub(crate) const NAME_SERVER: &str = "kuscia-dns";

/// What the names of a domain are made of.
#[derive(Debug)]
pub(crate) struct Zone {
    pub(crate) domain: DomainId,
    pub(crate) gateway: Addresses,
    /// How long answers live, in seconds.
    pub(crate) ttl: u32,
    /// How long negative answers live, in seconds.
    pub(crate) negative_ttl: u32,
    gateway_port: u16,
}

/// Where clients find a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At these addresses.
    Here(Addresses),
    /// At the gateway.
    Gateway,
    /// At this host.
    Alias(Box<Name>),
}

impl Zone {
    pub(crate) fn new(settings: &ZoneSettings) -> Self {
        let ttl = u32::try_from(settings.ttl.as_secs()).unwrap_or(u32::MAX);
        Self {
            domain: settings.domain.clone(),
            gateway: settings.gateway.iter().copied().collect(),
            ttl,
            negative_ttl: ttl.min(MAX_NEGATIVE_TTL),
            gateway_port: settings.gateway_port,
        }
    }

    pub(crate) fn record(&self, name: Name, data: RData) -> Record {
        Record::from_rdata(name, self.ttl, data)
    }

    /// The start of the zone, which goes with negative answers too, and says how long they may be cached (RFC 2308, 3).
    pub(crate) fn soa(&self, serial: u32) -> RData {
        let hostmaster = name(["hostmaster", "svc"]);
        // Nobody transfers this zone: the timers are those that are usual.
        RData::SOA(SOA::new(self.name_server(), hostmaster, serial, 3600, 600, 86_400, self.negative_ttl))
    }

    /// What the zone itself has: SOA and NS.
    pub(crate) fn apex(&self, serial: u32) -> Vec<RData> {
        vec![self.soa(serial), RData::NS(NS(self.name_server()))]
    }

    /// The full name of a service.
    pub(crate) fn host(&self, service: &ServiceName) -> Name {
        name([service.as_str(), self.domain.as_str(), "svc"])
    }

    /// Where the port of the service is.
    pub(crate) fn ports(&self, service: &Service) -> Vec<RData> {
        // All are equal: so that clients choose at random, the weight is not 0 (RFC 2782).
        let port = |target, port| RData::SRV(SRV::new(0, 1, port, target));
        if service.through_gateway {
            return vec![port(self.host(&service.name), self.gateway_port)];
        }
        match service.external.as_deref() {
            Some(HostPort { host: Host::Name(host), port: number }) => vec![port(host_name(host), *number)],
            Some(HostPort { host: Host::Address(address), port: number }) => {
                vec![port(self.endpoint(&service.name, address.to_canonical()), *number)]
            }
            None => {
                let port = |endpoint: &SocketAddr| {
                    port(self.endpoint(&service.name, endpoint.ip().to_canonical()), endpoint.port())
                };
                service.endpoints.iter().map(port).collect()
            }
        }
    }

    /// Everything at the names of a service.
    pub(crate) fn records_of(&self, service: &Service) -> Vec<Record> {
        let place = Place::of(service);
        let host = self.host(&service.name);
        let at_host: Vec<RData> = match &place {
            Place::Here(addresses) => addresses.data(),
            Place::Gateway => self.gateway.data(),
            Place::Alias(target) => vec![RData::CNAME(CNAME(Name::clone(target)))],
        };
        let mut records: Vec<Record> =
            at_host.into_iter().map(|data| self.record(host.clone(), data)).collect();
        if has_port(service) {
            let label = format!("_{}", service.port_name);
            let owner = name([&label, "_tcp", service.name.as_str(), self.domain.as_str(), "svc"]);
            records.extend(self.ports(service).into_iter().map(|data| self.record(owner.clone(), data)));
        }
        if let Place::Here(addresses) = &place {
            let endpoint = |ip| self.record(self.endpoint(&service.name, ip), RData::from(ip));
            records.extend(addresses.iter().map(endpoint));
        }
        records
    }

    /// The addresses of this server.
    pub(crate) fn glue(&self) -> impl Iterator<Item = Record> {
        self.gateway.iter().map(|address| self.record(self.name_server(), RData::from(address)))
    }

    /// What all names of the services of another domain have in common.
    pub(crate) fn wildcard(&self, domain: &DomainId) -> impl Iterator<Item = Record> {
        let wildcard = name(["*", domain.as_str(), "svc"]);
        self.gateway.iter().map(move |address| self.record(wildcard.clone(), RData::from(address)))
    }

    fn name_server(&self) -> Name {
        name([NAME_SERVER, self.domain.as_str(), "svc"])
    }

    fn endpoint(&self, service: &ServiceName, address: IpAddr) -> Name {
        name([&endpoint_label(address), service.as_str(), self.domain.as_str(), "svc"])
    }
}

impl Place {
    pub(crate) fn of(service: &Service) -> Self {
        if service.through_gateway {
            return Self::Gateway;
        }
        match service.external.as_deref() {
            Some(HostPort { host: Host::Name(host), .. }) => Self::Alias(host_name(host).into()),
            Some(HostPort { host: Host::Address(address), .. }) => {
                Self::Here([*address].into_iter().collect())
            }
            None => Self::Here(service.endpoints.iter().map(SocketAddr::ip).collect()),
        }
    }
}

/// Whether the port of the service has a name that can stand in SRV records, behind an underscore.
pub(crate) fn has_port(service: &Service) -> bool {
    let port = service.port_name.as_bytes();
    let is_plain = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-';
    (1..=62).contains(&port.len()) && port.iter().all(is_plain)
}

/// The zone.
pub(crate) fn apex() -> Name {
    name(["svc"])
}

fn name<'l>(labels: impl IntoIterator<Item = &'l str>) -> Name {
    let labels = labels.into_iter().map(str::as_bytes);
    Name::from_labels(labels).expect("at most five labels, of which none is longer than 63 bytes")
}

fn host_name(host: &str) -> Name {
    name(host.split('.'))
}
