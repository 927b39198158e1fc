//! Where the mesh and its Envoy listen.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use model::Problem;
use xds::ListenAddress;

use super::{Fields, Xds};

/// Longest path of a Unix socket: `sockaddr_un` holds 108 bytes, one of which ends the path.
const MAX_SOCKET_PATH: usize = 107;

/// The addresses of the listeners. Paths of sockets are absolute, and no two addresses clash.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Envoy, for the gateways of partners.
    pub external: SocketAddr,
    /// Envoy, for the applications of this domain.
    pub internal: SocketAddr,
    /// The mesh, for handshakes that Envoy passes on.
    pub handshake: SocketAddr,
    /// The mesh, for Envoy's configuration.
    pub xds: ListenAddress,
    /// The mesh, for names: UDP and TCP.
    pub dns: SocketAddr,
    /// The mesh, for its own commands, probes and metrics.
    pub admin: ListenAddress,
}

impl Listen {
    pub(super) fn read(fields: &mut Fields, xds: &Xds, folder: &Path) -> Self {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let listen = Self {
            external: fields.parse("external", parse_tcp).unwrap_or_else(|| any(1080)),
            internal: fields.parse("internal", parse_tcp).unwrap_or_else(|| loopback(80)),
            handshake: fields.parse("handshake", parse_tcp).unwrap_or_else(|| loopback(1054)),
            xds: read_address(fields, "xds", "unix:run/xds.sock", |text| parse_xds(text, xds, folder)),
            dns: fields.parse("dns", parse_tcp).unwrap_or_else(|| loopback(53)),
            admin: read_address(fields, "admin", "127.0.0.1:9091", |text| parse_address(text, folder)),
        };
        if let Some(address) = exposed(&listen.admin) {
            tracing::warn!(%address, "listen.admin is reachable from other machines; bind it to 127.0.0.1");
        }
        listen
    }

    /// Notes each pair of addresses that cannot both be listened on.
    pub(super) fn refuse_clashes(&self, envoy_admin: &ListenAddress, fields: &mut Fields) {
        let addresses = [
            ("listen.external", ListenAddress::Tcp(self.external)),
            ("listen.internal", ListenAddress::Tcp(self.internal)),
            ("listen.handshake", ListenAddress::Tcp(self.handshake)),
            ("listen.xds", self.xds.clone()),
            ("listen.dns", ListenAddress::Tcp(self.dns)),
            ("listen.admin", self.admin.clone()),
            ("envoy.admin", envoy_admin.clone()),
        ];
        for (position, (name, address)) in addresses.iter().enumerate() {
            for (earlier, other) in &addresses[..position] {
                if clash(address, other) {
                    let problem = format!("{address} clashes with {earlier} ({other})");
                    fields.note(name, Problem::new(problem, "give one of the two another port or address"));
                }
            }
        }
    }
}

/// Reads an address, which is `default` unless it is given.
pub(super) fn read_address(
    fields: &mut Fields,
    name: &'static str,
    default: &str,
    parse: impl Fn(&str) -> Result<ListenAddress, Problem>,
) -> ListenAddress {
    let text = fields.text(name);
    let address = fields.check(name, parse(text.as_deref().unwrap_or(default)));
    // A wrong address is refused with the whole configuration; this one clashes with no other until then.
    address.unwrap_or_else(|| ListenAddress::Unix(PathBuf::from(name)))
}

/// Parses `IP:PORT` or `unix:PATH`; the path may be relative to `folder`.
pub(super) fn parse_address(text: &str, folder: &Path) -> Result<ListenAddress, Problem> {
    match text.strip_prefix("unix:") {
        Some("") => Err(Problem::new("names no socket", "write unix: and a path, such as unix:run/xds.sock")),
        Some(path) => {
            let path = folder.join(path);
            if path.as_os_str().len() > MAX_SOCKET_PATH {
                let problem =
                    format!("{} is longer than the {MAX_SOCKET_PATH} bytes of a socket", path.display());
                return Err(Problem::new(problem, "put the socket into a folder with a shorter path"));
            }
            Ok(ListenAddress::Unix(path))
        }
        None => parse_tcp(text).map(ListenAddress::Tcp),
    }
}

/// Parses the address of the xDS server, of whom strangers must get nothing: it gives away tokens and keys.
fn parse_xds(text: &str, xds: &Xds, folder: &Path) -> Result<ListenAddress, Problem> {
    let address = parse_address(text, folder)?;
    match (&address, &xds.tls) {
        (ListenAddress::Unix(_), Some(_)) => Err(Problem::new(
            format!("{text:?} is a Unix socket, where xds.tls has no use"),
            "remove xds.tls and envoy.xdsTLS, or give an IP address with a port",
        )),
        (_, None) if exposed(&address).is_some() => Err(Problem::new(
            format!("{text:?} is reachable from other machines, and gives away tokens and keys"),
            "give xds.tls and envoy.xdsTLS, or bind it to 127.0.0.1 or a Unix socket",
        )),
        _ => Ok(address),
    }
}

fn parse_tcp(text: &str) -> Result<SocketAddr, Problem> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => {
            let problem = format!("{text:?} is not an IP address with a port");
            Err(Problem::new(
                problem,
                "write it as 127.0.0.1:1080 or \"[::1]:1080\", with a port from 1 to 65535",
            ))
        }
    }
}

/// The address at which this host reaches what listens on `address`: loopback instead of a wildcard.
#[must_use]
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn clash(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (one, other) {
        (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) => {
            let (a, b) = (one.ip(), other.ip());
            let one_covers_other = a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified());
            one.port() == other.port() && (a == b || one_covers_other)
        }
        (one, other) => one == other,
    }
}

/// The address, if other machines reach it.
fn exposed(address: &ListenAddress) -> Option<SocketAddr> {
    match address {
        ListenAddress::Tcp(address) if !address.ip().is_loopback() => Some(*address),
        ListenAddress::Tcp(_) | ListenAddress::Unix(_) => None,
    }
}
