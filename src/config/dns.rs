//! Section `dns`.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use ::dns::Rebinding;
use hickory_proto::rr::Name;
use ipnet::IpNet;
use model::Problem;

use super::listen::reachable;
use super::sections::parse_network;
use super::{Fields, Listen};

/// Name resolution for the domain's applications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The servers that answer for all other names; where there are none, those of the system's resolv.conf.
    pub upstreams: Vec<SocketAddr>,
    /// The clients for which other names are looked up, and whose responses are never limited; `None`: those of the
    /// loopback networks and of this host's.
    pub recursion: Option<Vec<IpNet>>,
    /// How long an answer about a service may be kept, in whole seconds: an hour at most.
    pub ttl: Duration,
    /// The addresses of services of other domains: those of this domain's gateway, as its applications reach it.
    pub gateway: Vec<IpAddr>,
    /// Threads that answer over UDP, each with a socket of its own.
    pub workers: NonZeroUsize,
    /// Responses over UDP for each network of clients outside `recursion`, a second; `None`: as many as they ask for.
    pub responses_per_second: Option<NonZeroU32>,
    /// How long after its end an answer of an upstream may be given while no upstream answers (RFC 8767); `None`: never.
    pub stale: Option<Duration>,
    /// Whether names of others may lead into this network.
    pub rebinding: Rebinding,
}

/// The most seconds for which an answer may be kept. What is gone stays in the gateways as long.
const MAX_TTL: u32 = 3600;

impl Dns {
    pub(super) fn read(fields: &mut Fields, listen: &Listen) -> Self {
        let upstream = |text: &str| match parse_upstream(text)? {
            address if address == listen.dns => {
                Err(Problem::new(format!("{text:?} is listen.dns itself"), "name another server"))
            }
            address => Ok(address),
        };
        let defaults = ::dns::Settings::default();
        Self {
            upstreams: fields.list("upstreams", upstream).unwrap_or_default(),
            recursion: fields.list("recursion", parse_network),
            ttl: fields.number("ttl", 0..=MAX_TTL).map_or(::dns::DEFAULT_TTL, seconds),
            gateway: fields
                .list("gateway", parse_gateway)
                .unwrap_or_else(|| vec![reachable(listen.internal).ip()]),
            workers: NonZeroUsize::new(fields.number("workers", 1..=64).unwrap_or(1) as usize)
                .unwrap_or(NonZeroUsize::MIN),
            responses_per_second: fields
                .number("responsesPerSecond", 0..=1_000_000)
                .map_or(defaults.responses_per_second, NonZeroU32::new),
            stale: match fields.number("staleSeconds", 0..=604_800) {
                Some(0) => None,
                told => told.map(seconds).or(defaults.forward.stale),
            },
            rebinding: fields.section("rebinding", read_rebinding),
        }
    }
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}

fn read_rebinding(fields: &mut Fields) -> Rebinding {
    let is_told = fields.has("protect");
    let protect = fields.flag("protect");
    let is_useless = !protect.unwrap_or(is_told) && fields.has("allow");
    let except = fields.list("allow", parse_name).unwrap_or_default();
    if is_useless {
        let problem = "has no use without dns.rebinding.protect";
        fields.note("allow", Problem::new(problem, "set protect: true beside it, or remove this"));
    }
    if protect.unwrap_or_default() { Rebinding::Refused { except } } else { Rebinding::Allowed }
}

fn parse_upstream(text: &str) -> Result<SocketAddr, Problem> {
    let with_default_port = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    match text.parse().or_else(|_| with_default_port()) {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => {
            let problem = format!("{text:?} is not the address of a DNS server");
            Err(Problem::new(problem, "write it as 192.0.2.1 or 192.0.2.1:53"))
        }
    }
}

fn parse_gateway(text: &str) -> Result<IpAddr, Problem> {
    match text.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() => Ok(address),
        _ => {
            let problem = format!("{text:?} is not an IP address that applications can call");
            Err(Problem::new(
                problem,
                "give the address of listen.internal as applications see it, without a port",
            ))
        }
    }
}

/// A name as it is after its root: in lower case, with or without the final dot, and not the root itself.
fn parse_name(text: &str) -> Result<Name, Problem> {
    let name = Name::from_ascii(text).ok().filter(|name| name.num_labels() > 0 && !name.is_wildcard());
    let name = name.map(|mut name| {
        name.set_fqdn(true);
        name.to_lowercase()
    });
    name.ok_or_else(|| {
        let remedy = "write a name such as corp.example.com; all names below it are meant too";
        Problem::new(format!("{text:?} is no name"), remedy)
    })
}
