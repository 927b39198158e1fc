//! Tokens: agreed on, rolled, kept, lost and found again.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use certs::DomainKey;
use kube::api::{Patch, PatchParams};
use networkmesh::harness::domain::Home;
use networkmesh::status::Status;
use serde_json::{Value, json};

use super::partner::{Partner, ask_for_token, headers, post_handshake};
use super::peers::{Manner, serve};
use super::stream::{Chat, Traffic};
use super::world::{
    DEADLINE, PROGRAM, Source, World, answers, apply_route, confirmed_revision, echoed, eventually, get,
    hops, route_status, set_destination, set_source, token,
};

scenes!(
    tokens_roll_without_a_failed_request_and_without_a_dropped_stream,
    a_source_that_restarts_keeps_its_token,
    a_destination_that_lost_its_state_gets_a_new_token,
    a_destination_with_a_new_key_gets_a_new_token,
    a_route_with_another_key_than_ours_names_both_keys_and_hurts_no_other,
    a_destination_that_holds_another_key_refuses_and_both_sides_can_tell_why,
    a_destination_that_comes_up_later_gets_its_token_then,
    peers_that_answer_nonsense_harm_nobody_else,
    a_partner_that_speaks_kuscias_handshake_gets_a_token_that_works,
    forged_and_broken_handshakes_cost_a_source_nothing,
    a_token_that_nobody_renews_ends,
);

async fn tokens_roll_without_a_failed_request_and_without_a_dropped_stream(on: Source) {
    let world =
        World::with_routes(on, |route| route["spec"]["tokenConfig"]["rollingUpdatePeriod"] = json!(2)).await;
    let mut chat = Chat::open(&world.alice, &world.bob).await;
    let traffic = Traffic::start(&world.alice, "echo.bob.svc").await;
    let first = confirmed_revision(&world.alice, &world.bob).await;
    for roll in 1..=4 {
        eventually("the token rolls", async || {
            let revision = confirmed_revision(&world.alice, &world.bob).await;
            if revision >= first + roll { Ok(()) } else { Err(format!("revision {revision}")) }
        })
        .await;
        chat.say("still there").await;
    }
    traffic.more(10).await;
    assert_eq!(traffic.failures().await, Vec::<String>::new());
}

#[tokio::test]
async fn tokens_are_kept_encrypted_for_their_owner_only() {
    let world = World::two_domains(Source::Directory).await;
    let tokens = [token(&world.alice, "bob").await, token(&world.bob, "alice").await];
    assert_ne!(tokens[0], tokens[1]);
    for domain in [&world.alice, &world.bob] {
        let state = domain.folder.join("state");
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        let files = fs::read_dir(state.join("domainroutes")).unwrap().map(|file| file.unwrap().path());
        // A file that is just being written has another name.
        let files: Vec<_> = files.filter(|file| file.extension() == Some("json".as_ref())).collect();
        assert_eq!(files.len(), 2, "{files:?}");
        for file in files {
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.contains("revisionToken"), "{text}");
            assert!(tokens.iter().all(|token| !text.contains(token.trim_end_matches('='))), "{file:?}");
        }
    }
}

async fn a_source_that_restarts_keeps_its_token(on: Source) {
    let mut world = World::two_domains(on).await;
    let before = (token(&world.alice, "bob").await, confirmed_revision(&world.alice, &world.bob).await);
    let stopped = world.alice.mesh.take().unwrap().stop(DEADLINE).await.unwrap();
    assert!(stopped.success(), "{stopped}");
    world.alice.start_mesh(Path::new(PROGRAM)).await.unwrap();
    // The probe after the restart has been answered.
    world.agree().await;
    assert_eq!(
        (token(&world.alice, "bob").await, confirmed_revision(&world.alice, &world.bob).await),
        before
    );
    assert_eq!(echoed(&get(&world.alice, "echo.bob.svc", "/").await).service, "echo.bob");
}

async fn a_destination_that_lost_its_state_gets_a_new_token(on: Source) {
    let mut world = World::two_domains(on).await;
    let lost = token(&world.alice, "bob").await;
    world.bob.mesh.take().unwrap().stop(DEADLINE).await.unwrap();
    match &world.bob.home {
        Home::Folder => fs::remove_dir_all(world.bob.folder.join("state")).unwrap(),
        Home::Namespace(namespace) => {
            for route in ["alice-bob", "bob-alice"] {
                let nothing = Patch::Merge(json!({"status": null}));
                namespace.routes().patch_status(route, &PatchParams::default(), &nothing).await.unwrap();
            }
        }
    }
    world.bob.start_mesh(Path::new(PROGRAM)).await.unwrap();
    expect_another_token(&world, &lost).await;
}

async fn a_destination_with_a_new_key_gets_a_new_token(on: Source) {
    let mut world = World::two_domains(on).await;
    let old = token(&world.alice, "bob").await;
    world.bob.mesh.take().unwrap().stop(DEADLINE).await.unwrap();
    let key = DomainKey::generate().unwrap();
    let mut config: Value = serde_json::from_str(&fs::read_to_string(world.bob.config()).unwrap()).unwrap();
    config["domainKeyData"] = key.to_domain_key_data().as_str().into();
    world.bob.write("networkmesh.yaml", &config.to_string()).unwrap();
    world.bob.public_key = key.public_key().clone();
    for route in [world.alice.route_to(&world.bob), world.bob.route_to(&world.alice)] {
        apply_route(&world.alice, &route).await;
        apply_route(&world.bob, &route).await;
    }
    world.bob.start_mesh(Path::new(PROGRAM)).await.unwrap();
    expect_another_token(&world, &old).await;
}

async fn a_route_with_another_key_than_ours_names_both_keys_and_hurts_no_other(on: Source) {
    let world = World::two_domains(on).await;
    let other = Partner::new("other");
    let mut route = world.alice.route_to(&world.bob);
    route["spec"]["tokenConfig"]["sourcePublicKey"] = other.public_key().into();
    apply_route(&world.alice, &route).await;
    let keys =
        [other.key.public_key().fingerprint().to_string(), world.alice.public_key.fingerprint().to_string()];
    let route = eventually("the route is refused", async || {
        let route = route_status(&world.alice, "alice-bob").await?;
        let refused = route.conditions.iter().any(|condition| {
            condition.type_ == "Accepted"
                && condition.reason == "KeyMismatch"
                && keys.iter().all(|key| condition.message.contains(key))
        });
        if refused { Ok(route) } else { Err(format!("{route:?}")) }
    })
    .await;
    assert!(!route.holds("Accepted"), "{route:?}");
    let status = world.alice.status().await.unwrap();
    assert!(
        status.problems.iter().any(|problem| problem.contains("alice-bob") && problem.contains(&keys[0])),
        "{status:?}"
    );
    // The last good version stays in force, and so does the way back.
    assert_eq!(echoed(&get(&world.alice, "echo.bob.svc", "/").await).service, "echo.bob");
    assert_eq!(echoed(&get(&world.bob, "echo.alice.svc", "/").await).service, "echo.alice");
}

async fn a_destination_that_holds_another_key_refuses_and_both_sides_can_tell_why(on: Source) {
    let mut world = World::laid_out(on, &json!({}), &json!({})).await;
    world.connect(&world.bob.route_to(&world.alice)).await;
    let mut route = world.alice.route_to(&world.bob);
    apply_route(&world.alice, &route).await;
    let other = Partner::new("other");
    route["spec"]["tokenConfig"]["sourcePublicKey"] = other.public_key().into();
    apply_route(&world.bob, &route).await;
    world.start().await;

    let held = other.key.public_key().fingerprint().to_string();
    expect_problem(&world, "alice-bob", &["KeyUnknownToPeer", &held]).await;
    let log = fs::read_to_string(world.bob.folder.join("logs/mesh.log")).unwrap();
    assert!(log.contains("handshake refused") && log.contains(&held), "{log}");
    confirmed_revision(&world.bob, &world.alice).await;
    answers(&world.bob, "echo.alice.svc", 200).await;
    let refused = answers(&world.alice, "echo.bob.svc", 503).await;
    let hops = hops(&refused);
    assert!(hops.contains("alice/alice-gateway/internal $token_missing$"), "{hops}");
}

async fn a_destination_that_comes_up_later_gets_its_token_then(on: Source) {
    let mut world = World::laid_out(on, &json!({}), &json!({})).await;
    world.connect(&world.alice.route_to(&world.bob)).await;
    let program = Path::new(PROGRAM);
    world.alice.start_mesh(program).await.unwrap();
    // Until its Envoy is there, the way out is closed too.
    expect_problem(&world, "alice-bob", &["OwnGatewayDown", "bootstrap"]).await;
    world.alice.start_envoy(program, &world.envoy).await.unwrap();
    expect_problem(&world, "alice-bob", &["ConnectionRefused"]).await;

    world.bob.start_envoy(program, &world.envoy).await.unwrap();
    world.bob.start_mesh(program).await.unwrap();
    confirmed_revision(&world.alice, &world.bob).await;
    assert_eq!(echoed(&answers(&world.alice, "echo.bob.svc", 200).await).service, "echo.bob");
    eventually("all is well", async || all_well(&world.alice.status().await.unwrap())).await;
}

async fn peers_that_answer_nonsense_harm_nobody_else(on: Source) {
    let world = World::two_domains(on).await;
    let not_a_gateway = ["NotAGateway", "check host, port and pathPrefix"];
    let cases = [
        ("garbage", Manner::Garbage, &["PeerSpeaksTls", "isTLS"][..]),
        ("flood", Manner::Flood, &["NotAGateway", "HTTP 200"]),
        ("silence", Manner::Silence, &["no token is negotiated with silence yet"]),
        ("page", Manner::Body("<html>welcome</html>"), &not_a_gateway),
        ("empty", Manner::Body("{}"), &not_a_gateway),
        (
            "refusal",
            Manner::Body(r#"{"status":{"code":500,"message":"no\nway"}}"#),
            &["HandshakeRefused", "noway"],
        ),
        (
            "forger",
            Manner::Body(
                r#"{"status":{},"token":{"token":"AAAA","expiration_time":4000000000000000000,"revision":1}}"#,
            ),
            &["KeyUnknownToPeer"],
        ),
    ];
    let mut servers = Vec::new();
    for (name, manner, _) in &cases {
        let (address, server) = serve(Ipv4Addr::LOCALHOST.into(), manner.clone()).await;
        servers.push(server);
        let mut route = world.alice.route_to(&world.bob);
        set_destination(&mut route, name, address);
        apply_route(&world.alice, &route).await;
    }
    let traffic = Traffic::start(&world.alice, "echo.bob.svc").await;
    for (name, _, words) in &cases {
        expect_problem(&world, &format!("alice-{name}"), words).await;
    }
    traffic.more(10).await;
    assert_eq!(traffic.failures().await, Vec::<String>::new());
    assert!(route_status(&world.alice, "alice-bob").await.unwrap().holds("Authenticated"));
}

async fn a_partner_that_speaks_kuscias_handshake_gets_a_token_that_works(on: Source) {
    let world = World::two_domains(on).await;
    let carol = Partner::new("carol");
    let mut route = world.alice.route_to(&world.bob);
    set_source(&mut route, "carol", &carol.public_key());
    route["spec"]["tokenConfig"]["rollingUpdatePeriod"] = json!(3600);
    apply_route(&world.bob, &route).await;

    let (first, revision) = eventually("a token", async || carol.handshake(&world.bob).await).await;
    let call = async |token: &str| {
        let headers = headers("carol", "echo.bob.svc", Some(token));
        world.bob.call_from_outside("/", headers).await.unwrap()
    };
    assert_eq!(echoed(&call(&first).await).headers["kuscia-source"], "carol");

    let (second, next) = carol.handshake(&world.bob).await.unwrap();
    assert!(second != first && next == revision + 1, "revisions {revision} and {next}");
    for token in [&first, &second] {
        assert_eq!(call(token).await.status(), 200, "both the new and the former token are accepted");
    }
    let stranger = Partner { name: "carol", key: Partner::new("mallory").key };
    let refusal = stranger.handshake(&world.bob).await.unwrap_err();
    assert!(refusal.contains(&carol.key.public_key().fingerprint().to_string()), "{refusal}");
    assert_eq!(call(&second).await.status(), 200);
}

async fn forged_and_broken_handshakes_cost_a_source_nothing(on: Source) {
    let world = World::two_domains(on).await;
    let before = token(&world.alice, "bob").await;
    eventually("bob knows that alice has the token", async || {
        let status = world.bob.stored_status("alice-bob").await.unwrap();
        status
            .token_status
            .revision_token
            .heart_beat_time
            .map(|_| ())
            .ok_or_else(|| "no proof yet".to_owned())
    })
    .await;
    let traffic = Traffic::start(&world.alice, "echo.bob.svc").await;
    for _ in 0..8 {
        ask_for_token(&world.bob, "alice", &world.alice.public_key).await;
    }
    let large = format!("{{\"domain_id\": \"{}\"}}", "a".repeat(1 << 20));
    // 503: the connection is closed before all of the large body is sent, and the gateway may notice that first.
    for (body, expected) in [
        (String::new(), &[400][..]),
        ("{}".to_owned(), &[200]),
        ("[1, 2".to_owned(), &[400]),
        (large, &[413, 503]),
    ] {
        let answer = post_handshake(&world.bob, "alice", body).await;
        let status = answer.status().as_u16();
        assert!(expected.contains(&status), "{answer:?}");
        assert!(status != 200 || answer.body().starts_with(b"{\"status\":{\"code\":500,"), "{answer:?}");
    }
    traffic.more(10).await;
    assert_eq!(traffic.failures().await, Vec::<String>::new());
    assert_eq!(token(&world.alice, "bob").await, before);
}

async fn a_token_that_nobody_renews_ends(on: Source) {
    let world = World::two_domains(on).await;
    let carol = Partner::new("carol");
    let mut route = world.alice.route_to(&world.bob);
    set_source(&mut route, "carol", &carol.public_key());
    route["spec"]["tokenConfig"]["rollingUpdatePeriod"] = json!(1);
    apply_route(&world.bob, &route).await;
    let (token, _) = eventually("a token", async || carol.handshake(&world.bob).await).await;
    eventually("the token has ended", async || {
        let headers = headers("carol", "echo.bob.svc", Some(&token));
        let status = world.bob.call_from_outside("/", headers).await.unwrap().status();
        if status == 401 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

/// Waits until alice sends bob another token than `old`, with which both can call each other.
async fn expect_another_token(world: &World, old: &str) {
    eventually("a new token", async || {
        if token(&world.alice, "bob").await == old { Err("the old one".to_owned()) } else { Ok(()) }
    })
    .await;
    answers(&world.alice, "echo.bob.svc", 200).await;
    answers(&world.bob, "echo.alice.svc", 200).await;
}

/// Waits until alice's status has a problem with the route that has all these words.
async fn expect_problem(world: &World, route: &str, words: &[&str]) {
    eventually(&format!("a problem of {route} with {words:?}"), async || {
        let status = world.alice.status().await.map_err(|error| error.to_string())?;
        let mut problems = status.problems.iter();
        let found = problems
            .any(|problem| problem.contains(route) && words.iter().all(|word| problem.contains(word)));
        if found { Ok(()) } else { Err(format!("{:#?}", status.problems)) }
    })
    .await;
}

fn all_well(status: &Status) -> Result<(), String> {
    if status.problems.is_empty() { Ok(()) } else { Err(status.problems.join("\n")) }
}
