//! What upstreams said, for as long as it holds and a while longer.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant as SystemInstant};

use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RecordType};
use moka::Expiry;
use moka::sync::Cache as Moka;
use tokio::time::Instant;

use super::DnssecFlags;
use super::answer::Packed;
use crate::reply::MAX_UDP_PAYLOAD;

/// Everything on which an answer depends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    /// In lower case.
    name: Name,
    record_type: RecordType,
    flags: DnssecFlags,
}

/// The answers to questions, of which the least used ones go when there are too many. Clones are the same cache.
#[derive(Clone)]
pub(super) struct Cache {
    entries: Moka<Question, Entry>,
    /// How long answers are kept after their end.
    stale: Duration,
}

/// What the cache knows of a question.
pub(super) enum Found {
    /// The answer.
    Fresh(Arc<Packed>),
    /// An answer whose time is over.
    Old {
        packed: Arc<Packed>,
        /// No upstream told anything newer a short while ago.
        failed_lately: bool,
    },
    /// That no upstream answered a moment ago.
    Failed,
    /// Nothing.
    Nothing,
}

#[derive(Clone)]
struct Entry {
    answer: Option<Arc<Packed>>,
    /// When to ask again after a failure.
    retry: Option<Instant>,
    /// When nothing in here is of use any more.
    end: Instant,
}

/// The memory that all answers may take, in bytes.
const MAX_SIZE: u64 = 8 * 1024 * 1024;

/// What an entry takes beside its answer and what of its name is not in place: its key, its value, and the bookkeeping
/// of the cache.
const OVERHEAD: usize = 384;

/// How long no upstream is asked again for what none of them could tell (RFC 9520, 3.2).
const FAILURE_LIFETIME: Duration = Duration::from_secs(5);

/// The same while there is an old answer (RFC 8767, 5).
pub(super) const RECHECK: Duration = Duration::from_secs(30);

impl Question {
    pub(super) fn new(query: &Query, flags: DnssecFlags) -> Self {
        Self { name: query.name().to_lowercase(), record_type: query.query_type(), flags }
    }

    /// The same of another name.
    pub(super) fn at(&self, name: &Name) -> Self {
        Self { name: name.to_lowercase(), ..self.clone() }
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    pub(super) fn record_type(&self) -> RecordType {
        self.record_type
    }

    pub(super) fn dnssec_ok(&self) -> bool {
        self.flags.dnssec_ok
    }

    /// It as a message, with a random id.
    pub(super) fn message(&self) -> Message {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.flags.checking_disabled;
        message.add_query(Query::query(self.name.clone(), self.record_type));
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP_PAYLOAD).set_dnssec_ok(self.flags.dnssec_ok);
        message.edns = Some(edns);
        message
    }
}

impl Cache {
    /// An empty cache that keeps answers so long after their end.
    pub(super) fn new(stale: Duration) -> Self {
        let entries = Moka::builder().max_capacity(MAX_SIZE).weigher(weight).expire_after(AtEnd).build();
        Self { entries, stale }
    }

    pub(super) fn find(&self, question: &Question) -> Found {
        let now = Instant::now();
        let Some(entry) = self.entries.get(question).filter(|entry| now < entry.end) else {
            return Found::Nothing;
        };
        let failed_lately = entry.retry.is_some_and(|retry| now < retry);
        match entry.answer {
            Some(packed) if now < packed.end() => Found::Fresh(packed),
            Some(packed) => Found::Old { packed, failed_lately },
            None if failed_lately => Found::Failed,
            None => Found::Nothing,
        }
    }

    /// Keeps an answer, unless it may not be kept at all.
    pub(super) fn store(&self, question: &Question, packed: &Arc<Packed>) {
        if packed.end() <= Instant::now() {
            return self.entries.invalidate(question);
        }
        let end = packed.end() + self.stale;
        let entry = Entry { answer: Some(Arc::clone(packed)), retry: None, end };
        self.entries.insert(question.clone(), entry);
    }

    /// Keeps for a while that no upstream answers. An old answer stays.
    pub(super) fn store_failure(&self, question: &Question) {
        let now = Instant::now();
        let old = self.entries.get(question).filter(|entry| entry.answer.is_some() && now < entry.end);
        let entry = match old {
            Some(entry) => Entry { retry: Some(now + RECHECK), ..entry },
            None => {
                let end = now + FAILURE_LIFETIME;
                Entry { answer: None, retry: Some(end), end }
            }
        };
        self.entries.insert(question.clone(), entry);
    }
}

impl fmt::Debug for Cache {
    /// Whom clients ask for is not for logs.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cache").field("stale", &self.stale).finish_non_exhaustive()
    }
}

/// Entries leave at their end.
struct AtEnd;

impl Expiry<Question, Entry> for AtEnd {
    fn expire_after_create(&self, _: &Question, entry: &Entry, _: SystemInstant) -> Option<Duration> {
        Some(entry.end.saturating_duration_since(Instant::now()))
    }

    fn expire_after_update(
        &self,
        _: &Question,
        entry: &Entry,
        _: SystemInstant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.end.saturating_duration_since(Instant::now()))
    }
}

fn weight(question: &Question, entry: &Entry) -> u32 {
    let answer = entry.answer.as_ref().map_or(0, |packed| packed.size());
    u32::try_from(OVERHEAD + question.name.len() + answer).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::TXT;
    use hickory_proto::rr::{RData, Record};

    use super::super::answer::Answer;
    use super::*;

    fn question(name: &str) -> Question {
        let query = Query::query(Name::from_ascii(name).unwrap(), RecordType::TXT);
        Question::new(&query, DnssecFlags::default())
    }

    fn packed(question: &Question, ttl: u32, text: usize) -> Arc<Packed> {
        let mut message = question.message();
        let data = RData::TXT(TXT::new(vec!["x".repeat(text)]));
        message.add_answer(Record::from_rdata(question.name().clone(), ttl, data));
        Arc::new(Answer::new(question, message).pack().unwrap())
    }

    #[test]
    fn random_names_fill_the_cache_up_to_its_bound() {
        let cache = Cache::new(Duration::from_secs(86_400));
        for number in 0..100_000_u32 {
            let question = question(&format!("{:x}.example.", number.wrapping_mul(0x9e37_79b1)));
            cache.store(&question, &packed(&question, 3600, 200));
        }
        cache.entries.run_pending_tasks();
        let (entries, size) = (cache.entries.entry_count(), cache.entries.weighted_size());
        assert!(size <= MAX_SIZE, "{size} bytes");
        assert!(
            size > MAX_SIZE / 2 && entries > 1000,
            "{entries} answers of {size} bytes are hardly a cache"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_fresh_then_old_then_gone() {
        let cache = Cache::new(Duration::from_secs(100));
        let question = question("a.example.");
        cache.store(&question, &packed(&question, 10, 1));
        let after = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        after(9).await;
        assert!(matches!(cache.find(&question), Found::Fresh(_)));
        after(1).await;
        assert!(matches!(cache.find(&question), Found::Old { failed_lately: false, .. }));
        after(99).await;
        assert!(matches!(cache.find(&question), Found::Old { .. }));
        after(1).await;
        assert!(matches!(cache.find(&question), Found::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_kept_for_a_few_seconds() {
        let cache = Cache::new(Duration::from_secs(100));
        let question = question("a.example.");
        cache.store_failure(&question);
        assert!(matches!(cache.find(&question), Found::Failed));
        tokio::time::advance(FAILURE_LIFETIME).await;
        assert!(matches!(cache.find(&question), Found::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_leaves_an_old_answer_and_holds_off_the_next_question() {
        let cache = Cache::new(Duration::from_secs(100));
        let question = question("a.example.");
        cache.store(&question, &packed(&question, 10, 1));
        tokio::time::advance(Duration::from_secs(20)).await;
        cache.store_failure(&question);
        assert!(matches!(cache.find(&question), Found::Old { failed_lately: true, .. }));
        tokio::time::advance(RECHECK).await;
        assert!(matches!(cache.find(&question), Found::Old { failed_lately: false, .. }));
        tokio::time::advance(Duration::from_secs(60)).await;
        cache.store_failure(&question);
        assert!(matches!(cache.find(&question), Found::Failed));
    }

    #[test]
    fn what_has_no_life_is_not_kept() {
        let cache = Cache::new(Duration::from_secs(100));
        let question = question("a.example.");
        cache.store(&question, &packed(&question, 10, 1));
        cache.store(&question, &packed(&question, 0, 1));
        assert!(matches!(cache.find(&question), Found::Nothing));
    }
}
