use std::net::{Ipv4Addr, SocketAddr};

use certs::DomainKey;

use model::{
    DomainId, HandshakePolicy, OutboundRoute, TOKEN_BYTES, Token, TokenMethod, TokenSettings, TokenValue,
    Transit, Way,
};
use proto::handshake::TokenState;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::world::{ALICE, BOB, Source, outbound, route};
use crate::handshake::call_error::CallError;
use crate::handshake::client::{HandshakeClient, Negotiated, Terms};
use crate::handshake::mint::SHARE_BYTES;

fn bob() -> DomainId {
    "bob".parse().unwrap()
}

fn client(gateway: SocketAddr) -> HandshakeClient {
    HandshakeClient { domain: "alice".parse().unwrap(), key: DomainKey::clone(&ALICE), gateway }
}

/// A server that reads a request's head, answers one thing and closes.
async fn raw(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_head(&mut stream).await;
            // The client may have seen enough before the end.
            let _ = stream.write_all(&answer).await;
        }
    });
    address
}

async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 4096];
        let size = stream.read(&mut buffer).await.unwrap();
        assert_ne!(size, 0, "the head is whole");
        head.extend_from_slice(&buffer[..size]);
    }
}

fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes()
}

fn ok(body: &str) -> Vec<u8> {
    response("200 OK", "", body)
}

async fn negotiate(gateway: SocketAddr) -> Result<Negotiated, CallError> {
    let settings = TokenSettings {
        peer_key: BOB.public_key().clone(),
        rolling_update_period: None,
        method: TokenMethod::Rsa,
        handshake: HandshakePolicy::WhatPeerCan,
    };
    let terms = Terms { settings: &settings, revision: 3, request_time: 1, must_be_signed: false };
    client(gateway).negotiate(&bob(), &terms).await
}

async fn failure(answer: Vec<u8>) -> CallError {
    match negotiate(raw(answer).await).await {
        Ok(_) => panic!("it is no token"),
        Err(error) => error,
    }
}

fn token_json(share: &str, expires: i64) -> String {
    format!(r#"{{"status":{{}},"token":{{"token":"{share}","expiration_time":{expires},"revision":4}}}}"#)
}

#[tokio::test]
async fn each_wrong_answer_has_its_reason() {
    let flood =
        [&b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n"[..], &vec![b'0'; 10_000_000]].concat();
    let hop = "kuscia-error-message: <bob/gateway/external no healthy upstream>\r\n";
    let cases = [
        (b"\x16\x03\x01 no HTTP\r\n\r\n".to_vec(), "DestinationUnreachable", true, "not valid HTTP"),
        (Vec::new(), "DestinationUnreachable", true, "closed"),
        (flood, "DestinationUnreachable", true, "longer than 65536 bytes"),
        (response("503 Oh", hop, "x"), "DestinationUnreachable", true, "<bob/gateway/external no healthy"),
        (
            response("500 Oh", "", "\u{1b}[31mred"),
            "DestinationUnreachable",
            true,
            "500 Internal Server Error: [31mred",
        ),
        (response("404 Oh", "", "a page"), "NotAHandshakeService", false, "404 Not Found: a page"),
        (response("302 Oh", "location: /\r\n", ""), "NotAHandshakeService", false, "302"),
        (ok("<html>"), "NotAHandshakeService", false, "not its JSON"),
        (ok("{}"), "NotAHandshakeService", false, "no status"),
        (ok(r#"{"status":{}}"#), "NotAHandshakeService", false, "no token"),
        (
            ok(&token_json("AAAA", 1)),
            "KeyUnknownToPeer",
            false,
            "is not encrypted for this domain's key SHA256:",
        ),
    ];
    for (answer, reason, unreachable, words) in cases {
        let error = failure(answer).await;
        let text = error.to_string();
        assert_eq!((error.reason(), error.is_unreachable()), (reason, unreachable), "{text}");
        assert!(text.contains(words) && !text.contains(char::is_control), "{text:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_repeated_without_control_characters_and_in_short() {
    let message = format!(r"no\n\u001b[31mway\u0000{}", "x".repeat(10_000));
    let error = failure(ok(&format!(r#"{{"status":{{"code":500,"message":"{message}"}}}}"#))).await;
    assert_eq!((error.reason(), error.is_unreachable()), ("HandshakeRefused", false));
    let text = error.to_string();
    assert!(text.contains("bob refused: no[31mwayxxx") && !text.contains(char::is_control), "{text:?}");
    assert!(text.len() < 600, "{text}");
    for key in [&ALICE, &BOB] {
        assert!(text.contains(&key.public_key().fingerprint().to_string()), "{text}");
    }
}

#[tokio::test]
async fn a_good_answer_gives_the_token() {
    let share = ALICE.public_key().seal(&[9; SHARE_BYTES]).unwrap();
    let new = negotiate(raw(ok(&token_json(&share, i64::MAX))).await).await.unwrap();
    assert_eq!((new.revision, new.expires.as_nanosecond()), (4, i64::MAX.into()));
    assert_eq!(new.value.as_bytes().len(), TOKEN_BYTES);
    assert_eq!(new.value.as_bytes()[SHARE_BYTES..], [9; SHARE_BYTES]);
    assert_ne!(new.value.as_bytes()[..SHARE_BYTES], [0; SHARE_BYTES]);
}

#[tokio::test]
async fn a_gateway_that_does_not_run_is_told_from_a_peer() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let Err(error) = negotiate(unused).await else { panic!("nobody is there") };
    assert_eq!((error.reason(), error.is_unreachable()), ("OwnGatewayDown", true));
    assert!(error.to_string().contains("networkmesh") || error.to_string().contains("Envoy"), "{error}");
}

#[tokio::test]
async fn a_peer_that_never_answers_is_given_up() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let gateway = listener.local_addr().unwrap();
    let call = tokio::spawn(negotiate(gateway));
    let (mut stream, _) = listener.accept().await.unwrap();
    read_head(&mut stream).await;
    tokio::time::pause();
    let Err(error) = call.await.unwrap() else { panic!("nobody answered") };
    assert_eq!((error.reason(), error.is_unreachable()), ("DestinationUnreachable", true));
    assert!(error.to_string().contains("no answer within 35s"), "{error}");
}

#[tokio::test]
async fn probes_tell_the_state_and_who_answers() {
    let (_, ledger) = Source::new("alice", &[route("alice", "bob")]);
    let snapshot = ledger.snapshot();
    let value = TokenValue::new([1; TOKEN_BYTES]);
    let token = Token { revision: 3, value, expires: None, proven: false };
    let probe = async |body: &str| client(raw(ok(body)).await).probe(outbound(&snapshot), &token).await;
    assert_eq!(probe(r#"{"namespace":"bob","state":4}"#).await.unwrap(), TokenState::TokenNotFound);
    for (body, reason) in [
        (r#"{"namespace":"carol","state":0}"#, "OtherDomainAnswered"),
        (r#"{"namespace":"","state":0}"#, "OtherDomainAnswered"),
        (r#"{"namespace":"bob"}"#, "NotAHandshakeService"),
        (r#"{"namespace":"bob","state":99}"#, "NotAHandshakeService"),
        ("<html>", "NotAHandshakeService"),
    ] {
        assert_eq!(probe(body).await.unwrap_err().reason(), reason, "{body}");
    }
}

/// A server that answers one probe, and tells what it was asked.
async fn asked(route: &OutboundRoute, token: &Token) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = listener.local_addr().unwrap();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let size = stream.read(&mut head).await.unwrap();
        stream.write_all(&ok(r#"{"namespace":"bob","state":0}"#)).await.unwrap();
        String::from_utf8(head[..size].to_vec()).unwrap().to_lowercase()
    });
    assert_eq!(client(gateway).probe(route, token).await.unwrap(), TokenState::TokenReady);
    heard.await.unwrap()
}

#[tokio::test]
async fn a_token_is_shown_to_its_destination_alone() {
    let (_, ledger) = Source::new("alice", &[route("alice", "bob")]);
    let direct = outbound(&ledger.snapshot()).clone();
    let value = TokenValue::new([1; TOKEN_BYTES]);
    let token = Token { revision: 3, value, expires: None, proven: false };
    let sent = token.value.header_value().to_lowercase();
    let heard = asked(&direct, &token).await;
    assert!(
        heard.contains(&format!("kuscia-token: {sent}")) && !heard.contains("kuscia-token-proof"),
        "{heard}"
    );

    let way =
        Way::Transit(Transit { domains: ["carol".parse().unwrap()].into(), next: direct.clone().into() });
    let heard = asked(&OutboundRoute { way, ..direct }, &token).await;
    assert!(heard.contains("kuscia-token-proof: ") && heard.contains("kuscia-token-revision: 3"), "{heard}");
    assert!(!heard.contains(&sent) && !heard.contains("kuscia-token: "), "{heard}");
}
