//! Applications that claim to be somebody else.

use super::wire::{Draft, ask_all};
use super::{ECHO, assert_from_alice, assert_nothing_private, only_echo};
use crate::world::{Source, World, answers, apply_route, set_destination, set_unauthenticated};

scenes!(applications_speak_for_their_own_domain_alone);

/// All that a gateway says to the next one, as an application would like it to be.
const CLAIMS: &str = "Kuscia-Source: carol\r\nKuscia-Token: forged\r\nKuscia-Origin-Source: carol\r\n\
    Kuscia-Host: private.bob.svc\r\nx-interconn-protocol: other\r\nx-envoy-external-address: 192.0.2.1\r\n\
    x-nm-scope: external;x.bob\r\nx-nm-cluster: svc|private.bob.svc\r\n\
    x-nm-cluster-label: xds\r\nx-nm-cluster-domain: xds\r\nX-Forwarded-For: 192.0.2.1\r\n\
    X-Forwarded-Client-Cert: Subject=\"CN=carol\"\r\nx-envoy-internal: true\r\nX-Forwarded-Proto: https\r\n\
    x-envoy-original-path: /other\r\nx-envoy-upstream-rq-timeout-ms: 1\r\nx-envoy-retry-on: 5xx";

/// Ways to make those claims.
fn claims() -> [(&'static str, String); 4] {
    let hop = "Connection: kuscia-source, kuscia-token, kuscia-origin-source, kuscia-host, x-interconn-protocol, \
        x-nm-scope, x-nm-cluster";
    [
        ("once", CLAIMS.to_owned()),
        ("twice", format!("{CLAIMS}\r\n{CLAIMS}")),
        ("for this hop", format!("{CLAIMS}\r\n{hop}")),
        ("in lower case", CLAIMS.to_lowercase()),
    ]
}

async fn applications_speak_for_their_own_domain_alone(on: Source) {
    let world = World::two_domains(on).await;
    for host in [ECHO, "echo.bob.svc:80"] {
        let drafts = claims().map(|(_, lines)| Draft::of_application(host).with(&lines)).into();
        for ((case, _), answers) in
            claims().into_iter().zip(ask_all(world.alice.addresses.internal, drafts).await)
        {
            let case = format!("{host}, {case}");
            let seen = only_echo(&case, &answers);
            assert_from_alice(&case, &seen);
            assert_eq!(seen.headers["kuscia-host"], ECHO, "{case}");
            assert_eq!(seen.headers["x-interconn-protocol"], "kuscia", "{case}");
            assert_eq!(seen.headers["x-forwarded-proto"], "http", "{case}");
            let last = seen.headers["x-forwarded-for"].rsplit(',').next().unwrap().trim();
            assert_ne!(last, "192.0.2.1", "{case}: {seen:?}");
            assert!(!seen.headers.contains_key("x-forwarded-client-cert"), "{case}: {seen:?}");
        }
    }
    for host in ["echo", "echo.alice", "echo.alice.svc"] {
        let drafts = claims().map(|(_, lines)| Draft::of_application(host).with(&lines)).into();
        for ((case, _), answers) in
            claims().into_iter().zip(ask_all(world.alice.addresses.internal, drafts).await)
        {
            let case = format!("{host}, {case}");
            let seen = only_echo(&case, &answers);
            assert_eq!(seen.service, "echo.alice", "{case}");
            for name in ["kuscia-source", "kuscia-origin-source"] {
                assert_eq!(seen.headers[name], "alice", "{case}: {seen:?}");
            }
            for name in ["kuscia-host", "x-interconn-protocol", "x-forwarded-client-cert"] {
                assert!(!seen.headers.contains_key(name), "{case}: {name} of {seen:?}");
            }
            assert_nothing_private(&case, &seen);
        }
    }
}

#[tokio::test]
async fn what_leaves_a_gateway_says_whose_it_is() {
    let mut world = World::two_domains(Source::Directory).await;
    // An echo service in the place of carol's gateway shows what would come there.
    let gateway = world.bob.serve_echo("gateway").await.unwrap();
    let mut route = world.alice.route_to(&world.bob);
    set_destination(&mut route, "carol", gateway);
    set_unauthenticated(&mut route);
    apply_route(&world.alice, &route).await;
    answers(&world.alice, "web.carol.svc", 200).await;

    let drafts = claims().map(|(_, lines)| Draft::of_application("web.carol.svc").with(&lines)).into();
    for ((case, _), answers) in
        claims().into_iter().zip(ask_all(world.alice.addresses.internal, drafts).await)
    {
        let seen = only_echo(case, &answers);
        for (name, value) in [
            ("kuscia-source", "alice"),
            ("kuscia-origin-source", "alice"),
            ("kuscia-host", "web.carol.svc"),
            ("kuscia-token", "noop"),
            ("x-interconn-protocol", "kuscia"),
        ] {
            assert_eq!(seen.headers.get(name).map(String::as_str), Some(value), "{case}: {name} of {seen:?}");
        }
        let is_own = |name: &&String| name.starts_with("x-nm-") || *name == "x-envoy-external-address";
        assert_eq!(seen.headers.keys().find(is_own), None, "{case}: {seen:?}");
        assert!(!seen.headers.contains_key("x-forwarded-client-cert"), "{case}: {seen:?}");
    }
}

#[tokio::test]
async fn applications_reach_nothing_of_the_gateway() {
    let world = World::two_domains(Source::Directory).await;
    let envoy = world.alice.addresses.envoy_admin.to_string();
    let hosts = [
        "xds",
        "handshake-cluster",
        "alice-to-bob-http",
        "kuscia-handshake.alice.svc",
        "kuscia-datapath.alice.svc",
        "svc|echo.alice.svc",
        "*",
        "*.bob.svc",
        ".bob.svc",
        "..bob.svc",
        "bob.svc",
        "echo.bob.svc.",
        "echo.BOB.svc",
        "ECHO.bob.svc",
        "echo.bob.svc@echo.alice.svc",
        "echo.alice.svc@echo.bob.svc",
        "echo.alice.svc.bob.svc",
        "echo.bob.svc.alice.svc",
        "echo.bob.svc:x",
        "echo.bob.svc,echo.alice.svc",
        "kuscia-handshake.bob.svc;x=y.bob.svc",
        "kuscia-handshake.bob.svc=handshake;.bob.svc",
        "127.0.0.1",
        &envoy,
    ];
    let drafts = hosts.map(Draft::of_application).into();
    for (host, answers) in hosts.into_iter().zip(ask_all(world.alice.addresses.internal, drafts).await) {
        let [answer] = &answers[..] else { panic!("{host}: {answers:?}") };
        assert!([400, 401, 404].contains(&answer.status), "{host}: {answer:?}");
    }
}
