//! The election of one leader by a Kubernetes Lease, as client-go's: a candidate takes the lease when its holder has
//! not renewed it for its duration, counted from when the candidate last saw it change. So no two clocks are compared.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, info};

use crate::board::Board;
use crate::problem::describe;
use crate::{FIELD_MANAGER, Settings};

/// How long a lease holds that is not renewed.
const DURATION: Duration = Duration::from_secs(10);

/// How long a leader goes on that does not manage to renew; the rest of [`DURATION`] is for its work to end.
const RENEW_DEADLINE: Duration = Duration::from_secs(7);

/// Time from one renewal to the next.
const RENEW_PERIOD: Duration = Duration::from_secs(3);

/// Time from one look at the lease of another, or one failure, to the next.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// Pause after the lease has changed while it was looked at.
const CHANGED_PAUSE: Duration = Duration::from_millis(200);

/// How long one look at the lease may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// The subject of problems with the lease.
const SUBJECT: &str = "lease";

/// One who competes for the lease.
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: String,
    election: Election,
    /// A time before the last renewal was sent; `None` if the lease is not ours.
    renewed: Option<Instant>,
    board: Board,
}

/// What one look at the lease has brought.
enum Look {
    /// It is ours, renewed.
    Ours,
    /// It is another's; the time after which to look again.
    Others(Duration),
    /// It was written by somebody else, be it an earlier request of ours, while it was looked at.
    Changed,
}

impl Candidate {
    /// A candidate that has not looked at the lease yet.
    pub(crate) fn new(client: &Client, settings: &Settings, board: Board) -> Self {
        Self {
            api: Api::namespaced(client.clone(), &settings.lease_namespace),
            name: settings.lease_name.clone(),
            election: Election::new(settings.identity.clone()),
            renewed: None,
            board,
        }
    }

    /// Returns once the lease is ours.
    pub(crate) async fn win(&mut self) {
        loop {
            match self.look().await {
                Some(Look::Ours) => return,
                Some(Look::Others(wait)) => sleep(wait).await,
                Some(Look::Changed) => sleep(CHANGED_PAUSE).await,
                None => sleep(RETRY_PERIOD).await,
            }
        }
    }

    /// Renews the lease, and returns once it is lost or could not be renewed in time: early enough that no other
    /// candidate can have it yet, unless it was taken by force.
    pub(crate) async fn keep(&mut self) {
        let mut pause = RENEW_PERIOD;
        while let Some(renewed) = self.renewed {
            let attempt = async {
                sleep(pause).await;
                self.look().await
            };
            pause = match timeout_at(renewed + RENEW_DEADLINE, attempt).await {
                Ok(Some(Look::Ours)) => RENEW_PERIOD,
                Ok(Some(Look::Changed)) => CHANGED_PAUSE,
                Ok(None) => RETRY_PERIOD,
                Ok(Some(Look::Others(_))) | Err(_) => {
                    self.lose();
                    return;
                }
            };
        }
    }

    /// Gives the lease back, if it is ours.
    pub(crate) async fn release(&mut self) {
        if self.renewed.is_none() {
            return;
        }
        self.lose();
        let give_back = async {
            let Some(lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
            let Some(released) = self.election.released(lease, Timestamp::now()) else { return Ok(()) };
            self.write(&released).await
        };
        match timeout(REQUEST_TIMEOUT, give_back).await {
            Ok(Ok(())) => info!("the lease is given back"),
            Ok(Err(error)) => debug!(%error, "the lease is not given back; it expires"),
            Err(_) => debug!("the lease is not given back in time; it expires"),
        }
    }

    fn lose(&mut self) {
        self.renewed = None;
        self.board.leader(self.election.holder(), false);
    }

    /// Looks at the lease, and takes or renews it where that is our turn. `None` if that failed.
    async fn look(&mut self) -> Option<Look> {
        self.board.forget_old();
        let what = format!("take the lease {}", self.name);
        match timeout(REQUEST_TIMEOUT, self.try_look()).await {
            Ok(Ok(look)) => {
                self.board.solved(SUBJECT);
                Some(look)
            }
            Ok(Err(error)) => {
                self.board.problem(SUBJECT, describe(&what, &error));
                None
            }
            Err(_) => {
                let text =
                    format!("cannot {what}: no answer within {REQUEST_TIMEOUT:?}; check the API server");
                self.board.problem(SUBJECT, text);
                None
            }
        }
    }

    async fn try_look(&mut self) -> Result<Look, kube::Error> {
        let lease = self.api.get_opt(&self.name).await?;
        let sent = Instant::now();
        match self.election.step(lease, sent, Timestamp::now()) {
            Step::Wait(wait) => {
                self.board.leader(self.election.holder(), false);
                Ok(Look::Others(wait.min(RETRY_PERIOD)))
            }
            Step::Take(lease) => match self.write(&lease).await {
                Ok(()) => {
                    self.renewed = Some(sent);
                    self.board.leader(Some(&self.election.identity), true);
                    Ok(Look::Ours)
                }
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(Look::Changed),
                Err(error) => Err(error),
            },
        }
    }

    /// Writes the lease, if it is still the one that was read.
    async fn write(&self, lease: &Lease) -> Result<(), kube::Error> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        if lease.metadata.resource_version.is_none() {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..lease.metadata.clone() };
            self.api.create(&params, &Lease { metadata, ..lease.clone() }).await.map(drop)
        } else {
            self.api.replace(&self.name, &params, lease).await.map(drop)
        }
    }
}

/// Who may take the lease, as one candidate sees it.
struct Election {
    identity: String,
    observed: Option<Observed>,
}

struct Observed {
    spec: LeaseSpec,
    at: Instant,
}

/// What a candidate has to do.
#[derive(Debug, PartialEq)]
enum Step {
    /// Write this, if the lease is still the one that was read.
    Take(Box<Lease>),
    /// Wait so long: the lease is another's.
    Wait(Duration),
}

impl Election {
    fn new(identity: String) -> Self {
        Self { identity, observed: None }
    }

    /// What to do after `lease` was read at `now`, which this machine's clock shows as `clock`.
    fn step(&mut self, lease: Option<Lease>, now: Instant, clock: Timestamp) -> Step {
        let Lease { metadata, spec } = lease.unwrap_or_default();
        let spec = spec.unwrap_or_default();
        let changed_at = match &self.observed {
            Some(observed) if observed.spec == spec => observed.at,
            _ => now,
        };
        self.observed = Some(Observed { spec: spec.clone(), at: changed_at });
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let is_ours = holder == self.identity;
        if !holder.is_empty() && !is_ours {
            let left = (changed_at + duration_of(&spec)).saturating_duration_since(now);
            if !left.is_zero() {
                return Step::Wait(left);
            }
        }
        let acquired = spec.acquire_time.clone().filter(|_| is_ours);
        let is_first = metadata.resource_version.is_none();
        let transitions = spec.lease_transitions.unwrap_or_default();
        Step::Take(Box::new(Lease {
            metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(seconds(DURATION)),
                acquire_time: acquired.or(Some(MicroTime(clock))),
                renew_time: Some(MicroTime(clock)),
                lease_transitions: Some(if is_ours || is_first {
                    transitions
                } else {
                    transitions.saturating_add(1)
                }),
                ..spec
            }),
        }))
    }

    /// `lease` without a holder; `None` if it is not ours.
    fn released(&self, lease: Lease, clock: Timestamp) -> Option<Lease> {
        let spec = lease.spec.filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity))?;
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(MicroTime(clock)),
            renew_time: Some(MicroTime(clock)),
            ..spec
        };
        Some(Lease { metadata: lease.metadata, spec: Some(spec) })
    }

    /// Who held the lease when it was last read.
    fn holder(&self) -> Option<&str> {
        let holder = self.observed.as_ref()?.spec.holder_identity.as_deref();
        holder.filter(|holder| !holder.is_empty())
    }
}

/// How long the holder of `spec` may be silent. Whoever writes nonsense there does not keep the lease for ever.
fn duration_of(spec: &LeaseSpec) -> Duration {
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(DURATION, |seconds| Duration::from_secs(seconds.min(60)))
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// What an API server makes of a lease that is written.
    fn stored(step: Step, version: u32) -> Lease {
        let Step::Take(mut lease) = step else { panic!("{step:?} writes nothing") };
        lease.metadata.resource_version = Some(version.to_string());
        *lease
    }

    fn spec(lease: &Lease) -> &LeaseSpec {
        lease.spec.as_ref().unwrap()
    }

    fn election(identity: &str) -> Election {
        Election::new(identity.to_owned())
    }

    #[test]
    fn the_first_candidate_creates_the_lease_and_renews_it() {
        let (mut a, start) = (election("a"), Instant::now());
        let first = stored(a.step(None, start, clock(100)), 1);
        assert_eq!(spec(&first).holder_identity.as_deref(), Some("a"));
        assert_eq!(spec(&first).lease_duration_seconds, Some(10));
        assert_eq!(spec(&first).lease_transitions, Some(0));
        let renewed = stored(a.step(Some(first.clone()), start + RENEW_PERIOD, clock(103)), 2);
        assert_eq!(spec(&renewed).acquire_time, spec(&first).acquire_time);
        assert_eq!(spec(&renewed).renew_time, Some(MicroTime(clock(103))));
        assert_eq!(spec(&renewed).lease_transitions, Some(0));
    }

    #[test]
    fn a_lease_expires_when_it_was_not_seen_to_change_for_its_duration_whatever_the_clocks_say() {
        let (mut a, mut b, start) = (election("a"), election("b"), Instant::now());
        // The clock of a is years ahead, then years behind.
        let held = stored(a.step(None, start, clock(2_000_000_000)), 1);
        assert_eq!(b.step(Some(held.clone()), start, clock(100)), Step::Wait(DURATION));
        let later = start + Duration::from_secs(9);
        assert_eq!(b.step(Some(held.clone()), later, clock(109)), Step::Wait(Duration::from_secs(1)));
        let renewed = stored(a.step(Some(held), later, clock(5)), 2);
        assert_eq!(b.step(Some(renewed.clone()), later, clock(109)), Step::Wait(DURATION));
        let taken = stored(b.step(Some(renewed), later + DURATION, clock(119)), 3);
        assert_eq!(spec(&taken).holder_identity.as_deref(), Some("b"));
        assert_eq!(spec(&taken).lease_transitions, Some(1));
        assert_eq!(spec(&taken).acquire_time, Some(MicroTime(clock(119))));
        assert_eq!(a.step(Some(taken), later + DURATION, clock(0)), Step::Wait(DURATION));
        assert_eq!(a.holder(), Some("b"));
    }

    #[test]
    fn a_lease_that_was_given_back_is_taken_at_once() {
        let (mut a, mut b, now) = (election("a"), election("b"), Instant::now());
        let held = stored(a.step(None, now, clock(100)), 1);
        assert!(b.released(held.clone(), clock(100)).is_none(), "it is not b's");
        let mut free = a.released(held, clock(101)).unwrap();
        free.metadata.resource_version = Some("2".to_owned());
        assert!(matches!(b.step(Some(free), now, clock(101)), Step::Take(_)));
    }

    #[test]
    fn the_version_that_was_read_is_the_one_that_is_replaced() {
        let (mut a, now) = (election("a"), Instant::now());
        let held = stored(a.step(None, now, clock(100)), 7);
        let Step::Take(renewed) = a.step(Some(held), now, clock(101)) else { panic!("it is a's") };
        assert_eq!(renewed.metadata.resource_version.as_deref(), Some("7"));
    }

    #[test]
    fn a_leader_stops_before_its_lease_expires() {
        assert!(RENEW_DEADLINE + RENEW_PERIOD <= DURATION);
        assert!(RENEW_PERIOD + REQUEST_TIMEOUT < RENEW_DEADLINE, "one renewal may fail");
        assert!(RETRY_PERIOD + DURATION < Duration::from_secs(15), "the next one leads in time");
    }
}
