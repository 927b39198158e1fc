use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::handshake::{HandshakeKind, HandshakeRequest, Status, TokenState};
use serde_json::json;
use tokio::time::Instant;

use super::world::{ALICE, BOB, Change, Domain, inbound, request, request_with, route};
use crate::handshake::destination::{Destination, Evidence};
use crate::handshake::mint::SHARE_BYTES;
use crate::handshake::proof::proof;

type Break = fn(&mut HandshakeRequest);

fn bob() -> Domain {
    Domain::new("bob", &[route("alice", "bob")])
}

async fn refusal(destination: &Destination, request: &HandshakeRequest) -> Status {
    let answer = destination.answer(request, Ipv4Addr::LOCALHOST.into()).await;
    let status = answer.status.expect("an outcome");
    assert!(answer.token.is_none() && status.code == 500, "it is refused");
    status
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_with_the_reason() {
    let bob = bob();
    let destination = bob.destination();
    let cases: [(&str, Break, &str); 6] = [
        ("no domain", |request| request.domain_id = "No Domain".into(), "is no domain ID"),
        ("a long name", |request| request.domain_id = "a".repeat(60_000), "is no domain ID"),
        ("a stranger", |request| request.domain_id = "carol".into(), "has no route from carol"),
        ("another kind", |request| request.kind = HandshakeKind::Other("SM2\n".into()), r#""SM2\n""#),
        ("no share", |request| request.token_config = None, "no token_config"),
        (
            "another key",
            |request| request.token_config.as_mut().unwrap().pubhash = BOB.public_key().pubhash(),
            "holds the key",
        ),
    ];
    let mut texts = Vec::new();
    for (what, change, words) in cases {
        let mut request = request();
        change(&mut request);
        let text = refusal(&destination, &request).await.message;
        assert!(text.contains(words) && text.len() < 300, "{what}: {text}");
        texts.push(text);
    }
    assert!(texts[5].contains(&ALICE.public_key().fingerprint().to_string()), "{texts:?}");
}

#[tokio::test]
async fn a_route_without_tokens_is_none() {
    let mut open = route("alice", "bob");
    open["spec"]["authenticationType"] = json!("None");
    open["spec"].as_object_mut().unwrap().remove("tokenConfig");
    let bob = Domain::new("bob", &[open]);
    let destination = bob.destination();
    assert_eq!(refusal(&destination, &request()).await.reason, "RouteMissing");
    let state = destination.token_state(&"alice".parse().unwrap(), Some(1), Evidence::default()).await;
    assert_eq!(state, TokenState::NoAuthentication);
}

#[tokio::test]
async fn handshakes_from_other_addresses_than_the_routes_are_refused() {
    let mut limited = route("alice", "bob");
    limited["spec"]["sourceWhiteIPList"] = json!(["192.0.2.0/24", "2001:db8::7"]);
    let bob = Domain::new("bob", &[limited]);
    let destination = bob.destination();
    let alice = "alice".parse().unwrap();
    let may = |address: &str| destination.may_come_from(&alice, address.parse().unwrap());
    for (address, is_fine) in [
        ("192.0.2.1", true),
        ("::ffff:192.0.2.1", true),
        ("2001:db8::7", true),
        ("192.0.3.1", false),
        ("2001:db8::8", false),
        ("127.0.0.1", false),
    ] {
        assert_eq!(may(address), is_fine, "{address}");
    }
    assert!(
        destination.may_come_from(&"carol".parse().unwrap(), Ipv4Addr::LOCALHOST.into()),
        "it is refused anyway"
    );

    let before = bob.ledger.snapshot();
    let refusal = refusal(&destination, &request()).await;
    assert_eq!(refusal.reason, "AddressNotAllowed");
    assert!(
        refusal.message.contains("127.0.0.1") && refusal.message.contains("sourceWhiteIPList"),
        "{refusal:?}"
    );
    assert!(Arc::ptr_eq(&before, &bob.ledger.snapshot()));
}

#[tokio::test]
async fn a_source_whose_requests_others_bring_proves_its_token_without_showing_it() {
    let mut detour = route("alice", "bob");
    detour["spec"]["transit"] = json!({"domain": {"domainID": "carol"}});
    let mut carriers = route("carol", "bob");
    carriers["spec"]["sourceWhiteIPList"] = json!(["127.0.0.1"]);
    let bob = Domain::new("bob", &[carriers, detour]);
    let destination = bob.destination();
    let alice = "alice".parse().unwrap();
    assert!(!destination.may_come_from(&alice, [192, 0, 2, 1].into()), "it is carol's gateway that comes");

    // No gateway is connected, and none is to accept the token.
    let answer = destination.answer(&request(), Ipv4Addr::LOCALHOST.into()).await;
    assert_eq!(answer.token.expect("a token").revision, 1);
    let snapshot = bob.ledger.snapshot();
    let token = &inbound(&snapshot).accepted()[0];
    let is_proven =
        || inbound(&bob.ledger.snapshot()).status.token_status.revision_token.heart_beat_time.is_some();
    let shows = async |evidence| destination.token_state(&alice, Some(1), evidence).await;
    // That of the gateway which brings the request.
    let carriers = Evidence { token: Some("carols"), proof: None };
    assert_eq!(shows(carriers).await, TokenState::TokenReady);
    let wrong = proof(token, &alice, &"carol".parse().unwrap());
    assert_eq!(shows(Evidence { proof: Some(&wrong), ..carriers }).await, TokenState::TokenNotFound);
    assert!(!is_proven());
    let right = proof(token, &alice, &"bob".parse().unwrap());
    assert_eq!(shows(Evidence { proof: Some(&right), ..carriers }).await, TokenState::TokenReady);
    assert!(is_proven());
}

#[tokio::test(start_paused = true)]
async fn shares_that_cannot_be_opened_are_refused_alike_after_the_same_time_and_change_nothing() {
    let bob = bob();
    let destination = bob.destination();
    let before = bob.ledger.snapshot();
    let good = STANDARD.decode(BOB.public_key().seal(&[7; SHARE_BYTES]).unwrap()).unwrap();
    let mut flipped = good.clone();
    flipped[128] ^= 1;
    let shares = [
        ("another key's", ALICE.public_key().seal(&[7; SHARE_BYTES]).unwrap()),
        ("too short a secret", BOB.public_key().seal(&[7; SHARE_BYTES - 1]).unwrap()),
        ("too long a secret", BOB.public_key().seal(&[7; SHARE_BYTES + 1]).unwrap()),
        ("flipped", STANDARD.encode(flipped)),
        ("truncated", STANDARD.encode(&good[..100])),
        ("zero", STANDARD.encode([0; 256])),
        ("no base64", "!".to_owned()),
        ("empty", String::new()),
        ("huge", "A".repeat(60_000)),
    ];
    let mut answers = Vec::new();
    for (what, share) in shares {
        let begun = Instant::now();
        let refusal = refusal(&destination, &request_with(share)).await;
        assert_eq!(refusal.reason, "PeerKeyDiffers", "{what}");
        answers.push((refusal.message, begun.elapsed()));
    }
    assert!(answers[0].0.contains(&BOB.public_key().fingerprint().to_string()), "{answers:?}");
    assert!(answers[0].1 >= Duration::from_millis(50), "{answers:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert!(Arc::ptr_eq(&before, &bob.ledger.snapshot()));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_no_gateway_accepts_is_not_answered() {
    let bob = bob();
    assert_eq!(refusal(&bob.destination(), &request()).await.reason, "TokenNotReady");
    let snapshot = bob.ledger.snapshot();
    let tokens = &inbound(&snapshot).status.token_status;
    assert!(!tokens.revision_token.is_ready && tokens.tokens.is_empty(), "{tokens:?}");
}

#[tokio::test(start_paused = true)]
async fn only_a_few_handshakes_of_one_source_wait_for_each_other() {
    let bob = bob();
    let destination = Arc::new(bob.destination());
    let crowd = (0..10).map(|_| {
        let destination = Arc::clone(&destination);
        tokio::spawn(async move { refusal(&destination, &request()).await })
    });
    let mut busy = 0;
    for refused in crowd.collect::<Vec<_>>() {
        match refused.await.unwrap().reason.as_str() {
            "TooManyHandshakes" => busy += 1,
            "TokenNotReady" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(busy, 6);
}

#[tokio::test]
async fn a_route_that_goes_during_a_handshake_refuses_it() {
    let bob = bob();
    let destination = Arc::new(bob.destination());
    let refused = tokio::spawn({
        let destination = Arc::clone(&destination);
        async move { refusal(&destination, &request()).await }
    });
    bob.until(|snapshot| inbound(snapshot).status.token_status.revision_token.revision == 1).await;
    bob.change(Change::Delete("alice-bob")).await;
    bob.until(|snapshot| snapshot.inbound.is_empty()).await;
    tokio::time::pause();
    let refused = refused.await.unwrap();
    assert_eq!(refused.reason, "TokenNotReady", "{refused:?}");
}
