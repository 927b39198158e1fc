use std::net::SocketAddr;

use ::http::{Method, Request, Response, StatusCode};
use bytes::Bytes;
use model::{InboundAuth, TOKEN_BYTES};
use proto::handshake::{HandshakeResponse, StatusResponse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::world::{ALICE, Domain, inbound, request, request_with, route};
use crate::handshake::mint::SHARE_BYTES;
use crate::http::{Limits, Target, send};

async fn bob() -> (Domain, SocketAddr) {
    let mut bob = Domain::new("bob", &[route("alice", "bob")]);
    let server = bob.serve().await;
    (bob, server)
}

async fn post(server: SocketAddr, body: impl Into<Bytes>) -> Response<Bytes> {
    let request = Request::post("/handshake").body(body.into()).unwrap();
    send(&Target::Tcp(server), request, Limits::default()).await.unwrap()
}

async fn handshake(server: SocketAddr) -> HandshakeResponse {
    let response = post(server, serde_json::to_vec(&request()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    serde_json::from_slice(response.body()).unwrap()
}

async fn probe(server: SocketAddr, headers: &[(&str, &str)]) -> i64 {
    let mut request = Request::get("/handshake");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Bytes::new()).unwrap();
    let response = send(&Target::Tcp(server), request, Limits::default()).await.unwrap();
    let answer: StatusResponse = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(answer.namespace, "bob");
    answer.state.into()
}

#[tokio::test]
async fn both_halves_make_the_token_that_the_gateway_accepts() {
    let (bob, server) = bob().await;
    for revision in [1, 2] {
        let answer = handshake(server).await;
        assert_eq!(answer.status.unwrap().code, 0);
        let answer = answer.token.unwrap();
        assert_eq!(answer.revision, revision);
        let theirs = ALICE.open(&answer.token.0, SHARE_BYTES).unwrap();
        let expected = [[7; SHARE_BYTES].as_slice(), &theirs].concat();
        assert_eq!(expected.len(), TOKEN_BYTES);

        let snapshot = bob.ledger.snapshot();
        let route = inbound(&snapshot);
        let InboundAuth::Token { accepted, .. } = &route.auth else { panic!("it has tokens") };
        let newest = accepted.last().unwrap();
        assert_eq!((newest.revision, newest.value.as_bytes()), (revision.into(), expected.as_slice()));
        let stored = &route.status.token_status.revision_token;
        assert!(stored.is_ready);
        assert_eq!(stored.effective_instances, ["bob-gateway"]);
        let expires = stored.expiration_time.as_ref().unwrap().0;
        assert_eq!(i128::from(answer.expiration_time), expires.as_nanosecond());
    }
}

#[tokio::test]
async fn handshakes_of_one_source_at_the_same_time_all_succeed() {
    let (bob, server) = bob().await;
    let answers = tokio::join!(handshake(server), handshake(server), handshake(server));
    let mut revisions = [answers.0, answers.1, answers.2].map(|answer| answer.token.unwrap().revision);
    revisions.sort_unstable();
    assert_eq!(revisions, [1, 2, 3]);
    assert_eq!(inbound(&bob.ledger.snapshot()).status.token_status.revision_token.revision, 3);
}

#[tokio::test]
async fn probes_are_answered_with_the_numbers_of_kuscia() {
    let (_bob, server) = bob().await;
    handshake(server).await;
    let revision = |number| ("kuscia-token-revision", number);
    let alice = ("kuscia-source", "alice");
    for (headers, state) in [
        (&[alice, revision("1")][..], 0),
        (&[("kuscia-origin-source", "alice"), ("kuscia-source", "carol"), revision("1")], 0),
        (&[], 1),
        (&[("kuscia-source", "No Domain"), revision("1")], 1),
        (&[alice], 2),
        (&[alice, revision("one")], 2),
        (&[alice, revision("2")], 4),
        (&[("kuscia-source", "carol"), revision("1")], 5),
    ] {
        assert_eq!(probe(server, headers).await, state, "{headers:?}");
    }
}

#[tokio::test]
async fn a_token_that_no_gateway_has_accepted_is_not_ready() {
    let (bob, server) = bob().await;
    let not_ready = |status: &_| {
        let new = crate::handshake::state::NewToken {
            sealed: bob.identity.key.public_key().seal(&[1; TOKEN_BYTES]).unwrap(),
            revision: 1,
            expires: jiff::Timestamp::MAX,
        };
        Some(crate::handshake::state::with_offered(status, new, jiff::Timestamp::now()))
    };
    let alice = "alice".parse().unwrap();
    bob.ledger.change_tokens(model::Direction::Inbound, &alice, not_ready).await.unwrap();
    assert_eq!(probe(server, &[("kuscia-source", "alice"), ("kuscia-token-revision", "1")]).await, 3);
}

#[tokio::test]
async fn a_token_that_was_stored_for_another_key_is_not_found() {
    let (bob, server) = bob().await;
    let of_another_key = |status: &_| {
        let new = crate::handshake::state::NewToken {
            sealed: ALICE.public_key().seal(&[1; TOKEN_BYTES]).unwrap(),
            revision: 1,
            expires: jiff::Timestamp::MAX,
        };
        let mut offered = crate::handshake::state::with_offered(status, new, jiff::Timestamp::now());
        offered.revision_token.is_ready = true;
        Some(offered)
    };
    let alice = "alice".parse().unwrap();
    bob.ledger.change_tokens(model::Direction::Inbound, &alice, of_another_key).await.unwrap();
    assert_eq!(probe(server, &[("kuscia-source", "alice"), ("kuscia-token-revision", "1")]).await, 4);
}

#[tokio::test]
async fn only_the_right_token_proves_that_the_source_has_it() {
    let (bob, server) = bob().await;
    handshake(server).await;
    let InboundAuth::Token { accepted, .. } = inbound(&bob.ledger.snapshot()).auth.clone() else {
        panic!("it has tokens");
    };
    let token = accepted[0].value.header_value();
    let wrong = format!("A{}", &token[1..]).replace("AA", "AB");
    let is_proven = || {
        let snapshot = bob.ledger.snapshot();
        inbound(&snapshot).status.token_status.revision_token.heart_beat_time.is_some()
    };
    let alice = [("kuscia-source", "alice"), ("kuscia-token-revision", "1")];
    for sent in ["", "x", wrong.as_str(), &token[..43]] {
        assert_eq!(probe(server, &[alice[0], alice[1], ("kuscia-token", sent)]).await, 0);
        assert!(!is_proven(), "{sent}");
    }
    assert_eq!(probe(server, &[alice[0], alice[1], ("kuscia-token", &token)]).await, 0);
    assert!(is_proven());
}

#[tokio::test]
async fn refusals_have_kuscias_form() {
    let (_bob, server) = bob().await;
    let share = ALICE.public_key().seal(&[7; SHARE_BYTES]).unwrap();
    let response = post(server, serde_json::to_vec(&request_with(share)).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let answer: HandshakeResponse = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(answer.token, None);
    let status = answer.status.unwrap();
    assert!(status.code == 500 && status.message.contains("holds another key"), "{status:?}");
}

#[tokio::test]
async fn garbage_is_refused_and_harms_nobody() {
    let (_bob, server) = bob().await;
    let nested = "[".repeat(60_000);
    for body in ["", "{", "null", "\u{0}\u{1}", r#"{"domain_id":1}"#, nested.as_str()] {
        let response = post(server, body.to_owned()).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body:.20}");
    }
    let oversized = post(server, vec![b' '; 65 * 1024]).await;
    assert_eq!(oversized.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let path = Request::post("/register").body(Bytes::new()).unwrap();
    let other = send(&Target::Tcp(server), path, Limits::default()).await.unwrap();
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
    let method = Request::builder().method(Method::DELETE).uri("/handshake").body(Bytes::new()).unwrap();
    let other = send(&Target::Tcp(server), method, Limits::default()).await.unwrap();
    assert_eq!(other.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(handshake(server).await.token.is_some());
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let (_bob, server) = bob().await;
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(b"POST /handshake HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{").await.unwrap();
    tokio::time::pause();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}
