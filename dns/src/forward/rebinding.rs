//! Names of others that lead into this network.
//!
//! A page of a stranger may have a name with a short life that first is the stranger's address and then that of a host
//! near the reader: the browser takes both for the same site ("DNS rebinding").

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamValue};
use hickory_proto::rr::{Name, RData, Record};

use super::answer::Answer;

/// Whether names of others may have addresses of this network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rebinding {
    /// They may.
    #[default]
    Allowed,
    /// Such addresses are taken out of answers; where none is left, the answer is REFUSED.
    Refused {
        /// Names that may, with all that is below them.
        except: Vec<Name>,
    },
}

impl Rebinding {
    /// Takes out of the answer about the name `question` what may not be in it.
    pub(super) fn filter(&self, question: &Name, answer: &mut Answer) {
        let Self::Refused { except } = self else { return };
        if except.iter().any(|zone| is_at_or_below(question, zone)) {
            return;
        }
        let before = answer.answers.len();
        answer.answers.retain(|record| !addresses(record).iter().copied().any(is_near));
        let is_left = answer.answers.iter().any(|record| !addresses(record).is_empty());
        if answer.answers.len() < before && !is_left {
            answer.code = ResponseCode::Refused;
            answer.answers.clear();
            answer.authority.clear();
        }
    }
}

/// Whether the last labels of `name` are those of `zone`, which may be written without the final dot.
fn is_at_or_below(name: &Name, zone: &Name) -> bool {
    let (mut name, mut zone) = (name.iter().rev(), zone.iter().rev());
    zone.all(|label| name.next().is_some_and(|other| other.eq_ignore_ascii_case(label)))
}

/// The addresses that a client may connect to because of this record.
fn addresses(record: &Record) -> Vec<IpAddr> {
    match &record.data {
        RData::A(address) => vec![address.0.into()],
        RData::AAAA(address) => vec![address.0.into()],
        RData::SVCB(service) => hints(service),
        RData::HTTPS(service) => hints(&service.0),
        _ => Vec::new(),
    }
}

/// RFC 9460, 7.3.
fn hints(service: &SVCB) -> Vec<IpAddr> {
    let of_parameter = |value: &SvcParamValue| -> Vec<IpAddr> {
        match value {
            SvcParamValue::Ipv4Hint(hint) => hint.0.iter().map(|address| address.0.into()).collect(),
            SvcParamValue::Ipv6Hint(hint) => hint.0.iter().map(|address| address.0.into()).collect(),
            _ => Vec::new(),
        }
    };
    service.svc_params.iter().flat_map(|(_, value)| of_parameter(value)).collect()
}

/// Whether the address is of this host, of its links, or of a private network.
fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_near_v4(address),
        IpAddr::V6(address) => is_near_v6(address) || embedded(address).is_some_and(is_near_v4),
    }
}

fn is_near_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    // "This network" (RFC 1122, 3.2.1.3): systems take it for themselves.
    first == 0
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        // Between a provider and its customers (RFC 6598).
        || (first == 100 && second & 0xc0 == 64)
}

fn is_near_v6(address: Ipv6Addr) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || address.is_unique_local()
        || address.is_unicast_link_local()
        // Site-local, as it once was (RFC 3879).
        || address.segments()[0] & 0xffc0 == 0xfec0
        // Of a translator of this network, which alone knows the address of IPv4 in it (RFC 8215).
        || address.segments()[..3] == [0x64, 0xff9b, 1]
}

/// The address of IPv4 to which packets for this one go: mapped or compatible (RFC 4291, 2.5.5), translated (RFC 2765,
/// 2.1), of a translator (RFC 6052, 2.1), or of 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_near_however_they_are_written() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:10.0.0.1",
            "::ffff:100.64.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::a00:1",
            "64:ff9b:1:a00:0:100::",
            "2002:c0a8:101::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
        ] {
            assert!(is_near(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn public_addresses_are_not_near() {
        for address in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.0.1",
            "198.51.100.1",
            "::ffff:198.51.100.1",
            "::ffff:0:198.51.100.1",
            "64:ff9b:2::a00:1",
            "64:ff9b::c633:6401",
            "2001:db8::1",
            "2002:c633:6401::1",
            "2606:4700::1111",
            "fb00::1",
        ] {
            assert!(!is_near(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_name_is_excepted_with_all_below_it() {
        let is = |name: &str, zone: &str| {
            is_at_or_below(&Name::from_ascii(name).unwrap(), &Name::from_ascii(zone).unwrap())
        };
        assert!(is("lan.example.", "lan.example"));
        assert!(is("a.b.LAN.example.", "lan.example."));
        assert!(!is("plan.example.", "lan.example."));
        assert!(!is("example.", "lan.example."));
        assert!(!is("lan.example.com.", "lan.example."));
    }
}
