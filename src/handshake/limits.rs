//! How much work strangers may cause.
//!
//! Reading a request and comparing what it names with what is known costs microseconds, to open its share a thousand
//! times as much. A request that the source has signed is its own; everybody else can write the others, and those are
//! counted before anything is computed for them.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota, RateLimiter};
use model::DomainId;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

/// Unsigned handshakes in the name of one source from one address.
const PER_SOURCE_AND_ADDRESS: Quota = rate(2, 10);

/// Unsigned handshakes from one address.
const PER_ADDRESS: Quota = rate(20, 100);

/// Unsigned handshakes in the name of one source.
const PER_SOURCE: Quota = rate(5, 20);

/// Unsigned handshakes. At one or two milliseconds each, that is a fifth of a processor at most.
const UNSIGNED: Quota = rate(100, 100);

/// Signed handshakes in the name of one source from one address that have come before, or so it seems.
const REPEATED_PER_SOURCE_AND_ADDRESS: Quota = rate(2, 10);

/// Signed handshakes that have come before, or so it seems.
const REPEATED: Quota = rate(50, 50);

/// Probes from one address.
const PROBES_PER_ADDRESS: Quota = rate(200, 200);

/// Requests that are longer than handshakes are.
const LONG: Quota = rate(20, 20);

/// Names and addresses that are told apart in one count. Others share one count.
const MAX_KEYS: usize = 10_000;

/// What is as if it had never come is forgotten so often.
const FORGET_PERIOD: Duration = Duration::from_secs(1);

/// Unsigned handshakes that compute at once.
const UNSIGNED_COMPUTING: usize = 2;

/// Signed handshakes that compute at once, beside those.
const SIGNED_COMPUTING: usize = 4;

/// The limits of one handshake server. Only names of sources that have a route are counted by name.
pub(super) struct Limits<C: Clock = MonotonicClock> {
    per_source_and_address: Counts<(DomainId, IpAddr), C>,
    per_address: Counts<IpAddr, C>,
    per_source: Counts<DomainId, C>,
    unsigned: Counts<(), C>,
    repeated_per_source_and_address: Counts<(DomainId, IpAddr), C>,
    repeated: Counts<(), C>,
    probes: Counts<IpAddr, C>,
    long: Counts<(), C>,
    unsigned_computing: Semaphore,
    signed_computing: Semaphore,
}

impl Limits {
    /// Nothing has come yet.
    pub(super) fn new() -> Self {
        Self::with_clock(&MonotonicClock)
    }
}

impl<C: Clock + Clone> Limits<C> {
    fn with_clock(clock: &C) -> Self {
        Self {
            per_source_and_address: Counts::new(PER_SOURCE_AND_ADDRESS, clock),
            per_address: Counts::new(PER_ADDRESS, clock),
            per_source: Counts::new(PER_SOURCE, clock),
            unsigned: Counts::new(UNSIGNED, clock),
            repeated_per_source_and_address: Counts::new(REPEATED_PER_SOURCE_AND_ADDRESS, clock),
            repeated: Counts::new(REPEATED, clock),
            probes: Counts::new(PROBES_PER_ADDRESS, clock),
            long: Counts::new(LONG, clock),
            unsigned_computing: Semaphore::new(UNSIGNED_COMPUTING),
            signed_computing: Semaphore::new(SIGNED_COMPUTING),
        }
    }

    /// Whether anything may be computed for an unsigned request in the name of `source`, which has a route. One that is
    /// refused because of its address costs the others of that source nothing.
    pub(super) fn admit_unsigned(&self, source: &DomainId, address: IpAddr) -> bool {
        let network = network(address);
        self.per_source_and_address.admit(&(source.clone(), network))
            && self.per_address.admit(&network)
            && self.per_source.admit(source)
            && self.unsigned.admit(&())
    }

    /// Whether anything may be computed for a signed request of `source` that may be a repeated one: anybody can repeat
    /// one, but a source whose clock is wrong must be told so.
    pub(super) fn admit_repeated(&self, source: &DomainId, address: IpAddr) -> bool {
        self.repeated_per_source_and_address.admit(&(source.clone(), network(address)))
            && self.repeated.admit(&())
    }

    /// Whether a probe from `address` may be answered.
    pub(super) fn admit_probe(&self, address: IpAddr) -> bool {
        self.probes.admit(&network(address))
    }

    /// Whether a request may be read that is longer than handshakes are.
    pub(super) fn admit_long(&self) -> bool {
        self.long.admit(&())
    }

    /// A place to compute in. Signed requests never wait behind unsigned ones.
    ///
    /// # Errors
    /// Never, for the places are never closed.
    pub(super) async fn place(&self, is_signed: bool) -> Result<SemaphorePermit<'_>, AcquireError> {
        let places = if is_signed { &self.signed_computing } else { &self.unsigned_computing };
        places.acquire().await
    }
}

/// The address, as far as its owner cannot choose it: who has one of IPv6 has 2^64 (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// So many times a second, and `at_once` after a time of rest.
const fn rate(a_second: u32, at_once: u32) -> Quota {
    let a_second = NonZeroU32::new(a_second).expect("a rate is not 0");
    Quota::per_second(a_second).allow_burst(NonZeroU32::new(at_once).expect("a burst is not 0"))
}

/// What has come, by key, in bounded memory.
struct Counts<K: Hash + Eq + Clone, C: Clock> {
    limiter: RateLimiter<K, Times<K>, C, NoOpMiddleware<C::Instant>>,
    forgot_at: Mutex<C::Instant>,
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> Counts<K, C> {
    fn new(quota: Quota, clock: &C) -> Self {
        let limiter = RateLimiter::new(quota, Times::new(), clock.clone());
        Self { limiter, forgot_at: Mutex::new(clock.now()) }
    }

    fn admit(&self, key: &K) -> bool {
        let now = self.limiter.clock().now();
        let mut forgot_at = self.forgot_at.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(*forgot_at) >= FORGET_PERIOD.into() {
            *forgot_at = now;
            self.limiter.retain_recent();
        }
        drop(forgot_at);
        self.limiter.check_key(key).is_ok()
    }
}

/// The limiter's state: one time for each key, and one for all keys for which there was no room.
struct Times<K>(Mutex<HashMap<Option<K>, Nanos>>);

impl<K> Times<K> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<K>, Nanos>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> StateStore for Times<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut times = self.lock();
        let own = Some(key.clone());
        let key = if times.len() < MAX_KEYS || times.contains_key(&own) { own } else { None };
        let (outcome, time) = measure(times.get(&key).copied())?;
        times.insert(key, time);
        Ok(outcome)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for Times<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        self.lock().retain(|_, time| *time > drop_below);
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limits() -> (Limits<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limits::with_clock(&clock), clock)
    }

    fn domain(name: &str) -> DomainId {
        name.parse().expect("a name")
    }

    /// One of 2^32 addresses.
    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn admitted(attempts: u32, attempt: impl Fn(u32) -> bool) -> u32 {
        (0..attempts).map(|number| u32::from(attempt(number))).sum()
    }

    #[test]
    fn one_address_may_ask_in_one_name_at_times() {
        let (limits, clock) = limits();
        let alice = domain("alice");
        let ask = |_| limits.admit_unsigned(&alice, address(1));
        assert_eq!(admitted(1000, ask), 10);
        clock.advance(Duration::from_secs(1));
        assert_eq!(admitted(1000, ask), 2);
        clock.advance(Duration::from_secs(3600));
        assert_eq!(admitted(1000, ask), 10);
    }

    #[test]
    fn an_address_that_asks_too_often_costs_others_of_the_source_nothing() {
        let (limits, _) = limits();
        let alice = domain("alice");
        admitted(1000, |_| limits.admit_unsigned(&alice, address(1)));
        assert!(limits.admit_unsigned(&alice, address(2)));
    }

    #[test]
    fn many_addresses_may_not_ask_in_one_name_more_often_and_cost_other_sources_nothing() {
        let (limits, clock) = limits();
        let alice = domain("alice");
        assert_eq!(admitted(1000, |number| limits.admit_unsigned(&alice, address(number))), 20);
        clock.advance(Duration::from_secs(1));
        assert_eq!(admitted(1000, |number| limits.admit_unsigned(&alice, address(number))), 5);
        assert!(limits.admit_unsigned(&domain("carol"), address(1)));
    }

    #[test]
    fn one_address_may_not_ask_in_many_names() {
        let (limits, clock) = limits();
        let ask = |number| limits.admit_unsigned(&domain(&format!("source-{number}")), address(1));
        assert_eq!(admitted(1000, ask), 100);
        clock.advance(Duration::from_secs(1));
        assert_eq!(admitted(1000, ask), 20);
    }

    #[test]
    fn all_together_are_limited() {
        let (limits, clock) = limits();
        let ask = |number| limits.admit_unsigned(&domain(&format!("source-{number}")), address(number));
        assert_eq!(admitted(1000, ask), 100);
        clock.advance(Duration::from_millis(500));
        assert_eq!(admitted(1000, ask), 50);
    }

    #[test]
    fn probes_and_long_requests_are_limited() {
        let (limits, _) = limits();
        assert_eq!(admitted(1000, |_| limits.admit_probe(address(1))), 200);
        assert!(limits.admit_probe(address(2)));
        assert_eq!(admitted(1000, |_| limits.admit_long()), 20);
    }

    #[test]
    fn addresses_of_one_owner_are_one() {
        let same = |one: &str, other: &str| {
            network(one.parse().expect("an address")) == network(other.parse().expect("an address"))
        };
        assert!(same("2001:db8::1", "2001:db8::ffff:0:0:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }

    #[test]
    fn ever_new_addresses_take_no_more_memory_and_known_ones_keep_their_count() {
        let (limits, clock) = limits();
        let probe = |number| limits.admit_probe(address(number));
        assert_eq!(admitted(250, |_| probe(0)), 200);
        clock.advance(Duration::from_millis(5));
        assert!(probe(0));
        assert_eq!(admitted(100_000, |number| probe(number + 1)), 9_999 + 200, "no room: they share a count");
        assert_eq!(limits.probes.limiter.len(), MAX_KEYS + 1);
        assert!(!probe(0), "it is still counted by itself");
        assert!(probe(1));

        clock.advance(2 * FORGET_PERIOD);
        assert!(probe(200_000));
        assert_eq!(limits.probes.limiter.len(), 1, "what is long past is forgotten");
    }

    #[tokio::test]
    async fn signed_requests_never_wait_behind_unsigned_ones() {
        let limits = Limits::new();
        let _one = limits.place(false).await.expect("is open");
        let _other = limits.place(false).await.expect("is open");
        assert_eq!(limits.unsigned_computing.available_permits(), 0);
        assert!(limits.place(true).await.is_ok());
    }
}
