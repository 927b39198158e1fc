//! The end of a route that asks for tokens and sends them.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use model::api::{DomainRouteToken, DomainRouteTokenStatus, Time};
use proto::handshake::TokenState;

use super::{NewToken, begin, end, for_ever};

/// Time between two probes of a token that is in use (as Kuscia's).
pub(in crate::handshake) const PROBE_PERIOD: Duration = Duration::from_secs(15);

/// The same after a probe that was not answered.
const UNANSWERED_PROBE_PERIOD: Duration = Duration::from_secs(3);

/// Waiting time after the first failed attempt; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// The longest wait between two attempts, and the shortest after a success. It bounds how long two domains that both
/// came up stay without a token, and what a destination costs that gives tokens and does not know them.
pub(in crate::handshake) const LAST_RETRY: Duration = Duration::from_millis(800);

/// What each route that fails adds to the longest wait, so that all of them together try a hundred times a second at
/// most, however many partners are down.
const RETRY_SHARE: Duration = Duration::from_millis(10);

/// The longest wait, however many routes fail.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What the source of a route has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::handshake) enum Action {
    /// Say in the status that this gateway negotiates: a token is stored by nobody else.
    Claim,
    /// Ask the destination for a new token.
    Negotiate,
    /// Ask the destination whether it still has the token in use.
    Probe,
    /// Nothing before this time.
    Wait(Timestamp),
}

/// What a gateway of the source knows of a route.
#[derive(Clone, Copy)]
pub(in crate::handshake) struct View<'a> {
    pub(in crate::handshake) status: &'a DomainRouteTokenStatus,
    /// The token in use can be opened; one that cannot is none.
    pub(in crate::handshake) is_open: bool,
    /// Time from one token to the next, if tokens are renewed.
    pub(in crate::handshake) period: Option<Duration>,
    /// This gateway.
    pub(in crate::handshake) own: &'a str,
    /// The gateways of the source that are alive.
    pub(in crate::handshake) live: &'a BTreeSet<String>,
}

impl View<'_> {
    fn in_use(&self) -> Option<&DomainRouteToken> {
        let newest = &self.status.revision_token;
        (self.is_open && newest.is_ready && !newest.token.is_empty()).then_some(newest)
    }

    /// The destination has seen that this side has the token, and every live gateway sends it: no other one is in use.
    fn is_settled(&self, token: &DomainRouteToken) -> bool {
        token.heart_beat_time.is_some()
            && self.live.iter().all(|name| token.effective_instances.contains(name))
    }

    /// When a token has to be replaced; `None`: now.
    ///
    /// As long as it is not settled, tokens before it may be in use. The next one waits for that as long as it can, for
    /// with it those would be forgotten.
    fn renewal(&self, token: &DomainRouteToken, now: Timestamp) -> Option<Timestamp> {
        let end = end(token).unwrap_or(Timestamp::MAX);
        let renewal = match (begin(token), self.period) {
            (Some(begin), Some(period)) if begin <= now => {
                let after = |time| begin.checked_add(time).unwrap_or(Timestamp::MAX);
                let end = end.min(after(period.saturating_mul(2)));
                if self.is_settled(token) { middle(begin, end) } else { middle(middle(begin, end), end) }
            }
            // The clock was set back, or another program wrote the status: nobody knows how old the token is. Of an old
            // one the destination says that it has ended.
            (_, Some(_)) if self.is_settled(token) => return None,
            (_, Some(_)) => Timestamp::MAX,
            (Some(begin), None) => middle(begin, end),
            (None, None) => end,
        };
        (now < renewal).then_some(renewal)
    }
}

fn middle(from: Timestamp, to: Timestamp) -> Timestamp {
    from.checked_add(to.duration_since(from) / 2).unwrap_or(to).max(from)
}

/// What a gateway remembers of its attempts for one route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::handshake) struct Source {
    failures: u32,
    retry_at: Option<Timestamp>,
    probe_at: Option<Timestamp>,
    /// The destination does not know the token in use.
    lost: bool,
}

impl Source {
    /// What to do at `now`.
    pub(in crate::handshake) fn next(&self, view: View<'_>, now: Timestamp) -> Action {
        let in_use = view.in_use().filter(|_| !self.lost);
        let Some(renewal) = in_use.and_then(|token| view.renewal(token, now)) else {
            return match still_ahead(self.retry_at, LONGEST_RETRY, now) {
                Some(retry) => Action::Wait(retry),
                None if view.status.revision_initializer != view.own => Action::Claim,
                None => Action::Negotiate,
            };
        };
        let probe = still_ahead(self.probe_at, PROBE_PERIOD, now);
        probe.map_or(Action::Probe, |probe| Action::Wait(probe.min(renewal)))
    }

    /// A new token came from the destination. It is probed at once, which proves to the destination that it arrived.
    pub(in crate::handshake) fn negotiated(&mut self, now: Timestamp) {
        *self = Self { retry_at: Some(now + LAST_RETRY), ..Self::default() };
    }

    /// The destination has another key, so it can open no token any more that it stored.
    pub(in crate::handshake) fn peer_changed(&mut self) {
        *self = Self { lost: true, ..Self::default() };
    }

    /// An attempt to negotiate failed, as it does for `failing` routes now.
    pub(in crate::handshake) fn negotiation_failed(&mut self, now: Timestamp, failing: usize) {
        let share = RETRY_SHARE.saturating_mul(u32::try_from(failing).unwrap_or(u32::MAX));
        let longest = LAST_RETRY.max(share).min(LONGEST_RETRY);
        let wait = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.failures)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + wait);
    }

    /// The destination answered a probe; `None`: it did not.
    pub(in crate::handshake) fn probed(&mut self, state: Option<TokenState>, now: Timestamp) {
        self.probe_at = Some(now + if state.is_some() { PROBE_PERIOD } else { UNANSWERED_PROBE_PERIOD });
        self.lost = state == Some(TokenState::TokenNotFound);
    }
}

/// `time`, unless it has come. It was set at most `longest` ahead: if it is further away, the clock was set back, and
/// who waited for it would wait too long.
fn still_ahead(time: Option<Timestamp>, longest: Duration, now: Timestamp) -> Option<Timestamp> {
    time.filter(|time| now < *time && *time <= now + longest)
}

/// The shortest life of a token that is believed, and so half of the shortest time between two renewals where clocks differ.
const SHORTEST_LIFE: Duration = Duration::from_secs(10);

/// When a token ends that is made now, of which the destination says when it ends by its own clock. If that cannot be
/// by this side's clock, the clocks differ, and the token ends when one ends that is made by this side's route.
pub(in crate::handshake) fn end_of_life(
    told: Timestamp,
    period: Option<Duration>,
    now: Timestamp,
) -> Timestamp {
    let Some(period) = period else { return if told > now { told } else { for_ever(now) } };
    let longest = now.checked_add(period.saturating_mul(2)).unwrap_or(Timestamp::MAX);
    let shortest = now.checked_add(period.min(SHORTEST_LIFE)).unwrap_or(Timestamp::MAX);
    if (shortest..longest).contains(&told) { told } else { longest }
}

/// The time of the next signed request, in nanoseconds since the Unix epoch: by the destination's clock, which is `offset`
/// ahead, if that was told; or else by this one, where it is `now`, but after the `last` one, which was perhaps another
/// gateway's, by another clock.
pub(in crate::handshake) fn next_request_time(now: i64, offset: Option<i64>, last: Option<i64>) -> i64 {
    match (offset, last) {
        (Some(offset), _) => now.saturating_add(offset),
        (None, Some(last)) => now.max(last.saturating_add(1)),
        (None, None) => now,
    }
}

/// The status in which the gateway `own` is the one that negotiates.
pub(in crate::handshake) fn with_claim(status: &DomainRouteTokenStatus, own: &str) -> DomainRouteTokenStatus {
    DomainRouteTokenStatus { revision_initializer: own.to_owned(), ..status.clone() }
}

/// The status with a new token, which is used from now on; the one before stays listed. `None` if another gateway than
/// `own`, which has it, negotiates by now: nobody may use what an earlier one is still answered.
pub(in crate::handshake) fn with_negotiated(
    status: &DomainRouteTokenStatus,
    new: NewToken,
    own: &str,
    now: Timestamp,
) -> Option<DomainRouteTokenStatus> {
    if status.revision_initializer != own {
        return None;
    }
    let new = new.stored(true, now);
    let previous = status.tokens.last().filter(|old| old.is_ready).cloned();
    Some(DomainRouteTokenStatus {
        revision_initializer: own.to_owned(),
        revision_token: new.clone(),
        tokens: previous.into_iter().chain([new]).collect(),
    })
}

/// The status once the destination has said that it has the token of `revision`; `None` if that is known, or if it is
/// not the newest.
pub(in crate::handshake) fn with_confirmed(
    status: &DomainRouteTokenStatus,
    revision: i64,
    now: Timestamp,
) -> Option<DomainRouteTokenStatus> {
    let newest = &status.revision_token;
    if newest.revision != revision || newest.heart_beat_time.is_some() {
        return None;
    }
    let mut status = status.clone();
    status.revision_token.heart_beat_time = Some(Time(now));
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Option<Duration> = Some(Duration::from_secs(100));

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn new_token(revision: i64, expires: i64) -> NewToken {
        NewToken { sealed: format!("sealed-{revision}"), revision, expires: at(expires), request_time: None }
    }

    fn claimed() -> DomainRouteTokenStatus {
        with_claim(&DomainRouteTokenStatus::default(), "a")
    }

    fn negotiated(status: &DomainRouteTokenStatus, new: NewToken, second: i64) -> DomainRouteTokenStatus {
        with_negotiated(status, new, "a", at(second)).expect("the gateway negotiates")
    }

    /// A status whose one token was made at `second`, ends 200 seconds later, and is sent by these gateways.
    fn since(second: i64, gateways: &[&str]) -> DomainRouteTokenStatus {
        let status = negotiated(&claimed(), new_token(1, second + 200), second);
        let mut status = with_confirmed(&status, 1, at(second)).expect("it was not known");
        status.revision_token.effective_instances = gateways.iter().map(|&name| name.to_owned()).collect();
        status
    }

    fn next_of(
        source: &Source,
        status: &DomainRouteTokenStatus,
        period: Option<Duration>,
        now: Timestamp,
    ) -> Action {
        let live = BTreeSet::from(["a".to_owned()]);
        source.next(View { status, is_open: true, period, own: "a", live: &live }, now)
    }

    fn next(source: &Source, status: &DomainRouteTokenStatus, second: i64) -> Action {
        next_of(source, status, PERIOD, at(second))
    }

    #[test]
    fn a_gateway_says_that_it_negotiates_before_it_does() {
        let nobody = DomainRouteTokenStatus::default();
        assert_eq!(next(&Source::default(), &nobody, 0), Action::Claim);
        assert_eq!(next(&Source::default(), &with_claim(&nobody, "b"), 0), Action::Claim);
        assert_eq!(next(&Source::default(), &claimed(), 0), Action::Negotiate);
        let new = new_token(1, 200);
        assert_eq!(
            with_negotiated(&with_claim(&nobody, "b"), new, "a", at(0)),
            None,
            "another one does by now"
        );
    }

    #[test]
    fn a_source_without_a_token_negotiates_and_retries_for_ever_with_bounded_waits() {
        let mut source = Source::default();
        let mut now = at(0);
        for _ in 0..100 {
            assert_eq!(next_of(&source, &claimed(), PERIOD, now), Action::Negotiate);
            source.negotiation_failed(now, 1);
            let Action::Wait(until) = next_of(&source, &claimed(), PERIOD, now) else {
                panic!("it must wait")
            };
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
            assert_eq!(next(&source, &claimed(), 0), Action::Wait(until), "{failing}");
        }
    }

    #[test]
    fn a_new_token_is_probed_at_once_then_periodically_and_renewed_in_time() {
        let mut source = Source::default();
        let status = since(0, &["a"]);
        source.negotiated(at(0));
        assert_eq!(next(&source, &status, 0), Action::Probe);
        source.probed(Some(TokenState::TokenReady), at(0));
        assert_eq!(next(&source, &status, 1), Action::Wait(at(15)));
        assert_eq!(next(&source, &status, 15), Action::Probe);
        source.probed(Some(TokenState::TokenReady), at(99));
        assert_eq!(next(&source, &status, 99), Action::Wait(at(100)));
        assert_eq!(next(&source, &status, 100), Action::Negotiate);
    }

    #[test]
    fn a_token_that_is_not_sent_by_every_gateway_yet_is_renewed_later_but_before_it_ends() {
        let mut unsettled = [since(0, &[]), since(0, &["b"]), since(0, &["a"])];
        unsettled[2].revision_token.heart_beat_time = None;
        for status in &unsettled {
            let mut source = Source::default();
            source.probed(Some(TokenState::TokenReady), at(140));
            assert_eq!(next(&source, status, 140), Action::Wait(at(150)));
            assert_eq!(next(&source, status, 150), Action::Negotiate);
        }
    }

    #[test]
    fn a_token_that_ends_sooner_than_the_period_says_is_renewed_in_the_middle_of_its_life() {
        let mut status = since(0, &["a"]);
        status.revision_token.expiration_time = Some(Time(at(120)));
        let mut source = Source::default();
        source.probed(Some(TokenState::TokenReady), at(59));
        assert_eq!(next(&source, &status, 59), Action::Wait(at(60)));
        assert_eq!(next_of(&source, &status, None, at(60)), Action::Negotiate);
    }

    #[test]
    fn a_token_that_the_destination_lost_is_negotiated_anew() {
        let mut source = Source::default();
        source.probed(Some(TokenState::TokenNotFound), at(1));
        assert_eq!(next(&source, &since(0, &["a"]), 1), Action::Negotiate);
        source.negotiated(at(2));
        assert_eq!(next(&source, &since(2, &["a"]), 2), Action::Probe);
    }

    #[test]
    fn a_destination_that_knows_none_of_its_tokens_is_not_asked_without_pause() {
        let mut source = Source::default();
        source.negotiated(at(0));
        source.probed(Some(TokenState::TokenNotFound), at(0));
        assert_eq!(next(&source, &since(0, &["a"]), 0), Action::Wait(at(0) + LAST_RETRY));
    }

    #[test]
    fn a_destination_with_another_key_is_asked_for_a_new_token_at_once() {
        let mut source = Source::default();
        source.negotiated(at(0));
        source.probed(Some(TokenState::TokenReady), at(1));
        source.peer_changed();
        assert_eq!(next(&source, &since(0, &["a"]), 1), Action::Negotiate);
    }

    #[test]
    fn an_unreachable_destination_costs_no_token_and_is_asked_again_soon() {
        let mut source = Source::default();
        source.probed(None, at(1));
        assert_eq!(next(&source, &since(0, &["a"]), 2), Action::Wait(at(4)));
    }

    #[test]
    fn a_clock_that_is_set_back_delays_nothing() {
        let mut source = Source::default();
        source.negotiation_failed(at(10_000), 1);
        assert_eq!(next(&source, &claimed(), 1000), Action::Negotiate);

        let made_in_the_future = since(10_000, &["a"]);
        assert_eq!(next(&source, &made_in_the_future, 1000), Action::Negotiate);
        source.probed(Some(TokenState::TokenReady), at(10_000));
        assert_eq!(next_of(&source, &made_in_the_future, None, at(1000)), Action::Probe);
    }

    #[test]
    fn a_source_lists_the_token_before() {
        let mut status = claimed();
        for revision in 1..=3 {
            status = negotiated(&status, new_token(revision, 1000), revision);
        }
        assert_eq!(status.revision_token.revision, 3);
        assert_eq!(status.tokens.iter().map(|token| token.revision).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn the_end_that_another_clock_tells_counts_where_it_can_be_true() {
        let end = |told, period| end_of_life(at(told), period, at(1000)).as_second();
        assert_eq!([end(1010, PERIOD), end(1150, PERIOD), end(1200, PERIOD)], [1010, 1150, 1200]);
        assert_eq!([end(500, PERIOD), end(1009, PERIOD), end(9000, PERIOD)], [1200; 3], "the clocks differ");
        assert_eq!(end(1001, None), 1001);
        assert_eq!(end(1000, None), for_ever(at(1000)).as_second());
    }
}
