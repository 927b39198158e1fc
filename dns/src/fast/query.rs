//! The reader of plain queries.

use hickory_proto::rr::RecordType;

use super::writer::Writer;
use crate::intake::HEADER;
use crate::reply::MAX_UDP_PAYLOAD;

/// A plain query.
#[derive(Debug)]
pub(crate) struct Query<'p> {
    pub(super) id: u16,
    flags: u16,
    /// Name, type and class, as they came.
    pub(super) question: &'p [u8],
    /// The name, as it came.
    pub(super) name: &'p [u8],
    pub(crate) record_type: RecordType,
    pub(super) edns: Option<Edns>,
}

/// The OPT record of a query, which holds no option.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edns {
    payload: u16,
    pub(super) dnssec_ok: bool,
}

/// The longest name, with the octets of the labels' lengths (RFC 1035, 3.1).
pub(super) const MAX_NAME: usize = 255;

pub(super) const CLASS_IN: u16 = 1;

pub(super) const OPT: u16 = 41;

/// What every client takes over UDP (RFC 1035, 4.2.1).
const MIN_UDP_PAYLOAD: u16 = 512;

/// The flags of the header.
pub(super) mod flag {
    pub(in crate::fast) const RESPONSE: u16 = 1 << 15;
    pub(in crate::fast) const AUTHORITATIVE: u16 = 1 << 10;
    pub(in crate::fast) const TRUNCATED: u16 = 1 << 9;
    pub(in crate::fast) const RECURSION_DESIRED: u16 = 1 << 8;
    pub(in crate::fast) const RECURSION_AVAILABLE: u16 = 1 << 7;
    pub(in crate::fast) const AUTHENTIC_DATA: u16 = 1 << 5;
    pub(in crate::fast) const CHECKING_DISABLED: u16 = 1 << 4;
    /// In the flags of OPT.
    pub(in crate::fast) const DNSSEC_OK: u16 = 1 << 15;
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

    /// Writes a response that says nothing but to ask again over TCP.
    pub(crate) fn truncate(&self, recursion_available: bool, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        let flags = flag::TRUNCATED | self.answer_flags(recursion_available);
        writer.head(self, flags, [0, 0])?;
        writer.edns(self.edns)?;
        Some(writer.length())
    }

    /// The flags of every response to it.
    pub(super) fn answer_flags(&self, recursion_available: bool) -> u16 {
        let copied = self.flags & (flag::RECURSION_DESIRED | flag::CHECKING_DISABLED);
        flag::RESPONSE | copied | if recursion_available { flag::RECURSION_AVAILABLE } else { 0 }
    }

    /// The size of UDP packets that the client takes and that pass nearly every path.
    pub(super) fn max_response(&self) -> usize {
        self.edns.map_or(MIN_UDP_PAYLOAD, |edns| edns.payload.clamp(MIN_UDP_PAYLOAD, MAX_UDP_PAYLOAD)).into()
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
