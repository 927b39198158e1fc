//! Domains that run Kuscia, as sources and as destinations.
//!
//! Their part is played by a program that shares nothing with the mesh, neither code nor cryptographic library: so each
//! side is a witness for what the other one writes.

mod kuscia;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::api::ConditionStatus;
use networkmesh::harness::domain::Domain;
use serde_json::{Map, Value, json};

use self::kuscia::{Answer, Gateway, Kuscia, merged};
use super::world::{
    Folder, PROGRAM, Source, answers, apply_route, envoy, eventually, hops, route_status, set_destination,
    set_source, token,
};

/// How tokens come about: the `tokenGenMethod` of a route, and the `type` of a request.
#[derive(Clone, Copy)]
struct Method {
    route: &'static str,
    wire: &'static str,
}

const RSA: Method = Method { route: "RSA-GEN", wire: "RSA" };
const UID: Method = Method { route: "UID-RSA-GEN", wire: "UID" };

/// Seconds between two tokens of a route.
const PERIOD: i64 = 3600;

/// A domain that runs the mesh, with a service `echo`. Its partners are others.
struct Ours {
    domain: Domain,
    // Dropped after the domain, whose processes write into it.
    folder: Folder,
}

impl Ours {
    async fn start(name: &str) -> Self {
        let folder = Folder::new(Source::Directory);
        let mut domain = folder.domain(name, &json!({})).await;
        let envoy = envoy().await;
        let started = async {
            domain.serve_echo("echo").await?;
            domain.start_mesh(Path::new(PROGRAM)).await?;
            domain.start_envoy(Path::new(PROGRAM), &envoy).await
        };
        started.await.unwrap_or_else(|error| panic!("{error}"));
        Self { domain, folder }
    }

    async fn partner(&self, name: &'static str) -> Kuscia {
        Kuscia::new(self.folder.path(), name).await
    }

    /// Lets `source` in.
    async fn accept(&self, source: &Kuscia, method: Method) {
        let mut route = self.route(method);
        set_source(&mut route, source.name, &source.public_key);
        apply_route(&self.domain, &route).await;
    }

    /// Adds the way to `destination` at that gateway, where `kuscia` has its key.
    async fn lead_to(&self, destination: &str, kuscia: &Kuscia, gateway: &Gateway, method: Method) {
        let mut route = self.route(method);
        set_destination(&mut route, destination, gateway.address);
        route["spec"]["tokenConfig"]["destinationPublicKey"] = kuscia.public_key.as_str().into();
        apply_route(&self.domain, &route).await;
    }

    /// A route whose other end is still to be set.
    fn route(&self, method: Method) -> Value {
        let mut route = self.domain.route_to(&self.domain);
        route["spec"]["tokenConfig"]["tokenGenMethod"] = method.route.into();
        route["spec"]["tokenConfig"]["rollingUpdatePeriod"] = PERIOD.into();
        route
    }

    /// A token for `source`, as soon as its route is known.
    async fn token_for(&self, source: &Kuscia, method: Method) -> Answer {
        eventually("a token", async || {
            let answer = source.handshake(&self.domain, method.wire, &json!({})).await;
            if answer.status == 200 && answer.code == 0 { Ok(answer) } else { Err(format!("{answer:?}")) }
        })
        .await
    }

    /// The tokens that are accepted from a source, as they are stored.
    async fn accepted(&self, source: &str) -> Value {
        let status = self.domain.stored_status(&format!("{source}-{}", self.domain.name)).await.unwrap();
        serde_json::to_value(status.token_status).unwrap()
    }

    /// Waits until the token of the route to `destination` is confirmed.
    async fn authenticated(&self, destination: &str) {
        eventually("a confirmed token", async || {
            let route = route_status(&self.domain, &format!("{}-{destination}", self.domain.name)).await?;
            if route.holds("Authenticated") { Ok(()) } else { Err(format!("{route:?}")) }
        })
        .await;
    }

    /// Waits until the route to `destination` has no confirmed token, and says so with these words. Answers the
    /// revisions of its tokens.
    async fn unauthenticated(&self, destination: &str, words: &str) -> Vec<i64> {
        eventually(&format!("{destination} is not authenticated: {words}"), async || {
            let route = route_status(&self.domain, &format!("{}-{destination}", self.domain.name)).await?;
            let told = route.conditions.iter().any(|condition| {
                condition.type_ == "Authenticated"
                    && condition.status == ConditionStatus::False
                    && condition.message.contains(words)
            });
            if told { Ok(route.token_revisions) } else { Err(format!("{route:?}")) }
        })
        .await
    }

    /// The file to which a gateway of others logs; it is shown with the logs of the domain.
    fn gateway_log(&self) -> PathBuf {
        self.domain.folder.join("logs/kuscia.log")
    }
}

/// What `json` has beside the fields of Kuscia's, which stand first, in the order of Go's struct and without spaces.
#[track_caller]
fn extras(json: &str, kuscias: &str) -> Map<String, Value> {
    let rest = json.strip_prefix(kuscias.strip_suffix('}').unwrap());
    let rest = rest.unwrap_or_else(|| panic!("{json} does not begin as {kuscias}"));
    assert!(rest.trim_end() == "}" || rest.starts_with(','), "{json}");
    let known: Map<String, Value> = serde_json::from_str(kuscias).unwrap();
    let all: Map<String, Value> = serde_json::from_str(json).unwrap();
    all.into_iter().filter(|(name, _)| !known.contains_key(name)).collect()
}

/// Only what old peers pass over, and the documentation tells of.
#[track_caller]
fn assert_documented(extras: &Map<String, Value>) {
    for (name, value) in extras {
        assert!(["nonce", "signature"].contains(&name.as_str()) && value.is_string(), "{extras:?}");
    }
}

#[track_caller]
fn assert_request_is_as_go_writes_it(body: &str, method: Method) {
    let request: Value = serde_json::from_str(body).unwrap();
    let (Method { wire, .. }, time) = (method, &request["request_time"]);
    let share = match wire {
        "UID" => String::new(),
        // The first request: a revision of 0 is left out.
        _ => format!(
            r#""token_config":{{"token":{},"pubhash":{}}},"#,
            request["token_config"]["token"], request["token_config"]["pubhash"]
        ),
    };
    let kuscias = format!(r#"{{"domain_id":"alice","type":"{wire}",{share}"request_time":{time}}}"#);
    assert_documented(&extras(body, &kuscias));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let made = Duration::from_nanos(time.as_u64().unwrap());
    assert!(made <= now && now < made + Duration::from_secs(120), "{body}");
}

#[track_caller]
fn assert_answer_is_as_go_writes_it(answer: &Answer) {
    let json: Value = serde_json::from_str(&answer.answer).unwrap();
    let Answer { revision, expiration_time, .. } = answer;
    let token = &json["token"]["token"];
    let kuscias = format!(
        r#"{{"status":{{}},"token":{{"token":{token},"expiration_time":{expiration_time},"revision":{revision}}}}}"#
    );
    assert_documented(&extras(&answer.answer, &kuscias));
}

#[tokio::test]
async fn a_kuscia_gets_tokens_of_ours_that_work() {
    give_tokens_to_a_kuscia(RSA).await;
}

#[tokio::test]
async fn a_kuscia_gets_tokens_that_ours_makes_alone() {
    give_tokens_to_a_kuscia(UID).await;
}

async fn give_tokens_to_a_kuscia(method: Method) {
    let ours = Ours::start("bob").await;
    let alice = ours.partner("alice").await;
    ours.accept(&alice, method).await;
    let first = ours.token_for(&alice, method).await;
    assert_answer_is_as_go_writes_it(&first);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let left = first.expiration_time / 1_000_000_000 - i64::try_from(now.as_secs()).unwrap();
    assert!((2 * PERIOD - 120..=2 * PERIOD).contains(&left), "{left} s");

    let state = async |revision| alice.probe(&ours.domain, revision).await.body;
    assert_eq!(state(Some(first.revision)).await, r#"{"namespace":"bob","state":0}"#);
    let echoed: Value = serde_json::from_str(&alice.call(&ours.domain, &first.token).await.body).unwrap();
    assert_eq!(
        (&echoed["service"], &echoed["headers"]["kuscia-source"]),
        (&json!("echo.bob"), &json!("alice"))
    );

    let in_use = json!({"revision": first.revision});
    let second = alice.handshake(&ours.domain, method.wire, &in_use).await;
    assert_answer_is_as_go_writes_it(&second);
    // Where it makes the whole of a token, the destination gives the one that it has again.
    let is_new = method.wire == RSA.wire;
    assert_eq!(second.revision, first.revision + i64::from(is_new));
    assert_eq!(second.token != first.token, is_new);
    for answer in [&first, &second] {
        assert_eq!(alice.call(&ours.domain, &answer.token).await.status, 200, "{answer:?}");
    }

    let wrong = format!("x{}", &second.token[1..]);
    let refused = alice.call(&ours.domain, &wrong).await;
    let body: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!((refused.status, &body["domain"]), (401, &json!("bob")), "{refused:?}");
    assert_eq!(state(Some(second.revision + 1)).await, r#"{"namespace":"bob","state":4}"#);
    assert_eq!(state(None).await, r#"{"namespace":"bob","state":2}"#);
    let stranger = ours.partner("mallory").await;
    let state = stranger.probe(&ours.domain, Some(first.revision)).await.body;
    assert_eq!(state, r#"{"namespace":"bob","state":5}"#);
}

#[tokio::test]
async fn ours_gets_tokens_of_a_kuscia_that_work_and_new_ones_when_they_are_lost() {
    take_tokens_of_a_kuscia(RSA).await;
}

#[tokio::test]
async fn ours_gets_tokens_that_a_kuscia_makes_alone_and_new_ones_when_they_are_lost() {
    take_tokens_of_a_kuscia(UID).await;
}

async fn take_tokens_of_a_kuscia(method: Method) {
    let ours = Ours::start("alice").await;
    let bob = ours.partner("bob").await;
    let domains = json!({"bob": {
        "key": bob.key,
        "sources": {"alice": ours.domain.public_key.to_base64_pem()},
        "period": PERIOD,
    }});
    let mut gateway = Gateway::serve(&bob, &ours.gateway_log(), &domains).await;
    ours.lead_to("bob", &bob, &gateway, method).await;
    ours.authenticated("bob").await;
    let first = token(&ours.domain, "bob").await;

    let request = &gateway.asked("bob", "handshake")[0];
    assert_request_is_as_go_writes_it(request["body"].as_str().unwrap(), method);
    let probe = &gateway.asked("bob", "probe")[0];
    for (asked, name, value) in [
        (request, "content-type", "application/json"),
        (request, "kuscia-source", "alice"),
        (request, "kuscia-host", "kuscia-handshake.bob.svc"),
        (probe, "kuscia-source", "alice"),
        (probe, "kuscia-host", "kuscia-handshake.bob.svc"),
        (probe, "kuscia-token-revision", "1"),
    ] {
        assert_eq!(asked["headers"][name], value, "{name}: {asked}");
    }

    let seen = answers(&ours.domain, "web.bob.svc", 200).await;
    let seen: Value = serde_json::from_slice(seen.body()).unwrap();
    let headers = seen["headers"].as_object().unwrap();
    for (name, value) in [
        ("kuscia-source", "alice"),
        ("kuscia-origin-source", "alice"),
        ("kuscia-host", "web.bob.svc"),
        ("kuscia-token", &first),
        ("x-interconn-protocol", "kuscia"),
    ] {
        assert_eq!(headers[name], value, "{name}: {seen}");
    }
    assert!(!headers.keys().any(|name| name.starts_with("x-nm-")), "{seen}");
    let unknown = answers(&ours.domain, "nobody.bob.svc", 404).await;
    let hops = hops(&unknown);
    assert!(hops.starts_with("<alice/") && hops.contains("=> <bob/kuscia/external Service"), "{hops}");

    gateway.restart(&bob, &domains).await;
    let refused = answers(&ours.domain, "web.bob.svc", 401).await;
    let refused: Value = serde_json::from_slice(refused.body()).unwrap();
    assert_eq!(refused["domain"], "bob");
    // The next probe tells.
    answers(&ours.domain, "web.bob.svc", 200).await;
    ours.authenticated("bob").await;
    assert_ne!(token(&ours.domain, "bob").await, first);
}

#[tokio::test]
async fn broken_requests_of_a_kuscia_are_refused_and_cost_its_token_nothing() {
    let ours = Ours::start("bob").await;
    let alice = ours.partner("alice").await;
    ours.accept(&alice, RSA).await;
    let live = ours.token_for(&alice, RSA).await;
    let before = ours.accepted("alice").await;

    let (own, alices) = (ours.domain.public_key.fingerprint().to_string(), alice.fingerprint().to_string());
    let other_key = ours.domain.public_key.to_base64_pem();
    let broken_share = ["not encrypted for bob", &own];
    let cases = [
        (json!({"hashed_key": other_key}), &["alice", &alices][..]),
        (json!({"fault": "truncated_share"}), &broken_share),
        (json!({"fault": "share_with_newline"}), &broken_share),
        (json!({"fault": "share_in_url_alphabet"}), &broken_share),
        (json!({"fault": "share_without_padding"}), &broken_share),
        (json!({"fault": "short_share"}), &broken_share),
        (json!({"fault": "long_share"}), &broken_share),
        (json!({"fault": "double_share"}), &broken_share),
        (json!({"fault": "no_prefix"}), &broken_share),
        (json!({"fault": "other_key"}), &broken_share),
        (json!({"domain": "mallory"}), &["mallory", "no route"]),
        (json!({"type": "DSA"}), &["DSA"]),
    ];
    for (options, words) in cases {
        let answer = alice.handshake(&ours.domain, RSA.wire, &options).await;
        assert_eq!((answer.status, answer.code), (200, 500), "{options}: {answer:?}");
        assert!(answer.answer.starts_with(r#"{"status":{"code":500,"message":""#), "{options}: {answer:?}");
        assert!(words.iter().all(|word| answer.message.contains(word)), "{options}: {answer:?}");
    }
    assert_eq!(ours.accepted("alice").await, before);
    assert_eq!(alice.call(&ours.domain, &live.token).await.status, 200);
}

#[tokio::test]
async fn what_kuscia_does_not_look_at_in_a_request_does_no_harm() {
    let ours = Ours::start("bob").await;
    let alice = ours.partner("alice").await;
    ours.accept(&alice, RSA).await;
    let mut live = ours.token_for(&alice, RSA).await;
    for options in [json!({"clock": 600}), json!({"clock": -600}), json!({"revision": i64::MAX})] {
        let next = alice.handshake(&ours.domain, RSA.wire, &options).await;
        assert_eq!((next.code, next.revision), (0, live.revision + 1), "{options}: {next:?}");
        for answer in [&live, &next] {
            assert_eq!(alice.call(&ours.domain, &answer.token).await.status, 200, "{options}: {answer:?}");
        }
        live = next;
    }
    let replayed = alice.replay(&ours.domain, &live.request).await;
    assert_eq!(replayed.status, 200, "{replayed:?}");
    assert_eq!(alice.call(&ours.domain, &live.token).await.status, 200, "after {replayed:?}");
}

#[tokio::test]
async fn broken_answers_of_a_kuscia_are_told_apart_and_forgotten_once_it_is_mended() {
    let ours = Ours::start("alice").await;
    let bob = ours.partner("bob").await;
    let other = ours.partner("other").await;
    let good = json!({
        "key": bob.key,
        "sources": {"alice": ours.domain.public_key.to_base64_pem()},
        "period": PERIOD,
    });
    let own = ours.domain.public_key.fingerprint().to_string();
    let not_for_us = Some(own.as_str());
    let no_route = Some("domainRoute [alice-closed] not found in dest domain [closed]");
    let misled = Some("publickey in source domain [alice] may be not correct");
    // What each domain does otherwise than a good one, and what is told of it, if it is wrong. By this side's clock, the
    // token of `past` has ended before it begins.
    let cases = [
        ("truncated", RSA, json!({"fault": "truncated_share"}), not_for_us),
        ("newline", RSA, json!({"fault": "share_with_newline"}), not_for_us),
        ("url", RSA, json!({"fault": "share_in_url_alphabet"}), not_for_us),
        ("unpadded", RSA, json!({"fault": "share_without_padding"}), not_for_us),
        ("short", RSA, json!({"fault": "short_share"}), not_for_us),
        ("long", RSA, json!({"fault": "long_share"}), not_for_us),
        ("double", RSA, json!({"fault": "double_share"}), not_for_us),
        ("short-whole", UID, json!({"fault": "short_share"}), not_for_us),
        ("long-whole", UID, json!({"fault": "long_share"}), not_for_us),
        ("prefix", RSA, json!({"fault": "no_prefix"}), not_for_us),
        ("key", RSA, json!({"fault": "other_key"}), not_for_us),
        ("closed", RSA, json!({"sources": {}}), no_route),
        ("rekeyed", RSA, json!({"sources": {"alice": other.public_key}}), Some("publickey hash mismatch")),
        ("misled", RSA, json!({"key": other.key}), misled),
        ("past", RSA, json!({"period": 60, "clock": -600}), None),
        ("future", RSA, json!({"clock": 600}), None),
        ("huge", RSA, json!({"revision": i32::MAX - 1}), None),
    ];

    let domains: Map<_, _> =
        cases.iter().map(|(name, _, change, _)| ((*name).to_owned(), merged(good.clone(), change))).collect();
    let mut gateway = Gateway::serve(&bob, &ours.gateway_log(), &domains.into()).await;
    for (name, method, _, _) in &cases {
        ours.lead_to(name, &bob, &gateway, *method).await;
    }
    for (name, _, _, told) in &cases {
        let status = if let Some(words) = told {
            assert_eq!(ours.unauthenticated(name, words).await, [0_i64; 0], "{name}");
            503
        } else {
            ours.authenticated(name).await;
            200
        };
        answers(&ours.domain, &format!("web.{name}.svc"), status).await;
    }

    let domains: Map<_, _> = cases.iter().map(|(name, ..)| ((*name).to_owned(), good.clone())).collect();
    gateway.restart(&bob, &domains.into()).await;
    for (name, ..) in cases.iter().filter(|(_, _, _, told)| told.is_some()) {
        ours.authenticated(name).await;
        answers(&ours.domain, &format!("web.{name}.svc"), 200).await;
    }
}

#[tokio::test]
async fn what_a_kuscia_says_of_a_token_is_believed_and_asked_again() {
    let ours = Ours::start("alice").await;
    let bob = ours.partner("bob").await;
    let sources = json!({"alice": ours.domain.public_key.to_base64_pem()});
    let good = json!({"key": bob.key, "sources": sources});
    let cases = [("unready", 3, ""), ("forgetful", 4, "does not know"), ("closed", 5, "no route")];

    let says = |state: i64| merged(good.clone(), &json!({"state": state}));
    let domains: Map<_, _> =
        cases.iter().map(|(name, state, _)| ((*name).to_owned(), says(*state))).collect();
    let mut gateway = Gateway::serve(&bob, &ours.gateway_log(), &domains.into()).await;
    for (name, ..) in cases {
        ours.lead_to(name, &bob, &gateway, RSA).await;
    }
    for (name, _, words) in cases {
        ours.unauthenticated(name, words).await;
    }

    let domains: Map<_, _> = cases.iter().map(|(name, ..)| ((*name).to_owned(), good.clone())).collect();
    gateway.restart(&bob, &domains.into()).await;
    for (name, ..) in cases {
        ours.authenticated(name).await;
        answers(&ours.domain, &format!("web.{name}.svc"), 200).await;
    }
}

#[tokio::test]
async fn a_kuscia_is_told_where_only_signed_requests_are_taken() {
    let ours = Ours::start("bob").await;
    let alice = ours.partner("alice").await;
    let mut route = ours.route(RSA);
    set_source(&mut route, alice.name, &alice.public_key);
    route["spec"]["tokenConfig"]["handshake"] = "signed".into();
    apply_route(&ours.domain, &route).await;
    let remedy = r#"tokenConfig.handshake of the route there is "signed""#;
    eventually("it is refused", async || {
        let answer = alice.handshake(&ours.domain, RSA.wire, &json!({})).await;
        if answer.message.contains(remedy) { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    let log = fs::read_to_string(ours.domain.folder.join("logs/mesh.log")).unwrap();
    assert!(log.contains("the request is not signed"), "{log}");

    route["spec"]["tokenConfig"]["handshake"] = "compatible".into();
    apply_route(&ours.domain, &route).await;
    ours.token_for(&alice, RSA).await;
}

#[tokio::test]
async fn no_token_of_a_kuscia_is_taken_where_answers_must_be_signed() {
    let ours = Ours::start("alice").await;
    let bob = ours.partner("bob").await;
    let sources = json!({"alice": ours.domain.public_key.to_base64_pem()});
    let domains = json!({"bob": {"key": bob.key, "sources": sources, "period": PERIOD}});
    let gateway = Gateway::serve(&bob, &ours.gateway_log(), &domains).await;
    let mut route = ours.route(RSA);
    set_destination(&mut route, "bob", gateway.address);
    route["spec"]["tokenConfig"]["destinationPublicKey"] = bob.public_key.as_str().into();
    route["spec"]["tokenConfig"]["handshake"] = "signed".into();
    apply_route(&ours.domain, &route).await;
    assert_eq!(ours.unauthenticated("bob", r#"set that to "compatible""#).await, [0_i64; 0]);
    let status = route_status(&ours.domain, "alice-bob").await.unwrap();
    let reasons = status.conditions.iter().filter(|known| known.type_ == "Authenticated");
    let reasons: Vec<&str> = reasons.map(|known| known.reason.as_str()).collect();
    assert_eq!(reasons, ["SignatureMissing"]);
    let stored = ours.domain.stored_status("alice-bob").await.unwrap().token_status;
    assert_eq!(stored.revision_token.token, "", "{stored:?}");
    answers(&ours.domain, "web.bob.svc", 503).await;

    route["spec"]["tokenConfig"]["handshake"] = "compatible".into();
    apply_route(&ours.domain, &route).await;
    ours.authenticated("bob").await;
    answers(&ours.domain, "web.bob.svc", 200).await;
}

#[tokio::test]
async fn two_kuscias_with_one_key_have_each_its_own_token() {
    let ours = Ours::start("bob").await;
    let alice = ours.partner("alice").await;
    let carol = alice.twin("carol");
    let mut tokens = Vec::new();
    for source in [&alice, &carol] {
        ours.accept(source, RSA).await;
        tokens.push(ours.token_for(source, RSA).await.token);
    }
    assert_ne!(tokens[0], tokens[1]);
    for (source, token, status) in [
        (&alice, &tokens[0], 200),
        (&carol, &tokens[1], 200),
        (&alice, &tokens[1], 401),
        (&carol, &tokens[0], 401),
    ] {
        assert_eq!(source.call(&ours.domain, token).await.status, status, "{}", source.name);
    }
    let carols = ours.accepted("carol").await;
    ours.token_for(&alice, RSA).await;
    assert_eq!(ours.accepted("carol").await, carols);
}
