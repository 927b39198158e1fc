//! Paths that are written in more than one way.

use super::wire::{Draft, ask_all};
use super::{HANDSHAKE, all_served, assert_from_alice, assert_refused};
use crate::world::{Source, World, token};

#[tokio::test]
async fn nothing_but_the_handshake_is_open_however_its_path_is_written() {
    let world = World::two_domains(Source::Directory).await;
    let at = |path: &str| Draft::of_alice(None).path(path).set("Kuscia-Host", HANDSHAKE);
    assert_refused(
        &world,
        [
            ("/", 404),
            ("/handshake/", 404),
            ("/handshakes", 404),
            ("/handshake/x", 404),
            ("/handshake/..", 404),
            ("/handshake/../x", 404),
            ("/handshake/%2e%2e/x", 404),
            ("/handshake\\..\\x", 404),
            ("/handshake;x", 404),
            ("/handshake%3fx", 404),
            ("/handshake%20", 404),
            ("/HANDSHAKE", 404),
            ("/Handshake", 404),
            ("/metrics", 404),
            ("/status", 404),
            ("/?/handshake", 404),
            ("http://kuscia-handshake.bob.svc/x", 404),
            ("/handshake%2f", 400),
            ("/handshake%2F..%2fx", 400),
            ("/handshake%5c..%5cx", 400),
            ("/handshake%00", 400),
            ("/handshake#x", 400),
            ("handshake", 400),
            ("*", 400),
        ]
        .map(|(path, status)| (path, status, at(path))),
    )
    .await;

    // What is the same path by RFC 3986 leads to the same place, and to nothing else.
    let same = [
        "/handshake",
        "/handshake?x",
        "/handshake?/../x",
        "//handshake",
        "/./handshake",
        "/x/../handshake",
        "/../handshake",
        "/handshake/../handshake",
        "/%68andshake",
        "http://kuscia-handshake.bob.svc/handshake",
        "http://echo.bob.svc/handshake",
    ];
    let drafts = same.map(at).into();
    for (path, answers) in same.into_iter().zip(ask_all(world.bob.addresses.external, drafts).await) {
        let [answer] = &answers[..] else { panic!("{path}: {answers:?}") };
        let is_probed = answer.body.starts_with("{\"namespace\":\"bob\",\"state\":");
        assert!(answer.status == 200 && is_probed, "{path}: {answer:?}");
    }
    // Elsewhere it is a path as any other.
    let elsewhere = same.map(|path| (path, 401, Draft::of_alice(None).path(path)));
    assert_refused(&world, elsewhere).await;
}

#[tokio::test]
async fn paths_are_plain_when_a_service_sees_them() {
    let world = World::two_domains(Source::Directory).await;
    let right = token(&world.alice, "bob").await;
    let at = |path: &str| Draft::of_alice(Some(&right)).path(path);
    let long = format!("/{}", "a".repeat(30_000));
    let cases = [
        ("/../x", "/x"),
        ("/a/../../x", "/x"),
        ("/a/%2e%2E/x", "/x"),
        ("/a/.%2e/x", "/x"),
        ("/%2e/x", "/x"),
        ("/./x/.", "/x/"),
        ("/a\\..\\x", "/x"),
        ("/a\\b", "/a/b"),
        ("//a///b", "/a/b"),
        ("/a;b=c/d", "/a;b=c/d"),
        ("/%61", "/a"),
        ("/%252e%252e/x", "/%252e%252e/x"),
        ("/%c0%ae%c0%ae/x", "/%c0%ae%c0%ae/x"),
        ("/a%0d%0aKuscia-Source:%20carol", "/a%0d%0aKuscia-Source:%20carol"),
        ("/a?b=%2f..%2f&c=//", "/a?b=%2f..%2f&c=//"),
        ("/a%3fb", "/a%3fb"),
        ("/%zz", "/%zz"),
        (&long, &long),
    ];
    let served = all_served(&world, cases.map(|(path, _)| (path, at(path)))).await;
    for ((path, plain), (_, seen)) in cases.into_iter().zip(served) {
        assert_from_alice(path, &seen);
        assert_eq!(seen.path, plain, "{path}");
    }
    assert_refused(
        &world,
        [
            ("/a%2fb", 400),
            ("/a%2Fb", 400),
            ("/a/..%2fb", 400),
            ("/a%5cb", 400),
            ("/a%00b", 400),
            ("/a#b", 400),
            ("/a\0b", 400),
            (&format!("/{}", "a".repeat(70_000)), 431),
        ]
        .map(|(path, status)| (&path[..path.len().min(20)], status, at(path))),
    )
    .await;
}
