use jiff::Timestamp;
use networkmesh_model::api::DomainRouteToken;
use networkmesh_model::{InboundAuth, Kind, OutboundAuth, TOKEN_BYTES, Token, TokenValue};
use serde_json::{Value, json};

use crate::support::{ALICE, BOB, Mesh, route, with};

/// An entry of `tokenStatus` with a token of `TOKEN_BYTES` times `byte`, sealed for alice.
fn entry(revision: i64, byte: u8, ready: bool) -> Value {
    let sealed = ALICE.public_key().seal(&[byte; TOKEN_BYTES]).unwrap();
    json!({"revision": revision, "token": sealed, "isReady": ready})
}

fn with_tokens(source: &str, destination: &str, newest: &Value, tokens: &[Value]) -> Value {
    let status = json!({"tokenStatus": {"revisionToken": newest, "tokens": tokens}});
    with(route(source, destination), "/status", status)
}

/// Revision and first byte of each accepted token.
fn accepted(mesh: &Mesh) -> Vec<(i64, u8)> {
    let InboundAuth::Token { accepted, .. } = &mesh.inbound("bob").auth else { panic!("no tokens") };
    accepted.iter().map(|token| (token.revision, token.value.as_bytes()[0])).collect()
}

fn sending(mesh: &Mesh) -> Option<(i64, u8)> {
    let OutboundAuth::Token { sending, .. } = &mesh.outbound("bob").auth else { panic!("no tokens") };
    sending.as_ref().map(|token| (token.revision, token.value.as_bytes()[0]))
}

#[test]
fn a_destination_accepts_every_token_of_its_status_oldest_first_and_once() {
    let newest = entry(3, 3, false);
    let mesh = Mesh::of(&[with_tokens(
        "bob",
        "alice",
        &newest,
        &[entry(2, 2, true), newest.clone(), entry(1, 1, true)],
    )]);
    assert_eq!(accepted(&mesh), [(1, 1), (2, 2), (3, 3)]);
}

#[test]
fn a_token_that_was_sealed_twice_is_accepted_once() {
    let mesh = Mesh::of(&[with_tokens("bob", "alice", &entry(1, 1, true), &[entry(1, 1, true)])]);
    assert_eq!(accepted(&mesh), [(1, 1)]);
}

#[test]
fn two_tokens_of_one_revision_are_both_accepted() {
    let mesh = Mesh::of(&[with_tokens("bob", "alice", &entry(1, 7, true), &[entry(1, 6, true)])]);
    assert_eq!(accepted(&mesh), [(1, 6), (1, 7)]);
}

#[test]
fn tokens_that_our_key_does_not_open_are_skipped() {
    let foreign = json!({
        "revision": 9, "isReady": true, "token": BOB.public_key().seal(&[9; TOKEN_BYTES]).unwrap(),
    });
    let short = json!({"revision": 8, "isReady": true, "token": ALICE.public_key().seal(&[8; 16]).unwrap()});
    let garbage = json!({"revision": 7, "isReady": true, "token": "not base64"});
    let empty = json!({"revision": 6, "isReady": true, "token": ""});
    let tokens = [entry(1, 1, true), short, garbage, empty];
    let mesh = Mesh::of(&[
        with_tokens("bob", "alice", &foreign, &tokens),
        with_tokens("alice", "bob", &foreign, &tokens),
    ]);
    assert_eq!(accepted(&mesh), [(1, 1)]);
    assert_eq!(sending(&mesh), Some((1, 1)));
}

#[test]
fn a_source_sends_the_newest_token_that_is_ready() {
    let sent =
        |newest: Value, tokens: &[Value]| sending(&Mesh::of(&[with_tokens("alice", "bob", &newest, tokens)]));
    assert_eq!(sent(entry(3, 3, true), &[entry(2, 2, true)]), Some((3, 3)));
    assert_eq!(sent(entry(3, 3, false), &[entry(1, 1, true), entry(2, 2, true)]), Some((2, 2)));
    // Bob lost its state, and counts from one again.
    assert_eq!(sent(entry(1, 1, true), &[entry(7, 7, true), entry(1, 1, true)]), Some((1, 1)));
    assert_eq!(sent(entry(1, 1, false), &[]), None);
}

#[test]
fn the_end_of_a_token_is_known() {
    let token = with(entry(1, 1, true), "/expirationTime", json!("2030-01-01T00:00:00Z"));
    let mesh = Mesh::of(&[with_tokens("alice", "bob", &token, &[])]);
    let OutboundAuth::Token { sending: Some(token), .. } = &mesh.outbound("bob").auth else {
        panic!("no token")
    };
    assert_eq!(token.expires, Some("2030-01-01T00:00:00Z".parse::<Timestamp>().unwrap()));
}

#[test]
fn a_change_of_tokens_alone_is_published() {
    let mut mesh = Mesh::of(&[with_tokens("alice", "bob", &entry(1, 1, true), &[])]);
    let (published, _) = mesh.put(&with_tokens("alice", "bob", &entry(2, 2, true), &[]));
    assert!(published);
    assert_eq!(sending(&mesh), Some((2, 2)));
}

#[test]
fn the_tokens_of_a_route_go_on_while_its_newest_version_is_wrong() {
    for (source, destination) in [("alice", "bob"), ("bob", "alice")] {
        let mut mesh = Mesh::of(&[with_tokens(source, destination, &entry(1, 1, true), &[])]);
        let newer = with_tokens(source, destination, &entry(2, 2, true), &[]);
        let (published, _) = mesh.put(&with(newer, "/spec/interConnProtocol", json!("bfia")));
        assert!(published);
        assert_eq!(mesh.rejection(Kind::DomainRoute, &format!("{source}-{destination}")).len(), 1);
        match source {
            "alice" => assert_eq!(sending(&mesh), Some((2, 2))),
            _ => assert_eq!(accepted(&mesh), [(2, 2)]),
        }
    }
}

#[test]
fn a_token_is_never_shown() {
    let value = TokenValue::new([0xAB; TOKEN_BYTES]);
    let shown = format!("{:?}", Token { revision: 1, value: value.clone(), expires: None, proven: false });
    assert!(shown.contains("<redacted>"), "{shown}");
    assert!(!shown.contains("171") && !shown.to_lowercase().contains("ab, "), "{shown}");
    assert!(!shown.contains(&value.header_value()), "{shown}");
}

#[test]
fn a_header_carries_the_token_as_base64() {
    assert_eq!(TokenValue::new([0; TOKEN_BYTES]).header_value(), format!("{}=", "A".repeat(43)));
}

#[test]
fn a_status_keeps_when_a_signed_handshake_was_asked_for_and_leaves_it_out_where_none_was() {
    for (signed, written) in [(Some(1_700_000_000_123_456_789), true), (None, false)] {
        let token = DomainRouteToken { signed_request_time: signed, ..DomainRouteToken::default() };
        let json = serde_json::to_value(&token).unwrap();
        assert_eq!(json.get("signedRequestTime").and_then(Value::as_i64), signed);
        assert_eq!(json.get("signedRequestTime").is_some(), written);
        assert_eq!(serde_json::from_value::<DomainRouteToken>(json).unwrap(), token);
    }
}
