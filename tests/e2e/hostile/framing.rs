//! Where a request ends, and what its first line may be.

use super::wire::{Draft, answers, ask_all, exchange};
use super::{ECHO, HANDSHAKE, all_served, assert_from_alice, assert_refused, requests_of};
use crate::world::{Source, World, token};

#[tokio::test]
async fn a_request_whose_end_is_unclear_is_refused() {
    let world = World::two_domains(Source::Directory).await;
    let right = token(&world.alice, "bob").await;
    let post = |headers: &str, body: &str| Draft::of_alice(Some(&right)).post(headers, body);
    let chunked = |body: &str| post("Transfer-Encoding: chunked", body);
    assert_refused(
        &world,
        [
            ("both lengths", 400, post("Transfer-Encoding: chunked\r\nContent-Length: 4", "0\r\n\r\n")),
            ("both lengths, the other order", 400, {
                post("Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\n")
            }),
            ("two lengths", 400, post("Content-Length: 4\r\nContent-Length: 5", "abcde")),
            ("the length twice", 400, post("Content-Length: 4\r\nContent-Length: 4", "abcd")),
            ("a list of lengths", 400, post("Content-Length: 4, 4", "abcd")),
            ("a length with a sign", 400, post("Content-Length: +4", "abcd")),
            ("a length below nothing", 400, post("Content-Length: -1", "abcd")),
            ("a length in hexadecimal", 400, post("Content-Length: 0x4", "abcd")),
            ("a length beyond all numbers", 400, post("Content-Length: 18446744073709551617", "abcd")),
            ("a length in other letters", 400, post("CONTENT-LENGTH: 4\r\ncontent-length: 5", "abcd")),
            ("identity behind chunked", 501, post("Transfer-Encoding: chunked, identity", "0\r\n\r\n")),
            ("gzip before chunked", 501, post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n")),
            ("an unknown encoding", 501, post("Transfer-Encoding: xchunked", "0\r\n\r\n")),
            ("chunked twice", 501, post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n")),
            ("two encodings", 501, {
                post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n")
            }),
            ("a vertical tab before chunked", 400, post("Transfer-Encoding: \x0bchunked", "0\r\n\r\n")),
            ("a blank before the colon", 400, post("Transfer-Encoding : chunked", "0\r\n\r\n")),
            ("an underscore in the encoding", 400, post("Transfer_Encoding: chunked", "0\r\n\r\n")),
        ],
    )
    .await;
    // The head of these is in order, and the service may have begun to read when the rest turns out not to be.
    let bodies = [
        ("a chunk beyond all numbers", "FFFFFFFFFFFFFFFFF\r\nabcd\r\n0\r\n\r\n"),
        ("a chunk below nothing", "-4\r\nabcd\r\n0\r\n\r\n"),
        ("a chunk with a prefix", "0x4\r\nabcd\r\n0\r\n\r\n"),
        (
            "a request in a chunk that is too short for it",
            "4\r\nbodyGET / HTTP/1.1\r\nHost: x\r\n\r\n0\r\n\r\n",
        ),
        ("a chunk whose extension ends by LF", "4;a\nabcd\r\n0\r\n\r\n"),
    ];
    let drafts = bodies.map(|(_, body)| chunked(body)).into();
    for ((case, _), answers) in bodies.into_iter().zip(ask_all(world.bob.addresses.external, drafts).await) {
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [400], "{case}: {answers:?}");
    }
}

#[tokio::test]
async fn no_request_hides_in_another() {
    let world = World::two_domains(Source::Directory).await;
    let right = token(&world.alice, "bob").await;
    let hidden = Draft::of_alice(None).text();
    let length = format!("Content-Length: {}", hidden.len());
    let chunk = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    let kept = |token: Option<&str>| Draft::of_alice(token).without("Connection");
    let alice = || kept(Some(&right));
    let handshake = || kept(None).path("/handshake").set("Kuscia-Host", HANDSHAKE);
    let trailers = format!("4\r\nbody\r\n0\r\nKuscia-Token: {right}\r\nKuscia-Source: alice\r\n\r\n");

    let served = all_served(
        &world,
        [
            ("a body of known length", Draft::of_alice(Some(&right)).post(&length, &hidden)),
            ("a body in chunks", Draft::of_alice(Some(&right)).post("Transfer-Encoding: chunked", &chunk)),
            ("an extension of a chunk", {
                Draft::of_alice(Some(&right)).post("Transfer-Encoding: chunked", "4;x=y\r\nbody\r\n0\r\n\r\n")
            }),
            // Envoy leaves out what is too much, and never takes it for a request.
            ("more in a chunk than it says", {
                Draft::of_alice(Some(&right))
                    .post("Transfer-Encoding: chunked", "4\r\nbody, and more\r\n0\r\n\r\n")
            }),
            ("trailers", {
                let trailers =
                    "4\r\nbody\r\n0\r\nKuscia-Source: carol\r\nKuscia-Origin-Source: carol\r\n\r\n";
                Draft::of_alice(Some(&right)).post("TE: trailers\r\nTransfer-Encoding: chunked", trailers)
            }),
        ],
    )
    .await;
    for (case, seen) in served {
        assert_from_alice(&case, &seen);
        assert!([4, hidden.len() as u64].contains(&seen.body_bytes), "{case}: {seen:?}");
    }

    // What stands behind a request is one of its own, which needs a token of its own.
    let before = requests_of(&world.bob, "echo").await;
    let behind = |first: Draft| first.text() + &hidden;
    let refused = || Draft::of_alice(None);
    let in_chunks = "Trailer: kuscia-token\r\nTransfer-Encoding: chunked";
    let cases = [
        ("behind one with a token", behind(alice()), vec![200, 401]),
        ("behind one with a token and a body", behind(alice().post(&length, &hidden)), vec![200, 401]),
        ("behind one whose body is empty", behind(alice().post("Content-Length: 0", "")), vec![200, 401]),
        ("behind a probe of the handshake", behind(handshake()), vec![200, 401]),
        (
            "before one with a token",
            kept(None).text() + &Draft::of_alice(Some(&right)).text(),
            vec![401, 200],
        ),
        ("in the body of a refused one", refused().post(&length, &hidden).text(), vec![401]),
        ("in the trailers of a refused one", refused().post(in_chunks, &trailers).text(), vec![401]),
    ];
    for (case, text, expected) in cases {
        let answer = exchange(world.bob.addresses.external, text.as_bytes()).await;
        let statuses: Vec<u16> = answers(&answer).iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, expected, "{case}: {answer}");
    }
    assert_eq!(
        requests_of(&world.bob, "echo").await,
        before + 4,
        "those with a token alone came to the service"
    );
}

#[tokio::test]
async fn first_lines_that_are_no_http_1_1_are_refused() {
    let world = World::two_domains(Source::Directory).await;
    let right = token(&world.alice, "bob").await;
    let line = |line: &str| Draft::of_alice(Some(&right)).line(line);
    assert_refused(
        &world,
        [
            ("HTTP/0.9", 426, line("GET /")),
            ("HTTP/1.0", 426, line("GET / HTTP/1.0")),
            ("HTTP/1.2", 426, line("GET / HTTP/1.2")),
            ("HTTP/2.0", 426, line("GET / HTTP/2.0")),
            ("more behind the version", 400, line("GET / HTTP/1.1 x")),
            ("a blank in the path", 400, line("GET /a b HTTP/1.1")),
            ("an unknown method", 400, line("FOO / HTTP/1.1")),
            ("a method in lower case", 400, line("get / HTTP/1.1")),
            ("no path", 400, line("GET  HTTP/1.1")),
            ("a path without a slash", 400, line("GET a HTTP/1.1")),
            ("a backslash", 400, line("GET \\ HTTP/1.1")),
            ("the whole server", 400, line("GET * HTTP/1.1")),
            ("a tunnel to a path", 400, line("CONNECT / HTTP/1.1")),
            ("NUL in the path", 400, line("GET /a\0b HTTP/1.1")),
            ("a path in Latin-1", 400, line("GET /\u{e4} HTTP/1.1")),
            ("no host", 400, Draft::of_alice(Some(&right)).without("Host")),
            ("a host with a blank", 400, Draft::of_alice(Some(&right)).set("Host", "a b")),
        ],
    )
    .await;
    let stranger = |line: &str| Draft::of_alice(None).line(line);
    assert_refused(
        &world,
        [
            ("a tunnel", 401, stranger("CONNECT echo.bob.svc:80 HTTP/1.1")),
            ("a trace", 401, stranger("TRACE / HTTP/1.1")),
            ("options", 401, stranger("OPTIONS / HTTP/1.1")),
            ("the handshake by a URI", 401, stranger(&format!("GET http://{HANDSHAKE}/handshake HTTP/1.1"))),
            ("a service by a URI", 401, stranger(&format!("GET http://{ECHO}/ HTTP/1.1"))),
            ("a WebSocket", 401, {
                stranger("GET / HTTP/1.1").set("Connection", "Upgrade").with(
                    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                )
            }),
            ("HTTP/2 without TLS", 401, {
                stranger("GET / HTTP/1.1")
                    .set("Connection", "close, Upgrade, HTTP2-Settings")
                    .with("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
            }),
        ],
    )
    .await;

    // A URI says the host again; the gateway goes by Kuscia-Host, and the service gets that.
    let uri = line(&format!("GET http://{HANDSHAKE}/handshake HTTP/1.1"));
    let (_, seen) = all_served(&world, [("a URI", uri)]).await.remove(0);
    assert_from_alice("a URI", &seen);
    assert_eq!(seen.path, "/handshake");
    // The upgrade is the gateway's to refuse: the service sees nothing of it.
    let upgrade = Draft::of_alice(Some(&right))
        .set("Connection", "close, Upgrade, HTTP2-Settings")
        .with("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA");
    let (_, seen) = all_served(&world, [("an upgrade to HTTP/2", upgrade)]).await.remove(0);
    assert_from_alice("an upgrade to HTTP/2", &seen);
    assert!(
        !seen.headers.contains_key("upgrade") && !seen.headers.contains_key("http2-settings"),
        "{seen:?}"
    );
}
