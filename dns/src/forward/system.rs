//! Whom to ask.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};

use resolv_conf::{Config, ScopedIp};
use tracing::warn;

/// Whom to ask for names of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstreams {
    /// The servers that the system's resolv.conf names when serving begins. The file is read once and never written.
    System,
    /// These, in order of preference.
    Servers(Vec<SocketAddr>),
}

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The port of DNS (RFC 1035, 4.2).
const PORT: u16 = 53;

/// The addresses of `upstreams`, each once, without those that lead back to the server bound to `own`.
pub(super) fn upstream_addresses(upstreams: &Upstreams, own: SocketAddr) -> Vec<SocketAddr> {
    let named = match upstreams {
        Upstreams::Servers(servers) => servers.clone(),
        Upstreams::System => system_servers(),
    };
    let mut addresses = Vec::new();
    for address in named {
        if leads_to(own, address) {
            warn!(%address, "this upstream DNS server is this server itself, and is left out");
        } else if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        warn!(
            "there is no upstream DNS server: only names of this domain and of domains with a route resolve"
        );
    }
    addresses
}

fn system_servers() -> Vec<SocketAddr> {
    match std::fs::read(RESOLV_CONF) {
        Ok(content) => name_servers(&content),
        Err(error) => {
            warn!(%error, "cannot take upstream DNS servers from {RESOLV_CONF}");
            Vec::new()
        }
    }
}

/// The servers of a resolv.conf (resolv.conf(5)). Lines that cannot be read count for nothing, as they do for other
/// programs.
fn name_servers(resolv_conf: &[u8]) -> Vec<SocketAddr> {
    let (config, errors) = Config::parse_with_errors(resolv_conf);
    for error in errors {
        warn!(%error, "a line of {RESOLV_CONF} has no meaning");
    }
    config.nameservers.iter().filter_map(address).collect()
}

/// The address with the number of its interface, if it has one by name.
fn address(server: &ScopedIp) -> Option<SocketAddr> {
    let ScopedIp::V6(_, Some(_)) = server else {
        return Some(SocketAddr::new(server.into(), PORT));
    };
    match (server.to_string().as_str(), PORT).to_socket_addrs() {
        Ok(mut addresses) => addresses.next(),
        Err(error) => {
            warn!(%error, %server, "an upstream DNS server is on no interface of this host");
            None
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

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(own: &str, upstream: &str) -> bool {
        leads_to(own.parse().unwrap(), upstream.parse().unwrap())
    }

    fn servers(resolv_conf: &str) -> Vec<String> {
        name_servers(resolv_conf.as_bytes()).iter().map(ToString::to_string).collect()
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

    #[test]
    fn a_server_named_twice_is_asked_once() {
        let twice = ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.1:53"].map(|text| text.parse().unwrap());
        let own = "127.0.0.1:53".parse().unwrap();
        assert_eq!(upstream_addresses(&Upstreams::Servers(twice.to_vec()), own), twice[..2]);
    }

    #[test]
    fn the_servers_of_a_resolv_conf_are_asked_at_the_port_of_dns() {
        let content =
            "search a.example b.example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\noptions ndots:5\n";
        assert_eq!(servers(content), ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }

    #[test]
    fn an_interface_of_a_link_local_server_is_kept() {
        let [SocketAddr::V6(server)] = name_servers(b"nameserver fe80::1%lo\n")[..] else {
            panic!("no server on the loopback interface");
        };
        assert_ne!(server.scope_id(), 0);
        assert_eq!(servers("nameserver fe80::1%nowhere\nnameserver 192.0.2.1\n"), ["192.0.2.1:53"]);
    }

    #[test]
    fn a_resolv_conf_without_servers_names_none() {
        for content in ["", "\n", "search example.com\n", "# nameserver 192.0.2.1\n"] {
            assert!(servers(content).is_empty(), "{content:?}");
        }
    }

    #[test]
    fn lines_without_meaning_are_passed_over() {
        let content = b"nameserver\nnameserver one.example\nnameserver 192.0.2.1:53\n\xff\xfe\x00\nnameserver 192.0.2.2\n\
            options nonsense:x\nsearch -- ..\nnameserver ::1";
        let found: Vec<String> = name_servers(content).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.2:53", "[::1]:53"]);
    }
}
