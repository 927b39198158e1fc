//! From what an upstream says to what clients get.

use std::time::Duration;

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::time::Instant;

use super::cache::Question;
use crate::reply::{ExtendedError, Reply};

/// What belongs to a question of all that an upstream said.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    pub(super) authority: Vec<Record>,
    lifetime: Duration,
}

/// An answer as bytes: this takes the least memory, and one knows how much.
#[derive(Debug)]
pub(super) struct Packed {
    message: Box<[u8]>,
    since: Instant,
    lifetime: Duration,
}

/// How long an answer is kept at most, whatever it says. Data with longer lives is rare and no trouble to ask for again.
const MAX_LIFETIME: u32 = 86_400;

/// The same for negative answers (RFC 2308, 5: one to three hours).
const MAX_NEGATIVE_LIFETIME: u32 = 10_800;

/// How long clients may keep an answer whose time is over, in seconds (RFC 8767, 4).
const STALE_TTL: u32 = 30;

/// Aliases in one answer that are looked at.
const MAX_ALIASES: usize = 16;

impl Answer {
    /// Takes from `message` the records of the name of the question and of what its aliases lead to, and what proves
    /// that there are no more. Everything else is nothing that this upstream was asked for.
    pub(super) fn new(question: &Question, message: Message) -> Self {
        let chain = chain(question, &message.answers);
        let is_negative = !has_data(question, &chain, &message.answers);
        let (mut answers, mut authority) = (message.answers, message.authorities);
        answers.retain(|record| belongs(record, question, &chain));
        authority.retain(|record| match record.record_type() {
            RecordType::SOA => is_negative && chain.iter().any(|name| record.name.zone_of(name)),
            RecordType::NSEC | RecordType::NSEC3 | RecordType::RRSIG => question.dnssec_ok(),
            _ => false,
        });
        for record in answers.iter_mut().chain(&mut authority) {
            record.ttl = lifetime(record);
        }
        let ends = if is_negative {
            // Without SOA, it would go round for ever between servers that ask each other (RFC 2308, 5).
            let soa = authority.iter().find(|record| record.record_type() == RecordType::SOA);
            soa.map_or(0, |soa| soa.ttl.min(MAX_NEGATIVE_LIFETIME))
        } else {
            MAX_LIFETIME
        };
        let ttl = answers.iter().map(|record| record.ttl).fold(ends, u32::min);
        let lifetime = Duration::from_secs(ttl.into());
        Self { code: message.metadata.response_code, answers, authority, lifetime }
    }

    /// Its bytes, from now on.
    pub(super) fn pack(self) -> Result<Packed, ProtoError> {
        let mut message = Message::new(0, MessageType::Response, OpCode::Query);
        message.metadata.response_code = self.code;
        message.answers = self.answers;
        message.authorities = self.authority;
        let message = message.to_vec()?.into();
        Ok(Packed { message, since: Instant::now(), lifetime: self.lifetime })
    }
}

impl Packed {
    /// The reply to a question for `name`, as its client wrote it. Records have lost the time that passed.
    pub(super) fn reply(&self, name: &Name) -> Reply {
        let age = u32::try_from(self.since.elapsed().as_secs()).unwrap_or(u32::MAX);
        let reply = self.unpack(name, |ttl| ttl.saturating_sub(age));
        // Nothing else is kept that is REFUSED.
        let is_filtered = reply.code == ResponseCode::Refused;
        Reply { extended_error: is_filtered.then_some(ExtendedError::Filtered), ..reply }
    }

    /// The reply if the time is over and no upstream knows better.
    pub(super) fn stale_reply(&self, name: &Name) -> Reply {
        let reply = self.unpack(name, |_| STALE_TTL);
        let why = match reply.code {
            ResponseCode::NXDomain => ExtendedError::StaleNxDomain,
            ResponseCode::Refused => ExtendedError::Filtered,
            _ => ExtendedError::StaleAnswer,
        };
        Reply { extended_error: Some(why), ..reply }
    }

    /// When its time is over.
    pub(super) fn end(&self) -> Instant {
        self.since + self.lifetime
    }

    /// In bytes.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.message.len()
    }

    fn unpack(&self, name: &Name, ttl: impl Fn(u32) -> u32) -> Reply {
        let Ok(message) = Message::from_vec(&self.message) else {
            return Reply::error(ResponseCode::ServFail);
        };
        let (mut answers, mut authority) = (message.answers, message.authorities);
        for record in answers.iter_mut().chain(&mut authority) {
            record.ttl = ttl(record.ttl);
            if record.name == *name {
                record.name.clone_from(name);
            }
        }
        Reply { code: message.metadata.response_code, answers, authority, ..Reply::default() }
    }
}

/// The name to ask for next, if the answer ends with an alias and the upstream did not look what that leads to.
pub(super) fn dangling_alias(question: &Question, message: &Message) -> Option<Name> {
    let mut chain = chain(question, &message.answers);
    let is_proven = message.authorities.iter().any(|record| record.record_type() == RecordType::SOA);
    if chain.len() == 1
        || is_proven
        || message.metadata.response_code != ResponseCode::NoError
        || has_data(question, &chain, &message.answers)
    {
        return None;
    }
    // The end of a chain that goes round, or is too long, has an alias.
    chain.pop().filter(|last| alias(last, &message.answers).is_none())
}

/// Whether a message tells nothing but who else might know: its server does not resolve for others (RFC 2308, 2.2).
pub(super) fn is_referral(message: &Message) -> bool {
    let has = |record_type| message.authorities.iter().any(|record| record.record_type() == record_type);
    message.metadata.response_code == ResponseCode::NoError
        && message.answers.is_empty()
        && !message.metadata.authoritative
        && has(RecordType::NS)
        && !has(RecordType::SOA)
}

/// The name of the question, and what its aliases lead to.
fn chain(question: &Question, answers: &[Record]) -> Vec<Name> {
    let mut chain = vec![question.name().clone()];
    if matches!(question.record_type(), RecordType::CNAME | RecordType::ANY) {
        return chain;
    }
    while let Some(target) = chain.last().and_then(|last| alias(last, answers)) {
        if chain.len() > MAX_ALIASES || chain.contains(target) {
            break;
        }
        chain.push(target.clone());
    }
    chain
}

fn alias<'a>(name: &Name, answers: &'a [Record]) -> Option<&'a Name> {
    answers.iter().find_map(|record| match &record.data {
        RData::CNAME(CNAME(target)) if record.name == *name => Some(target),
        _ => None,
    })
}

/// Whether there is a record of the type that was asked for at the end of the chain.
fn has_data(question: &Question, chain: &[Name], answers: &[Record]) -> bool {
    answers.iter().any(|record| chain.last() == Some(&record.name) && is_asked(record, question))
}

/// Whether the record is of a name of the chain, and of the type that was asked for, an alias or a signature; or the
/// alias of a whole zone above it (RFC 6672).
fn belongs(record: &Record, question: &Question, chain: &[Name]) -> bool {
    let is_above = || chain.iter().any(|name| record.name.zone_of(name));
    match record.record_type() {
        RecordType::CNAME => chain.contains(&record.name),
        RecordType::DNAME => is_above(),
        RecordType::RRSIG if question.dnssec_ok() => is_above(),
        _ => is_asked(record, question) && chain.contains(&record.name),
    }
}

fn is_asked(record: &Record, question: &Question) -> bool {
    [record.record_type(), RecordType::ANY].contains(&question.record_type())
}

/// How long a record may be kept, in seconds: with the first bit, not at all (RFC 2181, 8); the SOA of a negative
/// answer as long as that (RFC 2308, 3).
fn lifetime(record: &Record) -> u32 {
    let ttl = if i32::try_from(record.ttl).is_ok() { record.ttl } else { 0 };
    match &record.data {
        RData::SOA(soa) => ttl.min(soa.minimum),
        _ => ttl,
    }
}
