//! Who asks.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::recursion::Recursion;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its address; that of IPv4 where it comes so over a socket of IPv6.
    pub(crate) address: IpAddr,
    /// Whether it may ask for names of others. Such clients are known, and their responses never limited.
    pub(crate) may_recurse: bool,
}

impl Client {
    /// The client of a packet or a connection from `source`.
    pub(crate) fn at(source: SocketAddr, recursion: &Recursion) -> Self {
        let address = source.ip().to_canonical();
        Self { address, may_recurse: recursion.allows(address) }
    }

    /// With whom it shares what there is for all: a stranger with its network; others, who often are in one network, with
    /// nobody. But an interface has 64 bits of IPv6 for itself, and this host all of 127.0.0.0/8.
    pub(crate) fn network(&self) -> IpNet {
        let prefix = match self.address {
            _ if !self.may_recurse => return network(self.address),
            IpAddr::V4(address) if address.is_loopback() => 8,
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 64,
        };
        IpNet::new_assert(self.address, prefix).trunc()
    }
}

/// What one owner usually has: 24 bits of IPv4, 56 bits of IPv6 (RFC 6177 speaks of /48 to /64).
pub(crate) fn network(address: IpAddr) -> IpNet {
    let address = address.to_canonical();
    IpNet::new_assert(address, if address.is_ipv4() { 24 } else { 56 }).trunc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_share_with_their_network_and_others_with_nobody() {
        let known = ["198.51.100.0/24", "127.0.0.0/8", "2001:db8:ff::/48"].map(|net| net.parse().unwrap());
        let known = Recursion::from(known.to_vec());
        for (source, network) in [
            ("192.0.2.254:53", "192.0.2.0/24"),
            ("[::ffff:192.0.2.1]:53", "192.0.2.0/24"),
            ("[2001:db8:0:1ff:1::1]:53", "2001:db8:0:100::/56"),
            ("198.51.100.1:53", "198.51.100.1/32"),
            ("[::ffff:198.51.100.1]:53", "198.51.100.1/32"),
            ("127.0.0.9:53", "127.0.0.0/8"),
            ("[2001:db8:ff:1::9]:53", "2001:db8:ff:1::/64"),
        ] {
            assert_eq!(Client::at(source.parse().unwrap(), &known).network().to_string(), network);
        }
    }
}
