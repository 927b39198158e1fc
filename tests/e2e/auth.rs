//! What strangers get at bob's external listener.

use ::http::{HeaderMap, HeaderValue, Response};
use bytes::Bytes;
use networkmesh::harness::domain::{Domain, service_manifest};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::partner::{Partner, headers};
use super::world::{
    World, admin, answers, apply_route, echoed, eventually, networkmesh, set_source, set_unauthenticated,
    token,
};

const ECHO: &str = "echo.bob.svc";

async fn knock(bob: &Domain, path: &str, headers: HeaderMap) -> Response<Bytes> {
    bob.call_from_outside(path, headers).await.unwrap()
}

#[track_caller]
fn assert_refused(response: &Response<Bytes>, what: &str) {
    assert_eq!(response.status(), 401, "{what}: {response:?}");
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let expected =
        json!({"domain": "bob", "instance": "bob-gateway", "kuscia": version, "reason": "unauthorized."});
    assert_eq!(body, expected, "{what}");
    assert_eq!(response.headers()["content-type"], "application/json", "{what}");
}

fn with(mut headers: HeaderMap, name: &'static str, value: &str) -> HeaderMap {
    headers.append(name, HeaderValue::from_str(value).unwrap());
    headers
}

fn without(mut headers: HeaderMap, name: &str) -> HeaderMap {
    headers.remove(name);
    headers
}

/// Lets bob accept carol, who is no running domain, and negotiates a token for her.
async fn befriend_carol(world: &World) -> (Partner, String) {
    let carol = Partner::new("carol");
    let mut route = world.alice.route_to(&world.bob);
    set_source(&mut route, "carol", &carol.public_key());
    apply_route(&world.bob, &route);
    let (token, _) = eventually("carol's handshake", async || carol.handshake(&world.bob).await).await;
    (carol, token)
}

#[tokio::test]
async fn only_the_token_of_the_source_that_a_request_names_is_accepted() {
    let world = World::two_domains().await;
    let (_carol, hers) = befriend_carol(&world).await;
    let right = token(&world.alice, "bob");
    let wrong = token(&world.bob, "alice");
    for (source, token) in [("alice", &right), ("carol", &hers)] {
        let answer = knock(&world.bob, "/", headers(source, ECHO, Some(token))).await;
        assert_eq!(echoed(&answer).headers["kuscia-source"], source);
    }

    let alice = |token: &str| headers("alice", ECHO, Some(token));
    let refused = [
        ("no header at all", HeaderMap::new()),
        ("no token", headers("alice", ECHO, None)),
        ("no source", without(alice(&right), "kuscia-source")),
        ("an empty token", alice("")),
        ("a wrong token", alice(&wrong)),
        ("a part of the token", alice(&right[..right.len() - 1])),
        ("more than the token", alice(&format!("{right}A"))),
        ("the token in other case", alice(&right.to_ascii_uppercase())),
        ("an unknown source", headers("mallory", ECHO, Some(&right))),
        ("an empty source", headers("", ECHO, Some(&right))),
        ("the source in other case", headers("Alice", ECHO, Some(&right))),
        ("the destination as source", headers("bob", ECHO, Some(&right))),
        ("another source's token", headers("carol", ECHO, Some(&right))),
        ("another source's token, too", alice(&hers)),
        ("two tokens, the right one first", with(alice(&right), "kuscia-token", &wrong)),
        ("two tokens, the right one last", with(alice(&wrong), "kuscia-token", &right)),
        ("two sources, the right one first", with(alice(&right), "kuscia-source", "carol")),
        (
            "two sources, the right one last",
            with(headers("carol", ECHO, Some(&right)), "kuscia-source", "alice"),
        ),
        ("a list of tokens", alice(&format!("{wrong},{right}"))),
        (
            "an origin instead of a source",
            with(without(alice(&right), "kuscia-source"), "kuscia-origin-source", "alice"),
        ),
        ("a spoofed cluster", with(headers("alice", ECHO, None), "x-nm-cluster", ECHO)),
        ("a spoofed unknown service", headers("alice", "nobody.bob.svc", None)),
    ];
    for (what, headers) in refused {
        assert_refused(&knock(&world.bob, "/", headers).await, what);
    }
}

#[tokio::test]
async fn names_of_headers_are_compared_without_case_but_tokens_with_it() {
    let world = World::two_domains().await;
    let right = token(&world.alice, "bob");
    for (token, status) in [(right.clone(), "200"), (right.to_ascii_lowercase(), "401")] {
        let mut stream = TcpStream::connect(world.bob.addresses.external).await.unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHOST: {ECHO}\r\nKUSCIA-HOST: {ECHO}\r\nKuscia-SOURCE: alice\r\nkUSCIA-tOKEN: {token}\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[tokio::test]
async fn a_spoofed_cluster_header_leads_nowhere() {
    let world = World::two_domains().await;
    let right = token(&world.alice, "bob");
    let dump = networkmesh(["dump", "clusters", "--admin", &admin(&world.bob)]).await;
    let dump: Value = serde_json::from_str(&dump.out).unwrap();
    let clusters: Vec<&str> = dump["clusters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cluster| cluster["name"].as_str().unwrap())
        .collect();
    assert!(clusters.len() > 1, "{clusters:?}");
    for cluster in clusters {
        let spoofed = with(headers("alice", "nobody.bob.svc", Some(&right)), "x-nm-cluster", cluster);
        assert_eq!(knock(&world.bob, "/", spoofed).await.status(), 404, "{cluster}");
    }
}

#[tokio::test]
async fn the_handshake_is_open_and_nothing_beside_it() {
    let world = World::two_domains().await;
    let host = "kuscia-handshake.bob.svc";
    let probe = with(headers("alice", host, None), "kuscia-token-revision", "1");
    let answer = knock(&world.bob, "/handshake", probe).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.body(), "{\"namespace\":\"bob\",\"state\":0}");

    for path in ["/", "/handshake/", "/handshakes", "/handshake/x", "/register", "/handshake%2f..%2fx"] {
        let answer = knock(&world.bob, path, headers("alice", host, None)).await;
        assert!([400, 401, 404].contains(&answer.status().as_u16()), "{path}: {answer:?}");
    }
    for host in
        [ECHO, "kuscia-handshake.alice.svc", "kuscia-handshake.bob.svc.evil", "x.kuscia-handshake.bob.svc"]
    {
        assert_refused(&knock(&world.bob, "/handshake", headers("alice", host, None)).await, host);
    }
    // The virtual host is chosen by another header than the one that authentication might look at.
    let mixed = with(without(headers("alice", ECHO, None), "host"), "host", host);
    assert_refused(
        &knock(&world.bob, "/handshake", mixed).await,
        "a service by Kuscia-Host, the handshake by Host",
    );
}

#[tokio::test]
async fn services_are_open_to_those_that_they_name() {
    let world = World::two_domains().await;
    let (_carol, hers) = befriend_carol(&world).await;
    let address = "127.0.0.1:9".parse().unwrap();
    for (name, scope, access) in [
        ("private", "Domain", ""),
        ("hidden", "Local", ""),
        ("for-carol", "Cluster", "carol"),
        ("for-alice", "Cluster", "dave, alice"),
        // A list is no regular expression, and no prefix.
        ("for-alicex", "Cluster", "alicex,.*"),
    ] {
        let mut manifest = service_manifest(name, &[address]);
        manifest["items"][0]["metadata"]["labels"]["kuscia.secretflow/port-scope"] = scope.into();
        if !access.is_empty() {
            manifest["items"][0]["metadata"]["annotations"] =
                json!({"kuscia.secretflow/access-domain": access});
        }
        world.bob.apply(&format!("{name}.json"), &manifest).unwrap();
    }
    let right = token(&world.alice, "bob");
    let as_alice = async |name: &str| {
        let host = format!("{name}.bob.svc");
        knock(&world.bob, "/", headers("alice", &host, Some(&right))).await
    };
    // 503: the gateway lets the request through, and nobody listens.
    answers(&world.bob, "private.bob.svc", 503).await;
    answers(&world.alice, "for-alice.bob.svc", 503).await;
    for (name, status) in [("private", 404), ("hidden", 404), ("for-carol", 403)] {
        let response = as_alice(name).await;
        assert_eq!(response.status(), status, "{name}: {response:?}");
        let hops = response.headers()["kuscia-error-message"].to_str().unwrap();
        assert!(hops.contains("bob/bob-gateway/external"), "{name}: {hops}");
    }
    for (name, status) in [("for-carol", 503), ("for-alice", 403)] {
        let host = format!("{name}.bob.svc");
        let response = knock(&world.bob, "/", headers("carol", &host, Some(&hers))).await;
        assert_eq!(response.status(), status, "{name} as carol: {response:?}");
    }
    // Who may call is not a matter of spelling.
    for host in [
        "FOR-CAROL.bob.svc",
        "for-carol.bob.svc:80",
        "for-carol.bob.svc.",
        "for-carol.BOB.svc",
        " for-carol.bob.svc",
    ] {
        let response = knock(&world.bob, "/", headers("alice", host, Some(&right))).await;
        assert!([403, 404].contains(&response.status().as_u16()), "{host}: {response:?}");
    }
    answers(&world.bob, "hidden.bob.svc", 404).await;
}

#[tokio::test]
async fn an_unknown_service_is_404_and_says_which_gateways_it_passed() {
    let world = World::two_domains().await;
    let response = answers(&world.alice, "nobody.bob.svc", 404).await;
    let hops = response.headers()["kuscia-error-message"].to_str().unwrap();
    let (alice, bob) = (hops.find("alice/alice-gateway/internal"), hops.find("bob/bob-gateway/external"));
    assert!(alice.is_some() && alice < bob, "{hops}");

    let response = answers(&world.alice, "nobody.nowhere.svc", 404).await;
    let hops = response.headers()["kuscia-error-message"].to_str().unwrap();
    assert!(hops.contains("alice/alice-gateway/internal") && !hops.contains("bob"), "{hops}");
}

#[tokio::test]
async fn a_route_without_authentication_is_open_to_its_source_only() {
    let mut world = World::laid_out(&json!({}), &json!({})).await;
    let mut route = world.alice.route_to(&world.bob);
    set_unauthenticated(&mut route);
    world.connect(&route);
    world.start().await;
    assert_eq!(echoed(&answers(&world.alice, ECHO, 200).await).headers["kuscia-source"], "alice");
    assert_refused(&knock(&world.bob, "/", headers("carol", ECHO, None)).await, "an unknown source");
    assert_refused(
        &knock(&world.bob, "/", without(headers("alice", ECHO, None), "kuscia-source")).await,
        "no source",
    );
    answers(&world.bob, "echo.alice.svc", 404).await;
}
