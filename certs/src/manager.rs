//! Keeps a leaf certificate fresh.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::authority::{DomainAuthority, Leaf, LeafRequest};
use crate::error::CertError;

/// The longest time between two looks at the clock. Timers do not notice when the clock is set or the machine
/// was asleep.
const CLOCK_CHECK: Duration = Duration::from_mins(1);

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_mins(5);

/// The newest leaf, and how its renewal goes.
#[derive(Debug, Clone)]
pub struct CertState {
    /// The newest leaf there is. It may have expired, if renewing fails for long.
    pub leaf: Arc<Leaf>,
    /// Why the latest attempt to renew failed; none if it succeeded or is not due yet.
    pub error: Option<String>,
}

/// Issues a leaf and keeps it fresh: the future replaces it after two thirds of its life, also when it has
/// expired meanwhile or the clock was set back before its start. Failures are retried for ever with backoff and
/// leave the last leaf in place. The future ends once no receiver is left.
///
/// # Errors
/// When the first leaf cannot be issued, because the request makes no sense.
pub fn maintain(
    authority: Arc<DomainAuthority>,
    request: LeafRequest,
) -> Result<(watch::Receiver<CertState>, impl Future<Output = ()> + Send + 'static), CertError> {
    maintain_with(move |now| authority.issue(&request, now), SystemTime::now)
}

fn maintain_with(
    mut issue: impl FnMut(SystemTime) -> Result<Leaf, CertError>,
    clock: impl Fn() -> SystemTime,
) -> Result<(watch::Receiver<CertState>, impl Future<Output = ()>), CertError> {
    let leaf = Arc::new(issue(clock())?);
    let (states, receiver) = watch::channel(CertState { leaf, error: None });
    Ok((receiver, renew(states, issue, clock)))
}

async fn renew(
    states: watch::Sender<CertState>,
    mut issue: impl FnMut(SystemTime) -> Result<Leaf, CertError>,
    clock: impl Fn() -> SystemTime,
) {
    let mut retry = FIRST_RETRY;
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = states.closed() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let now = clock();
        let due_in = due_in(&states.borrow().leaf, now);
        if !due_in.is_zero() {
            pause = due_in.min(CLOCK_CHECK);
            continue;
        }
        match issue(now) {
            Ok(leaf) => {
                info!(not_after = ?leaf.not_after, "certificate renewed");
                states.send_replace(CertState { leaf: Arc::new(leaf), error: None });
                retry = FIRST_RETRY;
                pause = Duration::ZERO;
            }
            Err(error) => {
                warn!(%error, retry_in = ?retry, "certificate not renewed");
                states.send_modify(|state| state.error = Some(error.to_string()));
                pause = retry;
                retry = (retry * 2).min(LAST_RETRY);
            }
        }
    }
}

/// How long until the leaf is to be replaced.
fn due_in(leaf: &Leaf, now: SystemTime) -> Duration {
    if now < leaf.not_before {
        return Duration::ZERO;
    }
    leaf.renew_at.duration_since(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

    use tokio::time::Instant;

    use super::*;
    use crate::{DEFAULT_LEAF_LIFETIME, DomainKey, LeafUsage};

    const DAY: Duration = Duration::from_hours(24);

    /// A wall clock that runs with tokio's paused time and can be set.
    #[derive(Clone)]
    struct Clock {
        started: Instant,
        days_off: Arc<AtomicI64>,
    }

    impl Clock {
        fn new() -> Self {
            Self { started: Instant::now(), days_off: Arc::default() }
        }

        fn epoch() -> SystemTime {
            SystemTime::UNIX_EPOCH + DAY * 20_000
        }

        fn now(&self) -> SystemTime {
            let running = Self::epoch() + self.started.elapsed();
            let days = self.days_off.load(Ordering::SeqCst);
            let offset = DAY * u32::try_from(days.unsigned_abs()).unwrap();
            if days < 0 { running - offset } else { running + offset }
        }
    }

    fn request() -> LeafRequest {
        LeafRequest {
            common_name: "alice".into(),
            subject_alt_names: vec![],
            usage: LeafUsage::Client,
            lifetime: DEFAULT_LEAF_LIFETIME,
        }
    }

    fn issuer() -> impl FnMut(SystemTime) -> Result<Leaf, CertError> {
        let authority =
            DomainAuthority::new("alice", &DomainKey::generate().unwrap(), Clock::epoch()).unwrap();
        move |now| authority.issue(&request(), now)
    }

    #[tokio::test(start_paused = true)]
    async fn a_leaf_is_replaced_after_two_thirds_of_its_life() {
        let clock = Clock::new();
        let reading = clock.clone();
        let (mut states, renewal) = maintain_with(issuer(), move || reading.now()).unwrap();
        let first = states.borrow_and_update().leaf.clone();
        let watching = async {
            states.changed().await.unwrap();
            let second = states.borrow_and_update().clone();
            let age = clock.now().duration_since(Clock::epoch()).unwrap();
            assert!(age >= DAY * 60 && age <= DAY * 60 + CLOCK_CHECK, "{age:?}");
            assert_ne!(second.leaf.key_pem, first.key_pem);
            assert_eq!(second.error, None);
            drop(states);
        };
        tokio::join!(renewal, watching);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leaf_that_expired_while_the_machine_slept_is_replaced_at_the_next_look_at_the_clock() {
        let clock = Clock::new();
        let reading = clock.clone();
        let (mut states, renewal) = maintain_with(issuer(), move || reading.now()).unwrap();
        let watching = async {
            tokio::time::sleep(DAY).await;
            clock.days_off.store(1000, Ordering::SeqCst);
            assert!(states.borrow_and_update().leaf.not_after < clock.now());
            let set = Instant::now();
            states.changed().await.unwrap();
            assert!(set.elapsed() <= CLOCK_CHECK);
            assert!(states.borrow().leaf.not_after > clock.now());
            drop(states);
        };
        tokio::join!(renewal, watching);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leaf_that_is_not_valid_yet_is_replaced() {
        let clock = Clock::new();
        let reading = clock.clone();
        let (mut states, renewal) = maintain_with(issuer(), move || reading.now()).unwrap();
        let watching = async {
            tokio::time::sleep(DAY).await;
            clock.days_off.store(-1000, Ordering::SeqCst);
            let set = Instant::now();
            states.changed().await.unwrap();
            assert!(set.elapsed() <= CLOCK_CHECK);
            assert!(states.borrow().leaf.not_before < clock.now());
            drop(states);
        };
        tokio::join!(renewal, watching);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_keep_the_last_leaf_and_are_retried_ever_more_slowly() {
        let clock = Clock::new();
        let reading = clock.clone();
        let mut issue = issuer();
        let calls = AtomicUsize::new(0);
        let failing = |now| match calls.fetch_add(1, Ordering::SeqCst) {
            1..=20 => Err(CertError::Clock),
            _ => issue(now),
        };
        let (mut states, renewal) = maintain_with(failing, move || reading.now()).unwrap();
        let first = states.borrow_and_update().leaf.clone();
        let watching = async {
            let mut failed_at = Vec::new();
            loop {
                states.changed().await.unwrap();
                let state = states.borrow_and_update().clone();
                let Some(error) = state.error else {
                    assert_ne!(state.leaf.key_pem, first.key_pem);
                    break;
                };
                assert_eq!(error, CertError::Clock.to_string());
                assert_eq!(state.leaf, first);
                failed_at.push(Instant::now());
            }
            assert_eq!(failed_at.len(), 20);
            let pauses: Vec<_> = failed_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(pauses.is_sorted(), "{pauses:?}");
            let last = pauses[pauses.len() - 1];
            assert!(last >= LAST_RETRY && last < LAST_RETRY + FIRST_RETRY, "{last:?}");
            drop(states);
        };
        tokio::join!(renewal, watching);
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_ends_when_nobody_listens() {
        let authority =
            DomainAuthority::new("alice", &DomainKey::generate().unwrap(), SystemTime::now()).unwrap();
        let (states, renewal) = maintain(Arc::new(authority), request()).unwrap();
        let task = tokio::spawn(renewal);
        drop(states);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_request_that_makes_no_sense_fails_at_once() {
        let authority =
            DomainAuthority::new("alice", &DomainKey::generate().unwrap(), SystemTime::now()).unwrap();
        let request = LeafRequest { lifetime: Duration::ZERO, ..request() };
        let error = maintain(Arc::new(authority), request).err();
        assert_eq!(error, Some(CertError::Lifetime(Duration::ZERO)));
    }
}
