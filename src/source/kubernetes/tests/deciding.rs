use std::time::Duration;

use model::StatusChange;
use model::api::{DomainRouteToken, DomainRouteTokenStatus};
use tokio::time::Instant;

use super::super::decide::{Role, status_to_write};
use super::super::routes::{TOKENS_PATIENCE, Wishes};
use super::*;

/// What the gateway `own` among `live` ones writes to a route that shows `shown`, and how many wishes stay.
fn decide(
    own: &str,
    live: &[&str],
    shown: &DomainRouteStatus,
    wanted: StatusChange,
) -> (Option<DomainRouteStatus>, usize) {
    let (known, live, mut wishes) = (known(shown.clone()), names(live), Wishes::default());
    let now = Instant::now();
    wishes.add(wanted, &known, now);
    let role = Role { own, live: &live };
    (status_to_write(&known, &mut wishes, role, now), wishes.0.len())
}

fn wanted(type_: &str, status: ConditionStatus, gateway: Option<&str>) -> StatusChange {
    StatusChange::Condition(condition(type_, status, gateway))
}

#[test]
fn what_is_shown_already_is_not_written() {
    let shown = showing(vec![condition("Reachable", ConditionStatus::True, None)]);
    let mut later = condition("Reachable", ConditionStatus::True, None);
    later.last_transition_time = Some(Time(jiff::Timestamp::from_second(2000).expect("a time")));
    assert_eq!(decide("a", &["a"], &shown, StatusChange::Condition(later)), (None, 0));
    let flags = StatusChange::Destination { authorized: false, unreachable: false };
    assert_eq!(decide("a", &["a"], &shown, flags), (None, 0));
}

#[test]
fn times_are_cut_to_what_kubernetes_keeps() {
    let mut wanted = condition("Reachable", ConditionStatus::True, None);
    wanted.last_transition_time = Some(Time(jiff::Timestamp::from_millisecond(1_000_999).expect("a time")));
    let (written, _) = decide("a", &["a"], &showing(vec![]), StatusChange::Condition(wanted));
    assert_eq!(written, Some(showing(vec![condition("Reachable", ConditionStatus::True, None)])));
}

#[test]
fn the_lead_writes_what_all_want_and_the_others_are_ready_to() {
    let accepted = wanted("Accepted", ConditionStatus::True, None);
    let shown = showing(vec![]);
    assert_eq!(decide("b", &["a", "b"], &shown, accepted.clone()), (None, 1));
    assert!(decide("a", &["a", "b"], &shown, accepted.clone()).0.is_some());
    assert!(decide("b", &["b"], &shown, accepted.clone()).0.is_some());
    let shown = showing(vec![condition("Accepted", ConditionStatus::True, None)]);
    assert_eq!(decide("b", &["a", "b"], &shown, accepted), (None, 0), "the lead has written it");
}

#[test]
fn a_verdict_about_an_older_spec_is_forgotten() {
    let (mut known, mut wishes, now) = (known(showing(vec![])), Wishes::default(), Instant::now());
    wishes.add(wanted("Accepted", ConditionStatus::False, None), &known, now);
    known.generation = Some(2);
    let live = names(&["a"]);
    assert_eq!(status_to_write(&known, &mut wishes, Role { own: "a", live: &live }, now), None);
    assert_eq!(wishes, Wishes::default());
}

#[test]
fn what_does_not_hold_for_one_live_gateway_does_not_hold() {
    let shown = showing(vec![condition("Programmed", ConditionStatus::False, Some("a"))]);
    let holds = wanted("Programmed", ConditionStatus::True, None);
    let fails = wanted("Programmed", ConditionStatus::False, Some("b"));
    assert_eq!(decide("b", &["a", "b"], &shown, holds.clone()), (None, 1));
    assert_eq!(decide("b", &["a", "b"], &shown, fails), (None, 1), "two that fail do not take turns");
    assert!(decide("b", &["b"], &shown, holds.clone()).0.is_some(), "a is gone");
    assert!(decide("a", &["a", "b"], &shown, holds).0.is_some(), "a takes it back");
}

#[test]
fn tokens_change_only_from_what_they_were_and_not_too_late() {
    let tokens = |revision| DomainRouteTokenStatus {
        revision_token: DomainRouteToken { revision, ..DomainRouteToken::default() },
        ..DomainRouteTokenStatus::default()
    };
    let change = |before, after| StatusChange::Tokens {
        before: Box::new(tokens(before)),
        after: Box::new(tokens(after)),
    };
    let shown = DomainRouteStatus { token_status: tokens(1), ..DomainRouteStatus::default() };
    let (written, _) = decide("b", &["a", "b"], &shown, change(1, 2));
    assert_eq!(written.map(|status| status.token_status), Some(tokens(2)));
    assert_eq!(decide("b", &["a", "b"], &shown, change(0, 2)), (None, 0), "another writer was first");

    let (known, live, mut wishes) = (known(shown), names(&["a"]), Wishes::default());
    let now = Instant::now();
    wishes.add(change(1, 2), &known, now);
    let role = Role { own: "a", live: &live };
    let in_time = now + TOKENS_PATIENCE - Duration::from_millis(1);
    assert!(status_to_write(&known, &mut wishes, role, in_time).is_some());
    assert_eq!(status_to_write(&known, &mut wishes, role, now + TOKENS_PATIENCE), None);
    assert_eq!(wishes, Wishes::default());
}

#[test]
fn of_one_thing_only_the_newest_wish_counts_and_all_are_written_together() {
    let (known, live, mut wishes, now) =
        (known(showing(vec![])), names(&["a"]), Wishes::default(), Instant::now());
    wishes.add(wanted("Reachable", ConditionStatus::False, None), &known, now);
    wishes.add(wanted("Reachable", ConditionStatus::True, None), &known, now);
    wishes.add(wanted("Authenticated", ConditionStatus::True, None), &known, now);
    wishes.add(StatusChange::Destination { authorized: true, unreachable: false }, &known, now);
    let written = status_to_write(&known, &mut wishes, Role { own: "a", live: &live }, now).expect("a write");
    let conditions =
        ["Authenticated", "Reachable"].map(|type_| condition(type_, ConditionStatus::True, None));
    assert_eq!(
        written,
        DomainRouteStatus { is_destination_authorized: true, ..showing(conditions.to_vec()) }
    );
}

#[test]
fn versions_are_compared_as_numbers() {
    let at = |version: &str| KnownRoute { version: version.to_owned(), ..known(showing(vec![])) };
    assert!(at("9").is_older_than(&at("10")));
    assert!(!at("10").is_older_than(&at("10")));
    assert!(!at("10").is_older_than(&at("9")));
    assert!(!at("a").is_older_than(&at("b")));
}
