use std::net::{IpAddr, SocketAddr};

use ::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use model::{InboundAuth, TOKEN_BYTES};
use proto::handshake::{HandshakeResponse, StatusResponse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::world::{ALICE, Domain, inbound, request, request_with, route};
use crate::handshake::mint::SHARE_BYTES;
use crate::handshake::server::client_address;
use crate::handshake::{Destination, Outcomes, serve};
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
    let (status, state) = knock(server, headers).await;
    assert_eq!(status, StatusCode::OK);
    state
}

/// Status and state of the answer to a probe.
async fn knock(server: SocketAddr, headers: &[(&str, &str)]) -> (StatusCode, i64) {
    let mut request = Request::get("/handshake");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Bytes::new()).unwrap();
    let response = send(&Target::Tcp(server), request, Limits::default()).await.unwrap();
    let answer: StatusResponse = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(answer.namespace, "bob");
    (response.status(), answer.state.into())
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
            request_time: None,
        };
        crate::handshake::state::with_offered(status, new, jiff::Timestamp::now()).ok()
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
            request_time: None,
        };
        let mut offered = crate::handshake::state::with_offered(status, new, jiff::Timestamp::now()).ok()?;
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
        let state = probe(server, &[alice[0], alice[1], ("kuscia-token", sent)]).await;
        assert_eq!(state, 4, "of that number it knows another token");
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
    let mut stream = ask_slowly(server).await;
    tokio::time::pause();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

/// Half of a request, whose rest does not come.
async fn ask_slowly(server: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(b"POST /handshake HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{").await.unwrap();
    stream
}

#[tokio::test]
async fn bodies_that_do_not_come_displace_each_other_and_delay_nobody() {
    let (_bob, server) = bob().await;
    let mut slow = JoinSet::new();
    for _ in 0..200 {
        let mut stream = ask_slowly(server).await;
        slow.spawn(async move {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        });
    }
    let displaced = slow.join_next().await.unwrap().unwrap();
    assert!(displaced.starts_with("HTTP/1.1 503 "), "{displaced}");
    assert!(handshake(server).await.token.is_some());
    tokio::time::pause();
    let others = slow.join_all().await;
    assert!(others.iter().any(|answer| answer.starts_with("HTTP/1.1 408 ")), "{others:?}");
}

#[tokio::test]
async fn requests_that_are_far_too_long_are_read_at_times_only() {
    let (_bob, server) = bob().await;
    let mut long = JoinSet::new();
    for _ in 0..100 {
        long.spawn(async move { post(server, vec![b'['; 64 * 1024]).await.status() });
    }
    let statuses = long.join_all().await;
    assert!(statuses.contains(&StatusCode::BAD_REQUEST), "{statuses:?}");
    assert!(statuses.contains(&StatusCode::TOO_MANY_REQUESTS), "{statuses:?}");
    assert!(handshake(server).await.token.is_some());
}

/// Asks a server that has no room left according to `exhaust`, until it says so: its room comes back with time.
async fn asked_when_exhausted<T>(
    exhaust: impl Fn(&Destination),
    ask: impl AsyncFn(SocketAddr) -> T,
    is_refused: impl Fn(&T) -> bool,
) -> T {
    for _ in 0..100 {
        let bob = Domain::new("bob", &[route("alice", "bob")]);
        let destination = bob.destination();
        exhaust(&destination);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let _stop_on_drop = stop.clone().drop_guard();
        tokio::spawn(serve(listener, destination, Outcomes::default(), stop));
        let answer = ask(server).await;
        if is_refused(&answer) {
            return answer;
        }
    }
    panic!("it is never refused");
}

#[tokio::test]
async fn more_unsigned_handshakes_than_are_admitted_are_refused_in_kuscias_form() {
    let alice = "alice".parse().unwrap();
    let exhaust = |destination: &Destination| {
        while destination.limits.admit_unsigned(&alice, [127, 0, 0, 1].into()) {}
    };
    let broken = serde_json::to_vec(&request_with("!".to_owned())).unwrap();
    let ask = async |server| post(server, broken.clone()).await;
    let says_so = |answer: &Response<Bytes>| {
        String::from_utf8_lossy(answer.body()).contains("too many unsigned handshakes in the name of alice")
    };
    let answer = asked_when_exhausted(exhaust, ask, says_so).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: HandshakeResponse = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(answer.status.unwrap().code, 500);
}

#[tokio::test]
async fn more_probes_than_are_admitted_are_refused() {
    let exhaust = |destination: &Destination| while destination.limits.admit_probe([127, 0, 0, 1].into()) {};
    let ask = async |server| {
        let probe = Request::get("/handshake").header("kuscia-token-revision", 1).body(Bytes::new()).unwrap();
        send(&Target::Tcp(server), probe, Limits::default()).await.unwrap()
    };
    let is_refused = |answer: &Response<Bytes>| answer.status() == StatusCode::TOO_MANY_REQUESTS;
    let answer = asked_when_exhausted(exhaust, ask, is_refused).await;
    let answer: StatusResponse = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(i64::from(answer.state), 6);
}

#[tokio::test]
async fn gateways_that_look_whether_this_one_is_well_are_always_answered() {
    let mut limited = route("alice", "bob");
    limited["spec"]["sourceWhiteIPList"] = serde_json::json!(["192.0.2.1"]);
    let bob = Domain::new("bob", &[limited]);
    let destination = bob.destination();
    while destination.limits.admit_probe([127, 0, 0, 1].into()) {}
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let _stop_on_drop = stop.clone().drop_guard();
    tokio::spawn(serve(listener, destination, Outcomes::default(), stop));
    for _ in 0..300 {
        assert_eq!(probe(server, &[("kuscia-source", "alice")]).await, 2);
    }
    assert_eq!(probe(server, &[("kuscia-source", "carol")]).await, 5);
}

#[tokio::test]
async fn probes_from_other_addresses_than_the_routes_are_refused() {
    let mut limited = route("alice", "bob");
    limited["spec"]["sourceWhiteIPList"] = serde_json::json!(["192.0.2.1"]);
    let mut bob = Domain::new("bob", &[limited]);
    let server = bob.serve().await;
    let alice = [("kuscia-source", "alice"), ("kuscia-token-revision", "1")];
    assert_eq!(knock(server, &alice).await, (StatusCode::FORBIDDEN, 5));
    let from = ("x-forwarded-for", "203.0.113.5, 192.0.2.1");
    assert_eq!(knock(server, &[alice[0], alice[1], from]).await, (StatusCode::OK, 4));
}

#[test]
fn the_client_is_whom_the_own_gateway_names_last() {
    let own: IpAddr = "192.0.2.1".parse().unwrap();
    for (peer, forwarded, client) in [
        ("127.0.0.1", &["203.0.113.5"][..], "203.0.113.5"),
        ("127.0.0.1", &["198.51.100.9, 203.0.113.5"], "203.0.113.5"),
        ("127.0.0.1", &["198.51.100.9", "2001:db8::5"], "2001:db8::5"),
        ("::ffff:127.0.0.1", &["203.0.113.5"], "203.0.113.5"),
        ("192.0.2.1", &["203.0.113.5"], "203.0.113.5"),
        ("127.0.0.1", &[], "127.0.0.1"),
        ("127.0.0.1", &["203.0.113.5, unknown"], "127.0.0.1"),
        ("192.0.2.2", &["203.0.113.5"], "192.0.2.2"),
    ] {
        let peer = SocketAddr::new(peer.parse().unwrap(), 1);
        let headers: HeaderMap = forwarded
            .iter()
            .map(|value| (::http::HeaderName::from_static("x-forwarded-for"), value.parse().unwrap()))
            .collect();
        let expected: IpAddr = client.parse().unwrap();
        assert_eq!(client_address(peer, own, &headers), expected, "{peer} {forwarded:?}");
    }
}
