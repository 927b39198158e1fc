//! How much work the requests of one stream may make.

use std::time::{Duration, Instant};

/// Of so many cores, the requests of one stream may keep one busy in the long run.
const CORES: u32 = 4;
/// How far ahead of that a stream may run: a large first request, or the answers to a large update.
const AHEAD: Duration = Duration::from_millis(400);

/// Tells when a stream may be read again, so that no client keeps the server busy with requests alone.
///
/// A limit on the number of requests would not do: an acknowledgement costs microseconds and comes as often as
/// there are changes, while two words of a request may have a hundred thousand names compared.
#[derive(Debug)]
pub(super) struct Pace {
    paid_until: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { paid_until: now }
    }

    /// Notes that a request took so long.
    pub(super) fn spend(&mut self, cost: Duration, now: Instant) {
        self.paid_until = self.paid_until.max(now) + cost * CORES;
    }

    /// From when on the next request may be read, if not at once.
    pub(super) fn pause(&self, now: Instant) -> Option<Instant> {
        let ahead = self.paid_until.saturating_duration_since(now);
        (ahead > AHEAD).then(|| now + (ahead - AHEAD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cheap_requests_never_wait() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for millis in 0..60_000 {
            let now = start + Duration::from_millis(millis);
            assert_eq!(pace.pause(now), None);
            pace.spend(Duration::from_micros(200), now);
        }
    }

    #[test]
    fn costly_requests_take_their_share_and_no_more() {
        let start = Instant::now();
        let (mut pace, mut now, mut spent) = (Pace::new(start), start, Duration::ZERO);
        while now < start + Duration::from_secs(60) {
            now = pace.pause(now).unwrap_or(now) + Duration::from_millis(5);
            pace.spend(Duration::from_millis(5), now);
            spent += Duration::from_millis(5);
        }
        let share = Duration::from_secs(60) / CORES;
        assert!(share <= spent && spent <= share + AHEAD, "{spent:?}");
    }
}
