//! The answer of a destination's gateway to requests that get in as those of applications do.

use ::http::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use super::partner::headers;
use super::world::{Source, World, apply_route, get, set_source, set_unauthenticated, token};

scenes!(
    a_request_through_both_gateways_is_answered_with_both_names,
    without_the_token_of_the_source_the_answer_is_401,
    a_source_without_authentication_is_answered_too,
);

const HOST: &str = "kuscia-datapath.bob.svc";

#[track_caller]
fn assert_answered(answer: &Response<Bytes>, source: &str) {
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.headers()["kuscia-datapath"], "bob");
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(body, json!({"domain": "bob", "source": source}));
}

async fn a_request_through_both_gateways_is_answered_with_both_names(on: Source) {
    let world = World::two_domains(on).await;
    for path in ["/", "/any/path?at=all"] {
        assert_answered(&get(&world.alice, HOST, path).await, "alice");
    }
    // The name is bob's own: nothing of the kind is served to his own applications, or under another name.
    assert_eq!(get(&world.bob, HOST, "/").await.status(), 404);
    assert_eq!(get(&world.alice, "kuscia-datapath.alice.svc", "/").await.status(), 404);
}

async fn without_the_token_of_the_source_the_answer_is_401(on: Source) {
    let world = World::two_domains(on).await;
    let mut route = world.alice.route_to(&world.bob);
    set_source(&mut route, "carol", &super::partner::Partner::new("carol").public_key());
    apply_route(&world.bob, &route).await;
    let (right, wrong) = (token(&world.alice, "bob").await, token(&world.bob, "alice").await);
    let knock = async |source: &str, host: &str, token: Option<&str>| {
        world.bob.call_from_outside("/", headers(source, host, token)).await.unwrap()
    };
    assert_answered(&knock("alice", HOST, Some(&right)).await, "alice");
    for (what, source, token) in [
        ("no token", "alice", None),
        ("a wrong token", "alice", Some(&wrong)),
        ("another source", "carol", Some(&right)),
        ("an unknown source", "mallory", Some(&right)),
    ] {
        let answer = knock(source, HOST, token.map(String::as_str)).await;
        assert_eq!(answer.status(), 401, "{what}: {answer:?}");
        assert!(!answer.headers().contains_key("kuscia-datapath"), "{what}: {answer:?}");
    }
    for (host, status) in [
        // Bob forwards nothing to alice.
        ("kuscia-datapath.alice.svc", 403),
        ("x.kuscia-datapath.bob.svc", 404),
        ("kuscia-datapath.bob.svc.evil", 404),
    ] {
        let answer = knock("alice", host, Some(&right)).await;
        assert_eq!(answer.status(), status, "{host}: {answer:?}");
    }
}

async fn a_source_without_authentication_is_answered_too(on: Source) {
    let mut world = World::laid_out(on, &json!({}), &json!({})).await;
    let mut route = world.alice.route_to(&world.bob);
    set_unauthenticated(&mut route);
    world.connect(&route).await;
    world.start().await;
    super::world::answers(&world.alice, "echo.bob.svc", 200).await;
    assert_answered(&get(&world.alice, HOST, "/").await, "alice");
}
