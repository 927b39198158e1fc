use std::sync::Arc;

use jiff::Timestamp;
use model::api::{DomainRouteToken, DomainRouteTokenStatus, Time};
use model::{Direction, DomainId, StatusChange, StatusUpdate};

use super::world::{Source, outbound, route};
use crate::handshake::ledger::{Ledger, LedgerError};

fn bob() -> DomainId {
    "bob".parse().unwrap()
}

fn world() -> (Source, Ledger) {
    Source::new("alice", &[route("alice", "bob")])
}

/// A change to tokens with this revision.
fn to(revision: i64) -> impl Fn(&DomainRouteTokenStatus) -> Option<DomainRouteTokenStatus> {
    move |_| {
        let time = Timestamp::from_millisecond(1_999).unwrap();
        let token = DomainRouteToken {
            revision,
            token: "sealed".to_owned(),
            revision_time: Some(Time(time)),
            ..DomainRouteToken::default()
        };
        Some(DomainRouteTokenStatus { revision_token: token, ..DomainRouteTokenStatus::default() })
    }
}

/// Changes tokens while the source does something else with the update.
async fn change(
    ledger: &Ledger,
    source: &mut Source,
    then: impl FnOnce(&mut Source, StatusUpdate),
) -> Result<DomainRouteTokenStatus, LedgerError> {
    let bob = bob();
    let (changed, ()) = tokio::join!(ledger.change_tokens(Direction::Outbound, &bob, to(1)), async {
        let update = source.updates.recv().await.unwrap();
        then(source, update);
    });
    changed
}

#[tokio::test]
async fn a_change_is_answered_as_it_comes_back_from_a_source_that_keeps_seconds() {
    let (mut source, ledger) = world();
    let changed = change(&ledger, &mut source, |source, update| source.store(&update)).await.unwrap();
    assert_eq!(changed.revision_token.revision_time, Some(Time(Timestamp::from_second(1).unwrap())));
    assert_eq!(outbound(&ledger.snapshot()).status.token_status, changed);
}

#[tokio::test]
async fn no_change_writes_nothing() {
    let (mut source, ledger) = world();
    let unchanged = ledger.change_tokens(Direction::Outbound, &bob(), |_| None).await.unwrap();
    let same =
        ledger.change_tokens(Direction::Outbound, &bob(), |status| Some(status.clone())).await.unwrap();
    assert_eq!((unchanged, same), <_>::default());
    assert!(source.updates.try_recv().is_err());
}

#[tokio::test]
async fn changes_of_one_route_never_overwrite_each_other() {
    let (mut source, ledger) = world();
    tokio::spawn(async move {
        while let Some(update) = source.updates.recv().await {
            source.store(&update);
        }
    });
    let increments = (0..20).map(|_| {
        let ledger = ledger.clone();
        tokio::spawn(async move {
            let increment = |status: &DomainRouteTokenStatus| to(status.revision_token.revision + 1)(status);
            ledger.change_tokens(Direction::Outbound, &bob(), increment).await.unwrap();
        })
    });
    for increment in increments.collect::<Vec<_>>() {
        increment.await.unwrap();
    }
    assert_eq!(outbound(&ledger.snapshot()).status.token_status.revision_token.revision, 20);
}

#[tokio::test]
async fn a_route_that_goes_meanwhile_is_noticed() {
    let (mut source, ledger) = world();
    let changed = change(&ledger, &mut source, |source, update| {
        source.delete("alice-bob");
        source.store(&update);
    });
    assert_eq!(changed.await, Err(LedgerError::RouteGone));
    let gone = ledger.change_tokens(Direction::Outbound, &bob(), to(1)).await;
    assert_eq!(gone, Err(LedgerError::RouteGone));
}

#[tokio::test]
async fn a_change_is_made_anew_from_what_another_writer_stored_first() {
    let (mut source, ledger) = world();
    let bob = bob();
    let next = |status: &DomainRouteTokenStatus| to(status.revision_token.revision + 1)(status);
    let (changed, ()) = tokio::join!(ledger.change_tokens(Direction::Outbound, &bob, next), async {
        let update = source.updates.recv().await.unwrap();
        let before = DomainRouteTokenStatus::default();
        let theirs =
            StatusChange::Tokens { after: Box::new(to(9)(&before).unwrap()), before: Box::new(before) };
        source.store(&StatusUpdate { change: theirs, object: update.object.clone() });
        source.store(&update);
        let again = source.updates.recv().await.unwrap();
        source.store(&again);
    });
    assert_eq!(changed.unwrap().revision_token.revision, 10);
}

#[tokio::test]
async fn conditions_that_come_between_do_not_disturb() {
    let (mut source, ledger) = world();
    let changed = change(&ledger, &mut source, |source, update| {
        let contact = StatusChange::Destination { authorized: true, unreachable: true };
        source.store(&StatusUpdate { change: contact, ..update.clone() });
        source.store(&update);
    });
    assert_eq!(changed.await.unwrap().revision_token.revision, 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_stores_nothing_is_not_waited_for_for_ever() {
    let (mut source, ledger) = world();
    assert_eq!(change(&ledger, &mut source, |_, _| {}).await, Err(LedgerError::NotStored));
    source.updates.close();
    let closed = ledger.change_tokens(Direction::Outbound, &bob(), to(1)).await;
    assert_eq!(closed, Err(LedgerError::NotStored));
}

#[tokio::test]
async fn a_change_that_is_given_up_blocks_no_other() {
    let (mut source, ledger) = world();
    let given_up = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.change_tokens(Direction::Outbound, &bob(), to(5)).await }
    });
    let update = source.updates.recv().await.unwrap();
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    source.store(&update);
    let snapshot = Arc::clone(&ledger.snapshots().borrow());
    assert_eq!(outbound(&snapshot).status.token_status.revision_token.revision, 5);
    let changed = change(&ledger, &mut source, |source, update| source.store(&update)).await;
    assert_eq!(changed.unwrap().revision_token.revision, 1);
}
