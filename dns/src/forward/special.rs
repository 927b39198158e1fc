//! Names that no upstream is asked for.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};

use crate::reply::Reply;

/// How long clients may keep what is true for ever, in seconds.
const TTL: u32 = 86_400;

/// The labels of `::1` in `ip6.arpa`, from the right: nibbles without the last one, which is the leftmost label.
const LOOPBACK_ZEROS: usize = 31;

/// The reply about a name of special use: loopback for `localhost` and its addresses, and that nothing is below
/// `invalid` (RFC 6761, 6.3 and 6.4) and `onion` (RFC 7686).
pub(super) fn reply(query: &Query) -> Option<Reply> {
    let name = LowerName::from(query.name());
    let mut labels = name.iter().rev();
    let data = match labels.next()? {
        b"invalid" | b"onion" => return Some(Reply::error(ResponseCode::NXDomain)),
        b"localhost" => match query.query_type() {
            RecordType::A => Some(RData::A(Ipv4Addr::LOCALHOST.into())),
            RecordType::AAAA => Some(RData::AAAA(Ipv6Addr::LOCALHOST.into())),
            _ => None,
        },
        b"arpa" if is_loopback(labels) => match query.query_type() {
            RecordType::PTR => Name::from_ascii("localhost.").ok().map(|name| RData::PTR(PTR(name))),
            _ => None,
        },
        _ => return None,
    };
    let answers = data.map(|data| Record::from_rdata(query.name().clone(), TTL, data));
    Some(Reply { answers: answers.into_iter().collect(), ..Reply::default() })
}

/// Whether the labels left of `arpa`, from the right, are of an address of this host.
fn is_loopback<'a>(mut labels: impl Iterator<Item = &'a [u8]>) -> bool {
    match labels.next() {
        Some(b"in-addr") => labels.next() == Some(b"127"),
        Some(b"ip6") => {
            labels.by_ref().take(LOOPBACK_ZEROS).filter(|label| *label == b"0").count() == LOOPBACK_ZEROS
                && labels.next() == Some(b"1")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, record_type: RecordType) -> Option<String> {
        let query = Query::query(Name::from_ascii(name).unwrap(), record_type);
        reply(&query).map(|reply| match &reply.answers[..] {
            [record] => record.data.to_string(),
            _ => reply.code.to_string(),
        })
    }

    #[test]
    fn localhost_is_this_host() {
        for name in ["localhost.", "LocalHost.", "a.localhost."] {
            assert_eq!(ask(name, RecordType::A).as_deref(), Some("127.0.0.1"), "{name}");
            assert_eq!(ask(name, RecordType::AAAA).as_deref(), Some("::1"), "{name}");
            assert_eq!(ask(name, RecordType::MX).as_deref(), Some("No Error"), "{name}");
        }
    }

    #[test]
    fn loopback_addresses_are_of_localhost() {
        let of_ipv6 = format!("1.{}ip6.arpa.", "0.".repeat(31));
        for name in ["1.0.0.127.in-addr.arpa.", "9.8.7.127.IN-ADDR.arpa.", &of_ipv6] {
            assert_eq!(ask(name, RecordType::PTR).as_deref(), Some("localhost."), "{name}");
        }
        let other = format!("2.{}ip6.arpa.", "0.".repeat(31));
        for name in ["1.0.0.126.in-addr.arpa.", "127.arpa.", "0.0.ip6.arpa.", &other] {
            assert_eq!(ask(name, RecordType::PTR), None, "{name}");
        }
    }

    #[test]
    fn names_that_never_exist_do_not() {
        for name in ["invalid.", "a.invalid.", "a.b.onion."] {
            assert_eq!(ask(name, RecordType::A).as_deref(), Some("Non-Existent Domain"), "{name}");
        }
    }

    #[test]
    fn the_rest_is_for_upstreams() {
        for name in [".", "example.com.", "localhost.example.", "printer.local.", "arpa."] {
            assert_eq!(ask(name, RecordType::A), None, "{name}");
        }
    }
}
