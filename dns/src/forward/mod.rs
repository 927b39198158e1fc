//! Names of others: asked from upstream servers, with a cache.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, Record};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::system_conf::read_system_conf;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::reply::Reply;
use crate::server::Upstreams;

/// A failed query is sent once more; clients wait 5 s by default (resolv.conf(5)), that is two tries of 2 s.
const RETRIES: u8 = 1;

/// Queries waiting for upstreams at one time; further ones get SERVFAIL, so that strangers cannot pile up memory.
const MAX_WAITING: usize = 1024;

/// A caching client of upstream servers.
pub(crate) struct Forwarder {
    resolver: TokioResolver,
    waiting: Semaphore,
    deadline: Duration,
}

impl Forwarder {
    /// A client of `upstreams`, each try of which takes at most `try_timeout`.
    pub(crate) fn new(upstreams: &[SocketAddr], try_timeout: Duration) -> Result<Self, NetError> {
        let mut options = ResolverOpts::default();
        options.timeout = try_timeout;
        options.attempts = usize::from(RETRIES);
        // The names in this host's file are not for other hosts.
        options.use_hosts_file = ResolveHosts::Never;
        let servers = upstreams.iter().copied().map(name_server).collect();
        let config = ResolverConfig::from_name_servers(servers);
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()?;
        let deadline = try_timeout * (1 + u32::from(RETRIES));
        Ok(Self { resolver, waiting: Semaphore::new(MAX_WAITING), deadline })
    }

    /// What the upstreams say. Every failure but a negative answer is SERVFAIL.
    pub(crate) async fn resolve(&self, query: &Query) -> Reply {
        let Ok(_permit) = self.waiting.try_acquire() else {
            return Reply::error(ResponseCode::ServFail);
        };
        let lookup = self.resolver.lookup(query.name().clone(), query.query_type());
        match timeout(self.deadline, lookup).await.unwrap_or(Err(NetError::Timeout)) {
            Ok(found) => Reply {
                code: found.message().metadata.response_code,
                answers: with_case_of(query.name(), found.answers()),
                ..Reply::default()
            },
            Err(NetError::Dns(DnsError::NoRecordsFound(negative))) => negative_reply(negative),
            Err(error) => {
                debug!(%error, name = %query.name(), "upstreams gave no answer");
                Reply::error(ResponseCode::ServFail)
            }
        }
    }
}

/// The addresses of `upstreams`, without those that lead back to the server bound to `own`.
pub(crate) fn upstream_addresses(upstreams: &Upstreams, own: SocketAddr) -> Vec<SocketAddr> {
    let mut addresses = match upstreams {
        Upstreams::Servers(servers) => servers.clone(),
        Upstreams::System => system_servers(),
    };
    addresses.retain(|address| {
        let leads_here = leads_to(own, *address);
        if leads_here {
            warn!(%address, "this upstream DNS server is this server itself, and is left out");
        }
        !leads_here
    });
    if addresses.is_empty() {
        warn!(
            "there is no upstream DNS server: only names of this domain and of domains with a route resolve"
        );
    }
    addresses
}

fn system_servers() -> Vec<SocketAddr> {
    match read_system_conf() {
        Ok((config, _)) => {
            config.name_servers().iter().map(|server| SocketAddr::new(server.ip, 53)).collect()
        }
        Err(error) => {
            warn!(%error, "cannot take upstream DNS servers from the system's resolv.conf");
            Vec::new()
        }
    }
}

/// Whether a query to `upstream` arrives at the server bound to `own`.
fn leads_to(own: SocketAddr, upstream: SocketAddr) -> bool {
    let (own_ip, upstream_ip) = (own.ip().to_canonical(), upstream.ip().to_canonical());
    upstream.port() == own.port()
        && (upstream_ip == own_ip
            || upstream_ip.is_unspecified()
            || (own_ip.is_unspecified() && is_of_this_host(upstream_ip)))
}

/// Only an address of this host can be bound.
fn is_of_this_host(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

/// The records as they are, but for the name of the question: the cache holds it as an earlier client wrote it.
fn with_case_of(question: &Name, records: &[Record]) -> Vec<Record> {
    let mut records = records.to_vec();
    for record in records.iter_mut().filter(|record| record.name == *question) {
        record.name.clone_from(question);
    }
    records
}

fn negative_reply(negative: NoRecords) -> Reply {
    let soa = negative.soa.map(|soa| soa.into_record_of_rdata());
    Reply { code: negative.response_code, authority: soa.into_iter().collect(), ..Reply::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(own: &str, upstream: &str) -> bool {
        leads_to(own.parse().unwrap(), upstream.parse().unwrap())
    }

    #[test]
    fn an_upstream_is_this_server_if_address_and_port_are() {
        assert!(leads("127.0.0.1:53", "127.0.0.1:53"));
        assert!(leads("[::ffff:127.0.0.1]:53", "127.0.0.1:53"));
        assert!(!leads("127.0.0.1:53", "127.0.0.1:54"));
        assert!(!leads("127.0.0.1:53", "127.0.0.53:53"));
    }

    #[test]
    fn a_server_bound_to_all_addresses_is_at_each_of_this_host() {
        assert!(leads("0.0.0.0:53", "127.0.0.1:53"));
        assert!(leads("[::]:53", "127.0.0.53:53"));
        assert!(!leads("0.0.0.0:53", "192.0.2.1:53"));
        assert!(!leads("0.0.0.0:5353", "127.0.0.1:53"));
    }

    #[test]
    fn an_unspecified_upstream_is_this_host() {
        assert!(leads("127.0.0.1:53", "0.0.0.0:53"));
    }
}
