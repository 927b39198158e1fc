//! Headers that a gateway might read in another way than whoever comes before or after it.

use super::wire::{Draft, exchange};
use super::{all_served, assert_from_alice, assert_refused, requests_of};
use crate::world::{Source, World, token};

#[tokio::test]
async fn no_disguise_of_a_header_gets_a_request_in() {
    let world = World::two_domains(Source::Directory).await;
    let right = token(&world.alice, "bob").await;
    let back = token(&world.bob, "alice").await;
    let alice = || Draft::of_alice(Some(&right));
    let stranger = || Draft::of_alice(None);
    let nobody = || alice().without("Kuscia-Source");
    let shown = |line: &str| stranger().with(&line.replace('#', &right));
    let (start, end) = right.split_at(7);
    let split = |between: &str| stranger().with(&format!("Kuscia-Token: {start}{between}{end}"));
    let many = (0..1000).map(|number| format!("x-{number}: x")).collect::<Vec<_>>().join("\r\n");
    assert_refused(
        &world,
        [
            ("no token", 401, stranger()),
            // Several values.
            ("the token twice", 401, shown("Kuscia-Token: #\r\nKuscia-Token: #")),
            ("the token in other cases", 401, shown("kuscia-token: #\r\nKUSCIA-TOKEN: #")),
            ("an empty token first", 401, shown("Kuscia-Token:\r\nKuscia-Token: #")),
            ("an empty token last", 401, shown("Kuscia-Token: #\r\nKuscia-Token:")),
            ("a list of the token twice", 401, shown("Kuscia-Token: #,#")),
            ("a list of the token and nothing", 401, shown("Kuscia-Token: #,")),
            ("a list of nothing and the token", 401, shown("Kuscia-Token: ,#")),
            ("the source twice", 401, alice().with("Kuscia-Source: alice")),
            ("another source first", 401, alice().with_first("Kuscia-Source: carol")),
            ("another source last", 401, alice().with("kuscia-source: carol")),
            ("an empty source first", 401, alice().with_first("Kuscia-Source:")),
            ("an empty source last", 401, alice().with("Kuscia-Source:")),
            ("a list of sources", 401, alice().set("Kuscia-Source", "alice, carol")),
            ("the destination itself", 401, alice().set("Kuscia-Source", "bob")),
            (
                "the destination itself, with its own token for alice",
                401,
                Draft::of_alice(Some(&back)).set("Kuscia-Source", "bob"),
            ),
            ("the destination as origin", 401, stranger().with("Kuscia-Origin-Source: bob")),
            ("another host last", 401, stranger().with("Kuscia-Host: kuscia-handshake.bob.svc")),
            // Nearly the name.
            ("an underscore in the token's name", 400, shown("kuscia_token: #")),
            ("an underscore in the source's name", 400, nobody().with("kuscia_source: alice")),
            ("an underscore in the origin's name", 400, alice().with("Kuscia_Origin-Source: carol")),
            ("a space behind the name", 400, shown("Kuscia-Token : #")),
            ("a tab behind the name", 400, shown("Kuscia-Token\t: #")),
            ("a control character in the name", 400, shown("Kuscia-\x01Token: #")),
            ("an empty name", 400, alice().with(": x")),
            ("no colon", 400, alice().with("x")),
            // White space and control characters in the value.
            ("a space within the token", 401, split(" ")),
            ("a tab within the token", 401, split("\t")),
            ("a line break within the token", 401, split("\r\n ")),
            ("a line break within the source", 401, nobody().with("Kuscia-Source: al\r\n ice")),
            ("a line break before all headers", 400, alice().with_first(" x: y")),
            ("NUL in the token", 400, split("\0")),
            ("NUL behind the token", 400, shown("Kuscia-Token: #\0")),
            ("NUL in another header", 400, alice().with("x: a\0b")),
            ("a vertical tab before the token", 400, shown("Kuscia-Token: \x0b#")),
            ("a no-break space behind the token", 401, shown("Kuscia-Token: #\u{a0}")),
            ("the token behind a bare CR", 401, shown("x: a\rKuscia-Token: #")),
            // Too much.
            ("a header of 70,000 bytes", 431, alice().with(&format!("x: {}", "x".repeat(70_000)))),
            (
                "a token of 70,000 bytes",
                431,
                stranger().with(&format!("Kuscia-Token: {}", "x".repeat(70_000))),
            ),
            ("1,000 headers", 431, alice().with(&many)),
            // Headers for the next hop only.
            ("the token is for this hop", 401, alice().set("Connection", "close, kuscia-token")),
            ("the source is for this hop", 401, alice().set("Connection", "close, Kuscia-Source")),
            ("a second source is for this hop", 401, alice().with("Connection: kuscia-source")),
            (
                "all is for this hop",
                401,
                alice().set("Connection", "close, kuscia-source, kuscia-token, kuscia-host, x-nm-scope"),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_a_partner_says_of_itself_comes_to_no_service() {
    let world = World::two_domains(Source::Directory).await;
    let right = token(&world.alice, "bob").await;
    let alice = || Draft::of_alice(Some(&right));
    let folded = Draft::of_alice(None).with(&format!("Kuscia-Token:\r\n {right}"));
    let served = all_served(
        &world,
        [
            ("as it should be", alice()),
            ("blanks around the token", Draft::of_alice(None).with(&format!("Kuscia-Token: \t {right} \t "))),
            ("a line break before the token", folded),
            ("another origin", alice().with("Kuscia-Origin-Source: carol")),
            ("several origins", alice().with("Kuscia-Origin-Source: bob\r\nkuscia-origin-source: carol")),
            ("a line feed alone", alice().with("x: a\nKuscia-Origin-Source: carol")),
            ("an origin for this hop", {
                alice().with("Kuscia-Origin-Source: carol").with("Connection: kuscia-origin-source")
            }),
            ("routes of its own", {
                alice().with("x-nm-cluster: svc|private.bob.svc\r\nx-nm-scope: internal.x.bob")
            }),
            ("routes for this hop", {
                alice().with("x-nm-scope: x").with("Connection: x-nm-cluster, x-nm-scope")
            }),
            ("another method", alice().with("X-HTTP-Method-Override: DELETE")),
            ("another path", alice().with("X-Envoy-Original-Path: /other\r\nX-Original-URL: /other")),
            ("another address", alice().with("X-Envoy-External-Address: 192.0.2.1")),
            ("a certificate", alice().with("X-Forwarded-Client-Cert: Subject=\"CN=carol\"")),
            ("a client within", alice().with("X-Envoy-Internal: true\r\nX-Forwarded-Proto: https")),
        ],
    )
    .await;
    for (case, seen) in served {
        assert_from_alice(&case, &seen);
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/"), "{case}: {seen:?}");
        assert_eq!(seen.headers["x-forwarded-proto"], "http", "{case}: {seen:?}");
        for name in ["x-envoy-original-path", "x-envoy-internal", "x-forwarded-client-cert", "connection"] {
            assert!(!seen.headers.contains_key(name), "{case}: {name} of {seen:?}");
        }
    }

    let pretended = alice().with("X-Forwarded-For: 192.0.2.1");
    let (_, seen) = all_served(&world, [("a forwarded address", pretended)]).await.remove(0);
    let last = seen.headers["x-forwarded-for"].rsplit(',').next().unwrap().trim();
    assert_ne!(last, "192.0.2.1", "the last address is the one that the gateway saw: {seen:?}");
}

#[tokio::test]
async fn partners_do_not_tell_the_gateway_how_to_forward() {
    let world = World::two_domains(Source::Directory).await;
    let right = token(&world.alice, "bob").await;
    let before = requests_of(&world.bob, "echo").await;
    let orders = [
        "x-envoy-upstream-rq-timeout-ms: 1",
        "x-envoy-upstream-rq-per-try-timeout-ms: 1",
        "x-envoy-expected-rq-timeout-ms: 1",
        "x-envoy-upstream-stream-duration-ms: 1",
        "x-envoy-hedge-on-per-try-timeout: true",
        "x-envoy-retry-on: 5xx,retriable-status-codes",
        "x-envoy-retriable-status-codes: 503",
        "x-envoy-retry-grpc-on: unavailable",
        "x-envoy-max-retries: 9",
        "x-envoy-upstream-alt-stat-name: x",
        "x-envoy-decorator-operation: x",
        "x-envoy-downstream-service-cluster: x",
        "x-envoy-force-trace: true",
    ];
    for (path, status, end) in [
        ("/status/503", 503, "\r\n\r\n"),
        ("/stream?chunks=2&interval_ms=100", 200, "chunk 1\n\r\n0\r\n\r\n"),
    ] {
        let draft = Draft::of_alice(Some(&right)).path(path).with(&orders.join("\r\n"));
        let answer = exchange(world.bob.addresses.external, &draft.bytes()).await;
        let is_whole = answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with(end);
        assert!(is_whole, "{path}: {answer}");
    }
    assert_eq!(requests_of(&world.bob, "echo").await, before + 2, "nothing was tried again");

    let draft = Draft::of_alice(Some(&right)).with(&orders.join("\r\n"));
    let (_, seen) = all_served(&world, [("all orders", draft)]).await.remove(0);
    assert_eq!(seen.headers.keys().find(|name| name.starts_with("x-envoy-")), None, "{seen:?}");
}
