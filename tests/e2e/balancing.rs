//! Which replica of a service gets a request, and how much may pass.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ::http::{Request, Response};
use bytes::Bytes;
use networkmesh::harness::domain::{Domain, service_manifest};
use networkmesh::harness::echo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::figures::envoy_says;
use super::world::{Source, World, answers, call, echoed, eventually, get};

scenes!(
    requests_are_spread_over_replicas_and_pass_by_one_that_is_gone,
    requests_of_one_client_stay_with_one_replica,
    requests_with_one_cookie_stay_with_one_replica,
    bandwidth_is_limited_for_the_services_that_ask_for_it,
);

/// Echo services that answer with these names, behind the service `web` of bob.
struct Replicas {
    addresses: Vec<SocketAddr>,
    running: Vec<DropGuard>,
}

impl Replicas {
    async fn start(domain: &Domain, names: &[&'static str]) -> Self {
        let mut replicas = Self { addresses: Vec::new(), running: Vec::new() };
        for name in names {
            let listener = TcpListener::bind((domain.home.service_ip().unwrap(), 0)).await.unwrap();
            replicas.addresses.push(listener.local_addr().unwrap());
            let stop = CancellationToken::new();
            tokio::spawn(echo::serve(listener, *name, stop.clone()));
            replicas.running.push(stop.drop_guard());
        }
        replicas
    }
}

/// The replicas that answer `count` requests of an application of `domain`.
async fn answering(domain: &Domain, count: usize) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for _ in 0..count {
        names.insert(echoed(&get(domain, "web.bob.svc", "/").await).service);
    }
    names
}

const NAMES: [&str; 3] = ["one", "two", "three"];

async fn requests_are_spread_over_replicas_and_pass_by_one_that_is_gone(on: Source) {
    let world = World::two_domains(on).await;
    let mut replicas = Replicas::start(&world.bob, &NAMES).await;
    world.bob.apply("web.json", &service_manifest("web", &replicas.addresses)).await.unwrap();
    answers(&world.alice, "web.bob.svc", 200).await;
    eventually("every replica is asked", async || {
        let names = answering(&world.alice, 20).await;
        if names.len() == NAMES.len() { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
    // The manifest still names the one that is gone.
    replicas.running.pop();
    for _ in 0..30 {
        assert_eq!(get(&world.alice, "web.bob.svc", "/").await.status(), 200);
    }
}

async fn requests_of_one_client_stay_with_one_replica(on: Source) {
    let world = World::two_domains(on).await;
    let replicas = Replicas::start(&world.bob, &NAMES).await;
    let mut manifest = service_manifest("web", &replicas.addresses);
    manifest["items"][0]["spec"]["sessionAffinity"] = "ClientIP".into();
    world.bob.apply("web.json", &manifest).await.unwrap();
    for domain in [&world.alice, &world.bob] {
        answers(domain, "web.bob.svc", 200).await;
        let names = answering(domain, 20).await;
        assert_eq!(names.len(), 1, "{}: {names:?}", domain.name);
    }
    let answer = get(&world.alice, "web.bob.svc", "/").await;
    assert!(!answer.headers().contains_key("set-cookie"), "{answer:?}");
}

/// Calls `web` with the cookie.
async fn call_with(domain: &Domain, cookie: &str) -> Response<Bytes> {
    let request = Request::get("http://web.bob.svc/").header("cookie", cookie).body(Bytes::new()).unwrap();
    call(domain, request).await
}

async fn requests_with_one_cookie_stay_with_one_replica(on: Source) {
    let world = World::two_domains(on).await;
    let replicas = Replicas::start(&world.bob, &NAMES).await;
    let mut manifest = service_manifest("web", &replicas.addresses);
    manifest["items"][0]["metadata"]["annotations"] = json!({
        "kuscia.secretflow/sticky-session-cookie": "KUSCIA_SESSION",
        "kuscia.secretflow/sticky-session-ttl": "86400s",
    });
    world.bob.apply("web.json", &manifest).await.unwrap();
    answers(&world.alice, "web.bob.svc", 200).await;
    // Who brings no cookie is given one.
    let first = get(&world.alice, "web.bob.svc", "/").await;
    let set = first.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(set.starts_with("KUSCIA_SESSION=") && set.contains("Max-Age=86400"), "{set}");
    let given = set.split(';').next().unwrap().to_owned();
    let cookies = (0..50).map(|number| format!("other=1; KUSCIA_SESSION=session-{number}"));
    let mut reached = BTreeSet::new();
    for cookie in cookies.chain([given]) {
        let answer = call_with(&world.alice, &cookie).await;
        assert!(!answer.headers().contains_key("set-cookie"), "{answer:?}");
        let replica = echoed(&answer).service;
        for _ in 0..3 {
            assert_eq!(echoed(&call_with(&world.alice, &cookie).await).service, replica, "{cookie}");
        }
        reached.insert(replica);
    }
    assert_eq!(reached.len(), NAMES.len(), "{reached:?}");
}

async fn bandwidth_is_limited_for_the_services_that_ask_for_it(on: Source) {
    let mut world = World::two_domains(on).await;
    for service in ["task-1-worker", "free"] {
        world.bob.serve_echo(service).await.unwrap();
        answers(&world.alice, &format!("{service}.bob.svc"), 200).await;
    }
    let mut limits = service_manifest("task-1-worker", &[]);
    limits["items"].as_array_mut().unwrap().truncate(1);
    limits["items"][0]["metadata"]["annotations"] =
        json!({"kuscia.secretflow/bandwidth-limit-bob": "400", "kuscia.secretflow/task-id": "task-1"});
    world.alice.apply("limits.json", &limits).await.unwrap();
    let enforced = async || enforced(&world.alice).await;
    eventually("what is sent to the task is limited", async || {
        upload(&world.alice, "task-1-worker.bob.svc").await;
        let count = enforced().await;
        if count > 0 { Ok(()) } else { Err("nothing was held back".to_owned()) }
    })
    .await;
    let before = enforced().await;
    upload(&world.alice, "free.bob.svc").await;
    assert_eq!(enforced().await, before, "other services are not limited");
    // The other direction has no limit of its own.
    assert_eq!(echoed(&get(&world.bob, "echo.alice.svc", "/").await).service, "echo.alice");
}

/// Sends half a megabyte.
async fn upload(domain: &Domain, host: &str) {
    const BYTES: usize = 512 << 10;
    let body = Bytes::from(vec![b'x'; BYTES]);
    let request = Request::post(format!("http://{host}/")).body(body).unwrap();
    let answer = call(domain, request).await;
    assert_eq!(echoed(&answer).body_bytes, BYTES as u64);
}

/// Bytes that the Envoy of `domain` has held back.
async fn enforced(domain: &Domain) -> u64 {
    let limited = envoy_says(domain, "/stats?filter=bandwidth_share.*limited$").await;
    limited.lines().filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok()).sum()
}
