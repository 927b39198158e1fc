//! Hosts by which somebody asks for what is not for him.

use networkmesh::harness::domain::service_manifest;
use serde_json::json;

use super::wire::{Draft, ask_all};
use super::{ECHO, HANDSHAKE, all_served, assert_from_alice, assert_refused, requests_of};
use crate::world::{Source, World, answers, token};

/// What may stand around a host that is not that host any more, or that its owner would not write.
const AROUND: [(&str, &str); 22] = [
    ("", ""),
    ("", ":80"),
    ("", ":"),
    ("", "."),
    ("", "/"),
    ("", "#"),
    ("", "%00"),
    ("", "@echo.bob.svc"),
    ("", ";x=y"),
    ("", "=handshake"),
    ("", ",echo.bob.svc"),
    ("", "\r\n "),
    ("", "\u{a0}"),
    (" ", " "),
    ("\t", "\t"),
    ("x.", ""),
    (".", ""),
    ("http://", ""),
    ("echo.bob.svc,", ""),
    ("echo.bob.svc@", ""),
    ("svc|", ""),
    ("kuscia-handshake.bob.svc;", ""),
];

#[tokio::test]
async fn no_spelling_of_a_host_reaches_a_service_that_is_for_others() {
    let mut world = World::two_domains(Source::Directory).await;
    let address = world.bob.serve_echo("second").await.unwrap();
    for (name, scope, access) in [
        ("private", "Domain", ""),
        ("hidden", "Local", ""),
        ("carols", "Cluster", "carol"),
        ("open", "Cluster", ""),
    ] {
        let mut manifest = service_manifest(name, &[address]);
        let metadata = &mut manifest["items"][0]["metadata"];
        metadata["labels"]["kuscia.secretflow/port-scope"] = scope.into();
        metadata["annotations"] = json!({"kuscia.secretflow/access-domain": access});
        world.bob.apply(&format!("{name}.json"), &manifest).await.unwrap();
    }
    for name in ["private", "carols", "open"] {
        answers(&world.bob, &format!("{name}.bob.svc"), 200).await;
    }
    answers(&world.alice, "open.bob.svc", 200).await;

    let services = ["private", "carols"];
    let mut before = Vec::new();
    for service in services {
        before.push(requests_of(&world.bob, service).await);
    }
    let right = token(&world.alice, "bob").await;
    let mut cases = Vec::new();
    for service in ["private", "hidden", "carols"] {
        let host = format!("{service}.bob.svc");
        let others =
            [host.to_uppercase(), host.replace("bob", "Bob"), service.to_owned(), format!("{service}.bob")];
        let around = AROUND.map(|(left, right)| format!("{left}{host}{right}"));
        for host in around.into_iter().chain(others) {
            for (who, token) in [("alice", Some(right.as_str())), ("a stranger", None)] {
                let draft = Draft::of_alice(token);
                cases.push((format!("{who} for {host:?}"), token, draft.clone().set("Kuscia-Host", &host)));
                let first = draft.clone().with_first(&format!("Kuscia-Host: {host}"));
                cases.push((format!("{who} for {host:?}, then echo"), token, first));
            }
        }
        let draft = Draft::of_alice(Some(&right));
        cases.push((format!("{host} as Host alone"), Some(&right), {
            draft.clone().without("Kuscia-Host").set("Host", &host)
        }));
        cases.push((format!("{host} in the URI alone"), Some(&right), {
            draft.clone().without("Kuscia-Host").line(&format!("GET http://{host}/ HTTP/1.1"))
        }));
        cases.push((format!("a tunnel to {host}"), Some(&right), {
            draft.clone().set("Kuscia-Host", &host).line(&format!("CONNECT {host}:80 HTTP/1.1"))
        }));
        cases.push((format!("{host} by a cluster of its own"), Some(&right), {
            draft.clone().set("Kuscia-Host", "nobody.bob.svc").with(&format!("x-nm-cluster: svc|{host}"))
        }));
        cases.push((format!("{host} as carol's origin"), Some(&right), {
            draft.set("Kuscia-Host", &host).with("Kuscia-Origin-Source: carol\r\nKuscia-Origin-Source: bob")
        }));
    }
    let drafts = cases.iter().map(|(_, _, draft)| draft.clone()).collect();
    for ((case, token, _), answers) in cases.iter().zip(ask_all(world.bob.addresses.external, drafts).await) {
        let [answer] = &answers[..] else { panic!("{case}: {answers:?}") };
        let allowed: &[u16] = if token.is_some() { &[400, 401, 403, 404] } else { &[400, 401] };
        assert!(allowed.contains(&answer.status), "{case}: {answer:?}");
    }
    for (service, before) in services.into_iter().zip(before) {
        assert_eq!(requests_of(&world.bob, service).await, before, "{service} was reached");
    }
}

#[tokio::test]
async fn the_host_of_the_gateway_decides_whatever_the_other_host_says() {
    let world = World::two_domains(Source::Directory).await;
    let right = token(&world.alice, "bob").await;
    let alice = || Draft::of_alice(Some(&right));
    let served = all_served(
        &world,
        [HANDSHAKE, "private.bob.svc", "echo.alice.svc", "x", "", "a@b", "[::1]:80"]
            .map(|host| (host, alice().set("Host", host))),
    )
    .await;
    for (host, seen) in served {
        assert_from_alice(&host, &seen);
        assert_eq!(seen.headers["kuscia-host"], ECHO, "{host}");
    }
    let two = alice().with_first("Host: kuscia-handshake.bob.svc");
    let (case, seen) = all_served(&world, [("two hosts", two)]).await.remove(0);
    assert_from_alice(&case, &seen);

    assert_refused(
        &world,
        [
            ("no host of the gateway", 404, alice().without("Kuscia-Host")),
            ("an empty one", 404, alice().set("Kuscia-Host", "")),
            ("an empty one first", 404, alice().with_first("Kuscia-Host:")),
            ("a service of alice", 403, alice().set("Kuscia-Host", "echo.alice.svc")),
            ("the handshake of alice", 403, alice().set("Kuscia-Host", "kuscia-handshake.alice.svc")),
            ("the data path of alice", 403, alice().set("Kuscia-Host", "kuscia-datapath.alice.svc")),
            ("the handshake's host for a service's path", 404, alice().set("Kuscia-Host", HANDSHAKE)),
            ("a cluster of the gateway", 404, alice().set("Kuscia-Host", "handshake-cluster")),
            ("the way to alice", 404, alice().set("Kuscia-Host", "bob-to-alice-http")),
            ("the mesh", 404, alice().set("Kuscia-Host", "xds")),
            ("all services", 404, alice().set("Kuscia-Host", "*")),
            ("the data path, with a port", 404, alice().set("Kuscia-Host", "kuscia-datapath.bob.svc:80")),
            ("the data path, as a stranger", 401, {
                Draft::of_alice(None).set("Kuscia-Host", "kuscia-datapath.bob.svc")
            }),
            ("the data path by the handshake's path, as a stranger", 401, {
                Draft::of_alice(None).path("/handshake").set("Kuscia-Host", "kuscia-datapath.bob.svc")
            }),
        ],
    )
    .await;
}

#[tokio::test]
async fn only_the_host_of_the_handshake_is_that_of_the_handshake() {
    let world = World::two_domains(Source::Directory).await;
    let stranger = |host: &str| Draft::of_alice(None).path("/handshake").set("Kuscia-Host", host);
    let is_the_same = |host: &str| host.trim_matches([' ', '\t', '\r', '\n']) == HANDSHAKE;
    let around = AROUND.map(|(left, right)| format!("{left}{HANDSHAKE}{right}"));
    let forged = [
        "kuscia-handshake.bob.svc=source|alice",
        "kuscia-handshake.bob.svc;kuscia-handshake.bob.svc=handshake",
        "kuscia-handshake.bob.svc=handshake;kuscia-handshake.bob.svc=handshake",
        "kuscia-handshake.bob.sv",
        "kuscia-handshake.bob.sv;",
        "=handshake;kuscia-handshake.bob.svc",
        "KUSCIA-HANDSHAKE.BOB.SVC",
        "kuscia-handshake.alice.svc",
        "kuscia-handshake",
        "kuscia-handshake.bob",
    ];
    let hosts = around.into_iter().chain(forged.map(str::to_owned)).filter(|host| !is_the_same(host));
    assert_refused(&world, hosts.map(|host| (host.clone(), 401, stranger(&host)))).await;
    let sources = [
        "x;kuscia-handshake.bob.svc=handshake",
        "handshake",
        ";kuscia-handshake.bob.svc=handshake;",
        "alice\r\n ;kuscia-handshake.bob.svc=handshake",
    ];
    let drafts = sources.map(|source| (source, 401, stranger(ECHO).set("Kuscia-Source", source)));
    assert_refused(&world, drafts).await;
}
