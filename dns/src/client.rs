//! Who asks.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its address; that of IPv4 where it comes so over a socket of IPv6.
    pub(crate) address: IpAddr,
    /// Whether it may ask for names of others. Such clients are known, and their responses never limited.
    pub(crate) may_recurse: bool,
}

impl Client {
    /// The client of a packet or a connection from `source`. Those in `known` networks may ask for names of others.
    pub(crate) fn at(source: SocketAddr, known: &[IpNet]) -> Self {
        let address = source.ip().to_canonical();
        Self { address, may_recurse: known.iter().any(|network| network.contains(&address)) }
    }
}
