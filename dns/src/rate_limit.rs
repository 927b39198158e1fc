//! Limits of the responses to strangers, who may forge the addresses of others (response-rate limiting).

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::client::network;

/// A token bucket for each network.
///
/// There is a fixed number of buckets, so that forged addresses take no memory; a few networks share one, which
/// nobody can choose, as the key of the hash is random.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    per_second: u64,
    start: Instant,
    hasher: RandomState,
    buckets: Mutex<Box<[Bucket]>>,
}

/// What becomes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is sent.
    Send,
    /// It is sent empty and truncated: an honest client asks again over TCP, where nobody can forge addresses.
    Truncate,
    /// It is not sent.
    Drop,
}

/// The responses of late, which drain with time. All zeros is a network that never asked.
#[derive(Clone, Debug, Default)]
struct Bucket {
    /// In thousandths of a response.
    level: u64,
    /// When the level was this, in milliseconds since the start.
    at: u64,
    /// Responses over the limit; one in [`SLIP`] is truncated, the others are dropped.
    refused: u64,
}

/// 384 KiB in all.
const BUCKETS: usize = 16_384;

const SLIP: u64 = 2;

const RESPONSE: u64 = 1000;

impl RateLimiter {
    /// So many responses for each network in a second; as many may come at once.
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        Self {
            per_second: per_second.get().into(),
            start: Instant::now(),
            hasher: RandomState::new(),
            buckets: Mutex::new(vec![Bucket::default(); BUCKETS].into()),
        }
    }

    /// What becomes of a response to `client` at `now`.
    pub(crate) fn check(&self, client: IpAddr, now: Instant) -> Verdict {
        let slot = self.hasher.hash_one(network(client)) as usize % BUCKETS;
        let now = now.saturating_duration_since(self.start).as_millis() as u64;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = &mut buckets[slot];
        let drained = now.saturating_sub(bucket.at).saturating_mul(self.per_second);
        bucket.level = bucket.level.saturating_sub(drained);
        bucket.at = bucket.at.max(now);
        if bucket.level + RESPONSE <= self.per_second * RESPONSE {
            bucket.level += RESPONSE;
            return Verdict::Send;
        }
        bucket.refused += 1;
        if bucket.refused.is_multiple_of(SLIP) { Verdict::Truncate } else { Verdict::Drop }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn limiter(per_second: u32) -> (RateLimiter, Instant) {
        let limiter = RateLimiter::new(NonZeroU32::new(per_second).unwrap());
        let start = limiter.start;
        (limiter, start)
    }

    #[test]
    fn a_network_gets_its_responses_and_every_second_one_over_them_truncated() {
        let (limiter, start) = limiter(3);
        let mut verdicts = Vec::new();
        for client in ["192.0.2.1", "192.0.2.2", "::ffff:192.0.2.255", "192.0.2.1", "192.0.2.1", "192.0.2.9"]
        {
            verdicts.push(limiter.check(ip(client), start));
        }
        use Verdict::{Drop, Send, Truncate};
        assert_eq!(verdicts, [Send, Send, Send, Drop, Truncate, Drop]);
    }

    #[test]
    fn what_was_used_up_comes_back_with_time_but_not_more() {
        let (limiter, start) = limiter(2);
        let client = ip("2001:db8:0:ff00::1");
        let sent = |after| {
            let now = start + Duration::from_millis(after);
            std::iter::repeat_with(|| limiter.check(client, now)).take_while(|v| *v == Verdict::Send).count()
        };
        assert_eq!(sent(0), 2);
        assert_eq!(sent(499), 0);
        assert_eq!(sent(500), 1);
        assert_eq!(sent(1_000_000), 2);
        assert_eq!(sent(0), 0, "a clock read late counts as the newest one");
    }

    #[test]
    fn networks_are_limited_on_their_own() {
        let (limiter, start) = limiter(1);
        // Two networks share a bucket seldom enough for one of many pairs to be apart.
        let apart = (0..8_u8).any(|net| {
            let pair = [ip(&format!("198.51.{net}.1")), ip(&format!("2001:db8:{net}::1"))];
            pair.map(|client| limiter.check(client, start)) == [Verdict::Send; 2]
        });
        assert!(apart);
    }
}
