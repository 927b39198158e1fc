//! The commands that look at the in-domain DNS: `explain`, `queries`, `dump names` and `status`.

use std::time::Duration;

use ::http::Request;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use networkmesh::harness::domain::service_manifest;
use networkmesh::http::{Limits, open};
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::world::{Alone, DEADLINE, Ran, Source, World, admin, apply_route, eventually, networkmesh};

scenes!(names_are_explained, names_that_wait_say_for_what,);

/// An upstream at which nobody listens.
const NOBODY: &str = "127.0.0.1:9";

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
    let mut world = Alone::laid_out(on, &json!({"dns": {"upstreams": [NOBODY]}})).await;
    let mut labelled = service_manifest("inner", &["10.1.0.1:80".parse().unwrap()]);
    labelled["items"][0]["metadata"]["labels"]["kuscia.secretflow/loadbalancer"] = "domainroute".into();
    world.alice.apply("inner.json", &labelled).await.unwrap();
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
    let others = ask(&world.alice, "explain example.com").await;
    assert_eq!(others.code, Some(1), "{others:?}");
    for words in ["it is a name of others", NOBODY, "is told: Server Failure"] {
        assert!(others.out.contains(words), "{words}: {others:?}");
    }
}

/// A query for the A records of `name` (RFC 1035, 4.1).
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet[..2].copy_from_slice(&id.to_be_bytes());
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend(label.as_bytes());
    }
    packet.extend([0, 0, 1, 0, 1]);
    packet
}

/// Asks once, and waits for the answer; answers to other questions may come before.
async fn resolve(socket: &UdpSocket, id: u16, name: &str) {
    let mut answer = [0; 512];
    socket.send(&query(id, name)).await.unwrap();
    while answer[..2] != id.to_be_bytes() {
        timeout(DEADLINE, socket.recv(&mut answer)).await.unwrap().unwrap();
    }
}

async fn mesh_with_web() -> (Alone, UdpSocket) {
    let mut world = Alone::laid_out(Source::Directory, &json!({"dns": {"upstreams": [NOBODY]}})).await;
    world.alice.apply("web.json", &service_manifest("web", &["10.1.0.1:80".parse().unwrap()])).await.unwrap();
    world.start_mesh().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(world.alice.addresses.dns).await.unwrap();
    (world, socket)
}

#[tokio::test]
async fn queries_are_shown_as_they_come() {
    let (world, socket) = mesh_with_web().await;
    for (form, shown) in [("json", r#""name":"web.alice.svc."#), ("table", "NOERROR")] {
        let arguments = format!("queries --name Alice.svc --count 2 -o {form}");
        let ran = tokio::select! {
            ran = ask(&world.alice, &arguments) => ran,
            never = async {
                // Nothing is shown of what came before the command listens.
                loop {
                    resolve(&socket, 1, "web.alice.svc").await;
                    resolve(&socket, 2, "web.alice").await;
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
    const QUERIES: u16 = 8_000;
    let (world, socket) = mesh_with_web().await;
    let mut body = follow(&world).await;
    for id in 1..=QUERIES {
        resolve(&socket, id, "web.alice.svc").await;
    }
    resolve(&socket, QUERIES + 1, "last.alice.svc").await;
    let lines = lines(&mut body, |line| line["name"] == "last.alice.svc.").await;
    let lost: u64 = lines.iter().filter_map(|line| line["lost"].as_u64()).sum();
    let shown = lines.iter().filter(|line| line["name"].is_string()).count();
    assert!(lost > 0, "{shown} queries were shown");
    assert_eq!(lost + u64::try_from(shown).unwrap(), u64::from(QUERIES) + 1);
}

#[tokio::test]
async fn a_mesh_ends_well_while_its_queries_are_followed() {
    let (mut world, socket) = mesh_with_web().await;
    let mut body = follow(&world).await;
    resolve(&socket, 1, "web.alice.svc").await;
    assert_eq!(lines(&mut body, |_| true).await.len(), 1);
    let stopped = world.alice.mesh.take().unwrap().stop(DEADLINE).await.unwrap();
    assert_eq!(stopped.code(), Some(0), "{stopped}");
    assert_eq!(lines(&mut body, |_| false).await, [] as [Value; 0], "the stream ends in good order");
    let log = std::fs::read_to_string(world.alice.folder.join("logs/mesh.log")).unwrap();
    assert!(!log.contains("did not end"), "{log}");
}

#[tokio::test]
async fn only_so_many_follow_the_queries_at_once() {
    let (world, _socket) = mesh_with_web().await;
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
    let (world, socket) = mesh_with_web().await;
    resolve(&socket, 1, "web.alice.svc").await;
    // Nobody answers, so that there is a problem.
    socket.send(&query(2, "example.com")).await.unwrap();
    let status = eventually("the upstream is known to be silent", async || {
        let status = world.alice.status().await.map_err(|error| error.to_string())?;
        let is_told = status.problems.iter().any(|problem| problem.contains(NOBODY));
        if is_told { Ok(status) } else { Err(format!("{:?}", status.dns)) }
    })
    .await;
    assert_eq!((status.dns.names, status.dns.upstreams.len()), (1, 1), "{:?}", status.dns);
    assert!(!status.dns.upstreams[0].answers && status.dns.upstreams[0].failures > 0, "{:?}", status.dns);
    let table = ask(&world.alice, "status").await;
    for words in ["DNS on ", ": 1 names; ", "UPSTREAM", NOBODY, "silent"] {
        assert!(table.out.contains(words), "{words}: {table:?}");
    }
}
