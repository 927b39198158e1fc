//! The writer of responses.

use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinEncodable as _;

use super::query::{CLASS_IN, Edns, OPT, Query, flag};
use crate::intake::HEADER;
use crate::reply::MAX_UDP_PAYLOAD;

/// A response as far as it is written. Every method gives `None` where there is no room.
pub(super) struct Writer<'o> {
    out: &'o mut [u8],
    length: usize,
}

/// What the SOA records of all serial numbers have in common.
#[derive(Debug)]
pub(super) struct Soa {
    /// Both names, without compression.
    names: Box<[u8]>,
    ttl: u32,
    /// Refresh, retry, expire, minimum.
    timers: [u32; 4],
}

/// A pointer to the name of the question, which follows the header (RFC 1035, 4.1.4).
const QUESTION_NAME: [u8; 2] = [0xC0, HEADER as u8];

impl<'o> Writer<'o> {
    pub(super) fn new(out: &'o mut [u8]) -> Self {
        Self { out, length: 0 }
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Header and question; `records` are the numbers of answers and authorities.
    pub(super) fn head(&mut self, query: &Query<'_>, flags: u16, records: [usize; 2]) -> Option<()> {
        self.u16(query.id)?;
        self.u16(flags)?;
        self.u16(1)?;
        for count in records {
            self.u16(count.try_into().ok()?)?;
        }
        self.u16(query.edns.is_some().into())?;
        self.bytes(query.question)
    }

    pub(super) fn address(&mut self, record_type: RecordType, ttl: u32, address: &[u8]) -> Option<()> {
        self.record(&QUESTION_NAME, record_type, ttl, address.len())?;
        self.bytes(address)
    }

    pub(super) fn soa(&mut self, owner: &[u8], soa: &Soa, serial: u32) -> Option<()> {
        self.record(owner, RecordType::SOA, soa.ttl, soa.names.len() + 20)?;
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

    pub(super) fn edns(&mut self, client: Option<Edns>) -> Option<()> {
        let Some(client) = client else { return Some(()) };
        self.bytes(&[0])?;
        self.u16(OPT)?;
        self.u16(MAX_UDP_PAYLOAD)?;
        self.u16(0)?;
        self.u16(if client.dnssec_ok { flag::DNSSEC_OK } else { 0 })?;
        self.u16(0)
    }

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
}

impl Soa {
    pub(super) fn new(record: &Record) -> Self {
        let RData::SOA(soa) = &record.data else { unreachable!("the SOA record holds a SOA") };
        let wire = |name: &Name| name.to_bytes().expect("a name has at most 255 bytes");
        Self {
            names: [wire(&soa.mname), wire(&soa.rname)].concat().into(),
            ttl: record.ttl,
            timers: [
                soa.refresh.cast_unsigned(),
                soa.retry.cast_unsigned(),
                soa.expire.cast_unsigned(),
                soa.minimum,
            ],
        }
    }
}
