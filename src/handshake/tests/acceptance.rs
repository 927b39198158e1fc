//! Several gateways of one domain.

use std::net::SocketAddr;
use std::sync::Arc;

use model::api::DomainRouteTokenStatus;
use model::{Direction, DomainId, Snapshot, with_listed};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::world::{Domain, inbound, outbound, request, route};
use crate::handshake::negotiate_all;

const OWN: &str = "bob-gateway";

fn alice() -> DomainId {
    "alice".parse().unwrap()
}

fn tokens(snapshot: &Snapshot) -> &DomainRouteTokenStatus {
    &inbound(snapshot).status.token_status
}

/// Bob's first gateway, with others beside it.
async fn bob(others: &[&str]) -> Domain {
    let mut bob = Domain::new("bob", &[route("alice", "bob")]);
    bob.set_others_alive(others);
    bob.serve().await;
    bob
}

/// A token that another gateway of bob negotiates.
async fn offer(bob: &Domain) {
    let offer = |status: &DomainRouteTokenStatus| {
        let sealed = super::world::BOB.public_key().seal(&[7; model::TOKEN_BYTES]).unwrap();
        let new = crate::handshake::state::NewToken {
            sealed,
            revision: 1,
            expires: jiff::Timestamp::MAX,
            request_time: None,
        };
        crate::handshake::state::with_offered(status, new, jiff::Timestamp::now()).ok()
    };
    bob.ledger.change_tokens(Direction::Inbound, &alice(), offer).await.unwrap();
}

/// Another gateway of bob accepts the token of `revision`.
async fn list(bob: &Domain, gateway: &str, revision: i64) {
    let change = |status: &_| with_listed(status, revision, gateway);
    bob.ledger.change_tokens(Direction::Inbound, &alice(), change).await.unwrap();
}

/// Answers as soon as this gateway has listed itself for the first token.
async fn is_offered(bob: &Domain) {
    let snapshot = bob.until(|snapshot| tokens(snapshot).revision_token.effective_instances == [OWN]).await;
    assert!(!tokens(&snapshot).revision_token.is_ready && tokens(&snapshot).tokens.is_empty());
}

/// The revision that is answered, or the reason of the refusal.
fn ask(bob: &Domain) -> JoinHandle<Result<i32, String>> {
    let destination = bob.destination();
    tokio::spawn(async move {
        let answer = destination.answer(&request(), [127, 0, 0, 1].into()).await;
        let reason = answer.status.unwrap().reason;
        answer.token.map(|token| token.revision).ok_or(reason)
    })
}

#[tokio::test]
async fn a_token_is_answered_once_every_live_gateway_accepts_it() {
    let bob = bob(&["bob-2", "bob-3"]).await;
    let answer = ask(&bob);
    is_offered(&bob).await;
    list(&bob, "bob-3", 1).await;
    assert!(!tokens(&bob.ledger.snapshot()).revision_token.is_ready);
    list(&bob, "bob-2", 1).await;
    assert_eq!(answer.await.unwrap().unwrap(), 1);
    let snapshot = bob.ledger.snapshot();
    let newest = &tokens(&snapshot).revision_token;
    assert!(newest.is_ready);
    assert_eq!(newest.effective_instances, ["bob-2", "bob-3", OWN]);
}

#[tokio::test]
async fn a_gateway_that_dies_meanwhile_is_not_waited_for() {
    let bob = bob(&["bob-2"]).await;
    let answer = ask(&bob);
    is_offered(&bob).await;
    bob.set_others_alive(&[]);
    assert_eq!(answer.await.unwrap().unwrap(), 1);
    assert!(tokens(&bob.ledger.snapshot()).revision_token.is_ready);
}

#[tokio::test]
async fn a_gateway_that_does_not_accept_the_token_holds_up_the_answer() {
    let bob = bob(&["bob-2"]).await;
    let answer = ask(&bob);
    is_offered(&bob).await;
    tokio::time::pause();
    assert_eq!(answer.await.unwrap(), Err("TokenNotReady".to_owned()));
    assert!(!tokens(&bob.ledger.snapshot()).revision_token.is_ready);
}

#[tokio::test]
async fn a_mesh_that_was_just_started_anew_does_not_settle_what_its_envoy_may_not_accept() {
    let mut bob = Domain::new("bob", &[route("alice", "bob")]);
    // As long as no Envoy is connected, this gateway does not count itself.
    bob.set_alive(&["bob-0"]);
    offer(&bob).await;
    let (shutdown, nowhere) = (CancellationToken::new(), SocketAddr::from(([127, 0, 0, 1], 1)));
    tokio::spawn(negotiate_all(bob.identity.clone(), bob.acceptance(), nowhere, shutdown.clone()));
    list(&bob, "bob-0", 1).await;
    bob.acceptance().settle(&alice()).await.unwrap();
    assert!(!bob.acceptance().is_due(tokens(&bob.ledger.snapshot())));
    assert!(!tokens(&bob.ledger.snapshot()).revision_token.is_ready);
    bob.set_others_alive(&["bob-0"]);
    bob.serve().await;
    bob.until(|snapshot| tokens(snapshot).revision_token.is_ready).await;
    shutdown.cancel();
}

#[tokio::test]
async fn a_gateway_lists_itself_for_tokens_that_others_negotiate() {
    let bob = bob(&["bob-0"]).await;
    let shutdown = CancellationToken::new();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    tokio::spawn(negotiate_all(bob.identity.clone(), bob.acceptance(), nowhere, shutdown.clone()));
    offer(&bob).await;
    is_offered(&bob).await;
    list(&bob, "bob-0", 1).await;
    bob.until(|snapshot| tokens(snapshot).revision_token.is_ready).await;
    shutdown.cancel();
}

#[tokio::test]
async fn one_gateway_of_the_source_negotiates_and_another_takes_over_when_it_dies() {
    let mut bob = Domain::new("bob", &[route("alice", "bob")]);
    let server = bob.serve().await;
    let alice = Domain::new("alice", &[route("alice", "bob")]);
    // By name the other one is the first.
    alice.set_others_alive(&["a"]);
    let shutdown = CancellationToken::new();
    tokio::spawn(negotiate_all(alice.identity.clone(), alice.acceptance(), server, shutdown.clone()));

    let before = alice.ledger.snapshot();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(Arc::ptr_eq(&before, &alice.ledger.snapshot()), "it is not this gateway's turn");
    alice.set_others_alive(&[]);
    let snapshot =
        alice.until(|snapshot| outbound(snapshot).status.token_status.revision_token.is_ready).await;
    assert_eq!(outbound(&snapshot).status.token_status.revision_initializer, "alice-gateway");
    // It stays so although an earlier name comes.
    alice.set_others_alive(&["a"]);
    assert!(alice.acceptance().replicas.is_chosen("alice-gateway"));
    shutdown.cancel();
}
