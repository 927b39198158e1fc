//! Whatever changes a table of names has seen, it is that which knows the last state only.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dns::fuzzing::same_names;
use dns::{NameChange, Names, ZoneSettings};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use model::{DomainId, Host, HostPort, Service, ServiceName};

/// Few names, addresses and hosts, so that they meet.
#[derive(Arbitrary, Debug)]
enum Change {
    Service {
        name: u8,
        place: Place,
        port_name: PortName,
        through_gateway: bool,
    },
    Pending {
        name: u8,
    },
    NoService {
        name: u8,
    },
    Route {
        domain: u8,
    },
    NoRoute {
        domain: u8,
    },
    /// All before it happens at one moment.
    Apply,
}

#[derive(Arbitrary, Debug)]
enum Place {
    Endpoints(Vec<Endpoint>),
    Name(u8),
    Address(Endpoint),
}

#[derive(Arbitrary, Debug)]
struct Endpoint {
    family: Family,
    last: u8,
    port: u8,
}

#[derive(Arbitrary, Debug)]
enum Family {
    V4,
    V6,
    /// An address of IPv4, written as one of IPv6.
    Mapped,
}

#[derive(Arbitrary, Debug)]
enum PortName {
    None,
    Usual,
    Odd,
}

fuzz_target!(|changes: Vec<Change>| {
    let names = no_names();
    let mut services = BTreeMap::new();
    let mut pending = BTreeSet::new();
    let mut domains = BTreeSet::new();
    let mut batch = Vec::new();
    for change in changes {
        let change = match change {
            Change::Apply => {
                names.apply(batch.drain(..));
                continue;
            }
            Change::Service { name, place, port_name, through_gateway } => {
                let service = Arc::new(service(name, place, port_name, through_gateway));
                pending.remove(&service.name);
                services.insert(service.name.clone(), Arc::clone(&service));
                NameChange::Service(service)
            }
            Change::Pending { name } => {
                services.remove(&service_name(name));
                pending.insert(service_name(name));
                NameChange::Pending(service_name(name))
            }
            Change::NoService { name } => {
                services.remove(&service_name(name));
                pending.remove(&service_name(name));
                NameChange::NoService(service_name(name))
            }
            Change::Route { domain } => {
                domains.insert(domain_id(domain));
                NameChange::Route(domain_id(domain))
            }
            Change::NoRoute { domain } => {
                domains.remove(&domain_id(domain));
                NameChange::NoRoute(domain_id(domain))
            }
        };
        batch.push(change);
    }
    names.apply(batch);

    let fresh = no_names();
    fresh.apply(services.into_values().map(NameChange::Service));
    fresh.apply(pending.into_iter().map(NameChange::Pending));
    fresh.apply(domains.into_iter().map(NameChange::Route));
    assert!(same_names(&names, &fresh), "{names:?} is not {fresh:?}");
});

fn no_names() -> Names {
    Names::new(&ZoneSettings {
        domain: "alice".parse().expect("a domain"),
        gateway: vec![Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::LOCALHOST.into()],
        gateway_port: 80,
        ttl: Duration::from_secs(5),
    })
}

fn service(name: u8, place: Place, port_name: PortName, through_gateway: bool) -> Service {
    let (endpoints, host) = match place {
        Place::Endpoints(endpoints) => (endpoints.iter().map(address).collect::<BTreeSet<_>>(), None),
        Place::Name(host) => (BTreeSet::new(), Some((Host::Name(format!("host-{}.example", host % 4)), 80))),
        Place::Address(endpoint) => {
            let address = address(&endpoint);
            (BTreeSet::new(), Some((Host::Address(address.ip()), address.port())))
        }
    };
    let port_name = match port_name {
        PortName::None => "",
        PortName::Usual => "http",
        PortName::Odd => "No.Label",
    };
    Service {
        through_gateway,
        port_name: port_name.into(),
        external: host.map(|(host, port)| Box::new(HostPort { host, port })),
        ..Service::new(service_name(name), endpoints.into_iter().collect())
    }
}

/// The server's own name among them.
fn service_name(name: u8) -> ServiceName {
    let name = match name % 8 {
        0 => "kuscia-dns".to_owned(),
        other => format!("service-{other}"),
    };
    name.parse().expect("a name")
}

fn domain_id(domain: u8) -> DomainId {
    let domain = match domain % 4 {
        0 => "alice".to_owned(),
        other => format!("domain-{other}"),
    };
    domain.parse().expect("a domain")
}

fn address(endpoint: &Endpoint) -> SocketAddr {
    let v4 = Ipv4Addr::new(10, 0, 0, endpoint.last % 4);
    let ip: IpAddr = match endpoint.family {
        Family::V4 => v4.into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(endpoint.last % 4)).into(),
        Family::Mapped => v4.to_ipv6_mapped().into(),
    };
    (ip, u16::from(endpoint.port % 2) + 1).into()
}
