//! Plain queries for the addresses of hosts, from bytes to bytes.
//!
//! Most queries are alike: one question for an address, EDNS without options. They are answered here without
//! allocations. Whatever is out of the ordinary gives `None`, and is left to the handler, which knows everything; for
//! what is answered here, it would say the same.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinEncodable as _;

use crate::address::Addresses;
use crate::reply::MAX_UDP_PAYLOAD;
use crate::table::{Found, Table};

/// A plain query.
#[derive(Debug)]
pub(crate) struct Query<'p> {
    id: u16,
    flags: u16,
    /// Name, type and class, as they came.
    question: &'p [u8],
    /// The name, as it came.
    name: &'p [u8],
    record_type: RecordType,
    edns: Option<Edns>,
}

/// The OPT record of a query, which holds no option.
#[derive(Clone, Copy, Debug)]
struct Edns {
    payload: u16,
    dnssec_ok: bool,
}

/// Answers queries, one at a time.
#[derive(Debug)]
pub(crate) struct Responder {
    ttl: u32,
    soa: Soa,
    v4_turns: Turns,
    v6_turns: Turns,
}

/// What the SOA records of all serial numbers have in common.
#[derive(Debug)]
struct Soa {
    /// Both names, without compression.
    names: Box<[u8]>,
    /// Refresh, retry, expire, minimum.
    timers: [u32; 4],
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

const HEADER: usize = 12;

/// A pointer to the name of the question, which follows the header (RFC 1035, 4.1.4).
const QUESTION_NAME: [u8; 2] = [0xC0, HEADER as u8];

/// The longest name, with the octets of the labels' lengths (RFC 1035, 3.1).
const MAX_NAME: usize = 255;

/// No plain name of ours has more.
const MAX_LABELS: usize = 8;

const CLASS_IN: u16 = 1;

const OPT: u16 = 41;

/// What every client takes over UDP (RFC 1035, 4.2.1).
const MIN_UDP_PAYLOAD: u16 = 512;

mod flag {
    pub(super) const RESPONSE: u16 = 1 << 15;
    pub(super) const AUTHORITATIVE: u16 = 1 << 10;
    pub(super) const TRUNCATED: u16 = 1 << 9;
    pub(super) const RECURSION_DESIRED: u16 = 1 << 8;
    pub(super) const RECURSION_AVAILABLE: u16 = 1 << 7;
    pub(super) const AUTHENTIC_DATA: u16 = 1 << 5;
    pub(super) const CHECKING_DISABLED: u16 = 1 << 4;
    /// In the flags of OPT.
    pub(super) const DNSSEC_OK: u16 = 1 << 15;
}

impl<'p> Query<'p> {
    /// The query, if it is a plain one.
    pub(crate) fn read(packet: &'p [u8]) -> Option<Self> {
        let mut reader = Reader { rest: packet };
        let id = reader.u16()?;
        let flags = reader.u16()?;
        let allowed = flag::RECURSION_DESIRED | flag::AUTHENTIC_DATA | flag::CHECKING_DISABLED;
        if flags & !allowed != 0 {
            return None;
        }
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        let [1, 0, 0, additional @ 0..=1] = counts else { return None };

        let name = reader.name()?;
        let record_type = reader.u16()?;
        let class = reader.u16()?;
        let question = packet.get(HEADER..packet.len() - reader.rest.len())?;
        let edns = if additional == 1 { Some(reader.edns()?) } else { None };
        let is_data = matches!(record_type, 1..=127) && record_type != OPT;
        if class != CLASS_IN || !is_data || !reader.rest.is_empty() {
            return None;
        }
        Some(Self { id, flags, question, name, record_type: record_type.into(), edns })
    }

    pub(crate) fn record_type(&self) -> RecordType {
        self.record_type
    }

    /// Writes a response that says nothing but to ask again over TCP.
    pub(crate) fn truncate(&self, recursion_available: bool, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer { out, length: 0 };
        let flags = flag::TRUNCATED | self.answer_flags(recursion_available);
        writer.head(self, flags, [0, 0])?;
        writer.edns(self.edns)?;
        Some(writer.length)
    }

    fn answer_flags(&self, recursion_available: bool) -> u16 {
        let copied = self.flags & (flag::RECURSION_DESIRED | flag::CHECKING_DISABLED);
        flag::RESPONSE | copied | if recursion_available { flag::RECURSION_AVAILABLE } else { 0 }
    }

    /// The size of UDP packets that the client takes and that pass nearly every path.
    fn max_response(&self) -> usize {
        self.edns.map_or(MIN_UDP_PAYLOAD, |edns| edns.payload.clamp(MIN_UDP_PAYLOAD, MAX_UDP_PAYLOAD)).into()
    }
}

impl Responder {
    /// For a zone with the settings of this table.
    pub(crate) fn new(table: &Table) -> Self {
        Self {
            ttl: table.ttl(),
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
        let mut writer = Writer { out: out.get_mut(..fits)?, length: 0 };
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
                writer.soa(zone_name(labels, query.name).as_ref(), self.ttl, &self.soa, table.serial())?;
            }
        }
        writer.edns(query.edns)?;
        Some(Written { length: writer.length, code })
    }
}

fn body(found: Found<'_>, record_type: RecordType) -> Option<Body<'_>> {
    let addresses: &Addresses = match found {
        Found::Host(addresses) => addresses,
        Found::Empty => return Some(Body::Negative(ResponseCode::NoError)),
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

impl Soa {
    fn new(record: &Record) -> Self {
        let RData::SOA(soa) = &record.data else { unreachable!("the SOA record holds a SOA") };
        let wire = |name: &Name| name.to_bytes().expect("a name has at most 255 bytes");
        Self {
            names: [wire(&soa.mname), wire(&soa.rname)].concat().into(),
            timers: [
                soa.refresh.cast_unsigned(),
                soa.retry.cast_unsigned(),
                soa.expire.cast_unsigned(),
                soa.minimum,
            ],
        }
    }
}

/// Which address of a host comes first.
///
/// Hosts count on their own, so that a client that always asks for two in turn does not get the same address first
/// every time. There is a fixed number of counters; a few hosts share one.
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

/// What is left of a packet. Every method gives `None` where less is left than it needs, or something unusual.
struct Reader<'p> {
    rest: &'p [u8],
}

impl<'p> Reader<'p> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        let (first, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u16::from_be_bytes(*first))
    }

    /// A name without pointers, with its lengths and the root.
    fn name(&mut self) -> Option<&'p [u8]> {
        let mut end = 0;
        loop {
            let length @ 0..=63 = *self.rest.get(end)? else { return None };
            end += 1 + usize::from(length);
            if end > MAX_NAME {
                return None;
            }
            if length == 0 {
                break;
            }
        }
        let (name, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(name)
    }

    /// An OPT record of version 0 without options (RFC 6891, 6.1.2).
    fn edns(&mut self) -> Option<Edns> {
        let (root, record_type, payload) = (self.u8()?, self.u16()?, self.u16()?);
        let (extended_code, version, flags, length) = (self.u8()?, self.u8()?, self.u16()?, self.u16()?);
        let is_plain = (root, extended_code, version, length) == (0, 0, 0, 0);
        let is_opt = record_type == OPT;
        (is_opt && is_plain).then_some(Edns { payload, dnssec_ok: flags & flag::DNSSEC_OK != 0 })
    }
}

/// A response as far as it is written. Every method gives `None` where there is no room.
struct Writer<'o> {
    out: &'o mut [u8],
    length: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.length + bytes.len();
        self.out.get_mut(self.length..end)?.copy_from_slice(bytes);
        self.length = end;
        Some(())
    }

    fn u16(&mut self, number: u16) -> Option<()> {
        self.bytes(&number.to_be_bytes())
    }

    fn u32(&mut self, number: u32) -> Option<()> {
        self.bytes(&number.to_be_bytes())
    }

    /// Header and question; `records` are the numbers of answers and authorities.
    fn head(&mut self, query: &Query<'_>, flags: u16, records: [usize; 2]) -> Option<()> {
        self.u16(query.id)?;
        self.u16(flags)?;
        self.u16(1)?;
        for count in records {
            self.u16(count.try_into().ok()?)?;
        }
        self.u16(query.edns.is_some().into())?;
        self.bytes(query.question)
    }

    fn address(&mut self, record_type: RecordType, ttl: u32, address: &[u8]) -> Option<()> {
        self.record(&QUESTION_NAME, record_type, ttl, address.len())?;
        self.bytes(address)
    }

    fn soa(&mut self, owner: &[u8], ttl: u32, soa: &Soa, serial: u32) -> Option<()> {
        self.record(owner, RecordType::SOA, ttl, soa.names.len() + 20)?;
        self.bytes(&soa.names)?;
        self.u32(serial)?;
        soa.timers.into_iter().try_for_each(|timer| self.u32(timer))
    }

    /// All of a record but its data.
    fn record(&mut self, owner: &[u8], record_type: RecordType, ttl: u32, data: usize) -> Option<()> {
        self.bytes(owner)?;
        self.u16(record_type.into())?;
        self.u16(CLASS_IN)?;
        self.u32(ttl)?;
        self.u16(data.try_into().ok()?)
    }

    fn edns(&mut self, client: Option<Edns>) -> Option<()> {
        let Some(client) = client else { return Some(()) };
        self.bytes(&[0])?;
        self.u16(OPT)?;
        self.u16(MAX_UDP_PAYLOAD)?;
        self.u16(0)?;
        self.u16(if client.dnssec_ok { flag::DNSSEC_OK } else { 0 })?;
        self.u16(0)
    }
}

#[cfg(test)]
mod tests;
