//! Names and what they lead to: in which order they come and go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ::http::{Request, StatusCode};
use bytes::Bytes;
use networkmesh::harness::domain::{Domain, service_manifest};
use networkmesh::http::{Limits, Target, send};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use xds::ResourceType;

use super::programmed::connect_and_reject;
use super::world::{
    Alone, PROGRAM, Source, World, apply_route, envoy, eventually, labelled, nobody_at, resolve,
    set_unauthenticated,
};

scenes!(
    who_resolves_names_that_come_and_go_and_calls_them_sees_no_failure,
    what_an_envoy_rejects_has_no_name,
);

/// How often each name comes and goes.
const ROUNDS: usize = 6;

/// How long a name stays once it has come.
const STAY: Duration = Duration::from_millis(200);

/// How long clients may keep an answer.
const TTL: Duration = Duration::from_secs(2);

/// What clients saw of a name.
#[derive(Debug, Default)]
struct Seen {
    present: usize,
    absent: usize,
    failures: Vec<String>,
}

async fn who_resolves_names_that_come_and_go_and_calls_them_sees_no_failure(on: Source) {
    let mut world = World::laid_out(on, &json!({"dns": {"ttl": TTL.as_secs()}}), &json!({})).await;
    let target = world.alice.serve_echo("target").await.unwrap();
    let mut route = world.alice.route_to(&world.bob);
    set_unauthenticated(&mut route);
    world.connect(&route).await;
    for name in ["one", "two", "three"] {
        // Services come and go, and not their addresses: these are objects of their own, which are read at other times.
        world.alice.apply(&format!("{name}-slice.json"), &slice(name, target)).await.unwrap();
    }
    world.start().await;

    let alice = &world.alice;
    let service = async |name: &str| {
        let host = format!("{name}.alice.svc");
        come_and_go(
            alice,
            &host,
            &format!("{name}.json"),
            &labelled(service_manifest(name, &[target]))["items"][0],
        )
        .await;
    };
    let come_and_go = async {
        tokio::join!(
            service("one"),
            service("two"),
            service("three"),
            come_and_go(alice, "echo.bob.svc", "alice-bob.json", &route),
        )
    };
    let stop = CancellationToken::new();
    let mut clients = JoinSet::new();
    for host in ["one.alice.svc", "two.alice.svc", "three.alice.svc", "echo.bob.svc"] {
        let (dns, port) = (alice.addresses.dns, alice.addresses.internal.port());
        let seen = resolve_and_call(dns, port, host, stop.clone());
        clients.spawn(async move { (host, seen.await) });
    }
    come_and_go.await;
    stop.cancel();
    let seen: BTreeMap<&str, Seen> = clients.join_all().await.into_iter().collect();
    for (host, seen) in &seen {
        assert_eq!(seen.failures, [""; 0], "{host}");
        assert!(seen.present > 0 && seen.absent > 0, "{host}: {seen:?}");
    }
}

/// Lets a name come and go: at times it is back at once, at times when the gateway knows nothing of it any more.
async fn come_and_go(domain: &Domain, host: &str, file: &str, manifest: &Value) {
    for round in 1..=ROUNDS {
        domain.apply(file, manifest).await.unwrap();
        resolves(domain, host, true).await;
        sleep(STAY).await;
        domain.remove(file).await.unwrap();
        resolves(domain, host, false).await;
        if round % 3 == 0 {
            eventually("the gateway knows it no more", async || {
                let answer =
                    domain.call(&format!("http://{host}/")).await.map_err(|error| error.to_string())?;
                if answer.status() == StatusCode::NOT_FOUND { Ok(()) } else { Err(format!("{answer:?}")) }
            })
            .await;
        }
    }
}

/// Resolves a name again and again until `stop`. Where it has an address, calls that at once, and once more later, as long
/// as clients may keep the address.
async fn resolve_and_call(dns: SocketAddr, port: u16, host: &str, stop: CancellationToken) -> Seen {
    let mut seen = Seen::default();
    let mut later = JoinSet::new();
    while !stop.is_cancelled() {
        let asked = Instant::now();
        if let Some(address) = resolve(dns, host).await {
            seen.present += 1;
            let gateway = SocketAddr::new(address, port);
            seen.failures.extend(call(gateway, host).await.err());
            let host = host.to_owned();
            later.spawn(async move {
                sleep_until(asked + TTL.mul_f32(0.9)).await;
                // On a busy machine this may be too late for an honest client.
                if asked.elapsed() < TTL { Some(call(gateway, &host).await) } else { None }
            });
        } else {
            seen.absent += 1;
        }
        // Others want the processor too.
        sleep(Duration::from_millis(5)).await;
    }
    for outcome in later.join_all().await.into_iter().flatten() {
        seen.failures.extend(outcome.err().map(|failure| format!("later: {failure}")));
    }
    seen
}

async fn what_an_envoy_rejects_has_no_name(on: Source) {
    let world = World::two_domains(on).await;
    let alice = &world.alice;
    resolves(alice, "echo.bob.svc", true).await;
    let rejects = [
        (ResourceType::Cluster, "svc|echo.alice.svc"),
        (ResourceType::Cluster, "svc|bad.alice.svc"),
        (ResourceType::RouteConfiguration, "to|bob"),
    ];
    let picky = connect_and_reject(alice, &rejects).await;
    let nobody = nobody_at(alice);
    alice.apply("bad.json", &labelled(service_manifest("bad", &[nobody.address]))).await.unwrap();
    eventually("it is rejected", async || {
        let status = alice.status().await.unwrap();
        let bad =
            status.services.iter().find(|service| service.host == "bad.alice.svc").ok_or("no service")?;
        if bad.conditions.is_empty() { Err(format!("{bad:?}")) } else { Ok(()) }
    })
    .await;
    alice.apply("good.json", &labelled(service_manifest("good", &[nobody.address]))).await.unwrap();
    resolves(alice, "good.alice.svc", true).await;
    assert_eq!(resolve(alice.addresses.dns, "bad.alice.svc").await, None);
    for accepted_before in ["echo.alice.svc", "echo.bob.svc"] {
        assert!(resolve(alice.addresses.dns, accepted_before).await.is_some(), "{accepted_before}");
    }
    picky.abort();
    resolves(alice, "bad.alice.svc", true).await;
}

#[tokio::test]
async fn names_stay_when_envoy_goes_and_come_back_with_the_mesh() {
    let mut world = World::two_domains(Source::Directory).await;
    let nobody = nobody_at(&world.alice);
    world.alice.apply("inner.json", &labelled(service_manifest("inner", &[nobody.address]))).await.unwrap();
    for name in ["inner.alice.svc", "echo.alice.svc", "echo.bob.svc"] {
        resolves(&world.alice, name, true).await;
    }

    world.alice.envoy.take().unwrap().kill9().await.unwrap();
    world.alice.apply("late.json", &labelled(service_manifest("late", &[nobody.address]))).await.unwrap();
    world.alice.apply("web.json", &service_manifest("web", &[nobody.address])).await.unwrap();
    resolves(&world.alice, "web.alice.svc", true).await;
    let dns = world.alice.addresses.dns;
    assert_eq!(resolve(dns, "late.alice.svc").await, None, "no gateway serves it");
    for name in ["inner.alice.svc", "echo.alice.svc", "echo.bob.svc"] {
        assert!(resolve(dns, name).await.is_some(), "{name}");
    }
    world.alice.start_envoy(Path::new(PROGRAM), &world.envoy).await.unwrap();
    resolves(&world.alice, "late.alice.svc", true).await;

    world.alice.mesh.take().unwrap().kill9().await.unwrap();
    world.alice.start_mesh(Path::new(PROGRAM)).await.unwrap();
    for name in ["web.alice.svc", "late.alice.svc", "inner.alice.svc", "echo.bob.svc"] {
        resolves(&world.alice, name, true).await;
    }
}

#[tokio::test]
async fn without_an_envoy_only_names_of_applications_themselves_are_there() {
    let mut world = Alone::laid_out(Source::Directory, &json!({})).await;
    let address = "10.1.0.1:80".parse().unwrap();
    world.alice.apply("web.json", &service_manifest("web", &[address])).await.unwrap();
    world.alice.apply("inner.json", &labelled(service_manifest("inner", &[address]))).await.unwrap();
    let partner = world.folder.domain("bob", &json!({})).await;
    apply_route(&world.alice, &world.alice.route_to(&partner)).await;
    world.start_mesh().await;
    let dns = world.alice.addresses.dns;
    assert_eq!(resolve(dns, "web.alice.svc").await, Some(address.ip()), "at once");
    assert_eq!(resolve(dns, "inner.alice.svc").await, None);
    assert_eq!(resolve(dns, "echo.bob.svc").await, None);

    world.alice.start_envoy(Path::new(PROGRAM), &envoy().await).await.unwrap();
    resolves(&world.alice, "inner.alice.svc", true).await;
    resolves(&world.alice, "echo.bob.svc", true).await;
    assert_eq!(resolve(dns, "web.alice.svc").await, Some(address.ip()));
}

/// The addresses of a service, which outlive it in a cluster too.
fn slice(service: &str, address: SocketAddr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address.ip()]}],
        "ports": [{"name": "http", "port": address.port()}],
    })
}

/// Waits until a name has an address, or has none.
async fn resolves(domain: &Domain, host: &str, is_there: bool) {
    eventually(&format!("{host} is there: {is_there}"), async || {
        let found = resolve(domain.addresses.dns, host).await;
        if found.is_some() == is_there { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// Calls `host` at the address that it resolved to, over a new connection.
async fn call(gateway: SocketAddr, host: &str) -> Result<(), String> {
    let request = Request::get("/").header("host", host).body(Bytes::new()).unwrap();
    let answer = send(&Target::Tcp(gateway), request, Limits::default()).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status() == StatusCode::OK { Ok(()) } else { Err(format!("{answer:?}")) }
}
