//! Counters of one upstream.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// What an upstream did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUse {
    /// Where it is.
    pub address: SocketAddr,
    /// Queries sent to it.
    pub queries: u64,
    /// Queries that got no answer, or one that says it failed.
    pub failures: u64,
    /// The time that all its answers took.
    pub latency: Duration,
    /// Its answers by time: how many took at most [`LATENCY_BOUNDS`], and one more for those that took longer.
    /// Each answer counts once, in its own bucket.
    pub buckets: [u64; LATENCY_BOUNDS.len() + 1],
    /// Whether it answered the last query that it had to; an upstream that was asked nothing yet is taken for one.
    pub answers: bool,
    /// The queries since its last answer that got none.
    pub consecutive_failures: u64,
    /// When its last answer came.
    pub last_success: Option<Timestamp>,
    /// When it last gave no answer.
    pub last_failure: Option<Timestamp>,
}

/// The upper bounds of the buckets of [`UpstreamUse::buckets`].
pub const LATENCY_BOUNDS: [Duration; 6] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_millis(2000),
];

/// What an upstream did so far.
#[derive(Debug, Default)]
pub(crate) struct UpstreamCounters {
    failures: AtomicU64,
    micros: AtomicU64,
    unanswered: AtomicU64,
    buckets: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    health: Mutex<Health>,
}

/// Whether an upstream answers.
#[derive(Clone, Copy, Debug, Default)]
struct Health {
    consecutive_failures: u64,
    last_success: Option<Timestamp>,
    last_failure: Option<Timestamp>,
}

impl UpstreamCounters {
    /// It answered; `failed`: it says that it cannot tell.
    pub(crate) fn count_answer(&self, latency: Duration, failed: bool) {
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < latency);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.failures.fetch_add(failed.into(), Ordering::Relaxed);
        let mut health = self.health();
        health.consecutive_failures = 0;
        health.last_success = Some(Timestamp::now());
    }

    /// It did not answer.
    pub(crate) fn count_silence(&self) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut health = self.health();
        health.consecutive_failures += 1;
        health.last_failure = Some(Timestamp::now());
    }

    /// The queries since its last answer that got none.
    pub(crate) fn consecutive_failures(&self) -> u64 {
        self.health().consecutive_failures
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self, address: SocketAddr) -> UpstreamUse {
        let buckets = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        let Health { consecutive_failures, last_success, last_failure } = *self.health();
        UpstreamUse {
            address,
            queries: buckets.iter().sum::<u64>() + self.unanswered.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            latency: Duration::from_micros(self.micros.load(Ordering::Relaxed)),
            buckets,
            answers: consecutive_failures == 0,
            consecutive_failures,
            last_success,
            last_failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn an_upstreams_answers_are_counted_by_the_time_they_took() {
        let metrics = Metrics::default();
        let address = "192.0.2.1:53".parse().unwrap();
        let upstream = metrics.upstream(address);
        upstream.count_answer(Duration::from_millis(1), false);
        upstream.count_answer(Duration::from_millis(2), true);
        upstream.count_answer(Duration::from_secs(3), false);
        metrics.upstream(address).count_silence();
        let upstreams = metrics.upstreams();
        assert_eq!((upstreams[0].queries, upstreams[0].failures), (4, 2));
        assert_eq!(upstreams[0].latency, Duration::from_millis(3003));
        assert_eq!(upstreams[0].buckets, [1, 1, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn an_upstream_answers_until_it_does_not() {
        let metrics = Metrics::default();
        let counters = metrics.upstream("192.0.2.1:53".parse().unwrap());
        let upstream = || metrics.upstreams().remove(0);
        assert!(upstream().answers && upstream().last_success.is_none());
        counters.count_silence();
        counters.count_silence();
        assert!(!upstream().answers && upstream().last_failure.is_some());
        assert_eq!(upstream().consecutive_failures, 2);
        counters.count_answer(Duration::ZERO, true);
        assert!(upstream().answers && upstream().last_success.is_some());
    }
}
