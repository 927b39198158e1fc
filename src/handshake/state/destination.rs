//! The end of a route that makes tokens and accepts them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::api::{DomainRouteToken, DomainRouteTokenStatus, Time};
use proto::handshake::TokenState;

use super::{
    NewToken, REVISIONS, all_tokens, begin, end, for_ever, has_expired, last_request_time, request_time,
};

/// How long a token is kept that nobody has used yet, whoever asks for others meanwhile: the answer with it may take 35
/// seconds, and within the next minute it is used, or asked after.
const UNPROVEN_KEPT: Duration = Duration::from_secs(90);

/// Most tokens that are accepted beside one that an unsigned handshake asks for.
const MOST_KEPT: usize = 8;

/// How long an expired token is still accepted: two periods of the source's probes. By then it has asked after the token,
/// heard that it has ended, and negotiated another one.
pub(in crate::handshake) const EXPIRED_KEPT: Duration = Duration::from_secs(30);

/// How far the time of a signed request may be from the destination's clock.
const REQUEST_WINDOW: SignedDuration = SignedDuration::from_mins(5);

/// A signed request is not a new one, by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::handshake) struct Stale {
    /// A request of a time shortly after this one would be new: nanoseconds since the Unix epoch.
    pub(in crate::handshake) expected_after: i64,
}

/// Too many tokens were asked for that nobody has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many tokens were asked for lately that nobody has used; try again in two minutes")]
pub(in crate::handshake) struct TooManyUnproven;

/// Whether a signed request of `request_time`, in nanoseconds since the Unix epoch, is a new one.
///
/// It is if it is later than the last one that was answered, which every gateway of the destination finds in the status,
/// and of about now. The source's clock need not be right for that: a source that is refused is told what time is
/// expected, signed by the destination, and asks again with that. Nobody else can, so whatever is repeated is refused, and
/// whatever is held back for minutes.
///
/// # Errors
/// See [`Stale`].
pub(in crate::handshake) fn check_request_time(
    status: &DomainRouteTokenStatus,
    request_time: i64,
    now: Timestamp,
) -> Result<(), Stale> {
    let now = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
    let last = last_request_time(status).unwrap_or(i64::MIN);
    let window = i64::try_from(REQUEST_WINDOW.as_nanos()).unwrap_or(i64::MAX);
    // If this clock was set back, the last request may seem to be of the future; the next one is of after that.
    let expected_after = last.max(now);
    let is_about_now =
        (now.saturating_sub(window)..=expected_after.saturating_add(window)).contains(&request_time);
    if last < request_time && is_about_now { Ok(()) } else { Err(Stale { expected_after }) }
}

/// Revision and end of the token that is made now.
pub(in crate::handshake) fn next_revision(
    status: &DomainRouteTokenStatus,
    period: Option<Duration>,
    now: Timestamp,
) -> (i64, Timestamp) {
    // A number that no gateway can have given is not counted on from.
    let next = all_tokens(status).filter_map(|token| token.revision.checked_add(1));
    let next = next.filter(|next| REVISIONS.contains(next)).max().unwrap_or(1);
    let expires = match period {
        Some(period) => now.checked_add(period.saturating_mul(2)).unwrap_or(Timestamp::MAX),
        None => for_ever(now),
    };
    (next, expires)
}

/// The status with a new token, which is accepted from now on, but not ready before the gateways accept it. One that
/// never became ready leaves nothing behind: nobody was given it.
///
/// # Errors
/// It would take the place of a token that may be in use.
pub(in crate::handshake) fn with_offered(
    status: &DomainRouteTokenStatus,
    new: NewToken,
    now: Timestamp,
) -> Result<DomainRouteTokenStatus, TooManyUnproven> {
    let mut tokens = kept(status, now);
    if tokens.len() > MOST_KEPT {
        tokens.retain(|token| !seems_of_later(token, now));
    }
    // There are few signed ones, and no stranger may keep the source from the next.
    if tokens.len() > MOST_KEPT && new.request_time.is_none() {
        return Err(TooManyUnproven);
    }
    let last_request_time = last_request_time(status);
    if last_request_time > tokens.iter().filter_map(request_time).max() {
        // The request must not be answered again, although its token never became ready.
        let revision = status.revision_token.revision;
        let answered =
            DomainRouteToken { revision, signed_request_time: last_request_time, ..Default::default() };
        tokens.insert(0, answered);
    }
    Ok(DomainRouteTokenStatus {
        revision_initializer: status.revision_initializer.clone(),
        revision_token: new.stored(false, now),
        tokens,
    })
}

/// The tokens that stay when another one is offered, oldest first.
///
/// The source may send the newest one that it has proved to have; the one that it had proved to have before, where not all
/// of its gateways have changed yet; and any later one. Who has asked for those, nobody knows where requests are not
/// signed. Of signed ones the source has the first or the last: it asks for no other before it has stored what it was
/// given, and then it shows that it has it.
fn kept(status: &DomainRouteTokenStatus, now: Timestamp) -> Vec<DomainRouteToken> {
    let is_ready = |token: &&DomainRouteToken| {
        token.is_ready && !token.token.is_empty() && REVISIONS.contains(&token.revision)
    };
    // In the order in which they were made, whatever their numbers are. The newest often stands in both places.
    let mut seen = BTreeSet::new();
    let mut ready: Vec<&DomainRouteToken> = all_tokens(status).filter(is_ready).collect();
    ready.reverse();
    ready.retain(|token| seen.insert(token.revision));
    ready.reverse();
    let is_proven = |token: &&DomainRouteToken| token.heart_beat_time.is_some();
    let proven = ready.iter().rposition(is_proven);
    let before = proven.map(|proven| ready[..proven].iter().rposition(is_proven).unwrap_or(0));
    // Strangers cannot sign: what they are given says nothing of what the source was.
    let unproven = proven.map_or(0, |proven| proven + 1)..ready.len();
    let (signed, unsigned): (Vec<usize>, Vec<usize>) =
        unproven.partition(|place| ready[*place].signed_request_time.is_some());
    let ends = [signed.first(), signed.last(), unsigned.first(), unsigned.last()];
    let may_be_in_use = |place: usize, token: &DomainRouteToken| {
        let is_anybodys = !is_proven(&token) && token.signed_request_time.is_none();
        [proven, before].contains(&Some(place))
            || ends.contains(&Some(&place))
            || is_anybodys && (is_young(token, now) || seems_of_later(token, now))
    };
    let kept = ready.iter().enumerate().filter(|(place, token)| may_be_in_use(*place, token));
    kept.map(|(_, token)| (*token).clone()).collect()
}

/// Whether a token was made so lately that it need not have been used yet.
fn is_young(token: &DomainRouteToken, now: Timestamp) -> bool {
    begin(token).is_some_and(|begin| now.duration_since(begin).unsigned_abs() < UNPROVEN_KEPT)
}

/// Whether the clock was set back since a token was made, so that nobody knows how old it is.
fn seems_of_later(token: &DomainRouteToken, now: Timestamp) -> bool {
    token.heart_beat_time.is_none() && begin(token).is_some_and(|begin| now < begin) && !is_young(token, now)
}

/// The newest token, if it is ready and its time to be renewed has not come: whoever asks for a token that only the
/// destination makes is given this one again.
pub(in crate::handshake) fn reusable(
    status: &DomainRouteTokenStatus,
    period: Option<Duration>,
    now: Timestamp,
) -> Option<&DomainRouteToken> {
    let newest = &status.revision_token;
    let renewal = begin(newest).zip(period).and_then(|(begin, period)| begin.checked_add(period).ok());
    let is_due = renewal.is_some_and(|renewal| renewal <= now) || has_expired(newest, now);
    (newest.is_ready && !newest.token.is_empty() && !is_due).then_some(newest)
}

/// What the source is told of the token of `revision`, if it is accepted. One that has expired is not to be used any
/// more, although it is accepted for a while.
pub(in crate::handshake) fn standing(
    status: &DomainRouteTokenStatus,
    revision: i64,
    now: Timestamp,
) -> TokenState {
    let is_it = |token: &&DomainRouteToken| token.revision == revision && !has_expired(token, now);
    if all_tokens(status).filter(is_it).any(|token| token.is_ready) {
        return TokenState::TokenReady;
    }
    // One that was not ready before the next one was made will never be.
    if is_it(&&status.revision_token) { TokenState::TokenNotReady } else { TokenState::TokenNotFound }
}

/// The status once the source has proved that it has the token of `revision`; `None` if that is known.
pub(in crate::handshake) fn with_proven(
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

/// What there is to do about expired tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::handshake) enum Forgetting {
    /// Nothing, as long as the tokens stay the same.
    Nothing,
    /// Nothing for so long.
    Wait(Duration),
    /// Forget those with these numbers.
    Now(BTreeSet<i64>),
}

/// Knows when expired tokens can be forgotten.
///
/// A token may be in use although its time is over: the source could not get another one while a mesh or the API server
/// was away, one of its gateways lags behind, or one of the clocks jumps. So it is accepted a while longer, and that while
/// is counted by a clock that does not jump, in times in which another one could be negotiated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::handshake) struct Expiry {
    /// When each expired token was first seen to be so, by number.
    since: BTreeMap<i64, Duration>,
}

impl Expiry {
    /// What to do at `now`; `uptime` is the time by a clock that does not jump.
    pub(in crate::handshake) fn next(
        &mut self,
        status: &DomainRouteTokenStatus,
        now: Timestamp,
        uptime: Duration,
    ) -> Forgetting {
        let tokens = || all_tokens(status).filter(|token| !token.token.is_empty());
        let (expired, valid): (Vec<_>, Vec<_>) = tokens().partition(|token| has_expired(token, now));
        let since = |token: &DomainRouteToken| self.since.get(&token.revision).copied().unwrap_or(uptime);
        self.since = expired.iter().map(|token| (token.revision, since(token))).collect();
        let (over, lasting): (Vec<_>, Vec<_>) =
            self.since.iter().partition(|(_, since)| **since + EXPIRED_KEPT <= uptime);
        if !over.is_empty() {
            return Forgetting::Now(over.into_iter().map(|(revision, _)| *revision).collect());
        }
        let ends = valid.iter().filter_map(|token| Duration::try_from(end(token)?.duration_since(now)).ok());
        let ends = ends.chain(lasting.into_iter().map(|(_, since)| *since + EXPIRED_KEPT - uptime));
        ends.min().map_or(Forgetting::Nothing, Forgetting::Wait)
    }

    /// No other token can be negotiated now.
    pub(in crate::handshake) fn troubled(&mut self) {
        self.since.clear();
    }
}

/// The status without those of the tokens with these numbers that have expired; `None` if none has.
pub(in crate::handshake) fn without_expired(
    status: &DomainRouteTokenStatus,
    revisions: &BTreeSet<i64>,
    now: Timestamp,
) -> Option<DomainRouteTokenStatus> {
    let goes = |token: &DomainRouteToken| {
        !token.token.is_empty() && revisions.contains(&token.revision) && has_expired(token, now)
    };
    if !all_tokens(status).any(goes) {
        return None;
    }
    let mut status = status.clone();
    status.tokens.retain(|token| !goes(token));
    if goes(&status.revision_token) {
        // The number stays, for revisions never come twice; and the time of the request, which must not be answered
        // again.
        status.revision_token = DomainRouteToken {
            revision: status.revision_token.revision,
            signed_request_time: status.revision_token.signed_request_time,
            ..DomainRouteToken::default()
        };
    }
    Some(status)
}

#[cfg(test)]
mod tests {
    use model::{settle_tokens, with_listed};

    use super::*;

    const PERIOD: Option<Duration> = Some(Duration::from_secs(100));

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    /// A destination that took part in unsigned handshakes at each of `seconds`, all of them to the end.
    fn destination(seconds: impl IntoIterator<Item = i64>) -> DomainRouteTokenStatus {
        seconds
            .into_iter()
            .fold(DomainRouteTokenStatus::default(), |status, second| ready(&offered(&status, second)))
    }

    fn try_offer(
        status: &DomainRouteTokenStatus,
        second: i64,
        request_time: Option<i64>,
    ) -> Result<DomainRouteTokenStatus, TooManyUnproven> {
        let (revision, expires) = next_revision(status, PERIOD, at(second));
        let sealed = format!("sealed-{revision}");
        with_offered(status, NewToken { sealed, revision, expires, request_time }, at(second))
    }

    fn offered(status: &DomainRouteTokenStatus, second: i64) -> DomainRouteTokenStatus {
        try_offer(status, second, None).expect("a place for it")
    }

    /// The status once the only gateway accepts the newest token.
    fn ready(status: &DomainRouteTokenStatus) -> DomainRouteTokenStatus {
        let listed = with_listed(status, status.revision_token.revision, "gateway").expect("a new token");
        settle_tokens(&listed, &["gateway".to_owned()].into()).expect("all gateways have it")
    }

    fn proven(status: &DomainRouteTokenStatus, revision: i64) -> DomainRouteTokenStatus {
        with_proven(status, revision, at(0)).expect("it was not proven before")
    }

    /// The status without any token that has expired.
    fn rid_of_expired(status: &DomainRouteTokenStatus, second: i64) -> Option<DomainRouteTokenStatus> {
        without_expired(status, &all_tokens(status).map(|token| token.revision).collect(), at(second))
    }

    fn revisions(status: &DomainRouteTokenStatus) -> Vec<i64> {
        let mut revisions: Vec<i64> =
            all_tokens(status).filter(|token| !token.token.is_empty()).map(|token| token.revision).collect();
        revisions.sort_unstable();
        revisions.dedup();
        revisions
    }

    #[test]
    fn revisions_are_counted_and_the_last_two_in_use_stay_beside_the_new_one() {
        let mut status = DomainRouteTokenStatus::default();
        for revision in 1..=4 {
            status = proven(&ready(&offered(&status, revision)), revision);
        }
        assert_eq!(revisions(&status), [2, 3, 4]);
        assert_eq!(next_revision(&status, PERIOD, at(4)), (5, at(204)));
        assert_eq!(revisions(&offered(&status, 4)), [3, 4, 5]);
    }

    #[test]
    fn numbers_that_no_gateway_gives_are_not_counted_on_from() {
        for revision in
            [i64::MAX, i64::MIN, -1, i64::from(i32::MAX) - 1, i32::MAX.into(), i64::from(i32::MAX) + 1]
        {
            let mut status = destination([0]);
            status.revision_token.revision = revision;
            assert_eq!(next_revision(&status, PERIOD, at(0)).0, 2, "{revision}");
        }
    }

    #[test]
    fn a_handshake_that_never_became_ready_leaves_nothing_behind() {
        let status = offered(&offered(&destination([0]), 1), 2);
        assert_eq!(revisions(&status), [1, 3]);
    }

    #[test]
    fn unsigned_handshakes_evict_no_token_in_use_and_no_young_one() {
        // The second token was given to the source, but it has not used it yet.
        let mut status = ready(&offered(&proven(&destination([0]), 1), 1));
        for second in 2..1000 {
            if let Ok(offered) = try_offer(&status, second, None) {
                status = ready(&offered);
            }
            assert_eq!(revisions(&status)[..2], [1, 2], "at {second}");
            assert!(revisions(&status).len() <= MOST_KEPT + 1, "at {second}");
            let given = status.revision_token.revision;
            assert!(revisions(&status).contains(&given), "at {second}");
        }
        assert!(status.revision_token.revision > 20, "some were given");
    }

    #[test]
    fn a_token_that_an_unsigned_handshake_gave_stays_until_it_must_have_been_used() {
        let mut status = proven(&destination([0]), 1);
        let mut given: Vec<(i64, i64)> = Vec::new();
        for second in 1..300 {
            let Ok(offered) = try_offer(&status, second, None) else { continue };
            status = ready(&offered);
            given.push((second, status.revision_token.revision));
            let young = given.iter().filter(|(made, _)| second < made + 90);
            assert!(young.clone().all(|(_, revision)| revisions(&status).contains(revision)), "at {second}");
        }
    }

    #[test]
    fn signed_handshakes_are_never_refused_for_their_number() {
        let mut status = proven(&destination([0]), 1);
        for second in 1..100 {
            status = ready(&try_offer(&status, second, Some(second)).expect("a place for it"));
            let expected = if second == 1 { vec![1, 2] } else { vec![1, 2, second, second + 1] };
            let expected: BTreeSet<i64> = expected.into_iter().collect();
            assert_eq!(revisions(&status), expected.into_iter().collect::<Vec<_>>(), "at {second}");
        }
        assert_eq!(last_request_time(&status), Some(99));
    }

    #[test]
    fn a_signed_request_is_new_if_it_is_of_now_and_later_than_the_last() {
        const SECOND: i64 = 1_000_000_000;
        let never = DomainRouteTokenStatus::default();
        let asked = |status: &_, second: i64, now| check_request_time(status, second * SECOND, at(now));
        for second in [701, 1000, 1299] {
            assert_eq!(asked(&never, second, 1000), Ok(()), "{second}");
        }
        for second in [i64::MIN / SECOND, 0, 699, 1301, i64::MAX / SECOND] {
            assert_eq!(asked(&never, second, 1000), Err(Stale { expected_after: 1000 * SECOND }), "{second}");
        }
        let answered = try_offer(&never, 1000, Some(1100 * SECOND)).expect("a place for it");
        assert_eq!(asked(&answered, 1100, 1001), Err(Stale { expected_after: 1100 * SECOND }), "repeated");
        assert_eq!(asked(&answered, 1099, 1001), Err(Stale { expected_after: 1100 * SECOND }));
        assert_eq!(asked(&answered, 1101, 1001), Ok(()));
        // The destination's clock was set back.
        assert_eq!(asked(&answered, 1000, 10), Err(Stale { expected_after: 1100 * SECOND }));
        assert_eq!(asked(&answered, 1101, 10), Ok(()));
        let forgotten = rid_of_expired(&answered, 1_000_000).expect("it has expired");
        assert_eq!(asked(&forgotten, 1100, 1001), Err(Stale { expected_after: 1100 * SECOND }));
    }

    #[test]
    fn proof_is_noted_once() {
        let status = proven(&destination([0]), 1);
        assert_eq!(with_proven(&status, 1, at(1)), None);
        assert_eq!(with_proven(&status, 2, at(1)), None);
    }

    #[test]
    fn the_source_is_told_how_its_token_stands() {
        let status = offered(&destination([0]), 100);
        assert_eq!(standing(&status, 1, at(199)), TokenState::TokenReady);
        assert_eq!(standing(&status, 1, at(200)), TokenState::TokenNotFound, "it has expired");
        assert_eq!(standing(&status, 2, at(100)), TokenState::TokenNotReady);
        assert_eq!(standing(&status, 3, at(100)), TokenState::TokenNotFound);
    }

    #[test]
    fn a_token_is_given_again_until_it_is_time_to_renew_it() {
        let status = destination([0]);
        let revision = |second, period| reusable(&status, period, at(second)).map(|token| token.revision);
        assert_eq!([revision(99, PERIOD), revision(100, PERIOD)], [Some(1), None]);
        assert_eq!([revision(199, None), revision(200, None)], [Some(1), None]);
        assert_eq!(reusable(&offered(&status, 1), PERIOD, at(1)), None, "it is not ready");
        assert_eq!(reusable(&DomainRouteTokenStatus::default(), PERIOD, at(1)), None);
    }

    #[test]
    fn expired_tokens_go_and_their_revisions_do_not_come_again() {
        let status = destination([0, 150]);
        assert_eq!(rid_of_expired(&status, 199), None);
        assert_eq!(without_expired(&status, &[2].into(), at(200)), None, "that one has not");
        let status = rid_of_expired(&status, 200).expect("one has expired");
        assert_eq!(revisions(&status), [2]);
        let status = rid_of_expired(&status, 350).expect("the other has expired");
        assert_eq!(revisions(&status), [] as [i64; 0]);
        assert_eq!(rid_of_expired(&status, 1000), None, "nothing is left");
        assert_eq!(next_revision(&status, PERIOD, at(351)).0, 3);
    }

    #[test]
    fn an_expired_token_stays_while_the_source_may_need_it() {
        let seconds = Duration::from_secs;
        let status = proven(&destination([0]), 1);
        let mut expiry = Expiry::default();
        assert_eq!(expiry.next(&status, at(150), seconds(0)), Forgetting::Wait(seconds(50)));
        // The clock jumps.
        assert_eq!(expiry.next(&status, at(1_000_000), seconds(1)), Forgetting::Wait(seconds(30)));
        assert_eq!(expiry.next(&status, at(1_000_020), seconds(21)), Forgetting::Wait(seconds(10)));
        expiry.troubled();
        assert_eq!(expiry.next(&status, at(1_000_025), seconds(26)), Forgetting::Wait(seconds(30)));
        assert_eq!(expiry.next(&status, at(1_000_055), seconds(56)), Forgetting::Now([1].into()));
        assert_eq!(expiry.next(&DomainRouteTokenStatus::default(), at(0), seconds(0)), Forgetting::Nothing);
    }

    #[test]
    fn each_expired_token_has_its_own_time() {
        let seconds = Duration::from_secs;
        let status = destination([0, 10]);
        let mut expiry = Expiry::default();
        assert_eq!(expiry.next(&status, at(200), seconds(200)), Forgetting::Wait(seconds(10)));
        assert_eq!(expiry.next(&status, at(210), seconds(210)), Forgetting::Wait(seconds(20)));
        assert_eq!(expiry.next(&status, at(230), seconds(230)), Forgetting::Now([1].into()));
        let left = without_expired(&status, &[1].into(), at(230)).expect("it has expired");
        assert_eq!(expiry.next(&left, at(230), seconds(230)), Forgetting::Wait(seconds(10)));
    }

    #[test]
    fn strangers_neither_push_out_a_signed_token_nor_keep_the_source_from_one() {
        let mut status = offered(&proven(&destination([0]), 1), 1);
        status = ready(&try_offer(&ready(&status), 2, Some(2)).expect("a place for it"));
        for second in 3..30 {
            status = try_offer(&status, second, None).map_or(status, |offered| ready(&offered));
            assert!(revisions(&status).contains(&3), "at {second}");
            assert_eq!(last_request_time(&status), Some(2), "at {second}");
        }
        assert_eq!(try_offer(&status, 30, None), Err(TooManyUnproven));
        let signed = ready(&try_offer(&status, 30, Some(30)).expect("it is the source's own"));
        // It never becomes ready, but its request must not be answered again.
        let unready = try_offer(&signed, 31, Some(31)).expect("it is the source's own");
        let replaced = try_offer(&unready, 300, None).expect("the others are old");
        assert_eq!(last_request_time(&replaced), Some(31));
    }
}
