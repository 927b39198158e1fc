//! The names that this server answers for.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};
use model::Snapshot;

/// How long clients may keep an answer, unless told otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(5);

/// How the names of a domain are answered for.
///
/// | name | answer |
/// |---|---|
/// | `<service>`, `<service>.<self>`, `<service>.<self>.svc` | the service's ready addresses; the gateway's, if its clients are to go through it or it is really another host |
/// | `<service>.<other>.svc`, where a route to `<other>` exists | the gateway's addresses |
/// | the rest of `svc` | does not exist |
///
/// The two short forms are for clients without a search path. They are ours for existing services only: an unknown
/// single label may well be a host that an upstream knows.
///
/// The names themselves are looked up in the snapshot: there is no copy of them to be kept in step.
#[derive(Debug)]
pub struct Zone {
    gateway: Box<[IpAddr]>,
    ttl: u32,
    soa: Record,
}

/// What is known about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name has these addresses: at least one, sorted, each once.
    Addresses(Vec<IpAddr>),
    /// The name exists without records of that type (RFC 2308, 2.2).
    NoData,
    /// The name does not exist (RFC 2308, 2.1).
    NameError,
    /// The name belongs to others.
    NotOurs,
}

impl Zone {
    /// A zone whose gateway applications reach at `gateway`. Answers live for `ttl`, in whole seconds.
    #[must_use]
    pub fn new(gateway: &[IpAddr], ttl: Duration) -> Self {
        let ttl = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
        Self { gateway: gateway.into(), ttl, soa: start_of_authority(ttl) }
    }

    /// What `snapshot` tells about the records of `record_type` of `name`; type `ANY` means the addresses of both
    /// families.
    #[must_use]
    pub fn lookup(&self, snapshot: &Snapshot, name: &LowerName, record_type: RecordType) -> Answer {
        let own = snapshot.domain.as_str().as_bytes();
        let mut labels = name.iter().rev();
        match [labels.next(), labels.next(), labels.next(), labels.next()] {
            // Nothing is here, but names are below (RFC 8020).
            [Some(b"svc"), None, ..] => Answer::NoData,
            [Some(b"svc"), Some(domain), None, _] if domain == own || leads_to(snapshot, domain) => {
                Answer::NoData
            }
            [Some(b"svc"), Some(domain), Some(service), None] if domain == own => {
                self.service(snapshot, service, record_type).unwrap_or(Answer::NameError)
            }
            [Some(b"svc"), Some(domain), Some(_), None] if leads_to(snapshot, domain) => {
                addresses(self.gateway.iter().copied(), record_type)
            }
            [Some(b"svc"), ..] => Answer::NameError,
            [Some(domain), Some(service), None, _] if domain == own => {
                self.service(snapshot, service, record_type).unwrap_or(Answer::NotOurs)
            }
            [Some(service), None, ..] => {
                self.service(snapshot, service, record_type).unwrap_or(Answer::NotOurs)
            }
            _ => Answer::NotOurs,
        }
    }

    /// How long answers live, in seconds.
    #[must_use]
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// The record that goes with negative answers, so that they are cached no longer than positive ones (RFC 2308, 3).
    #[must_use]
    pub fn soa(&self) -> &Record {
        &self.soa
    }

    fn service(&self, snapshot: &Snapshot, name: &[u8], record_type: RecordType) -> Option<Answer> {
        let service = snapshot.services.get(str::from_utf8(name).ok()?)?;
        Some(if service.through_gateway || service.external.is_some() {
            addresses(self.gateway.iter().copied(), record_type)
        } else {
            addresses(service.endpoints.iter().map(SocketAddr::ip), record_type)
        })
    }
}

/// Whether there is a route to this domain.
fn leads_to(snapshot: &Snapshot, domain: &[u8]) -> bool {
    str::from_utf8(domain).is_ok_and(|domain| snapshot.outbound.contains_key(domain))
}

/// Those of the addresses that records of this type can hold.
fn addresses(all: impl Iterator<Item = IpAddr>, record_type: RecordType) -> Answer {
    let is_asked_for = |address: &IpAddr| match record_type {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        RecordType::ANY => true,
        _ => false,
    };
    // An address comes once for each of its ports.
    let mut found: Vec<IpAddr> = all.map(|address| address.to_canonical()).filter(is_asked_for).collect();
    found.sort_unstable();
    found.dedup();
    if found.is_empty() { Answer::NoData } else { Answer::Addresses(found) }
}

fn start_of_authority(ttl: u32) -> Record {
    let name = |text| Name::from_ascii(text).expect("a constant name");
    // Nobody transfers this zone, so that serial number and timers mean nothing to anyone.
    let soa = SOA::new(name("svc."), name("hostmaster.svc."), 1, 3600, 600, 86_400, ttl);
    Record::from_rdata(name("svc."), ttl, RData::SOA(soa))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::api::DomainRouteStatus;
    use model::{
        Access, Affinity, Direct, DomainId, Endpoint, Host, HostPort, Kind, ObjectRef, OutboundAuth,
        OutboundRoute, PortScope, Protocol, Service, Timeouts, Transit, Trust, Way,
    };

    use super::*;

    const GATEWAY: &str = "10.0.0.1";

    fn service(name: &str, through_gateway: bool, endpoints: &[&str]) -> Arc<Service> {
        Arc::new(Service {
            name: name.parse().unwrap(),
            scope: PortScope::Cluster,
            access: Access::Anyone,
            protocol: Protocol::Http,
            tls: None,
            affinity: Affinity::None,
            external: None,
            through_gateway,
            has_ready_time: false,
            port_name: Box::default(),
            endpoints: endpoints.iter().map(|endpoint| endpoint.parse::<SocketAddr>().unwrap()).collect(),
        })
    }

    fn detour(destination: &DomainId, next: &Arc<OutboundRoute>) -> Arc<OutboundRoute> {
        let domains = [next.destination.clone()].into();
        let way = Way::Transit(Transit { domains, next: Arc::clone(next) });
        Arc::new(OutboundRoute { way, ..OutboundRoute::clone(&route(destination)) })
    }

    fn route(destination: &DomainId) -> Arc<OutboundRoute> {
        let object = ObjectRef {
            kind: Kind::DomainRoute,
            namespace: "alice".to_owned(),
            name: "alice-bob".to_owned(),
        };
        Arc::new(OutboundRoute {
            object,
            destination: destination.clone(),
            way: Way::Direct(Arc::new(Direct {
                endpoint: Endpoint {
                    host: Host::Name("bob.example".to_owned()),
                    ports: Vec::new(),
                    server_name: None,
                    timeouts: Timeouts::default(),
                    grpc_degrade: false,
                },
                trust: Trust::SystemRoots,
                client: None,
            })),
            auth: OutboundAuth::None,
            bandwidth: Arc::default(),
            status: DomainRouteStatus::default().into(),
        })
    }

    fn zone() -> Zone {
        Zone::new(&[GATEWAY.parse().unwrap()], DEFAULT_TTL)
    }

    /// Domain `alice`, with a route to `bob`, and by way of bob to `dave`.
    fn alice() -> Snapshot {
        let mut snapshot = Snapshot::empty("alice".parse().unwrap());
        let bob: DomainId = "bob".parse().unwrap();
        let to_bob = route(&bob);
        let dave: DomainId = "dave".parse().unwrap();
        snapshot.outbound.insert(dave.clone(), detour(&dave, &to_bob));
        snapshot.outbound.insert(bob, to_bob);
        let external = HostPort { host: Host::Name("db.example.com".to_owned()), port: 443 };
        let elsewhere =
            Service { external: Some(external.into()), ..Service::clone(&service("elsewhere", false, &[])) };
        for service in [
            service("web", false, &["192.0.2.2:80", "192.0.2.1:80", "192.0.2.1:81", "[2001:db8::1]:80"]),
            service("inner", true, &["192.0.2.9:80"]),
            service("down", false, &[]),
            service("four", false, &["192.0.2.3:80", "[::ffff:192.0.2.3]:80"]),
            Arc::new(elsewhere),
        ] {
            snapshot.services.insert(service.name.clone(), service);
        }
        snapshot
    }

    /// The answer as text: addresses, or the name of the other variants.
    fn ask(name: &str, record_type: RecordType) -> String {
        let name = LowerName::from(Name::from_ascii(name).unwrap());
        match zone().lookup(&alice(), &name, record_type) {
            Answer::Addresses(found) => found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_service_has_its_ready_addresses_under_each_of_its_names() {
        for name in ["web.", "web.alice.", "web.alice.svc.", "WEB.Alice.SVC."] {
            assert_eq!(ask(name, RecordType::A), "192.0.2.1 192.0.2.2", "{name}");
            assert_eq!(ask(name, RecordType::AAAA), "2001:db8::1", "{name}");
            assert_eq!(ask(name, RecordType::ANY), "192.0.2.1 192.0.2.2 2001:db8::1", "{name}");
        }
    }

    #[test]
    fn a_service_that_clients_reach_through_the_gateway_has_its_address() {
        for name in ["inner.", "inner.alice.", "inner.alice.svc."] {
            assert_eq!(ask(name, RecordType::A), GATEWAY, "{name}");
        }
    }

    #[test]
    fn a_service_that_is_really_another_host_is_at_the_gateway() {
        for name in ["elsewhere.", "elsewhere.alice.", "elsewhere.alice.svc."] {
            assert_eq!(ask(name, RecordType::A), GATEWAY, "{name}");
        }
    }

    #[test]
    fn the_services_of_a_domain_with_a_route_are_at_the_gateway() {
        for name in ["web.bob.svc.", "kuscia-handshake.bob.svc.", "web.dave.svc."] {
            assert_eq!(ask(name, RecordType::A), GATEWAY, "{name}");
            assert_eq!(ask(name, RecordType::AAAA), "NoData", "{name}");
        }
    }

    #[test]
    fn the_rest_of_the_zone_does_not_exist() {
        for name in ["unknown.alice.svc.", "x.web.alice.svc.", "a.b.bob.svc.", "carol.svc.", "web.carol.svc."]
        {
            assert_eq!(ask(name, RecordType::A), "NameError", "{name}");
        }
    }

    #[test]
    fn known_names_have_no_data_of_other_types() {
        for name in ["web.", "web.alice.svc.", "inner.alice.svc.", "web.bob.svc."] {
            assert_eq!(ask(name, RecordType::MX), "NoData", "{name}");
        }
        assert_eq!(ask("four.alice.svc.", RecordType::A), "192.0.2.3");
        assert_eq!(ask("four.alice.svc.", RecordType::AAAA), "NoData");
        assert_eq!(ask("down.alice.svc.", RecordType::A), "NoData");
    }

    #[test]
    fn names_above_existing_ones_have_no_data() {
        for name in ["svc.", "alice.svc.", "bob.svc."] {
            assert_eq!(ask(name, RecordType::A), "NoData", "{name}");
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        for name in [
            ".",
            "unknown.",
            "alice.",
            "unknown.alice.",
            "web.bob.",
            "a.web.alice.",
            "example.com.",
            "svc.com.",
        ] {
            assert_eq!(ask(name, RecordType::A), "NotOurs", "{name}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_name_nothing() {
        let lookup = |labels: &[&[u8]]| {
            let name = Name::from_labels(labels.iter().copied()).unwrap();
            zone().lookup(&alice(), &name.into(), RecordType::A)
        };
        assert_eq!(lookup(&[b"\xff"]), Answer::NotOurs);
        assert_eq!(lookup(&[b"\xff", b"alice", b"svc"]), Answer::NameError);
        assert_eq!(lookup(&[b"web", b"\xff", b"svc"]), Answer::NameError);
    }

    #[test]
    fn negative_answers_live_as_long_as_positive_ones() {
        let zone = zone();
        let RData::SOA(soa) = &zone.soa().data else { panic!("{:?} is no SOA", zone.soa()) };
        assert_eq!((zone.ttl(), zone.soa().ttl, soa.minimum), (5, 5, 5));
    }
}
