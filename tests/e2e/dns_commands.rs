//! The commands that look at the in-domain DNS: `explain`, `queries`, `dump names` and `status`.

use std::time::Duration;

use ::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use harness::free_address;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use networkmesh::harness::domain::service_manifest;
use networkmesh::http::{Limits, open};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::certificates::own_certificate;
use super::world::{
    Alone, DEADLINE, Ran, Source, World, admin, apply_route, eventually, external, labelled, networkmesh,
    resolve,
};

scenes!(names_are_explained, names_that_wait_say_for_what, names_that_envoy_refuses_come_with_its_words);

async fn ask(domain: &networkmesh::harness::domain::Domain, arguments: &str) -> Ran {
    networkmesh(arguments.split(' ').chain(["--admin", &admin(domain)])).await
}

async fn names_are_explained(on: Source) {
    let world = World::two_domains(on).await;
    let explain = async |name: &str| ask(&world.alice, &format!("explain {name}")).await;
    let echo = eventually("the name resolves", async || {
        let ran = explain("echo.alice.svc").await;
        if ran.code == Some(0) { Ok(ran.out) } else { Err(format!("{ran:?}")) }
    })
    .await;
    let address = world.alice.home.service_ip().unwrap();
    assert!(echo.starts_with("echo.alice.svc. resolves: it is service echo of this domain\n"), "{echo}");
    assert!(echo.contains(&format!("\n  echo.alice.svc. 5 IN A {address}\n")), "{echo}");

    let gateway = world.alice.addresses.internal.ip();
    let partner = explain("anything.bob.svc.").await;
    assert_eq!(partner.code, Some(0), "{partner:?}");
    for words in ["service anything of domain bob", "alice-bob", &format!("IN A {gateway}")] {
        assert!(partner.out.contains(words), "{words}: {partner:?}");
    }
    for (name, words) in [
        ("ecko.alice.svc", "Did you mean echo.alice.svc?"),
        ("echo.bbo.svc", "Did you mean echo.bob.svc?"),
        ("a.b.c.d.svc", "does not resolve"),
    ] {
        let missing = explain(name).await;
        assert!(missing.code == Some(1) && missing.out.contains(words), "{words}: {missing:?}");
    }
    let wrong = explain("a..b").await;
    assert!(wrong.code == Some(1) && wrong.err.contains("no name"), "{wrong:?}");

    let json: Value =
        serde_json::from_str(&ask(&world.alice, "explain echo.alice.svc -o json").await.out).unwrap();
    let yaml: Value =
        serde_saphyr::from_str(&ask(&world.alice, "explain echo.alice.svc -o yaml").await.out).unwrap();
    assert_eq!(json, yaml);
    assert_eq!((&json["name"], &json["resolves"]), (&json!("echo.alice.svc."), &json!(true)));

    let zone = ask(&world.alice, "dump names").await;
    assert_eq!(zone.code, Some(0), "{zone:?}");
    assert!(zone.out.starts_with("svc. 5 IN SOA "), "{zone:?}");
    for line in [format!("echo.alice.svc. 5 IN A {address}"), format!("*.bob.svc. 5 IN A {gateway}")] {
        assert!(zone.out.lines().any(|known| known == line), "{line}: {zone:?}");
    }
    assert_eq!(ask(&world.alice, "dump names -o json").await.code, Some(2));
}

async fn names_that_wait_say_for_what(on: Source) {
    // Nobody listens there.
    let upstream = free_address().unwrap().to_string();
    let mut world = Alone::laid_out(on, &json!({"dns": {"upstreams": [upstream]}})).await;
    let inner = labelled(service_manifest("inner", &["10.1.0.1:80".parse().unwrap()]));
    world.alice.apply("inner.json", &inner).await.unwrap();
    world.alice.apply("db.json", &external("db", "db.example.com")).await.unwrap();
    let partner = world.folder.domain("bob", &json!({})).await;
    apply_route(&world.alice, &world.alice.route_to(&partner)).await;
    world.start_mesh().await;

    for name in ["inner.alice.svc", "echo.bob.svc"] {
        let waiting = ask(&world.alice, &format!("explain {name}")).await;
        assert!(
            waiting.code == Some(1) && waiting.out.contains("until an Envoy is connected"),
            "{waiting:?}"
        );
    }
    for (name, meaning) in
        [("example.com", "it is a name of others"), ("db.alice.svc", "CNAME db.example.com.")]
    {
        let others = ask(&world.alice, &format!("explain {name}")).await;
        assert_eq!(others.code, Some(1), "{others:?}");
        for words in [meaning, &upstream, "is told: Server Failure"] {
            assert!(others.out.contains(words), "{words}: {others:?}");
        }
    }
}

async fn names_that_envoy_refuses_come_with_its_words(on: Source) {
    let mut world = World::laid_out(on, &json!({}), &json!({})).await;
    let mut route = world.alice.route_to(&world.bob);
    route["spec"]["endpoint"]["ports"][0]["isTLS"] = json!(true);
    route["spec"]["mTLSConfig"] = json!({"tlsCA": of_no_version(&own_certificate(&world.bob).await)});
    apply_route(&world.alice, &route).await;
    world.start().await;

    let explained = eventually("Envoy rejects it", async || {
        let ran = ask(&world.alice, "explain echo.bob.svc").await;
        if ran.out.contains("rejects") { Ok(ran) } else { Err(format!("{ran:?}")) }
    })
    .await;
    assert_eq!(explained.code, Some(1), "{explained:?}");
    for words in ["Envoy alice-gateway rejects Secret ", ": Failed to load", "for a change"] {
        assert!(explained.out.contains(words), "{words}: {explained:?}");
    }
}

/// A certificate, in base64 of PEM as given, but of a version of X.509 that does not exist: Envoy alone minds.
fn of_no_version(certificate: &str) -> String {
    const VERSION_3: [u8; 5] = [0xa0, 3, 2, 1, 2];
    let pem = String::from_utf8(STANDARD.decode(certificate).unwrap()).unwrap();
    let mut der =
        STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap();
    let at = der.windows(VERSION_3.len()).position(|bytes| bytes == VERSION_3).unwrap();
    der[at + 4] = 3;
    let der = STANDARD.encode(der);
    STANDARD.encode(format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n"))
}

/// A mesh with the service `web`, and an upstream at which nobody listens.
async fn mesh_with_web() -> Alone {
    let config = json!({"dns": {"upstreams": [free_address().unwrap()]}});
    let mut world = Alone::laid_out(Source::Directory, &config).await;
    world.alice.apply("web.json", &service_manifest("web", &["10.1.0.1:80".parse().unwrap()])).await.unwrap();
    world.start_mesh().await;
    world
}

#[tokio::test]
async fn queries_are_shown_as_they_come() {
    let world = mesh_with_web().await;
    for (form, shown) in [("json", r#""name":"web.alice.svc."#), ("table", "NOERROR")] {
        let arguments = format!("queries --name Alice.svc --count 2 -o {form}");
        let ran = tokio::select! {
            ran = ask(&world.alice, &arguments) => ran,
            never = async {
                // Nothing is shown of what came before the command listens.
                loop {
                    resolve(world.alice.addresses.dns, "web.alice.svc").await;
                    resolve(world.alice.addresses.dns, "web.alice").await;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            } => never,
        };
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let lines: Vec<&str> = ran.out.lines().filter(|line| !line.starts_with("TIME")).collect();
        assert_eq!(lines.len(), 2, "{ran:?}");
        assert!(lines.iter().all(|line| line.contains(shown) && line.contains("web.alice.svc")), "{ran:?}");
    }
}

/// The log of queries, as it is open.
async fn follow(world: &Alone) -> Incoming {
    let request = Request::get("/dns/queries").body(Bytes::new()).unwrap();
    let response = open(&world.alice.admin, request, Limits::default()).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

/// The lines that come until one `is_last`, or all.
async fn lines(body: &mut Incoming, is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
    let (mut lines, mut text) = (Vec::new(), Vec::new());
    while let Some(frame) = timeout(DEADLINE, body.frame()).await.unwrap() {
        text.extend_from_slice(&frame.unwrap().into_data().unwrap());
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            lines.push(serde_json::from_slice(&line).unwrap());
            if is_last(&lines[lines.len() - 1]) {
                return lines;
            }
        }
    }
    lines
}

#[tokio::test]
async fn who_reads_slowly_is_told_how_many_queries_were_lost() {
    const QUERIES: u64 = 8_000;
    let world = mesh_with_web().await;
    let mut body = follow(&world).await;
    for _ in 0..QUERIES {
        resolve(world.alice.addresses.dns, "web.alice.svc").await;
    }
    resolve(world.alice.addresses.dns, "last.alice.svc").await;
    let lines = lines(&mut body, |line| line["name"] == "last.alice.svc.").await;
    let lost: u64 = lines.iter().filter_map(|line| line["lost"].as_u64()).sum();
    let shown = lines.iter().filter(|line| line["name"].is_string()).count();
    assert!(lost > 0, "{shown} queries were shown");
    assert_eq!(lost + u64::try_from(shown).unwrap(), QUERIES + 1);
}

#[tokio::test]
async fn a_mesh_ends_well_while_its_queries_are_followed() {
    let mut world = mesh_with_web().await;
    let mut body = follow(&world).await;
    resolve(world.alice.addresses.dns, "web.alice.svc").await;
    assert_eq!(lines(&mut body, |_| true).await.len(), 1);
    let stopped = world.alice.mesh.take().unwrap().stop(DEADLINE).await.unwrap();
    assert_eq!(stopped.code(), Some(0), "{stopped}");
    assert_eq!(lines(&mut body, |_| false).await, [] as [Value; 0], "the stream ends in good order");
    let log = std::fs::read_to_string(world.alice.folder.join("logs/mesh.log")).unwrap();
    assert!(!log.contains("did not end"), "{log}");
}

#[tokio::test]
async fn only_so_many_follow_the_queries_at_once() {
    let world = mesh_with_web().await;
    let mut followers = Vec::new();
    for _ in 0..8 {
        followers.push(follow(&world).await);
    }
    let refused = ask(&world.alice, "queries").await;
    assert!(refused.code == Some(1) && refused.err.contains("too many"), "{refused:?}");
    followers.clear();
    eventually("a place is free again", async || {
        let request = Request::get("/dns/queries").body(Bytes::new()).unwrap();
        let response = open(&world.alice.admin, request, Limits::default()).await.unwrap();
        if response.status() == 200 { Ok(()) } else { Err(response.status().to_string()) }
    })
    .await;
}

#[tokio::test]
async fn the_status_shows_names_and_upstreams() {
    let world = mesh_with_web().await;
    resolve(world.alice.addresses.dns, "web.alice.svc").await;
    let state = async || {
        let table = ask(&world.alice, "status").await.out;
        let row = table.lines().skip_while(|line| !line.starts_with("UPSTREAM")).nth(1).map(str::to_owned);
        row.and_then(|row| row.split_whitespace().nth(1).map(str::to_owned))
    };
    assert_eq!(state().await.as_deref(), Some("-"), "it was asked nothing yet");

    assert_eq!(resolve(world.alice.addresses.dns, "example.com").await, None, "nobody answers");
    let status = world.alice.status().await.unwrap();
    assert_eq!((status.dns.names, status.dns.upstreams.len()), (1, 1), "{:?}", status.dns);
    let upstream = &status.dns.upstreams[0];
    assert!(!upstream.answers && upstream.failures > 0, "{upstream:?}");
    assert!(status.problems.iter().any(|problem| problem.contains(&upstream.address)), "{status:?}");
    assert_eq!(state().await.as_deref(), Some("silent"));
    let table = ask(&world.alice, "status").await;
    assert!(table.out.contains("DNS on ") && table.out.contains(": 1 names; "), "{table:?}");
}
