//! Requests that domains forward for others: four domains in a row, alice, bob, carol and dave.

use std::path::{Path, PathBuf};

use ::http::{HeaderValue, Request};
use bytes::Bytes;
use networkmesh::harness::domain::{Domain, service_manifest};
use proto::echo::EchoRequest;
use serde_json::{Value, json};

use super::partner::headers;
use super::stream::{Chat, grpc};
use super::world::{
    Folder, PROGRAM, Source, answers, apply_route, call, confirmed_revision, echoed, envoy, eventually, get,
    hops, refused, route_status, set_unauthenticated, token,
};

scenes!(
    requests_pass_three_gateways_and_say_where_they_began,
    only_what_a_domain_was_told_to_forward_is_forwarded,
    a_partner_cannot_claim_that_its_requests_began_elsewhere,
    a_detour_that_leads_back_or_nowhere_is_refused,
);

const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// The four, each of which runs, has an echo service, and a token for the next.
struct Chain {
    domains: [Domain; 4],
    envoy: PathBuf,
    // Dropped after the domains, whose processes write into it.
    _folder: Folder,
}

impl Chain {
    /// Each domain knows the detours that concern it: dave is reached from alice by way of bob, and from bob by way of carol.
    /// Alice needs no token for dave, bob has one.
    async fn start(on: Source) -> Self {
        let mut chain = Self::without_detours(on).await;
        let [alice, bob, carol, dave] = &chain.domains;
        let (mut from_alice, from_bob) =
            (chain.detour("alice", "dave", "bob"), chain.detour("bob", "dave", "carol"));
        set_unauthenticated(&mut from_alice);
        for domain in [alice, bob, carol, dave] {
            apply_route(domain, &from_alice).await;
        }
        for domain in [bob, carol, dave] {
            apply_route(domain, &from_bob).await;
        }
        for domain in &mut chain.domains {
            domain.start_mesh(Path::new(PROGRAM)).await.unwrap();
            domain.start_envoy(Path::new(PROGRAM), &chain.envoy).await.unwrap();
        }
        for pair in chain.domains.windows(2) {
            confirmed_revision(&pair[0], &pair[1]).await;
        }
        confirmed_revision(chain.of("bob"), chain.of("dave")).await;
        chain
    }

    async fn without_detours(on: Source) -> Self {
        let folder = Folder::new(on);
        let mut domains = [
            folder.domain(NAMES[0], &json!({})).await,
            folder.domain(NAMES[1], &json!({})).await,
            folder.domain(NAMES[2], &json!({})).await,
            folder.domain(NAMES[3], &json!({})).await,
        ];
        for domain in &mut domains {
            domain.serve_echo("echo").await.unwrap();
        }
        for pair in domains.windows(2) {
            let route = pair[0].route_to(&pair[1]);
            apply_route(&pair[0], &route).await;
            apply_route(&pair[1], &route).await;
        }
        Self { domains, envoy: envoy().await, _folder: folder }
    }

    fn of(&self, name: &str) -> &Domain {
        self.domains.iter().find(|domain| domain.name == name).unwrap()
    }

    /// The route from `source` to `destination` by way of `transit`, with a token that the two negotiate on that way.
    fn detour(&self, source: &str, destination: &str, transit: &str) -> Value {
        let mut route = self.of(source).route_to(self.of(destination));
        // Kuscia's manifests carry an endpoint, which means nothing then.
        route["spec"]["transit"] = json!({"transitMethod": "THIRD-DOMAIN", "domain": {"domainID": transit}});
        route
    }
}

async fn requests_pass_three_gateways_and_say_where_they_began(on: Source) {
    let chain = Chain::start(on).await;
    let dave = chain.of("dave");
    for origin in ["alice", "bob", "carol"] {
        let seen = echoed(&answers(chain.of(origin), "echo.dave.svc", 200).await);
        assert_eq!(seen.service, "echo.dave");
        for (name, value) in
            [("kuscia-origin-source", origin), ("kuscia-source", "carol"), ("kuscia-host", "echo.dave.svc")]
        {
            assert_eq!(seen.headers.get(name).map(String::as_str), Some(value), "{origin}, {name}: {seen:?}");
        }
        assert_eq!(seen.headers.get("kuscia-token"), None, "{seen:?}");
    }
    let alice = chain.of("alice");
    let said = grpc(alice, dave).await.say(EchoRequest { message: "hello".to_owned() }).await.unwrap();
    assert_eq!(said.into_inner().metadata["kuscia-origin-source"], "alice");
    let mut chat = Chat::open(alice, dave).await;
    for word in ["one", "two"] {
        assert_eq!(chat.say(word).await.service, "echo.dave");
    }

    eventually("the whole way is shown", async || {
        let route = route_status(alice, "alice-dave").await?;
        if route.path == NAMES { Ok(()) } else { Err(format!("{route:?}")) }
    })
    .await;
    let route = route_status(alice, "alice-dave").await.unwrap();
    assert!(route.holds("Reachable") && route.holds("DataPath"), "{route:?}");

    // An error says where it was made, and each gateway that it passed.
    let missing = answers(alice, "missing.dave.svc", 404).await;
    let places: Vec<&str> = hops(&missing).split(" => ").collect();
    let begins =
        ["<alice/alice-gateway/", "<bob/bob-gateway/", "<carol/carol-gateway/", "<dave/dave-gateway/"];
    assert_eq!(places.len(), begins.len(), "{places:?}");
    for (place, begin) in places.iter().zip(begins) {
        assert!(place.starts_with(begin), "{places:?}");
    }
    assert!(places[3].contains("unknown service"), "{places:?}");

    // Who may call a service is said of the domain where a request began.
    let mut manifest = service_manifest("limited", &[dave_echo(dave).await]);
    manifest["items"][0]["metadata"]["annotations"] = json!({"kuscia.secretflow/access-domain": "alice"});
    dave.apply("limited.json", &manifest).await.unwrap();
    answers(alice, "limited.dave.svc", 200).await;
    for other in ["bob", "carol"] {
        answers(chain.of(other), "limited.dave.svc", 403).await;
    }
}

/// The address of dave's echo service.
async fn dave_echo(dave: &Domain) -> std::net::SocketAddr {
    let status = dave.status().await.unwrap();
    let service = status.services.iter().find(|service| service.host == "echo.dave.svc").unwrap();
    service.endpoints[0].parse().unwrap()
}

async fn only_what_a_domain_was_told_to_forward_is_forwarded(on: Source) {
    let chain = Chain::start(on).await;
    let alice = chain.of("alice");
    answers(alice, "echo.dave.svc", 200).await;

    // Carol goes on forwarding for bob, but for alice no more.
    chain.of("carol").remove("alice-dave.json").await.unwrap();
    let refused = answers(alice, "echo.dave.svc", 403).await;
    assert!(
        hops(&refused).contains("<carol/carol-gateway/") && hops(&refused).contains("forward_not_allowed"),
        "{refused:?}"
    );
    answers(chain.of("bob"), "echo.dave.svc", 200).await;

    chain.of("bob").remove("alice-dave.json").await.unwrap();
    eventually("bob refuses", async || {
        let refused = get(alice, "echo.dave.svc", "/").await;
        let is_bobs = refused.status() == 403 && !hops(&refused).contains("carol");
        if is_bobs { Ok(()) } else { Err(format!("{refused:?}")) }
    })
    .await;
    eventually("the status names the refusal", async || {
        let route = route_status(alice, "alice-dave").await?;
        let says = route.failed().any(|condition| condition.message.contains("bob"));
        if says { Ok(()) } else { Err(format!("{route:?}")) }
    })
    .await;

    // Bob can reach dave, but nobody asked bob to let alice.
    let stranger = get(alice, "echo.erin.svc", "/").await;
    assert_eq!(stranger.status(), 404, "{stranger:?}");
    let right = token(alice, "bob").await;
    for host in ["echo.carol.svc", "kuscia-handshake.carol.svc", "echo.dave.svc", "echo.erin.svc"] {
        let knocked =
            chain.of("bob").call_from_outside("/", headers("alice", host, Some(&right))).await.unwrap();
        assert_eq!(knocked.status(), 403, "{host}: {knocked:?}");
    }

    let mut detour = chain.detour("alice", "dave", "bob");
    set_unauthenticated(&mut detour);
    for domain in ["bob", "carol"] {
        apply_route(chain.of(domain), &detour).await;
    }
    answers(alice, "echo.dave.svc", 200).await;
    eventually("all is well again", async || {
        let route = route_status(alice, "alice-dave").await?;
        if route.holds("DataPath") { Ok(()) } else { Err(format!("{route:?}")) }
    })
    .await;
}

async fn a_partner_cannot_claim_that_its_requests_began_elsewhere(on: Source) {
    let chain = Chain::start(on).await;
    answers(chain.of("alice"), "echo.dave.svc", 200).await;
    let carol = chain.of("carol");
    let bobs = token(chain.of("bob"), "carol").await;
    let claim = async |host: &str, origins: &[&str]| {
        let mut request = headers("bob", host, Some(&bobs));
        for origin in origins {
            request.append("kuscia-origin-source", HeaderValue::from_str(origin).unwrap());
        }
        carol.call_from_outside("/", request).await.unwrap()
    };
    // The token that bob and dave have agreed on is of no use beside that way.
    let bobs_for_dave = token(chain.of("bob"), "dave").await;
    for token in [Some(bobs_for_dave.as_str()), None] {
        for source in ["bob", "alice"] {
            let knocked = headers(source, "echo.dave.svc", token);
            let knocked = chain.of("dave").call_from_outside("/", knocked).await.unwrap();
            assert_eq!(knocked.status(), 401, "{source}: {knocked:?}");
        }
    }

    // Bob brings alice's requests to dave, so carol believes that. What is for carol's own services can only be his.
    for (host, origins, seen) in [
        ("echo.dave.svc", &["alice"][..], "alice"),
        ("echo.dave.svc", &["bob"], "bob"),
        ("echo.dave.svc", &[], "bob"),
        ("echo.carol.svc", &["alice"], "bob"),
        ("echo.carol.svc", &["carol"], "bob"),
        ("echo.carol.svc", &["dave"], "bob"),
        ("echo.carol.svc", &[], "bob"),
    ] {
        let answer = claim(host, origins).await;
        assert_eq!(echoed(&answer).headers["kuscia-origin-source"], seen, "{host}, {origins:?}");
    }
    for origins in
        [&["mallory"][..], &["carol"], &["dave"], &["alice", "bob"], &["alice,bob"], &["bob", "alice"]]
    {
        let answer = claim("echo.dave.svc", origins).await;
        let status = answer.status().as_u16();
        let seen = (status == 200).then(|| echoed(&answer).headers["kuscia-origin-source"].clone());
        assert!(status == 403 || seen.as_deref() == Some("bob"), "{origins:?}: {answer:?}");
    }
    // An application is not believed either.
    let request = Request::get("http://echo.dave.svc/").header("kuscia-origin-source", "bob");
    let request = request.header("via", "1.1 elsewhere").body(Bytes::new()).unwrap();
    let answer = call(chain.of("alice"), request).await;
    assert_eq!(echoed(&answer).headers["kuscia-origin-source"], "alice");
}

async fn a_detour_that_leads_back_or_nowhere_is_refused(on: Source) {
    let mut chain = Chain::without_detours(on).await;
    let circle = [chain.detour("alice", "dave", "carol"), chain.detour("alice", "carol", "dave")];
    apply_route(chain.of("alice"), &circle[0]).await;
    chain.domains[0].start_mesh(Path::new(PROGRAM)).await.unwrap();
    let alice = chain.of("alice");
    let missing = refused(alice, "alice-dave", "TransitRouteMissing").await;
    assert!(missing.contains("alice-carol"), "{missing}");
    apply_route(alice, &circle[1]).await;
    let loops = refused(alice, "alice-dave", "TransitLoop").await;
    assert!(loops.contains("carol") && loops.contains("dave"), "{loops}");
    // Bob is reached all the same.
    chain.domains[1].start_mesh(Path::new(PROGRAM)).await.unwrap();
    for domain in &mut chain.domains[..2] {
        domain.start_envoy(Path::new(PROGRAM), &chain.envoy).await.unwrap();
    }
    answers(chain.of("alice"), "echo.bob.svc", 200).await;
}
