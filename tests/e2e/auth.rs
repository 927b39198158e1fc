//! What strangers get at bob's external listener.

use ::http::{HeaderMap, HeaderValue, Response};
use bytes::Bytes;
use networkmesh::harness::domain::{Domain, service_manifest};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::partner::{Partner, headers};
use super::world::{
    Source, World, admin, answers, apply_route, echoed, eventually, hops, networkmesh, nobody_at, set_source,
    set_unauthenticated, token,
};

scenes!(
    only_the_token_of_the_source_that_a_request_names_is_accepted,
    names_of_headers_are_compared_without_case_but_tokens_with_it,
    a_host_that_is_nearly_that_of_the_handshake_opens_nothing,
    the_token_of_one_source_is_of_no_use_with_another_spelling_of_it,
    headers_by_which_the_gateway_routes_are_its_own,
    no_form_of_a_request_gets_around_the_token,
    a_spoofed_cluster_header_leads_nowhere,
    the_handshake_is_open_and_nothing_beside_it,
    services_are_open_to_those_that_they_name,
    a_service_that_is_in_use_can_be_taken_away_from_a_domain_and_given_back,
    an_unknown_service_is_404_and_says_which_gateways_it_passed,
    a_route_without_authentication_is_open_to_its_source_only,
);

const ECHO: &str = "echo.bob.svc";

async fn knock(bob: &Domain, path: &str, headers: HeaderMap) -> Response<Bytes> {
    bob.call_from_outside(path, headers).await.unwrap()
}

#[track_caller]
fn assert_refused(response: &Response<Bytes>, what: &str) {
    assert_eq!(response.status(), 401, "{what}: {response:?}");
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let token = &body["token"];
    assert!(token == "missing" || token == "refused", "{what}: {body}");
    let expected = json!({
        "domain": "bob", "instance": "bob-gateway", "kuscia": version, "reason": "unauthorized.", "token": token,
    });
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

/// The headers with which alice's gateway asks for `hosts`.
fn for_hosts<'a>(hosts: impl IntoIterator<Item = &'a str>, token: Option<&str>) -> HeaderMap {
    let none = without(headers("alice", ECHO, token), "kuscia-host");
    hosts.into_iter().fold(none, |headers, host| with(headers, "kuscia-host", host))
}

/// Sends a request as it is written here, and answers all that comes back.
async fn write_to(bob: &Domain, lines: &[&str]) -> String {
    let mut stream = TcpStream::connect(bob.addresses.external).await.unwrap();
    let request = format!("{}\r\n\r\n", lines.join("\r\n"));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Lets bob accept carol, who is no running domain, and negotiates a token for her.
async fn befriend_carol(world: &World) -> (Partner, String) {
    let carol = Partner::new("carol");
    let mut route = world.alice.route_to(&world.bob);
    set_source(&mut route, "carol", &carol.public_key());
    apply_route(&world.bob, &route).await;
    let (token, _) = eventually("carol's handshake", async || carol.handshake(&world.bob).await).await;
    (carol, token)
}

async fn only_the_token_of_the_source_that_a_request_names_is_accepted(on: Source) {
    let world = World::two_domains(on).await;
    let (_carol, hers) = befriend_carol(&world).await;
    let right = token(&world.alice, "bob").await;
    let wrong = token(&world.bob, "alice").await;
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
        let token = if headers.contains_key("kuscia-token") { "refused" } else { "missing" };
        let answer = knock(&world.bob, "/", headers).await;
        assert_refused(&answer, what);
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(body["token"], token, "{what}");
    }
}

async fn names_of_headers_are_compared_without_case_but_tokens_with_it(on: Source) {
    let world = World::two_domains(on).await;
    let right = token(&world.alice, "bob").await;
    for (token, status) in [(right.clone(), "200"), (right.to_ascii_lowercase(), "401")] {
        let lines = [
            "GET / HTTP/1.1",
            &format!("HOST: {ECHO}"),
            &format!("KUSCIA-HOST: {ECHO}"),
            "Kuscia-SOURCE: alice",
            &format!("kUSCIA-tOKEN: {token}"),
            "Connection: close",
        ];
        let answer = write_to(&world.bob, &lines).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

async fn a_host_that_is_nearly_that_of_the_handshake_opens_nothing(on: Source) {
    let world = World::two_domains(on).await;
    let handshake = "kuscia-handshake.bob.svc";
    let hosts = [
        "",
        ";",
        "=",
        "|",
        "kuscia-handshake.bob.sv",
        "kuscia-handshake.bob.sv=",
        "kuscia-handshake.bob.svc.",
        "kuscia-handshake.bob.svc:80",
        "kuscia-handshake.bob.svc;",
        "kuscia-handshake.bob.svc=source|alice",
        "kuscia-handshake.bob.svc=handshake;",
        ";kuscia-handshake.bob.svc=handshake",
        "KUSCIA-HANDSHAKE.BOB.SVC",
        "kuscia-handshake.bob.svc,echo.bob.svc",
    ];
    for path in ["/", "/handshake"] {
        for host in hosts {
            assert_refused(&knock(&world.bob, path, for_hosts([host], None)).await, host);
        }
        // Of several hosts, the first counts.
        let answer = knock(&world.bob, path, for_hosts([ECHO, handshake], None)).await;
        assert_refused(&answer, "a service, then the handshake");
    }
    let answer = knock(&world.bob, "/", for_hosts([handshake, ECHO], None)).await;
    assert_eq!(answer.status(), 404, "the handshake, then a service: {answer:?}");
}

async fn the_token_of_one_source_is_of_no_use_with_another_spelling_of_it(on: Source) {
    let world = World::two_domains(on).await;
    let right = token(&world.alice, "bob").await;
    for source in [
        "",
        "-",
        "|",
        "ALICE",
        "BOB",
        "alice;",
        ";alice",
        "alice=",
        "alice|",
        "alice,alice",
        "source|alice",
        "handshake",
        "alice;kuscia-handshake.bob.svc=handshake",
        "x;kuscia-handshake.bob.svc=source|alice",
    ] {
        assert_refused(&knock(&world.bob, "/", headers(source, ECHO, Some(&right))).await, source);
    }
    let twice = with(headers("alice", ECHO, Some(&right)), "kuscia-source", "alice");
    assert_refused(&knock(&world.bob, "/", twice).await, "the source twice");
}

async fn headers_by_which_the_gateway_routes_are_its_own(on: Source) {
    let world = World::two_domains(on).await;
    for (name, value) in [
        ("x-nm-scope", "handshake"),
        ("x-nm-scope", "internal.x.bob.svc"),
        ("x-nm-scope", "external;source|alice"),
        ("x-nm-scope", "source|alice"),
        ("x-nm-scope", "kuscia-handshake.bob.svc=handshake"),
        ("x-nm-scope", "x.bob"),
        ("x-nm-cluster", "svc|echo.bob.svc"),
    ] {
        let twice = with(with(headers("alice", ECHO, None), name, value), name, value);
        assert_refused(&knock(&world.bob, "/", twice).await, &format!("{name}: {value}"));
    }
    let inside = with(headers("alice", ECHO, None), "x-nm-scope", "internal.x.bob");
    assert_refused(&knock(&world.bob, "/", inside).await, "the scope of bob's own applications");
}

async fn no_form_of_a_request_gets_around_the_token(on: Source) {
    let world = World::two_domains(on).await;
    let right = format!("Kuscia-Token: {}", token(&world.alice, "bob").await);
    let host = format!("Kuscia-Host: {ECHO}");
    let refused = [
        ("an absolute URI", "GET http://kuscia-handshake.bob.svc/handshake HTTP/1.1", "", "close"),
        ("the path of the handshake", "GET /x/../handshake HTTP/1.1", "", "close"),
        ("a tunnel", "CONNECT echo.bob.svc:80 HTTP/1.1", "", "close"),
        ("headers that end here", "GET / HTTP/1.1", &right, "close, kuscia-source, kuscia-token"),
        ("no headers of the gateway", "GET / HTTP/1.1", "", "close, x-nm-scope, x-nm-cluster"),
    ];
    for (what, line, token, connection) in refused {
        let connection = format!("Connection: {connection}");
        let mut lines =
            vec![line, "Host: echo.bob.svc", &host, "Kuscia-Source: alice", "TE: trailers", &connection];
        lines.extend(Some(token).filter(|token| !token.is_empty()));
        let answer = write_to(&world.bob, &lines).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{what}: {answer}");
    }
}

async fn a_spoofed_cluster_header_leads_nowhere(on: Source) {
    let world = World::two_domains(on).await;
    let right = token(&world.alice, "bob").await;
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
        let names = ["x-nm-cluster", "x-nm-cluster", "x-nm-cluster-label", "x-nm-cluster-domain"];
        let honest = headers("alice", "nobody.bob.svc", Some(&right));
        let spoofed = names.into_iter().fold(honest, |headers, name| with(headers, name, cluster));
        assert_eq!(knock(&world.bob, "/", spoofed).await.status(), 404, "{cluster}");
    }
}

async fn the_handshake_is_open_and_nothing_beside_it(on: Source) {
    let world = World::two_domains(on).await;
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

async fn services_are_open_to_those_that_they_name(on: Source) {
    let world = World::two_domains(on).await;
    let (_carol, hers) = befriend_carol(&world).await;
    let nobody = nobody_at(&world.bob);
    for (name, scope, access) in [
        ("private", "Domain", ""),
        ("hidden", "Local", ""),
        ("for-carol", "Cluster", "carol"),
        ("for-alice", "Cluster", "dave, alice"),
        // A list is no regular expression, and no prefix.
        ("for-alicex", "Cluster", "alicex,.*"),
    ] {
        let mut manifest = service_manifest(name, &[nobody.address]);
        manifest["items"][0]["metadata"]["labels"]["kuscia.secretflow/port-scope"] = scope.into();
        if !access.is_empty() {
            manifest["items"][0]["metadata"]["annotations"] =
                json!({"kuscia.secretflow/access-domain": access});
        }
        world.bob.apply(&format!("{name}.json"), &manifest).await.unwrap();
    }
    let right = token(&world.alice, "bob").await;
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
        let hops = hops(&response);
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
    // Nor of what else a request says.
    let carols = || headers("alice", "for-carol.bob.svc", Some(&right));
    for (what, headers, status) in [
        ("carol as origin", with(carols(), "kuscia-origin-source", "carol"), 403),
        ("bob as origin", with(carols(), "kuscia-origin-source", "bob"), 403),
        ("carol too", with(carols(), "kuscia-source", "carol"), 401),
        ("another host first", for_hosts(["for-carol.bob.svc", "for-alice.bob.svc"], Some(&right)), 403),
        ("another host last", for_hosts(["for-alice.bob.svc", "for-carol.bob.svc"], Some(&right)), 503),
    ] {
        let response = knock(&world.bob, "/", headers).await;
        assert_eq!(response.status(), status, "{what}: {response:?}");
    }
    answers(&world.bob, "hidden.bob.svc", 404).await;
}

async fn a_service_that_is_in_use_can_be_taken_away_from_a_domain_and_given_back(on: Source) {
    let mut world = World::two_domains(on).await;
    let address = world.bob.serve_echo("shared").await.unwrap();
    let mut manifest = service_manifest("shared", &[address]);
    for (access, status) in [("", 200), ("carol", 403), ("carol,alice", 200)] {
        manifest["items"][0]["metadata"]["annotations"] = json!({"kuscia.secretflow/access-domain": access});
        world.bob.apply("shared.json", &manifest).await.unwrap();
        answers(&world.alice, "shared.bob.svc", status).await;
        answers(&world.bob, "shared.bob.svc", 200).await;
    }
}

async fn an_unknown_service_is_404_and_says_which_gateways_it_passed(on: Source) {
    let world = World::two_domains(on).await;
    let response = answers(&world.alice, "nobody.bob.svc", 404).await;
    let passed = hops(&response);
    let (alice, bob) = (passed.find("alice/alice-gateway/internal"), passed.find("bob/bob-gateway/external"));
    assert!(alice.is_some() && alice < bob, "{passed}");

    let response = answers(&world.alice, "nobody.nowhere.svc", 404).await;
    let passed = hops(&response);
    assert!(passed.contains("alice/alice-gateway/internal") && !passed.contains("bob"), "{passed}");
}

async fn a_route_without_authentication_is_open_to_its_source_only(on: Source) {
    let mut world = World::laid_out(on, &json!({}), &json!({})).await;
    let mut route = world.alice.route_to(&world.bob);
    set_unauthenticated(&mut route);
    world.connect(&route).await;
    world.start().await;
    assert_eq!(echoed(&answers(&world.alice, ECHO, 200).await).headers["kuscia-source"], "alice");
    assert_refused(&knock(&world.bob, "/", headers("carol", ECHO, None)).await, "an unknown source");
    assert_refused(
        &knock(&world.bob, "/", without(headers("alice", ECHO, None), "kuscia-source")).await,
        "no source",
    );
    answers(&world.bob, "echo.alice.svc", 404).await;
}
