//! Sockets: bound here, or given by the service manager.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroUsize;

use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, Type};

/// Sockets that are bound and not served yet.
#[derive(Debug)]
pub struct Bound {
    pub(crate) address: SocketAddr,
    /// One for each worker: at least one.
    pub(crate) udp: Vec<UdpSocket>,
    pub(crate) tcp: TcpListener,
}

/// Why there are no sockets to serve on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port cannot be listened on.
    #[error("cannot listen on {address} ({transport}): {source}")]
    Socket {
        /// The address.
        address: SocketAddr,
        /// `"UDP"` or `"TCP"`.
        transport: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A descriptor that was given is not a socket for DNS.
    #[error("descriptor {number} that the service manager gave for DNS cannot be listened on: {source}")]
    Given {
        /// Its number.
        number: usize,
        /// Why.
        source: io::Error,
    },
    /// What was given is not what DNS needs.
    #[error(
        "the service manager gave sockets for DNS at {found}; one address is needed, for UDP and once for TCP"
    )]
    Unfit {
        /// The transports and addresses.
        found: String,
    },
}

/// With port 0, the system chooses a port for UDP, which may be taken for TCP: so many are tried.
const PORT_TRIES: usize = 16;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// The name of the sockets (`FileDescriptorName=` of systemd.socket(5)), where there are names.
const DESCRIPTOR_NAME: &str = "dns";

/// The first descriptor that is given (`SD_LISTEN_FDS_START` of sd_listen_fds(3)).
const FIRST_DESCRIPTOR: usize = 3;

/// Binds `address` for UDP, once for each of the workers, among whom the system then divides the clients, and for TCP.
/// Port 0 means any port that is free for both. The unspecified address of IPv6 stands for all addresses of IPv4 too.
///
/// # Errors
/// Where the port is taken, not allowed, or the address is not of this host.
pub fn bind(address: SocketAddr, workers: NonZeroUsize) -> Result<Bound, BindError> {
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        match bind_all(address, workers) {
            Err(BindError::Socket { transport: "TCP", source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && tries > 1 =>
            {
                tries -= 1;
            }
            result => return result,
        }
    }
}

impl Bound {
    /// The sockets that the service manager opened (systemd.socket(5)), if it did: those named `dns`, or all where
    /// they have no names. Each UDP socket gets a worker. Whoever calls this first in the process gets them.
    ///
    /// # Errors
    /// Where they are not UDP and TCP sockets of one address.
    pub fn from_environment() -> Result<Option<Self>, BindError> {
        // Read first: the names mean nothing without the descriptors, which can be taken only once.
        let names = std::env::var("LISTEN_FDNAMES").ok();
        let mut given = ListenFd::from_env();
        let names: Option<Vec<&str>> = names.as_deref().map(|names| names.split(':').collect());
        let is_ours = |index: &usize| match &names {
            Some(names) => names.get(*index) == Some(&DESCRIPTOR_NAME),
            None => true,
        };
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for index in (0..given.len()).filter(is_ours) {
            let error = |source| BindError::Given { number: FIRST_DESCRIPTOR + index, source };
            // What is no UDP socket stays, and has to be one of TCP.
            match given.take_udp_socket(index) {
                Ok(socket) => udp.extend(socket),
                Err(_) => tcp.extend(given.take_tcp_listener(index).map_err(error)?),
            }
        }
        if udp.is_empty() && tcp.is_empty() { Ok(None) } else { Self::of_one_address(udp, tcp).map(Some) }
    }

    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// How many workers answer over UDP.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.udp.len()
    }

    fn of_one_address(udp: Vec<UdpSocket>, mut tcp: Vec<TcpListener>) -> Result<Self, BindError> {
        let udp_addresses = udp.iter().map(|socket| ("UDP", socket.local_addr()));
        let tcp_addresses = tcp.iter().map(|socket| ("TCP", socket.local_addr()));
        let found: Vec<_> = udp_addresses.chain(tcp_addresses).collect();
        let first = found.first().and_then(|(_, address)| address.as_ref().ok()).copied();
        let is_one = |address: SocketAddr| {
            found.iter().all(|(_, found)| found.as_ref().is_ok_and(|at| *at == address))
        };
        match (first, tcp.pop()) {
            (Some(address), Some(listener)) if is_one(address) && tcp.is_empty() && !udp.is_empty() => {
                Ok(Self { address, udp, tcp: listener })
            }
            _ => {
                let text = |(transport, address): &(&str, io::Result<SocketAddr>)| match address {
                    Ok(address) => format!("{address} ({transport})"),
                    Err(error) => format!("an unknown address ({transport}: {error})"),
                };
                Err(BindError::Unfit { found: found.iter().map(text).collect::<Vec<_>>().join(", ") })
            }
        }
    }
}

fn bind_all(address: SocketAddr, workers: NonZeroUsize) -> Result<Bound, BindError> {
    let shared = workers.get() > 1;
    let error = |transport| move |source| BindError::Socket { address, transport, source };
    let first = bind_udp(address, shared).map_err(error("UDP"))?;
    let address = first.local_addr().map_err(error("UDP"))?;
    let error = |transport| move |source| BindError::Socket { address, transport, source };
    let tcp = bind_tcp(address).map_err(error("TCP"))?;
    let mut udp = vec![first];
    for _ in 1..workers.get() {
        udp.push(bind_udp(address, shared).map_err(error("UDP"))?);
    }
    Ok(Bound { address, udp, tcp })
}

/// `shared`: other sockets of this user can be bound to the address too.
fn bind_udp(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
    // Connections of before, which still wait for late packets, do not hold the address.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn given(udp: Vec<UdpSocket>, tcp: Vec<TcpListener>) -> Result<Bound, String> {
        Bound::of_one_address(udp, tcp).map_err(|error| error.to_string())
    }

    #[test]
    fn sockets_of_one_address_are_taken() {
        let Bound { address, udp, tcp } = bind(ANY_PORT, NonZeroUsize::new(2).unwrap()).unwrap();
        let given = given(udp, vec![tcp]).unwrap();
        assert_eq!((given.local_addr(), given.workers()), (address, 2));
    }

    #[test]
    fn sockets_that_lack_a_transport_or_differ_are_refused_with_what_was_given() {
        let bound = || bind(ANY_PORT, NonZeroUsize::MIN).unwrap();
        let Bound { address, udp, tcp } = bound();
        let error = given(udp, Vec::new()).unwrap_err();
        assert!(error.contains(&format!("at {address} (UDP);")), "{error}");
        assert!(given(Vec::new(), vec![tcp]).unwrap_err().contains(&format!("at {address} (TCP);")));
        let (one, other) = (bound(), bound());
        let both = format!("at {} (UDP), {} (TCP);", one.address, other.address);
        assert!(given(one.udp, vec![other.tcp]).unwrap_err().contains(&both));
        let second = one.tcp.try_clone().unwrap();
        assert!(given(other.udp, vec![one.tcp, second]).is_err());
    }

    #[test]
    fn without_a_service_manager_nothing_is_given() {
        assert!(Bound::from_environment().unwrap().is_none());
    }
}
