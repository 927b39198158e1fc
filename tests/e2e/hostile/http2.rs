//! Requests in HTTP/2 that none but their writer would send.

use futures_util::future::join_all;
use networkmesh::harness::echo::Echoed;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, Fields, HEADERS, WHOLE, ask, block, frame, of_alice,
};
use super::{ECHO, HANDSHAKE, assert_from_alice, requests_of};
use crate::world::{Source, World, token};

/// What a case must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// `echo` answers, and has seen alice.
    Served,
    /// Bob's gateway answers that it knows no such caller.
    Unauthorized,
    /// There is no answer.
    Cut,
}

use Expected::{Cut, Served, Unauthorized};

#[tokio::test]
async fn no_form_of_an_http_2_request_gets_around_the_token() {
    let world = World::two_domains(Source::Directory).await;
    let right = token(&world.alice, "bob").await;
    let alice = || of_alice(Some(&right));
    let stranger = || of_alice(None);
    let request = |fields: Fields| frame(HEADERS, WHOLE, 1, &block(&fields));
    let with = |fields: Fields, name: &str, value: &str| [fields, vec![(name.into(), value.into())]].concat();
    let first =
        |fields: Fields, name: &str, value: &str| [vec![(name.into(), value.into())], fields].concat();
    let without = |mut fields: Fields, name: &str| {
        fields.retain(|(known, _)| known != name);
        fields
    };
    let set = |mut fields: Fields, name: &str, value: &str| {
        fields.iter_mut().filter(|(known, _)| known == name).for_each(|field| field.1 = value.into());
        fields
    };
    let tunnel = |fields: Fields| without(without(set(fields, ":method", "CONNECT"), ":path"), ":scheme");
    let thousand = (0..1000).fold(alice(), |fields, number| with(fields, &format!("x-{number}"), "x"));
    // A body of three bytes, then what ends the stream.
    let posted = |fields: Fields, trailers: &[(&str, &str)]| {
        let trailers: Fields =
            trailers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let head = frame(HEADERS, END_HEADERS, 1, &block(&set(fields, ":method", "POST")));
        [head, frame(DATA, 0, 1, b"abc"), frame(HEADERS, WHOLE, 1, &block(&trailers))].concat()
    };
    let of_length = |length: &str| {
        let head = block(&with(set(alice(), ":method", "POST"), "content-length", length));
        [frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, END_STREAM, 1, b"abc")].concat()
    };
    let cases = [
        ("as it should be", Served, request(alice())),
        ("no token", Unauthorized, request(stranger())),
        // Pseudo-headers.
        ("two authorities", Cut, request(first(alice(), ":authority", HANDSHAKE))),
        ("two paths", Cut, request(first(alice(), ":path", "/handshake"))),
        ("two methods", Cut, request(first(alice(), ":method", "POST"))),
        ("two schemes", Cut, request(first(alice(), ":scheme", "https"))),
        ("a path behind headers", Cut, request(with(alice(), ":path", "/x"))),
        ("an unknown pseudo-header", Cut, request(first(alice(), ":kuscia-source", "alice"))),
        ("a status", Cut, request(first(alice(), ":status", "200"))),
        ("no authority and no host", Cut, request(without(alice(), ":authority"))),
        ("no path", Cut, request(without(alice(), ":path"))),
        ("no method", Cut, request(without(alice(), ":method"))),
        ("no scheme", Cut, request(without(alice(), ":scheme"))),
        ("an empty path", Cut, request(set(alice(), ":path", ""))),
        ("a path without a slash", Cut, request(set(alice(), ":path", "x"))),
        (
            "a URI as path",
            Cut,
            request(set(stranger(), ":path", "http://kuscia-handshake.bob.svc/handshake")),
        ),
        ("a blank in the path", Cut, request(set(alice(), ":path", "/a b"))),
        ("HTTP/1.1 in the path", Cut, request(set(alice(), ":path", "/ HTTP/1.1\r\nHost: x\r\n\r\nGET /x"))),
        (
            "HTTP/1.1 in the method",
            Cut,
            request(set(alice(), ":method", "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET")),
        ),
        ("a blank in the authority", Cut, request(set(alice(), ":authority", "a b"))),
        ("another host than the authority", Served, request(with(alice(), "host", HANDSHAKE))),
        (
            "a host, and no authority",
            Served,
            request(with(without(alice(), ":authority"), "host", HANDSHAKE)),
        ),
        ("the handshake as authority", Unauthorized, {
            request(set(set(stranger(), ":authority", HANDSHAKE), ":path", "/handshake"))
        }),
        ("the handshake as host", Unauthorized, {
            request(with(set(stranger(), ":path", "/handshake"), "host", HANDSHAKE))
        }),
        ("a tunnel", Unauthorized, request(tunnel(stranger()))),
        ("a tunnel for a protocol nobody knows", Cut, {
            request(first(set(stranger(), ":method", "CONNECT"), ":protocol", "x"))
        }),
        ("a protocol without a tunnel", Cut, request(first(alice(), ":protocol", "websocket"))),
        // Headers of a connection.
        ("Connection", Cut, request(with(alice(), "connection", "kuscia-token"))),
        ("Keep-Alive", Cut, request(with(alice(), "keep-alive", "1"))),
        ("Proxy-Connection", Cut, request(with(alice(), "proxy-connection", "close"))),
        ("Transfer-Encoding", Cut, request(with(alice(), "transfer-encoding", "chunked"))),
        ("Upgrade", Cut, request(with(alice(), "upgrade", "websocket"))),
        ("TE for anything", Cut, request(with(alice(), "te", "gzip"))),
        ("TE for trailers", Served, request(with(alice(), "te", "trailers"))),
        // Names and values.
        ("a name in upper case", Cut, request(with(alice(), "Kuscia-Source", "carol"))),
        ("a name with a blank", Cut, request(with(alice(), "kuscia source", "carol"))),
        ("a name with a colon", Cut, request(with(alice(), "kuscia:source", "carol"))),
        ("an empty name", Cut, request(with(alice(), "", "x"))),
        ("an underscore for the source", Cut, request(with(alice(), "kuscia_source", "carol"))),
        ("the source twice", Unauthorized, request(with(alice(), "kuscia-source", "alice"))),
        ("two sources", Unauthorized, request(with(alice(), "kuscia-source", "carol"))),
        ("the token twice", Unauthorized, request(with(alice(), "kuscia-token", &right))),
        (
            "a blank before the token",
            Unauthorized,
            request(set(alice(), "kuscia-token", &format!(" {right}"))),
        ),
        (
            "a blank behind the token",
            Unauthorized,
            request(set(alice(), "kuscia-token", &format!("{right} "))),
        ),
        ("a line end behind the token", Cut, request(set(alice(), "kuscia-token", &format!("{right}\r\n")))),
        ("a header in a value", Cut, request(with(stranger(), "x", &format!("x\r\nkuscia-token: {right}")))),
        ("a line feed in a value", Cut, request(with(stranger(), "x", &format!("x\nkuscia-token: {right}")))),
        ("NUL in a value", Cut, request(with(alice(), "x", "a\0b"))),
        ("another origin", Served, request(with(alice(), "kuscia-origin-source", "carol"))),
        ("a cluster of its own", Served, request(with(alice(), "x-nm-cluster", "svc|private.bob.svc"))),
        ("1,000 headers", Cut, request(thousand)),
        ("a header of 70,000 bytes", Cut, in_frames(&block(&with(alice(), "x", &"x".repeat(70_000))))),
        // Bodies.
        ("a length that is too long", Cut, of_length("10")),
        ("a length that is too short", Cut, of_length("1")),
        ("a length that is no number", Cut, of_length("x")),
        ("a token in trailers", Unauthorized, posted(stranger(), &[("kuscia-token", &right)])),
        ("another source in trailers", Served, {
            posted(alice(), &[("kuscia-source", "carol"), ("kuscia-origin-source", "carol")])
        }),
        ("a path in trailers", Cut, posted(alice(), &[(":path", "/x")])),
    ];
    let served = cases.iter().filter(|(_, expected, _)| *expected == Served).count() as u64;
    let before = requests_of(&world.bob, "echo").await;
    let server = world.bob.addresses.external;
    let fates = join_all(cases.iter().map(|(_, _, frames)| ask(server, frames))).await;
    for ((case, expected, _), fate) in cases.iter().zip(fates) {
        match (expected, fate) {
            (Served, Fate::Answered(body)) => {
                let seen: Echoed =
                    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{case}: {error}: {body}"));
                assert_from_alice(case, &seen);
                assert_eq!(seen.headers["kuscia-host"], ECHO, "{case}");
            }
            (Unauthorized, Fate::Answered(body)) => assert!(body.contains("unauthorized."), "{case}: {body}"),
            (Cut, Fate::Cut) => (),
            (expected, fate) => panic!("{case} is not {expected:?} but {fate:?}"),
        }
    }
    // Those whose body turns out wrong may have begun.
    let reached = requests_of(&world.bob, "echo").await - before;
    assert!((served..=served + 4).contains(&reached), "{reached} of {served}");
}

/// A head that is too long for one frame.
fn in_frames(block: &[u8]) -> Vec<u8> {
    let mut frames: Vec<_> = block.chunks(16_384).map(|part| frame(CONTINUATION, 0, 1, part)).collect();
    let last = frames.len() - 1;
    frames[0][3..5].copy_from_slice(&[HEADERS, END_STREAM]);
    frames[last][4] |= END_HEADERS;
    frames.concat()
}
