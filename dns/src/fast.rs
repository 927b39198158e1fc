//! Plain queries for the addresses of hosts, from bytes to bytes.
//!
//! Most queries are alike: one question for an address, EDNS without options. They are answered here without
//! allocations. Whatever is out of the ordinary gives `None`, and is left to the handler, which knows everything; for
//! what is answered here, it would say the same.

mod query;
mod writer;

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

pub(crate) use self::query::Query;
use self::query::{MAX_NAME, flag};
use self::writer::{Soa, Writer};
use crate::address::Addresses;
use crate::intake::HEADER;
use crate::table::{Found, Table};

/// Answers queries, one at a time.
#[derive(Debug)]
pub(crate) struct Responder {
    ttl: u32,
    soa: Soa,
    v4_turns: Turns,
    v6_turns: Turns,
}

/// A response that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) length: usize,
    pub(crate) code: ResponseCode,
}

/// The records of an answer.
enum Body<'t> {
    V4(&'t [Ipv4Addr]),
    V6(&'t [Ipv6Addr]),
    /// None; but the SOA goes with it.
    Negative(ResponseCode),
}

/// No plain name of ours has more.
const MAX_LABELS: usize = 8;

impl Responder {
    /// For a zone with the settings of this table.
    pub(crate) fn new(table: &Table) -> Self {
        Self {
            ttl: table.zone.ttl,
            soa: Soa::new(&table.soa()),
            v4_turns: Turns::default(),
            v6_turns: Turns::default(),
        }
    }

    /// Writes the answer to `query`; `None`: the handler has to.
    pub(crate) fn answer(
        &mut self,
        query: &Query<'_>,
        table: &Table,
        recursion_available: bool,
        out: &mut [u8],
    ) -> Option<Written> {
        let mut lower = [0; MAX_NAME];
        let lower = lower.get_mut(..query.name.len())?;
        lower.copy_from_slice(query.name);
        // Lengths are below the letters.
        lower.make_ascii_lowercase();
        let mut labels = [&[] as &[u8]; MAX_LABELS];
        let labels = split(lower, &mut labels)?;
        let body = body(table.find(labels), query.record_type)?;

        let fits = query.max_response().min(out.len());
        let mut writer = Writer::new(out.get_mut(..fits)?);
        let mut flags = flag::AUTHORITATIVE | query.answer_flags(recursion_available);
        let mut code = ResponseCode::NoError;
        match body {
            Body::V4(addresses) => {
                writer.head(query, flags, [addresses.len(), 0])?;
                let (before, first) = addresses.split_at_checked(self.v4_turns.next(addresses))?;
                for address in first.iter().chain(before) {
                    writer.address(RecordType::A, self.ttl, &address.octets())?;
                }
            }
            Body::V6(addresses) => {
                writer.head(query, flags, [addresses.len(), 0])?;
                let (before, first) = addresses.split_at_checked(self.v6_turns.next(addresses))?;
                for address in first.iter().chain(before) {
                    writer.address(RecordType::AAAA, self.ttl, &address.octets())?;
                }
            }
            Body::Negative(negative) => {
                code = negative;
                flags |= u16::from(code.low());
                writer.head(query, flags, [0, 1])?;
                writer.soa(zone_name(labels, query.name).as_ref(), &self.soa, table.serial())?;
            }
        }
        writer.edns(query.edns)?;
        Some(Written { length: writer.length(), code })
    }
}

fn body(found: Found<'_>, record_type: RecordType) -> Option<Body<'_>> {
    let addresses: &Addresses = match found {
        Found::Host(addresses) => addresses,
        Found::Empty | Found::Pending => return Some(Body::Negative(ResponseCode::NoError)),
        Found::Missing => return Some(Body::Negative(ResponseCode::NXDomain)),
        _ => return None,
    };
    match record_type {
        RecordType::A if !addresses.v4.is_empty() => Some(Body::V4(&addresses.v4)),
        RecordType::AAAA if !addresses.v6.is_empty() => Some(Body::V6(&addresses.v6)),
        RecordType::A | RecordType::AAAA => Some(Body::Negative(ResponseCode::NoError)),
        _ => None,
    }
}

/// The labels of a name, without the root's; `None`: there are too many.
fn split<'n, 'l>(mut name: &'n [u8], labels: &'l mut [&'n [u8]; MAX_LABELS]) -> Option<&'l [&'n [u8]]> {
    let mut count = 0;
    while let Some((&length @ 1.., rest)) = name.split_first() {
        let (label, rest) = rest.split_at_checked(length.into())?;
        *labels.get_mut(count)? = label;
        count += 1;
        name = rest;
    }
    labels.get(..count)
}

/// The owner of the SOA: the end of the question's name, where it is one, else written out.
enum ZoneName {
    Pointer([u8; 2]),
    Whole,
}

const ZONE: &[u8; 5] = b"\x03svc\0";

fn zone_name(labels: &[&[u8]], name: &[u8]) -> ZoneName {
    if labels.last() != Some(&&b"svc"[..]) {
        return ZoneName::Whole;
    }
    // A name has at most 255 bytes, so that the pointer's 14 bits suffice.
    let offset = HEADER + name.len() - ZONE.len();
    ZoneName::Pointer((0xC000 | offset as u16).to_be_bytes())
}

impl AsRef<[u8]> for ZoneName {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Pointer(pointer) => pointer,
            Self::Whole => ZONE,
        }
    }
}

/// Which address of a host comes first.
///
/// Hosts count on their own, so that a client that always asks for two in turn does not get the same address first
/// every time. There is a fixed number of counters; a few hosts share one.
///
/// The handler's [`Rotation`](crate::handler::Rotation) does the same for all threads together: each worker has turns of
/// its own, so that it needs no atomic operations for them.
#[derive(Debug)]
struct Turns {
    counters: [usize; 64],
}

impl Turns {
    fn next<T>(&mut self, addresses: &[T]) -> usize {
        // Where they are in memory tells hosts apart.
        let slot = (addresses.as_ptr().addr() >> 4) % self.counters.len();
        let turn = self.counters[slot];
        self.counters[slot] = turn.wrapping_add(1);
        turn % addresses.len().max(1)
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self { counters: [0; 64] }
    }
}

#[cfg(test)]
mod tests;
