//! Signed handshakes: what is signed cannot be repeated, made up or altered, and what is not signed counts for nothing
//! once a domain has signed.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use model::api::{ConditionStatus, DomainRouteTokenStatus};
use networkmesh::harness::domain::Domain;
use proto::handshake::{Ciphertext, HandshakeKind, HandshakeRequest, TokenConfig};
use serde_json::{Value, json};

use super::middle::{Change, Middle};
use super::partner::{
    Partner, ask, ask_for_token, headers, now, outcome, post_handshake, sign, signed_request,
};
use super::world::{
    DEADLINE, PROGRAM, Source, World, answers, apply_route, confirmed_revision, echoed, eventually, get,
    key_of, route_status, set_destination, set_source, token,
};

scenes!(
    two_meshes_sign_and_then_nobody_asks_unsigned_in_the_name_of_one,
    where_unsigned_handshakes_are_let_in_a_domain_may_sign_or_not,
    where_signatures_are_asked_for_a_source_that_never_signed_is_told_so,
    a_request_that_was_recorded_is_of_no_use,
    no_part_of_a_signed_request_can_be_altered,
    a_source_whose_clock_is_wrong_is_told_the_time_in_a_signed_refusal,
    no_part_of_an_answer_can_be_altered,
    a_destination_that_has_signed_cannot_be_made_to_look_like_one_that_does_not,
);

async fn two_meshes_sign_and_then_nobody_asks_unsigned_in_the_name_of_one(on: Source) {
    let mut world = World::laid_out(on, &json!({}), &json!({})).await;
    world.connect(&world.alice.route_to(&world.bob)).await;
    let program = Path::new(PROGRAM);
    world.bob.start_mesh(program).await.unwrap();
    world.bob.start_envoy(program, &world.envoy).await.unwrap();
    // Nobody knows yet that alice can sign.
    eventually("an unsigned handshake is taken", async || {
        let (_, answer) = ask_for_token(&world.bob, "alice", &world.alice.public_key).await;
        if answer["status"] == json!({}) { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
    let unsigned = tokens_at(&world.bob, "alice-bob").await.revision_token;
    assert!(!unsigned.token.is_empty() && unsigned.signed_request_time.is_none(), "{unsigned:?}");

    world.alice.start_mesh(program).await.unwrap();
    world.alice.start_envoy(program, &world.envoy).await.unwrap();
    let at_bob = settled(&world).await;
    let at_alice = tokens_at(&world.alice, "alice-bob").await;
    let signed_at = |status: &DomainRouteTokenStatus| status.revision_token.signed_request_time;
    assert!(signed_at(&at_bob).is_some(), "{at_bob:?}");
    assert_eq!(signed_at(&at_alice), signed_at(&at_bob));

    let (_, refused) = ask_for_token(&world.bob, "alice", &world.alice.public_key).await;
    assert_eq!(refused["status"]["reason"], "SignatureMissing", "{refused}");
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(message.contains("has signed before") && message.contains("\"compatible\""), "{message}");
    assert!(refused["token"].is_null(), "{refused}");
    assert_eq!(tokens_at(&world.bob, "alice-bob").await, at_bob);
    assert_eq!(echoed(&answers(&world.alice, "echo.bob.svc", 200).await).service, "echo.bob");
}

async fn where_unsigned_handshakes_are_let_in_a_domain_may_sign_or_not(on: Source) {
    let world =
        World::with_routes(on, |route| route["spec"]["tokenConfig"]["handshake"] = "compatible".into()).await;
    let before = settled(&world).await.revision_token;
    assert!(before.signed_request_time.is_some(), "{before:?}");
    let alices = token(&world.alice, "bob").await;
    let (_, answer) = ask_for_token(&world.bob, "alice", &world.alice.public_key).await;
    assert_eq!(answer["token"]["revision"], before.revision + 1, "{answer}");
    let after = tokens_at(&world.bob, "alice-bob").await.revision_token;
    assert_eq!((after.revision, after.signed_request_time), (before.revision + 1, None));
    assert_eq!(token(&world.alice, "bob").await, alices);
    assert_eq!(echoed(&get(&world.alice, "echo.bob.svc", "/").await).service, "echo.bob");
}

async fn where_signatures_are_asked_for_a_source_that_never_signed_is_told_so(on: Source) {
    let world = World::two_domains(on).await;
    let carol = Partner::new("carol");
    let mut route = route_from(&carol, &world);
    route["spec"]["tokenConfig"]["handshake"] = "signed".into();
    apply_route(&world.bob, &route).await;
    eventually("it is refused", async || match carol.handshake(&world.bob).await {
        Err(message) if message.contains("tokenConfig.handshake of the route there is \"signed\"") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let at_bob = world.bob.stored_status("carol-bob").await.unwrap_or_default();
    assert_eq!(at_bob.token_status, DomainRouteTokenStatus::default());

    let request = signed_request("carol", &carol.key, &world.bob, now());
    let answer = ask(&world.bob, &request).await;
    assert_eq!(outcome(&answer).code, 0, "{answer:?}");
}

async fn a_request_that_was_recorded_is_of_no_use(on: Source) {
    let (mut world, middle) = with_middle(on, &json!({}), |_| ()).await;
    world.agree().await;
    let at_bob = settled(&world).await;
    let recorded = middle.heard();
    let request: HandshakeRequest = serde_json::from_str(recorded.last().unwrap()).unwrap();
    assert!(!request.signature.is_empty(), "{request:?}");

    assert_stale(&world.bob, &request).await;
    assert_eq!(tokens_at(&world.bob, "alice-bob").await, at_bob);

    world.bob.mesh.take().unwrap().stop(DEADLINE).await.unwrap();
    world.bob.start_mesh(Path::new(PROGRAM)).await.unwrap();
    eventually("bob serves handshakes again", async || {
        let answer = post_handshake(&world.bob, "alice", "{}".to_owned()).await;
        if answer.status() == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_stale(&world.bob, &request).await;
    assert_eq!(tokens_at(&world.bob, "alice-bob").await, at_bob);

    if on == Source::Kubernetes {
        let mut other = world.bob.lay_out_replica("2", &json!({})).unwrap();
        other.start_mesh(Path::new(PROGRAM)).await.unwrap();
        other.start_envoy(Path::new(PROGRAM), &world.envoy).await.unwrap();
        assert_stale(&other, &request).await;
        assert_eq!(tokens_at(&world.bob, "alice-bob").await, at_bob);
    }
    assert_eq!(echoed(&answers(&world.alice, "echo.bob.svc", 200).await).service, "echo.bob");
}

/// Sends a request of alice's again.
async fn assert_stale(gateway: &Domain, request: &HandshakeRequest) {
    let answer = ask(gateway, request).await;
    let refused = outcome(&answer);
    assert_eq!((refused.code, refused.reason.as_str()), (500, "ClocksDiffer"), "{answer:?}");
    assert!(refused.message.contains("was expected by the clock of bob"), "{answer:?}");
    assert!(answer.token.is_none(), "{answer:?}");
}

async fn no_part_of_a_signed_request_can_be_altered(on: Source) {
    let world = World::two_domains(on).await;
    // Of the same key as alice: only the name tells them apart.
    let mut route = world.alice.route_to(&world.bob);
    set_source(&mut route, "carol", &world.alice.public_key.to_base64_pem());
    apply_route(&world.bob, &route).await;
    let key = key_of(&world.alice);
    let carols = signed_request("carol", &key, &world.bob, now());
    eventually("carol's route is there", async || {
        let answer = ask(&world.bob, &carols).await;
        if outcome(&answer).code == 0 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    settled(&world).await;
    let before = [tokens_at(&world.bob, "alice-bob").await, tokens_at(&world.bob, "carol-bob").await];

    type Alter = fn(&mut HandshakeRequest, &Domain);
    let cases: [(&str, Alter, &str); 13] = [
        ("the source", |request, _| request.domain_id = "carol".to_owned(), "SignatureWrong"),
        ("the kind", |request, _| request.kind = HandshakeKind::Uid, "SignatureWrong"),
        (
            "the share",
            |request, bob| share(request).token = Ciphertext(bob.public_key.seal(&[1; 16]).unwrap()),
            "SignatureWrong",
        ),
        ("the revision", |request, _| share(request).revision += 1, "SignatureWrong"),
        (
            "the key's hash",
            |request, bob| share(request).pubhash = bob.public_key.pubhash(),
            "KeyUnknownToPeer",
        ),
        ("no share", |request, _| request.token_config = None, "HandshakeRefused"),
        (
            "no share of another kind",
            |request, _| (request.kind, request.token_config) = (HandshakeKind::Uid, None),
            "SignatureWrong",
        ),
        ("the time", |request, _| request.request_time += 1, "SignatureWrong"),
        ("the nonce", |request, _| request.nonce = STANDARD.encode([1; 16]), "SignatureWrong"),
        ("no nonce", |request, _| request.nonce.clear(), "SignatureWrong"),
        (
            "the signature",
            |request, _| {
                let mut signature = STANDARD.decode(&request.signature).unwrap();
                signature[100] ^= 1;
                request.signature = STANDARD.encode(signature);
            },
            "SignatureWrong",
        ),
        ("a signature that is none", |request, _| request.signature = "!".to_owned(), "SignatureWrong"),
        ("no signature", |request, _| request.signature.clear(), "SignatureMissing"),
    ];
    let good = signed_request("alice", &key, &world.bob, now());
    for (what, alter, reason) in cases {
        let mut altered = good.clone();
        alter(&mut altered, &world.bob);
        let answer = ask(&world.bob, &altered).await;
        assert_eq!(outcome(&answer).reason, reason, "{what}: {answer:?}");
        assert!(answer.token.is_none() && answer.signature.is_empty(), "{what}: {answer:?}");
    }
    let mut elsewhere = good.clone();
    sign(&mut elsewhere, "carol", &key);
    let mut strangers = good.clone();
    sign(&mut strangers, "bob", &Partner::new("mallory").key);
    for (what, altered) in [("signed for another domain", elsewhere), ("signed by another", strangers)] {
        let answer = ask(&world.bob, &altered).await;
        assert_eq!(outcome(&answer).reason, "SignatureWrong", "{what}: {answer:?}");
    }
    assert_eq!([tokens_at(&world.bob, "alice-bob").await, tokens_at(&world.bob, "carol-bob").await], before);
    assert_eq!(echoed(&get(&world.alice, "echo.bob.svc", "/").await).service, "echo.bob");
    // It was a good one all the time.
    let answer = ask(&world.bob, &good).await;
    assert_eq!(outcome(&answer).code, 0, "{answer:?}");
}

fn share(request: &mut HandshakeRequest) -> &mut TokenConfig {
    request.token_config.as_mut().unwrap()
}

async fn a_source_whose_clock_is_wrong_is_told_the_time_in_a_signed_refusal(on: Source) {
    let world = World::two_domains(on).await;
    let carol = Partner::new("carol");
    apply_route(&world.bob, &route_from(&carol, &world)).await;
    let ten_minutes = i64::try_from(SignedDuration::from_mins(10).as_nanos()).unwrap();
    for off in [-ten_minutes, ten_minutes] {
        let request = signed_request("carol", &carol.key, &world.bob, now() + off);
        let refused = eventually("it is refused for its time", async || {
            let answer = ask(&world.bob, &request).await;
            if outcome(&answer).reason == "ClocksDiffer" { Ok(answer) } else { Err(format!("{answer:?}")) }
        })
        .await;
        assert!(refused.token.is_none(), "{refused:?}");
        let expected = refused.last_request_time;
        let bobs = STANDARD.decode(&refused.signature).unwrap();
        assert!(world.bob.public_key.verify(&refused.signed_bytes(&request, "bob"), &bobs), "{refused:?}");

        let in_time = signed_request("carol", &carol.key, &world.bob, expected + 1);
        let answer = ask(&world.bob, &in_time).await;
        assert_eq!(outcome(&answer).code, 0, "{off}: {answer:?}");
        let token = carol.token_in(&answer);
        let called = world.bob.call_from_outside("/", headers("carol", "echo.bob.svc", Some(&token))).await;
        assert_eq!(echoed(&called.unwrap()).headers["kuscia-source"], "carol");
    }
}

async fn no_part_of_an_answer_can_be_altered(on: Source) {
    let cases: [(&str, Change, &str); 6] = [
        ("the share", |answer| flip(&mut answer["token"]["token"]), "SignatureWrong"),
        ("the revision", |answer| count_on(&mut answer["token"]["revision"]), "SignatureWrong"),
        ("the end", |answer| count_on(&mut answer["token"]["expiration_time"]), "SignatureWrong"),
        ("the signature", |answer| flip(&mut answer["signature"]), "SignatureWrong"),
        (
            "no signature",
            |answer| drop(answer.as_object_mut().unwrap().remove("signature")),
            "SignatureMissing",
        ),
        ("the message", |answer| answer["status"]["message"] = "well".into(), "SignatureWrong"),
    ];
    // None passes unchanged before the first case begins.
    let (world, middle) = with_middle(on, &json!({"handshake": "signed"}), cases[0].1).await;
    for (what, change, reason) in cases {
        middle.change(change);
        // The first was not taken over before the second was asked for.
        middle.changed(2).await;
        eventually(&format!("{what}: {reason}"), async || {
            let route = route_status(&world.alice, "alice-bob").await?;
            let is_told = route.conditions.iter().any(|known| {
                known.type_ == "Authenticated"
                    && known.status == ConditionStatus::False
                    && known.reason == reason
            });
            if is_told { Ok(()) } else { Err(format!("{route:?}")) }
        })
        .await;
        let stored = tokens_at(&world.alice, "alice-bob").await;
        assert!(stored.revision_token.token.is_empty() && stored.tokens.is_empty(), "{what}: {stored:?}");
    }
    middle.change(|_| ());
    world.agree().await;
    assert_eq!(echoed(&answers(&world.alice, "echo.bob.svc", 200).await).service, "echo.bob");
}

/// Changes one bit of base64, which stays base64.
fn flip(text: &mut Value) {
    let mut bytes = STANDARD.decode(text.as_str().unwrap()).unwrap();
    bytes[0] ^= 1;
    *text = STANDARD.encode(bytes).into();
}

fn count_on(number: &mut Value) {
    *number = (number.as_i64().unwrap() + 1).into();
}

async fn a_destination_that_has_signed_cannot_be_made_to_look_like_one_that_does_not(on: Source) {
    let (world, middle) = with_middle(on, &json!({"rollingUpdatePeriod": 2}), |_| ()).await;
    let revision = confirmed_revision(&world.alice, &world.bob).await;
    middle.change(|answer| {
        if let Some(answer) = answer.as_object_mut() {
            answer.remove("signature");
        }
    });
    eventually("alice misses the signature", async || {
        let route = route_status(&world.alice, "alice-bob").await?;
        let is_told = route
            .conditions
            .iter()
            .any(|known| known.reason == "SignatureMissing" && known.message.contains("has signed before"));
        if is_told { Ok(()) } else { Err(format!("{route:?}")) }
    })
    .await;
    middle.changed(2).await;
    let stored = tokens_at(&world.alice, "alice-bob").await.revision_token;
    assert!(stored.signed_request_time.is_some(), "{stored:?}");

    middle.change(|_| ());
    eventually("alice has a later token", async || {
        let later = confirmed_revision(&world.alice, &world.bob).await;
        if later > revision { Ok(()) } else { Err(format!("revision {later}")) }
    })
    .await;
}

/// Both domains run, and alice reaches bob through a proxy only. Her route to him has `token_config` over the usual one.
async fn with_middle(on: Source, token_config: &Value, change: Change) -> (World, Middle) {
    let mut world = World::laid_out(on, &json!({}), &json!({})).await;
    let middle = Middle::start(world.bob.addresses.external).await;
    middle.change(change);
    world.connect(&world.bob.route_to(&world.alice)).await;
    let mut route = world.alice.route_to(&world.bob);
    let changed = token_config.as_object().unwrap().clone();
    route["spec"]["tokenConfig"].as_object_mut().unwrap().extend(changed);
    apply_route(&world.bob, &route).await;
    set_destination(&mut route, "bob", middle.address);
    apply_route(&world.alice, &route).await;
    world.start().await;
    (world, middle)
}

/// Bob's tokens of alice's route, once alice has shown him her token and nothing changes any more.
async fn settled(world: &World) -> DomainRouteTokenStatus {
    confirmed_revision(&world.alice, &world.bob).await;
    eventually("bob knows that alice has the token", async || {
        let status = tokens_at(&world.bob, "alice-bob").await;
        let newest = &status.revision_token;
        if newest.is_ready && newest.heart_beat_time.is_some() {
            Ok(status)
        } else {
            Err(format!("{newest:?}"))
        }
    })
    .await
}

async fn tokens_at(domain: &Domain, route: &str) -> DomainRouteTokenStatus {
    domain.stored_status(route).await.unwrap().token_status
}

/// A route from `source` to bob.
fn route_from(source: &Partner, world: &World) -> Value {
    let mut route = world.alice.route_to(&world.bob);
    set_source(&mut route, source.name, &source.public_key());
    route
}
