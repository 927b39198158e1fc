//! Addresses that nobody else uses.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Returns a loopback address that is free for TCP and UDP, for a server that is started later.
///
/// A port that the kernel hands out is free only as long as the socket is open, and the server opens it after this
/// function has closed it. So that no one else gets it meanwhile, each call takes an IP address of its own:
/// `127.x.y.z` with `x` and `y` from the process ID and `z` from a counter, always above `127.128.0.0`. Linux routes
/// all of `127.0.0.0/8` to the loopback interface.
///
/// # Errors
/// When the kernel has no free port, or the system does not route `127.0.0.0/8` to itself.
pub fn free_address() -> io::Result<SocketAddr> {
    static CALLS: AtomicU32 = AtomicU32::new(0);

    let [.., x, y] = process::id().to_be_bytes();
    let z = CALLS.fetch_add(1, Ordering::Relaxed) % 254 + 1;
    let ip = Ipv4Addr::from_bits(u32::from_be_bytes([127, x | 0x80, y, 0]) | z);
    free_port(ip.into())
}

/// Returns an address at `::1` that is free for TCP and UDP, for a server that is started later.
///
/// IPv6 has one loopback address only, so that somebody else may get the port meanwhile: where IPv4 will do, take
/// [`free_address`].
///
/// # Errors
/// When the kernel has no free port, or the system has no IPv6.
pub fn free_ipv6_address() -> io::Result<SocketAddr> {
    free_port(Ipv6Addr::LOCALHOST.into())
}

fn free_port(ip: IpAddr) -> io::Result<SocketAddr> {
    loop {
        let address = TcpListener::bind((ip, 0))?.local_addr()?;
        match UdpSocket::bind(address) {
            Ok(_) => return Ok(address),
            // A UDP client of some other process has this port on all addresses.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn addresses_are_distinct_and_can_be_bound_together() {
        let addresses: HashSet<_> = (0..50).map(|_| free_address().expect("an address")).collect();
        assert_eq!(addresses.iter().map(SocketAddr::ip).collect::<HashSet<_>>().len(), 50);

        let bound: Result<Vec<_>, _> = addresses.iter().map(TcpListener::bind).collect();
        assert_eq!(bound.expect("all bind").len(), 50);
    }
}
