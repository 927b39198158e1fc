//! Addresses, and the names that are made of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use hickory_proto::rr::RData;
use nix::sys::socket::SockaddrStorage;

/// The addresses of a host: sorted, each once, and none of IPv4 in the clothes of IPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) v4: Box<[Ipv4Addr]>,
    pub(crate) v6: Box<[Ipv6Addr]>,
}

impl Addresses {
    pub(crate) fn iter(&self) -> impl Iterator<Item = IpAddr> {
        let v6 = self.v6.iter().copied().map(IpAddr::V6);
        self.v4.iter().copied().map(IpAddr::V4).chain(v6)
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.binary_search(&address).is_ok(),
            IpAddr::V6(address) => self.v6.binary_search(&address).is_ok(),
        }
    }

    /// What A and AAAA records say of the host.
    pub(crate) fn data(&self) -> Vec<RData> {
        self.iter().map(RData::from).collect()
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut all: Vec<IpAddr> = addresses.into_iter().map(|address| address.to_canonical()).collect();
        all.sort_unstable();
        all.dedup();
        let v4 = |address: &IpAddr| if let IpAddr::V4(address) = address { Some(*address) } else { None };
        let v6 = |address: &IpAddr| if let IpAddr::V6(address) = address { Some(*address) } else { None };
        Self { v4: all.iter().filter_map(v4).collect(), v6: all.iter().filter_map(v6).collect() }
    }
}

/// An address as the system tells it; `None`: it is not of IP.
pub(crate) fn socket_address(told: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = || told.as_sockaddr_in().map(|address| SocketAddrV4::from(*address).into());
    let v6 = || told.as_sockaddr_in6().map(|address| SocketAddrV6::from(*address).into());
    v4().or_else(v6)
}

/// The label that stands for an endpoint: its address with hyphens. IPv6 has all its eight groups, because no label of
/// a host may begin or end with a hyphen (RFC 1123, 2.1).
pub(crate) fn endpoint_label(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string().replace('.', "-"),
        IpAddr::V6(address) => address.segments().map(|group| format!("{group:x}")).join("-"),
    }
}

/// The address that [`endpoint_label`] makes this label of.
pub(crate) fn endpoint_address(label: &[u8]) -> Option<IpAddr> {
    let label = str::from_utf8(label).ok()?;
    let v4 = || label.replace('-', ".").parse().ok().map(IpAddr::V4);
    let v6 = || label.replace('-', ":").parse().ok().map(IpAddr::V6);
    let address = v4().or_else(v6)?;
    // The same address in other words is another name.
    (endpoint_label(address) == label).then_some(address)
}

/// The address that a name below `in-addr.arpa` (RFC 1035, 3.5) or `ip6.arpa` (RFC 3596, 2.5) stands for.
pub(crate) fn reverse_address(labels: &[&[u8]]) -> Option<IpAddr> {
    match labels {
        [d, c, b, a, b"in-addr", b"arpa"] => {
            let text = [*a, *b, *c, *d].join(&b'.');
            str::from_utf8(&text).ok()?.parse().ok().map(IpAddr::V4)
        }
        [digits @ .., b"ip6", b"arpa"] if digits.len() == 32 => {
            let bits = digits.iter().rev().try_fold(0, |bits: u128, label| match label {
                [digit] => char::from(*digit).to_digit(16).map(|digit| bits << 4 | u128::from(digit)),
                _ => None,
            })?;
            Some(IpAddr::V6(bits.into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Name;

    use super::*;

    #[test]
    fn every_endpoint_has_one_label() {
        for (address, label) in [
            ("192.0.2.1", "192-0-2-1"),
            ("2001:db8::1", "2001-db8-0-0-0-0-0-1"),
            ("::", "0-0-0-0-0-0-0-0"),
            ("ffff::", "ffff-0-0-0-0-0-0-0"),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(endpoint_label(address), label);
            assert_eq!(endpoint_address(label.as_bytes()), Some(address));
        }
    }

    #[test]
    fn other_words_for_an_address_are_no_label_of_an_endpoint() {
        for label in [
            "192.0.2.1",
            "192-0-2-01",
            "192-0-2",
            "192-0-2-256",
            "2001-db8--1",
            "2001-0db8-0-0-0-0-0-1",
            "2001-DB8-0-0-0-0-0-1",
            "+1-0-0-0-0-0-0-0",
            "web",
            "",
        ] {
            assert_eq!(endpoint_address(label.as_bytes()), None, "{label:?}");
        }
        assert_eq!(endpoint_address(b"\xff"), None);
    }

    #[test]
    fn reverse_names_are_read_as_others_write_them() {
        for address in ["192.0.2.1", "0.0.0.0", "2001:db8::1", "::"] {
            let address: IpAddr = address.parse().unwrap();
            let name = Name::from(address);
            assert_eq!(reverse_address(&name.iter().collect::<Vec<_>>()), Some(address));
        }
    }

    #[test]
    fn names_beside_those_of_addresses_stand_for_none() {
        let short = format!("{}ip6.arpa.", "0.".repeat(31));
        let long = format!("{}ip6.arpa.", "0.".repeat(33));
        let no_digit = format!("g.{}ip6.arpa.", "0.".repeat(31));
        let two_digits = format!("00.{}ip6.arpa.", "0.".repeat(31));
        for name in [
            "arpa.",
            "in-addr.arpa.",
            "2.0.192.in-addr.arpa.",
            "1.1.2.0.192.in-addr.arpa.",
            "256.2.0.192.in-addr.arpa.",
            "01.2.0.192.in-addr.arpa.",
            "1\\.2.0.192.0.in-addr.arpa.",
            "1.2.0.192.in-addr.example.",
            &short,
            &long,
            &no_digit,
            &two_digits,
        ] {
            let name = Name::from_ascii(name).unwrap();
            assert_eq!(reverse_address(&name.iter().collect::<Vec<_>>()), None, "{name}");
        }
    }
}
