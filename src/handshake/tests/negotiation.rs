use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use model::api::{ConditionStatus, DomainRouteStatus};
use model::{OutboundAuth, Snapshot, Token};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::world::{Change, Domain, inbound, outbound, route};
use crate::handshake::negotiate_all;
use crate::handshake::state::EXPIRED_KEPT;

fn alice() -> Domain {
    Domain::new("alice", &[route("alice", "bob")])
}

fn negotiate(domain: &Domain, gateway: SocketAddr, shutdown: &CancellationToken) -> JoinHandle<()> {
    tokio::spawn(negotiate_all(domain.identity.clone(), domain.acceptance(), gateway, shutdown.clone()))
}

fn sending(snapshot: &Snapshot) -> Option<Token> {
    match &outbound(snapshot).auth {
        OutboundAuth::Token { sending, .. } => sending.clone(),
        OutboundAuth::Mtls | OutboundAuth::None => None,
    }
}

fn accepted(snapshot: &Snapshot) -> Vec<Token> {
    inbound(snapshot).accepted().to_vec()
}

/// Whether the condition has this reason.
fn says(status: &DomainRouteStatus, condition: &str, is: ConditionStatus, reason: &str) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|known| known.type_ == condition && known.status == is && known.reason == reason)
}

fn is_confirmed(snapshot: &Snapshot) -> bool {
    says(&outbound(snapshot).status, "Authenticated", ConditionStatus::True, "TokenReady")
}

#[tokio::test]
async fn two_domains_agree_on_a_token_and_the_destination_learns_that_it_arrived() {
    let mut bob = Domain::new("bob", &[route("alice", "bob")]);
    let alice = alice();
    let shutdown = CancellationToken::new();
    let task = negotiate(&alice, bob.serve().await, &shutdown);

    let at_alice = alice.until(is_confirmed).await;
    let at_bob = bob
        .until(|snapshot| inbound(snapshot).status.token_status.revision_token.heart_beat_time.is_some())
        .await;
    let token = sending(&at_alice).unwrap();
    assert_eq!(token.revision, 1);
    assert_eq!(accepted(&at_bob), [token]);
    assert!(says(&outbound(&at_alice).status, "Reachable", ConditionStatus::True, "Answered"));

    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_destination_that_lost_its_tokens_gets_a_new_one() {
    let alice = alice();
    let shutdown = CancellationToken::new();
    let mut bob = Domain::new("bob", &[route("alice", "bob")]);
    let task = negotiate(&alice, bob.serve().await, &shutdown);
    let before = sending(&*alice.until(is_confirmed).await).unwrap();
    shutdown.cancel();
    task.await.unwrap();
    drop(bob);

    let mut bob = Domain::new("bob", &[route("alice", "bob")]);
    let shutdown = CancellationToken::new();
    negotiate(&alice, bob.serve().await, &shutdown);
    let is_other = |snapshot: &Snapshot| sending(snapshot).is_some_and(|token| token.value != before.value);
    let after = sending(&*alice.until(is_other).await).unwrap();
    assert_eq!(accepted(&bob.ledger.snapshot()), [after]);
    shutdown.cancel();
}

#[tokio::test]
async fn a_route_that_comes_back_negotiates_again() {
    let mut bob = Domain::new("bob", &[route("alice", "bob")]);
    let alice = alice();
    let shutdown = CancellationToken::new();
    negotiate(&alice, bob.serve().await, &shutdown);
    for revision in 1..4 {
        let snapshot = alice.until(is_confirmed).await;
        assert_eq!(sending(&snapshot).unwrap().revision, revision);
        alice.change(Change::Delete("alice-bob")).await;
        alice.change(Change::Put(route("alice", "bob"))).await;
        alice
            .until(|snapshot| {
                snapshot
                    .outbound
                    .get("bob")
                    .is_some_and(|_| sending(snapshot).is_none_or(|token| token.revision > revision))
            })
            .await;
    }
    shutdown.cancel();
}

#[tokio::test]
async fn a_destination_without_the_route_is_named_and_asked_until_it_has_it() {
    let mut bob = Domain::new("bob", &[]);
    let alice = alice();
    let shutdown = CancellationToken::new();
    negotiate(&alice, bob.serve().await, &shutdown);
    let refused = |snapshot: &Snapshot| {
        says(&outbound(snapshot).status, "Authenticated", ConditionStatus::False, "RouteMissing")
    };
    let snapshot = alice.until(refused).await;
    let status = &outbound(&snapshot).status;
    assert!(
        status.conditions.iter().any(|known| known.message.contains("no route from alice")),
        "{status:?}"
    );
    bob.change(Change::Put(route("alice", "bob"))).await;
    alice.until(is_confirmed).await;
    shutdown.cancel();
}

#[tokio::test]
async fn expired_tokens_of_a_source_are_forgotten() {
    let mut rolling = route("alice", "bob");
    rolling["spec"]["tokenConfig"]["rollingUpdatePeriod"] = json!(1);
    let mut bob = Domain::new("bob", &[rolling]);
    let alice = alice();
    let shutdown = CancellationToken::new();
    let task = negotiate(&alice, bob.serve().await, &shutdown);
    bob.until(|snapshot| !accepted(snapshot).is_empty()).await;
    shutdown.cancel();
    task.await.unwrap();

    let shutdown = CancellationToken::new();
    negotiate(&bob, SocketAddr::from(([127, 0, 0, 1], 1)), &shutdown);
    let is_over = |snapshot: &Snapshot| {
        accepted(snapshot).iter().all(|token| token.expires.is_some_and(|end| end <= Timestamp::now()))
    };
    while !is_over(&bob.ledger.snapshot()) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!accepted(&bob.ledger.snapshot()).is_empty(), "the source may need some time");
    tokio::time::pause();
    tokio::time::advance(EXPIRED_KEPT).await;
    let snapshot = bob.until(|snapshot| accepted(snapshot).is_empty()).await;
    assert_eq!(inbound(&snapshot).status.token_status.revision_token.revision, 1, "the number stays");
    shutdown.cancel();
}
