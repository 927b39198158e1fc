//! The first use of a token, which proves that its source has it, and what that protects it from.

use model::api::DomainRouteToken;
use networkmesh::harness::domain::Domain;
use proto::echo::EchoRequest;
use proto::echo::echo_client::EchoClient;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Endpoint;

use super::partner::{Partner, ask_for_token, headers};
use super::world::{Source, World, admin, apply_route, echoed, eventually, networkmesh, set_source, token};

scenes!(
    a_token_that_its_source_has_used_outlives_forged_handshakes,
    a_request_that_is_denied_proves_nothing,
    a_stream_proves_its_token_while_it_lasts,
);

const ECHO: &str = "echo.bob.svc";

/// A partner whom bob accepts, that never sends its token on the handshake's host, as Kuscia's gateways do not; its token
/// and the token's revision.
async fn befriend(world: &World, name: &'static str) -> (Partner, String, i64) {
    let partner = Partner::new(name);
    let mut route = world.alice.route_to(&world.bob);
    set_source(&mut route, name, &partner.public_key());
    route["spec"]["tokenConfig"]["rollingUpdatePeriod"] = json!(3600);
    apply_route(&world.bob, &route).await;
    let (token, revision) = eventually("a token", async || partner.handshake(&world.bob).await).await;
    (partner, token, revision)
}

/// What bob knows of that token; `None` if he does not accept it any more.
async fn known(bob: &Domain, source: &str, revision: i64) -> Option<DomainRouteToken> {
    let tokens = bob.stored_status(&format!("{source}-bob")).await.ok()?.token_status;
    tokens.tokens.into_iter().chain([tokens.revision_token]).find(|token| token.revision == revision)
}

async fn is_proven(bob: &Domain, source: &str, revision: i64) -> bool {
    known(bob, source, revision).await.is_some_and(|token| token.heart_beat_time.is_some())
}

async fn until_proven(bob: &Domain, source: &str, revision: i64) {
    eventually("the proof is noted", async || {
        if is_proven(bob, source, revision).await { Ok(()) } else { Err("no heartbeat".to_owned()) }
    })
    .await;
}

/// Whether bob's gateway is to tell of requests with that token.
async fn is_watched(bob: &Domain, source: &str, revision: i64) -> bool {
    let dump = networkmesh(["dump", "routes", "--admin", &admin(bob)]).await;
    assert_eq!(dump.code, Some(0), "{dump:?}");
    assert!(dump.out.contains(&format!("from|{source}")), "{dump:?}");
    dump.out.contains(&format!("unproven|{source}|{revision}"))
}

async fn a_token_that_its_source_has_used_outlives_forged_handshakes(on: Source) {
    let world = World::two_domains(on).await;
    let (carol, token, revision) = befriend(&world, "carol").await;
    assert!(!is_proven(&world.bob, "carol", revision).await);
    assert!(is_watched(&world.bob, "carol", revision).await);
    let call = async || {
        let headers = headers("carol", ECHO, Some(&token));
        world.bob.call_from_outside("/", headers).await.unwrap()
    };
    assert_eq!(echoed(&call().await).headers["kuscia-source"], "carol");
    until_proven(&world.bob, "carol", revision).await;
    eventually("the gateway tells of it no more", async || {
        if is_watched(&world.bob, "carol", revision).await { Err("it does".to_owned()) } else { Ok(()) }
    })
    .await;

    for _ in 0..20 {
        ask_for_token(&world.bob, "carol", carol.key.public_key()).await;
        assert_eq!(call().await.status(), 200);
    }
    assert!(is_proven(&world.bob, "carol", revision).await);
}

async fn a_request_that_is_denied_proves_nothing(on: Source) {
    let world = World::two_domains(on).await;
    let (_carol, hers, revision) = befriend(&world, "carol").await;
    let (_dave, his, other) = befriend(&world, "dave").await;
    let alices = token(&world.alice, "bob").await;
    let call = async |source: &str, token: &str| {
        world.bob.call_from_outside("/", headers(source, ECHO, Some(token))).await.unwrap().status().as_u16()
    };
    let half = &hers[..hers.len() / 2];
    for (source, token) in [("alice", hers.as_str()), ("dave", &hers), ("carol", &alices), ("carol", half)] {
        assert_eq!(call(source, token).await, 401, "{source}");
    }
    assert_eq!(call("dave", &his).await, 200);
    until_proven(&world.bob, "dave", other).await;
    assert!(!is_proven(&world.bob, "carol", revision).await);
    assert_eq!(call("carol", &hers).await, 200);
    until_proven(&world.bob, "carol", revision).await;
}

async fn a_stream_proves_its_token_while_it_lasts(on: Source) {
    let world = World::two_domains(on).await;
    let (_carol, token, revision) = befriend(&world, "carol").await;
    let gateway = Endpoint::try_from(format!("http://{}", world.bob.addresses.external)).unwrap();
    let origin = format!("http://{ECHO}").parse().unwrap();
    let (questions, stream) = mpsc::channel(1);
    questions.send(EchoRequest { message: "open".to_owned() }).await.unwrap();
    let mut request = tonic::Request::new(ReceiverStream::new(stream));
    let mut sent = headers("carol", ECHO, Some(&token));
    sent.remove("host");
    *request.metadata_mut() = MetadataMap::from_headers(sent);
    let channel = gateway.origin(origin).connect().await.unwrap();
    let mut answers = EchoClient::new(channel).chat(request).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().message, "open");

    until_proven(&world.bob, "carol", revision).await;
    questions.send(EchoRequest { message: "still here".to_owned() }).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().message, "still here");
}
