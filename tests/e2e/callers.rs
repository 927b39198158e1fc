//! Who may call what, and what is added to a request on its way in.

use std::net::SocketAddr;

use ::http::{HeaderValue, Request};
use bytes::Bytes;
use harness::process::Child;
use networkmesh::harness::domain::service_manifest;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::certificates::Leaf;
use super::partner::headers;
use super::world::{
    DEADLINE, Source, World, admin, answers, apply_route, call, confirmed_revision, echoed, eventually, get,
    hops, key_of, networkmesh, refused, route_status, token,
};

scenes!(
    a_source_is_let_in_from_its_own_addresses_only,
    what_a_trusted_proxy_says_of_an_address_is_believed_and_what_others_say_is_not,
    headers_that_a_route_adds_reach_services_and_nobody_else,
    a_service_may_be_another_host,
    a_service_that_speaks_tls_must_prove_to_be_itself,
);

async fn a_source_is_let_in_from_its_own_addresses_only(on: Source) {
    let world = World::two_domains(on).await;
    answers(&world.alice, "echo.bob.svc", 200).await;
    let mut route = world.alice.route_to(&world.bob);
    route["spec"]["sourceWhiteIPList"] = json!(["192.0.2.0/24", "2001:db8::/32"]);
    apply_route(&world.bob, &route).await;
    let answer = answers(&world.alice, "echo.bob.svc", 403).await;
    let hops = hops(&answer);
    assert!(hops.contains("<bob/bob-gateway/external") && hops.contains("address_not_allowed"), "{hops}");

    // Who has no token is not told about addresses.
    let knocked = world.bob.call_from_outside("/", headers("alice", "echo.bob.svc", None)).await.unwrap();
    assert_eq!(knocked.status(), 401, "{knocked:?}");
    eventually("the source is told why", async || {
        let route = route_status(&world.alice, "alice-bob").await?;
        let says = route.failed().any(|condition| condition.message.contains("address"));
        if says { Ok(()) } else { Err(format!("{route:?}")) }
    })
    .await;

    route["spec"]["sourceWhiteIPList"] = json!(["192.0.2.0/24", "127.0.0.0/8"]);
    apply_route(&world.bob, &route).await;
    answers(&world.alice, "echo.bob.svc", 200).await;
}

async fn what_a_trusted_proxy_says_of_an_address_is_believed_and_what_others_say_is_not(on: Source) {
    for is_trusted in [true, false] {
        let proxies = if is_trusted { json!(["127.0.0.0/8"]) } else { json!(["198.51.100.7"]) };
        let config = json!({"envoy": {"trustedProxies": proxies}});
        let mut world = World::laid_out(on, &json!({}), &config).await;
        world.connect(&world.alice.route_to(&world.bob)).await;
        world.start().await;
        confirmed_revision(&world.alice, &world.bob).await;
        let mut route = world.alice.route_to(&world.bob);
        route["spec"]["sourceWhiteIPList"] = json!(["192.0.2.0/24"]);
        apply_route(&world.bob, &route).await;
        answers(&world.alice, "echo.bob.svc", 403).await;
        let right = token(&world.alice, "bob").await;
        for (said, is_in_list) in [
            ("192.0.2.7", true),
            ("203.0.113.9, 192.0.2.7", true),
            ("192.0.2.7, 203.0.113.9", false),
            ("203.0.113.9", false),
            ("192.0.2.7, nonsense", false),
        ] {
            let mut request = headers("alice", "echo.bob.svc", Some(&right));
            request.insert("x-forwarded-for", HeaderValue::from_str(said).unwrap());
            let answer = world.bob.call_from_outside("/", request).await.unwrap();
            let expected = if is_trusted && is_in_list { 200 } else { 403 };
            assert_eq!(answer.status(), expected, "trusted: {is_trusted}, {said}: {answer:?}");
        }
    }
}

async fn headers_that_a_route_adds_reach_services_and_nobody_else(on: Source) {
    const SECRET: &str = "Bearer eyJhbGciOi-100%REQ(x)%-secret";
    let world = World::two_domains(on).await;
    let mut route = world.alice.route_to(&world.bob);
    route["spec"]["requestHeadersToAdd"] = json!({"Authorization": SECRET, "X-Institution": "alice"});
    apply_route(&world.bob, &route).await;
    eventually("the headers are added", async || {
        let seen = echoed(&get(&world.alice, "echo.bob.svc", "/").await);
        let added = seen.headers.get("authorization").map(String::as_str) == Some(SECRET);
        if added { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    // An application cannot put another value in their place.
    let request = Request::get("http://echo.bob.svc/")
        .header("authorization", "Bearer forged")
        .header("x-institution", "mallory")
        .body(Bytes::new())
        .unwrap();
    let seen = echoed(&call(&world.alice, request).await);
    assert_eq!(
        (seen.headers["authorization"].as_str(), seen.headers["x-institution"].as_str()),
        (SECRET, "alice")
    );

    // They are for the destination's services, and a secret.
    let own = echoed(&get(&world.bob, "echo", "/").await);
    assert_eq!(own.headers.get("authorization"), None, "{own:?}");
    for command in [&["dump", "all"][..], &["status", "-o", "json"]] {
        let ran = networkmesh(command.iter().chain(&["--admin", &admin(&world.bob)])).await;
        assert!(!ran.out.contains("eyJhbGciOi") && !ran.err.contains("eyJhbGciOi"), "{command:?}");
    }
    for log in world.folder.logs() {
        assert!(!std::fs::read_to_string(&log).unwrap().contains("eyJhbGciOi"), "{}", log.display());
    }
    route["spec"]["requestHeadersToAdd"] = json!({"Kuscia-Source": SECRET});
    apply_route(&world.bob, &route).await;
    let message = refused(&world.bob, "alice-bob", "Invalid").await;
    assert!(message.contains("spec.requestHeadersToAdd") && !message.contains("eyJhbGciOi"), "{message}");
}

fn external_name(name: &str, address: SocketAddr, host: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "ExternalName", "externalName": host, "ports": [{"name": "http", "port": address.port()}]},
    })
}

async fn a_service_may_be_another_host(on: Source) {
    let mut world = World::two_domains(on).await;
    let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = elsewhere.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    tokio::spawn(networkmesh::harness::echo::serve(elsewhere, "elsewhere", stop));
    world.bob.apply("far.json", &external_name("far", address, "localhost")).await.unwrap();
    for domain in [&world.alice, &world.bob] {
        let seen = echoed(&answers(domain, "far.bob.svc", 200).await);
        assert_eq!(seen.service, "elsewhere");
        // That host knows itself by its own name.
        assert!(seen.headers["host"].starts_with("localhost"), "{seen:?}");
    }
    world.bob.remove("far.json").await.unwrap();
    answers(&world.alice, "far.bob.svc", 404).await;
    world.bob.stop().await.unwrap();
}

/// A web server of openssl with a certificate for `name` that bob's authority has signed.
async fn tls_server(world: &World, name: &str) -> (SocketAddr, Child) {
    let leaf = Leaf::of_server(world.folder.path(), name, "bob", &key_of(&world.bob));
    let ip = world.bob.home.service_ip().unwrap();
    let port = std::net::TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap().port();
    let address = SocketAddr::from((ip, port));
    let mut command = Command::new("openssl");
    command.args(["s_server", "-www", "-accept", &address.to_string()]);
    command.arg("-cert").arg(&leaf.certificate).arg("-key").arg(&leaf.key);
    let log = world.bob.folder.join("logs/s_server.log");
    let mut server = Child::spawn("openssl s_server".to_owned(), command, &log).unwrap();
    let listens = async || TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string());
    server.wait_ready(DEADLINE, listens).await.unwrap();
    (address, server)
}

async fn a_service_that_speaks_tls_must_prove_to_be_itself(on: Source) {
    let world = World::two_domains(on).await;
    let (address, _server) = tls_server(&world, "secure.bob.svc").await;
    let apply = async |name: &str, annotations: Value| {
        let mut manifest = service_manifest(name, &[address]);
        manifest["items"][0]["metadata"]["annotations"] = annotations;
        world.bob.apply(&format!("{name}.json"), &manifest).await.unwrap();
    };
    let https = json!({"kuscia.secretflow/protocol": "HTTPS"});
    apply("secure", https.clone()).await;
    apply("other", https).await;
    apply(
        "trusting",
        json!({
            "kuscia.secretflow/protocol": "HTTPS", "kuscia.secretflow/tls-verification": "off",
        }),
    )
    .await;
    apply("plain", json!({})).await;
    for name in ["secure", "trusting"] {
        let answer = answers(&world.alice, &format!("{name}.bob.svc"), 200).await;
        assert!(String::from_utf8_lossy(answer.body()).contains("Ciphers"), "{answer:?}");
    }
    // The certificate is bob's, but not for that name.
    let answer = answers(&world.alice, "other.bob.svc", 503).await;
    assert!(hops(&answer).contains("CERTIFICATE_VERIFY_FAILED"), "{answer:?}");
    assert!(get(&world.alice, "plain.bob.svc", "/").await.status().is_server_error());
}
