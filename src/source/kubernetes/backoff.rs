//! How long to wait before the next try.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The first pause. A server that restarts is there again at once, or in a while.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause: recovery must be quick.
const LONGEST: Duration = Duration::from_secs(5);

/// Tries that failed, one after the other.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The number of tries that failed since the last one that did not.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Notes a failure, and answers how long to wait.
    pub(super) fn fail(&mut self) -> Duration {
        let pause = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures += 1;
        spread(pause)
    }

    /// Notes a success.
    pub(super) fn succeed(&mut self) {
        self.failures = 0;
    }
}

/// Between half of `pause` and all of it: thousands of gateways that lost the same server must not come back as one.
pub(super) fn spread(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness the pause is just not spread.
    let _ = aws_lc_rs::rand::fill(&mut random);
    let share = f64::from(u16::from_ne_bytes(random)) / f64::from(u16::MAX);
    pause.mul_f64(0.5 + share / 2.0)
}

/// Returns at `time`; never for `None`.
pub(super) async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
