//! Counters.

mod upstream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde::{Deserialize, Serialize};

pub(crate) use self::upstream::UpstreamCounters;
pub use self::upstream::{LATENCY_BOUNDS, UpstreamUse};
use crate::query_log::Transport;

/// What the server did since its start.
#[derive(Debug, Default)]
pub struct Metrics {
    responses: ResponseCounters,
    /// Those of the workers, which share no counter, so that none waits for another's cache line.
    workers: Mutex<Vec<Arc<ResponseCounters>>>,
    truncated: AtomicU64,
    dropped: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    stale: AtomicU64,
    upstreams: Mutex<BTreeMap<SocketAddr, Arc<UpstreamCounters>>>,
}

/// Responses of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Responses {
    /// The name of the response code in IANA's registry; `OTHER` stands for codes that an upstream made up.
    pub rcode: &'static str,
    /// `A`, `AAAA`, `SRV`, `PTR`, `CNAME`, or `OTHER`, which also stands for packets that are no query.
    pub record_type: &'static str,
    /// How the queries came.
    pub transport: Transport,
    /// How many there were.
    pub count: u64,
}

/// Queries of networks that ask too often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limited {
    /// Those answered with an empty, truncated response, so that an honest client asks again over TCP.
    pub truncated: u64,
    /// Those without an answer.
    pub dropped: u64,
}

/// Queries for names of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheUse {
    /// Those answered from the cache.
    pub hits: u64,
    /// Those for which an upstream had to be asked.
    pub misses: u64,
    /// Those answered with what should no longer be in the cache, for want of an upstream (RFC 8767).
    pub stale: u64,
}

/// The names of the response codes in IANA's registry.
const RCODES: [&str; 8] =
    ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "BADVERS", "OTHER"];

const RECORD_TYPES: [&str; 6] = ["A", "AAAA", "SRV", "PTR", "CNAME", "OTHER"];

const TRANSPORTS: [Transport; 2] = [Transport::Udp, Transport::Tcp];

impl Metrics {
    /// How many queries got each response code.
    #[must_use]
    pub fn by_rcode(&self) -> [(&'static str, u64); RCODES.len()] {
        let responses = self.responses();
        RCODES.map(|rcode| {
            let of_code = responses.iter().filter(|responses| responses.rcode == rcode);
            (rcode, of_code.map(|responses| responses.count).sum())
        })
    }

    /// The responses of all kinds, also of those that did not occur.
    #[must_use]
    pub fn responses(&self) -> Vec<Responses> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |code: usize, record_type: usize, transport: usize| -> u64 {
            let counters = workers.iter().map(Arc::as_ref).chain([&self.responses]);
            counters.map(|counters| counters.0[code][record_type][transport].load(Ordering::Relaxed)).sum()
        };
        let mut responses = Vec::new();
        for (code, rcode) in RCODES.into_iter().enumerate() {
            for (number, record_type) in RECORD_TYPES.into_iter().enumerate() {
                for transport in TRANSPORTS {
                    let count = count(code, number, transport as usize);
                    responses.push(Responses { rcode, record_type, transport, count });
                }
            }
        }
        responses
    }

    /// The queries of networks that ask too often.
    #[must_use]
    pub fn limited(&self) -> Limited {
        Limited {
            truncated: self.truncated.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    /// How the cache served.
    #[must_use]
    pub fn cache(&self) -> CacheUse {
        CacheUse {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            stale: self.stale.load(Ordering::Relaxed),
        }
    }

    /// What each upstream did, in the order of their addresses.
    #[must_use]
    pub fn upstreams(&self) -> Vec<UpstreamUse> {
        let upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        upstreams.iter().map(|(address, counters)| counters.read(*address)).collect()
    }

    pub(crate) fn count(&self, code: ResponseCode, record_type: RecordType, transport: Transport) {
        self.responses.count(code, record_type, transport);
    }

    /// Counters for one more worker.
    pub(crate) fn worker(&self) -> Arc<ResponseCounters> {
        let counters = Arc::<ResponseCounters>::default();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&counters));
        counters
    }

    /// A response was truncated because its client's network asks too often.
    pub(crate) fn count_truncated(&self) {
        self.truncated.fetch_add(1, Ordering::Relaxed);
    }

    /// A response was left out because its client's network asks too often.
    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// A query was answered from the cache.
    pub(crate) fn count_hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// The cache had no answer.
    pub(crate) fn count_miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// A query was answered with what is too old.
    pub(crate) fn count_stale(&self) {
        self.stale.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters of an upstream.
    pub(crate) fn upstream(&self, address: SocketAddr) -> Arc<UpstreamCounters> {
        let mut upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(upstreams.entry(address).or_default())
    }
}

/// The name of a response code in IANA's registry, as in [`Responses::rcode`].
pub(crate) fn rcode_name(code: ResponseCode) -> &'static str {
    RCODES[rcode_index(code)]
}

/// Responses by code, type and transport.
#[derive(Debug, Default)]
pub(crate) struct ResponseCounters([[[AtomicU64; TRANSPORTS.len()]; RECORD_TYPES.len()]; RCODES.len()]);

impl ResponseCounters {
    pub(crate) fn count(&self, code: ResponseCode, record_type: RecordType, transport: Transport) {
        let record_type = match record_type {
            RecordType::A => 0,
            RecordType::AAAA => 1,
            RecordType::SRV => 2,
            RecordType::PTR => 3,
            RecordType::CNAME => 4,
            _ => 5,
        };
        self.0[rcode_index(code)][record_type][transport as usize].fetch_add(1, Ordering::Relaxed);
    }
}

fn rcode_index(code: ResponseCode) -> usize {
    match code {
        ResponseCode::NoError => 0,
        ResponseCode::FormErr => 1,
        ResponseCode::ServFail => 2,
        ResponseCode::NXDomain => 3,
        ResponseCode::NotImp => 4,
        ResponseCode::Refused => 5,
        ResponseCode::BADVERS => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_of_all_workers_count_together() {
        let metrics = Metrics::default();
        metrics.worker().count(ResponseCode::NXDomain, RecordType::SRV, Transport::Udp);
        metrics.worker().count(ResponseCode::NXDomain, RecordType::SRV, Transport::Udp);
        metrics.count(ResponseCode::NXDomain, RecordType::MX, Transport::Tcp);
        metrics.count(ResponseCode::YXDomain, RecordType::A, Transport::Udp);
        let mut responses = metrics.responses();
        assert_eq!(responses.len(), 8 * 6 * 2);
        responses.retain(|responses| responses.count > 0);
        let kinds = responses.iter().map(|kind| (kind.rcode, kind.record_type, kind.transport, kind.count));
        assert_eq!(
            kinds.collect::<Vec<_>>(),
            [
                ("NXDOMAIN", "SRV", Transport::Udp, 2),
                ("NXDOMAIN", "OTHER", Transport::Tcp, 1),
                ("OTHER", "A", Transport::Udp, 1)
            ]
        );
        assert_eq!(metrics.by_rcode()[3], ("NXDOMAIN", 3));
    }
}
