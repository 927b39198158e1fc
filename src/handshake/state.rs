//! When to negotiate, probe and forget tokens: decisions only, no clock, no network.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::api::{DomainRouteToken, DomainRouteTokenStatus, Time};
use proto::handshake::TokenState;

/// Time between two probes of a token that is in use (as Kuscia's).
pub(super) const PROBE_PERIOD: Duration = Duration::from_secs(15);

/// Waiting time after the first failed attempt; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// The longest wait between two attempts, and the shortest after a success. It bounds how long two domains that both
/// came up stay without a token, and what a destination costs that gives tokens and does not know them.
const LAST_RETRY: Duration = Duration::from_millis(800);

/// What each route that fails adds to the longest wait, so that all of them together try a hundred times a second at
/// most, however many partners are down.
const RETRY_SHARE: Duration = Duration::from_millis(10);

/// The longest wait, however many routes fail.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How many ready tokens a destination accepts beside the one that is being negotiated.
const KEPT_TOKENS: usize = 2;

/// Lifetime of a token that is never renewed, in hours: a hundred years (as Kuscia's).
const FOR_EVER_HOURS: i64 = 100 * 365 * 24;

/// What the source of a route has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask the destination for a new token.
    Negotiate,
    /// Ask the destination whether it still has the token in use.
    Probe,
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
    /// What to do at `now` about `tokens`, which are renewed every `period`, if at all.
    pub(super) fn next(
        &self,
        tokens: Option<&DomainRouteTokenStatus>,
        period: Option<Duration>,
        now: Timestamp,
    ) -> Action {
        let in_use = tokens.map(|tokens| &tokens.revision_token);
        let in_use = in_use.filter(|token| token.is_ready && !token.token.is_empty());
        let ends = match in_use.map(|token| lifetime(token, period)) {
            Some(Lifetime { begins, ends }) if !self.lost && begins <= now && now < ends => ends,
            _ => {
                return still_ahead(self.retry_at, LONGEST_RETRY, now)
                    .map_or(Action::Negotiate, Action::Wait);
            }
        };
        let probe = still_ahead(self.probe_at, PROBE_PERIOD, now);
        probe.map_or(Action::Probe, |probe| Action::Wait(probe.min(ends)))
    }

    /// A new token came from the destination. It is probed at once, which proves to the destination that it arrived.
    pub(super) fn negotiated(&mut self, now: Timestamp) {
        *self = Self { retry_at: Some(now + LAST_RETRY), ..Self::default() };
    }

    /// The destination has another key, so it can open no token any more that it stored.
    pub(super) fn peer_changed(&mut self) {
        *self = Self { lost: true, ..Self::default() };
    }

    /// An attempt to negotiate failed, as it does for `failing` routes now.
    pub(super) fn negotiation_failed(&mut self, now: Timestamp, failing: usize) {
        let share = RETRY_SHARE.saturating_mul(u32::try_from(failing).unwrap_or(u32::MAX));
        let longest = LAST_RETRY.max(share).min(LONGEST_RETRY);
        let wait = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.failures)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + wait);
    }

    /// The destination answered a probe; `None`: it did not.
    pub(super) fn probed(&mut self, state: Option<TokenState>, now: Timestamp) {
        self.probe_at = Some(now + PROBE_PERIOD);
        self.lost = state == Some(TokenState::TokenNotFound);
    }
}

/// `time`, unless it has come. It was set at most `longest` ahead: if it is further away, the clock was set back, and
/// who waited for it would wait too long.
fn still_ahead(time: Option<Timestamp>, longest: Duration, now: Timestamp) -> Option<Timestamp> {
    time.filter(|time| now < *time && *time <= now + longest)
}

/// When a token is used.
struct Lifetime {
    begins: Timestamp,
    ends: Timestamp,
}

/// A token that is renewed is used for `period`. If it seems to be made in the future, the clock was set back; it is
/// renewed, for nobody knows how old it is.
fn lifetime(token: &DomainRouteToken, period: Option<Duration>) -> Lifetime {
    let made = token.revision_time.as_ref().map(|time| time.0);
    let begins = made.filter(|_| period.is_some()).unwrap_or(Timestamp::MIN);
    let expires = token.expiration_time.as_ref().map(|time| time.0);
    let rolls = made.zip(period).and_then(|(made, period)| made.checked_add(period).ok());
    let ends = [expires, rolls].into_iter().flatten().min().unwrap_or(Timestamp::MAX);
    Lifetime { begins, ends }
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
        signed_request_time: None,
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
        Some(period) => now.checked_add(period.saturating_mul(2)),
        None => now.checked_add(SignedDuration::from_hours(FOR_EVER_HOURS)),
    };
    (revision, expires.unwrap_or(Timestamp::MAX))
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
            signed_request_time: None,
            effective_instances: Vec::new(),
        },
        tokens: kept,
    }
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
    use model::{settle_tokens, with_listed};

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
        seconds
            .into_iter()
            .fold(DomainRouteTokenStatus::default(), |status, second| ready(&offered(&status, second)))
    }

    fn offered(status: &DomainRouteTokenStatus, second: i64) -> DomainRouteTokenStatus {
        let (revision, expires) = next_revision(status, PERIOD, at(second));
        with_offered(status, NewToken { sealed: format!("sealed-{revision}"), revision, expires }, at(second))
    }

    /// The status once the only gateway accepts the newest token.
    fn ready(status: &DomainRouteTokenStatus) -> DomainRouteTokenStatus {
        let listed = with_listed(status, status.revision_token.revision, "gateway").expect("a new token");
        settle_tokens(&listed, &["gateway".to_owned()].into()).expect("all gateways have it")
    }

    fn revisions(status: &DomainRouteTokenStatus) -> Vec<i64> {
        let mut revisions: Vec<i64> =
            all_tokens(status).filter(|token| !token.token.is_empty()).map(|token| token.revision).collect();
        revisions.sort_unstable();
        revisions.dedup();
        revisions
    }

    /// A source's status whose one token was made at `second` and ends 200 seconds later.
    fn source_since(second: i64) -> DomainRouteTokenStatus {
        with_negotiated(&DomainRouteTokenStatus::default(), new_token(1, second + 200), "a", at(second))
    }

    #[test]
    fn a_source_without_a_token_negotiates_and_retries_for_ever_with_bounded_waits() {
        let mut source = Source::default();
        let mut now = at(0);
        for _ in 0..100 {
            assert_eq!(source.next(None, PERIOD, now), Action::Negotiate);
            source.negotiation_failed(now, 1);
            let Action::Wait(until) = source.next(None, PERIOD, now) else { panic!("it must wait") };
            assert!(until > now && until <= now + LAST_RETRY);
            now = until;
        }
    }

    #[test]
    fn many_sources_that_fail_together_share_the_attempts() {
        for (failing, seconds) in [(1, 0.8), (80, 0.8), (1000, 10.0), (1_000_000, 60.0)] {
            let mut source = Source::default();
            for _ in 0..100 {
                source.negotiation_failed(at(0), failing);
            }
            let until = at(0) + Duration::from_secs_f64(seconds);
            assert_eq!(source.next(None, PERIOD, at(0)), Action::Wait(until), "{failing}");
        }
    }

    #[test]
    fn a_new_token_is_probed_at_once_then_periodically_and_renewed_in_time() {
        let mut source = Source::default();
        let status = source_since(0);
        source.negotiated(at(0));
        assert_eq!(source.next(Some(&status), PERIOD, at(0)), Action::Probe);
        source.probed(Some(TokenState::TokenReady), at(0));
        assert_eq!(source.next(Some(&status), PERIOD, at(1)), Action::Wait(at(15)));
        assert_eq!(source.next(Some(&status), PERIOD, at(15)), Action::Probe);
        source.probed(Some(TokenState::TokenReady), at(99));
        assert_eq!(source.next(Some(&status), PERIOD, at(99)), Action::Wait(at(100)));
        assert_eq!(source.next(Some(&status), PERIOD, at(100)), Action::Negotiate);
        assert_eq!(source.next(Some(&status), None, at(150)), Action::Probe);
        assert_eq!(source.next(Some(&status), None, at(200)), Action::Negotiate, "it has expired");
    }

    #[test]
    fn a_token_that_the_destination_lost_is_negotiated_anew() {
        let mut source = Source::default();
        source.probed(Some(TokenState::TokenNotFound), at(1));
        assert_eq!(source.next(Some(&source_since(0)), PERIOD, at(1)), Action::Negotiate);
        source.negotiated(at(2));
        assert_eq!(source.next(Some(&source_since(2)), PERIOD, at(2)), Action::Probe);
    }

    #[test]
    fn a_destination_that_knows_none_of_its_tokens_is_not_asked_without_pause() {
        let mut source = Source::default();
        source.negotiated(at(0));
        source.probed(Some(TokenState::TokenNotFound), at(0));
        assert_eq!(source.next(Some(&source_since(0)), PERIOD, at(0)), Action::Wait(at(0) + LAST_RETRY));
    }

    #[test]
    fn a_destination_with_another_key_is_asked_for_a_new_token_at_once() {
        let mut source = Source::default();
        let status = with_negotiated(&DomainRouteTokenStatus::default(), new_token(1, 200), "a", at(0));
        source.negotiated(at(0));
        source.probed(Some(TokenState::TokenReady), at(1));
        source.peer_changed();
        assert_eq!(source.next(Some(&status), PERIOD, at(1)), Action::Negotiate);
    }

    #[test]
    fn an_unreachable_destination_costs_no_token() {
        let mut source = Source::default();
        source.probed(None, at(1));
        assert_eq!(source.next(Some(&source_since(0)), PERIOD, at(2)), Action::Wait(at(16)));
    }

    #[test]
    fn a_clock_that_is_set_back_delays_nothing() {
        let mut source = Source::default();
        source.negotiation_failed(at(10_000), 1);
        assert_eq!(source.next(None, PERIOD, at(1000)), Action::Negotiate);

        let made_in_the_future = source_since(10_000);
        assert_eq!(source.next(Some(&made_in_the_future), PERIOD, at(1000)), Action::Negotiate);
        source.probed(Some(TokenState::TokenReady), at(10_000));
        assert_eq!(source.next(Some(&made_in_the_future), None, at(1000)), Action::Probe);
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
            status = ready(&offered(&status, second));
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
