//! When to negotiate, probe and forget tokens: decisions only, no clock, no network.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::api::{DomainRouteToken, DomainRouteTokenStatus, Time};
use proto::handshake::TokenState;

/// Time between two probes of a token that is in use (as Kuscia's).
pub(super) const PROBE_PERIOD: Duration = Duration::from_secs(15);

/// Waiting time after the first failed attempt; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// The longest wait between two attempts. It bounds how long two domains that both came up stay without a token.
const LAST_RETRY: Duration = Duration::from_millis(800);

/// How many ready tokens a destination accepts beside the one that is being negotiated.
const KEPT_TOKENS: usize = 2;

/// Lifetime of a token that is never renewed, in hours: a hundred years (as Kuscia's).
const FOR_EVER_HOURS: i64 = 100 * 365 * 24;

/// What the source of a route has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask the destination for a new token.
    Negotiate,
    /// Ask the destination whether it still has the token of this revision.
    Probe {
        /// The revision in use.
        revision: i64,
    },
    /// Nothing before this time.
    Wait(Timestamp),
}

/// What the source of one route remembers of its attempts. What must outlive a restart stands in the route's status.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    failures: u32,
    retry_at: Option<Timestamp>,
    probe_at: Option<Timestamp>,
    /// The destination does not know the token in use.
    lost: bool,
}

impl Source {
    /// What to do at `now` about the tokens of `status`, which are renewed every `period`, if at all.
    pub(super) fn next(
        &self,
        status: &DomainRouteTokenStatus,
        period: Option<Duration>,
        now: Timestamp,
    ) -> Action {
        let Some((revision, renew_at)) = in_use(status, period).filter(|_| !self.lost) else {
            return self.negotiate(now);
        };
        if renew_at.is_some_and(|time| time <= now) {
            return self.negotiate(now);
        }
        match self.probe_at {
            Some(time) if time > now => Action::Wait(renew_at.map_or(time, |renewal| renewal.min(time))),
            _ => Action::Probe { revision },
        }
    }

    /// A new token came from the destination. It is probed at once, which proves to the destination that it arrived.
    pub(super) fn negotiated(&mut self) {
        *self = Self::default();
    }

    /// An attempt to negotiate failed.
    pub(super) fn negotiation_failed(&mut self, now: Timestamp) {
        let wait = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.failures)).min(LAST_RETRY);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + wait);
    }

    /// The destination answered a probe; `None`: it did not.
    pub(super) fn probed(&mut self, state: Option<TokenState>, now: Timestamp) {
        self.probe_at = Some(now + PROBE_PERIOD);
        self.lost = state == Some(TokenState::TokenNotFound);
    }

    fn negotiate(&self, now: Timestamp) -> Action {
        match self.retry_at {
            Some(time) if time > now => Action::Wait(time),
            _ => Action::Negotiate,
        }
    }
}

/// Revision of the token in use, and when it is to be replaced.
fn in_use(status: &DomainRouteTokenStatus, period: Option<Duration>) -> Option<(i64, Option<Timestamp>)> {
    let token = Some(&status.revision_token).filter(|token| token.is_ready && !token.token.is_empty())?;
    let expires = token.expiration_time.as_ref().map(|time| time.0);
    let rolls = period.and_then(|period| Some(token.revision_time.as_ref()?.0 + period));
    Some((token.revision, [expires, rolls].into_iter().flatten().min()))
}

/// A negotiated token, as it is stored.
pub(super) struct NewToken {
    /// Encrypted with the storing domain's own key.
    pub(super) sealed: String,
    pub(super) revision: i64,
    pub(super) expires: Timestamp,
}

/// The source's status with a new token, which it uses from now on. The one before stays listed.
pub(super) fn with_negotiated(
    status: &DomainRouteTokenStatus,
    new: NewToken,
    instance: &str,
    now: Timestamp,
) -> DomainRouteTokenStatus {
    let new = DomainRouteToken {
        is_ready: true,
        token: new.sealed,
        revision: new.revision,
        revision_time: Some(Time(now)),
        expiration_time: Some(Time(new.expires)),
        heart_beat_time: None,
        effective_instances: vec![instance.to_owned()],
    };
    let previous = status.tokens.last().filter(|old| old.is_ready).cloned();
    DomainRouteTokenStatus {
        revision_initializer: instance.to_owned(),
        revision_token: new.clone(),
        tokens: previous.into_iter().chain([new]).collect(),
    }
}

/// Revision and end of the token that a destination makes now.
pub(super) fn next_revision(
    status: &DomainRouteTokenStatus,
    period: Option<Duration>,
    now: Timestamp,
) -> (i64, Timestamp) {
    let revisions = status.tokens.iter().chain([&status.revision_token]).map(|token| token.revision);
    let revision = revisions.max().unwrap_or_default().saturating_add(1);
    let expires = match period {
        Some(period) => now + period.saturating_mul(2),
        None => now + SignedDuration::from_hours(FOR_EVER_HOURS),
    };
    (revision, expires)
}

/// The destination's status with a new token, which is accepted from now on, but not ready before the gateways
/// accept it.
///
/// Anybody can ask for a token in a source's name. So a new token takes the place of another unproven one: the
/// newest token of which the source proved that it has it stays.
pub(super) fn with_offered(
    status: &DomainRouteTokenStatus,
    new: NewToken,
    now: Timestamp,
) -> DomainRouteTokenStatus {
    let mut ready: Vec<&DomainRouteToken> = all_tokens(status)
        .filter(|token| token.is_ready && !token.token.is_empty() && !has_expired(token, now))
        .collect();
    ready.sort_by_key(|token| std::cmp::Reverse(token.revision));
    ready.dedup_by_key(|token| token.revision);
    let proven = ready.iter().position(|token| token.heart_beat_time.is_some());
    if let Some(position) = proven {
        ready[..=position].rotate_right(1);
    }
    let mut kept: Vec<DomainRouteToken> = ready.into_iter().take(KEPT_TOKENS).cloned().collect();
    kept.sort_by_key(|token| token.revision);
    DomainRouteTokenStatus {
        revision_initializer: status.revision_initializer.clone(),
        revision_token: DomainRouteToken {
            is_ready: false,
            token: new.sealed,
            revision: new.revision,
            revision_time: Some(Time(now)),
            expiration_time: Some(Time(new.expires)),
            heart_beat_time: None,
            effective_instances: Vec::new(),
        },
        tokens: kept,
    }
}

/// The destination's status once `instance`'s gateway accepts the newest token.
pub(super) fn with_ready(status: &DomainRouteTokenStatus, instance: &str) -> DomainRouteTokenStatus {
    let mut status = status.clone();
    status.revision_token.is_ready = true;
    status.revision_token.effective_instances = vec![instance.to_owned()];
    status.tokens.retain(|token| token.revision != status.revision_token.revision);
    status.tokens.push(status.revision_token.clone());
    status
}

/// The destination's status once the source proved that it has the token of `revision`; `None` if that is known.
pub(super) fn with_proven(
    status: &DomainRouteTokenStatus,
    revision: i64,
    now: Timestamp,
) -> Option<DomainRouteTokenStatus> {
    let mut status = status.clone();
    let tokens = status.tokens.iter_mut().chain([&mut status.revision_token]);
    let unproven = tokens.filter(|token| token.revision == revision && token.heart_beat_time.is_none());
    let changed = unproven.map(|token| token.heart_beat_time = Some(Time(now))).count();
    (changed > 0).then_some(status)
}

/// The status without tokens that have expired; `None` if none has.
pub(super) fn without_expired(
    status: &DomainRouteTokenStatus,
    now: Timestamp,
) -> Option<DomainRouteTokenStatus> {
    if !all_tokens(status).any(|token| has_expired(token, now)) {
        return None;
    }
    let mut status = status.clone();
    status.tokens.retain(|token| !has_expired(token, now));
    if has_expired(&status.revision_token, now) {
        // The number stays: revisions never come twice.
        status.revision_token =
            DomainRouteToken { revision: status.revision_token.revision, ..DomainRouteToken::default() };
    }
    Some(status)
}

/// When the next token of a status expires.
pub(super) fn next_expiry(status: &DomainRouteTokenStatus) -> Option<Timestamp> {
    all_tokens(status).filter_map(|token| token.expiration_time.as_ref()).map(|time| time.0).min()
}

fn all_tokens(status: &DomainRouteTokenStatus) -> impl Iterator<Item = &DomainRouteToken> {
    status.tokens.iter().chain([&status.revision_token])
}

fn has_expired(token: &DomainRouteToken, now: Timestamp) -> bool {
    token.expiration_time.as_ref().is_some_and(|time| time.0 <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Option<Duration> = Some(Duration::from_secs(100));

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn new_token(revision: i64, expires: i64) -> NewToken {
        NewToken { sealed: format!("sealed-{revision}"), revision, expires: at(expires) }
    }

    /// A destination that took part in handshakes at each of `seconds`, all of them to the end.
    fn destination(seconds: impl IntoIterator<Item = i64>) -> DomainRouteTokenStatus {
        seconds.into_iter().fold(DomainRouteTokenStatus::default(), |status, second| {
            with_ready(&offered(&status, second), "gateway")
        })
    }

    fn offered(status: &DomainRouteTokenStatus, second: i64) -> DomainRouteTokenStatus {
        let (revision, expires) = next_revision(status, PERIOD, at(second));
        with_offered(status, NewToken { sealed: format!("sealed-{revision}"), revision, expires }, at(second))
    }

    fn revisions(status: &DomainRouteTokenStatus) -> Vec<i64> {
        let mut revisions: Vec<i64> =
            all_tokens(status).filter(|token| !token.token.is_empty()).map(|token| token.revision).collect();
        revisions.sort_unstable();
        revisions.dedup();
        revisions
    }

    #[test]
    fn a_source_without_a_token_negotiates_and_retries_for_ever_with_bounded_waits() {
        let mut source = Source::default();
        let status = DomainRouteTokenStatus::default();
        let mut now = at(0);
        for _ in 0..100 {
            assert_eq!(source.next(&status, PERIOD, now), Action::Negotiate);
            source.negotiation_failed(now);
            let Action::Wait(until) = source.next(&status, PERIOD, now) else { panic!("it must wait") };
            assert!(until > now && until <= now + LAST_RETRY);
            now = until;
        }
    }

    #[test]
    fn a_new_token_is_probed_at_once_then_periodically_and_renewed_in_time() {
        let mut source = Source::default();
        let status = with_negotiated(&DomainRouteTokenStatus::default(), new_token(1, 200), "a", at(0));
        source.negotiated();
        assert_eq!(source.next(&status, PERIOD, at(0)), Action::Probe { revision: 1 });
        source.probed(Some(TokenState::TokenReady), at(0));
        assert_eq!(source.next(&status, PERIOD, at(1)), Action::Wait(at(15)));
        assert_eq!(source.next(&status, PERIOD, at(15)), Action::Probe { revision: 1 });
        source.probed(Some(TokenState::TokenReady), at(99));
        assert_eq!(source.next(&status, PERIOD, at(99)), Action::Wait(at(100)));
        assert_eq!(source.next(&status, PERIOD, at(100)), Action::Negotiate);
        assert_eq!(source.next(&status, None, at(150)), Action::Probe { revision: 1 });
    }

    #[test]
    fn a_token_that_the_destination_lost_is_negotiated_anew() {
        let mut source = Source::default();
        let status = with_negotiated(&DomainRouteTokenStatus::default(), new_token(7, 200), "a", at(0));
        source.probed(Some(TokenState::TokenNotFound), at(1));
        assert_eq!(source.next(&status, PERIOD, at(1)), Action::Negotiate);
        let status = with_negotiated(&status, new_token(1, 200), "a", at(2));
        source.negotiated();
        assert_eq!(source.next(&status, PERIOD, at(2)), Action::Probe { revision: 1 });
    }

    #[test]
    fn an_unreachable_destination_costs_no_token() {
        let mut source = Source::default();
        let status = with_negotiated(&DomainRouteTokenStatus::default(), new_token(1, 200), "a", at(0));
        source.probed(None, at(1));
        assert_eq!(source.next(&status, PERIOD, at(2)), Action::Wait(at(16)));
    }

    #[test]
    fn a_source_lists_the_token_before() {
        let first = with_negotiated(&DomainRouteTokenStatus::default(), new_token(1, 200), "a", at(0));
        let second = with_negotiated(&first, new_token(2, 300), "a", at(100));
        let third = with_negotiated(&second, new_token(3, 400), "a", at(200));
        assert_eq!(third.revision_token.revision, 3);
        assert_eq!(revisions(&third), [2, 3]);
    }

    #[test]
    fn a_destination_counts_revisions_and_accepts_the_last_two_beside_the_new_one() {
        let status = destination([0, 1, 2, 3]);
        assert_eq!(revisions(&status), [2, 3, 4]);
        assert_eq!(next_revision(&status, PERIOD, at(4)), (5, at(204)));
        assert_eq!(revisions(&offered(&status, 4)), [3, 4, 5]);
    }

    #[test]
    fn a_handshake_that_never_became_ready_leaves_nothing_behind() {
        let status = offered(&offered(&destination([0]), 1), 2);
        assert_eq!(revisions(&status), [1, 3]);
    }

    #[test]
    fn forged_handshakes_never_evict_a_proven_token() {
        let mut status = with_proven(&destination([0]), 1, at(0)).expect("it was not proven before");
        assert_eq!(with_proven(&status, 1, at(1)), None);
        for second in 1..20 {
            status = with_ready(&offered(&status, second), "gateway");
            assert!(revisions(&status).contains(&1), "at {second}");
            assert!(revisions(&status).len() <= KEPT_TOKENS + 1);
        }
    }

    #[test]
    fn expired_tokens_go_and_their_revisions_do_not_come_again() {
        let status = destination([0, 150]);
        assert_eq!(next_expiry(&status), Some(at(200)));
        assert_eq!(without_expired(&status, at(199)), None);
        let status = without_expired(&status, at(200)).expect("one has expired");
        assert_eq!(revisions(&status), [2]);
        let status = without_expired(&status, at(350)).expect("the other has expired");
        assert_eq!(revisions(&status), [] as [i64; 0]);
        assert_eq!(next_revision(&status, PERIOD, at(351)).0, 3);
    }
}
