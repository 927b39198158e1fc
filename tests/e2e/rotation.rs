//! Tokens that roll under load.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use model::api::DomainRouteToken;
use networkmesh::harness::balancer::Balancer;
use networkmesh::harness::domain::Domain;
use networkmesh::harness::load::{Load, Protocol};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::figures::figure;
use super::world::{PROGRAM, Source, World, confirmed_revision, eventually, set_destination};

/// How long the requests go on after they were to end, on a machine that is too slow for them.
const PATIENCE: Duration = Duration::from_secs(180);

/// Failures that a failed test shows.
const SHOWN_FAILURES: usize = 20;

#[tokio::test]
async fn tokens_roll_every_two_seconds_under_load_for_a_minute() {
    let world = World::with_routes(Source::Directory, |route| {
        route["spec"]["tokenConfig"]["rollingUpdatePeriod"] = json!(2);
    })
    .await;
    let first = confirmed_revision(&world.alice, &world.bob).await;
    let load = [(Protocol::Http1, 500), (Protocol::Http2, 500), (Protocol::GrpcStream, 100)]
        .map(|(protocol, rate)| load(&world.alice, protocol, rate));
    sleep(Duration::from_secs(60)).await;
    until_rolled(&world, first + 20).await;
    let [http1, http2, messages] = none_failed(load.into()).await[..] else { unreachable!() };
    assert!(http1 + http2 >= 54_000 && messages >= 5_400, "{http1} + {http2} requests, {messages} messages");
    none_unauthorized(&world.bob).await;
}

#[tokio::test]
async fn tokens_roll_under_load_where_the_destination_has_three_gateways() {
    let mut world = World::laid_out(Source::Kubernetes, &json!({}), &json!({})).await;
    let others = [replica(&world.bob, "2", &world.envoy).await, replica(&world.bob, "3", &world.envoy).await];
    let bobs = [&world.bob, &others[0], &others[1]].map(|gateway| gateway.addresses.external);
    let balancer = Balancer::start(bobs.into()).await.unwrap();
    let mut route = world.alice.route_to(&world.bob);
    set_destination(&mut route, "bob", balancer.address());
    route["spec"]["tokenConfig"]["rollingUpdatePeriod"] = json!(4);
    world.start().await;
    until_alive(&world.bob, 3).await;
    world.connect(&route).await;
    let first = confirmed_revision(&world.alice, &world.bob).await;

    let load = [Protocol::Http1, Protocol::Http2].map(|protocol| load(&world.alice, protocol, 100));
    sleep(Duration::from_secs(30)).await;
    until_rolled(&world, first + 4).await;
    let sent: u32 = none_failed(load.into()).await.iter().sum();
    assert!(sent >= 5_400, "{sent} requests");
    for gateway in [&world.bob, &others[0], &others[1]] {
        none_unauthorized(gateway).await;
    }
}

#[tokio::test]
async fn tokens_roll_under_load_where_the_source_has_two_gateways_of_which_one_dies() {
    let mut world = World::laid_out(Source::Kubernetes, &json!({}), &json!({})).await;
    let mut route = world.alice.route_to(&world.bob);
    route["spec"]["tokenConfig"]["rollingUpdatePeriod"] = json!(4);
    world.start().await;
    let mut other = replica(&world.alice, "2", &world.envoy).await;
    until_alive(&world.alice, 2).await;
    until_alive(&other, 2).await;
    world.connect(&route).await;
    let both = ["alice-gateway", "alice-gateway-2"];
    let first = listed(&world.alice, &both, |_| true).await;

    let gateways = [&world.alice, &other];
    let load = gateways.map(|gateway| Protocol::ALL.map(|protocol| load(gateway, protocol, 50)));
    let rolled = listed(&world.alice, &both, |token| token.revision >= first.revision + 3).await;

    // From now on a token lasts until the other gateway has missed the one that negotiates.
    route["spec"]["tokenConfig"]["rollingUpdatePeriod"] = json!(60);
    world.connect(&route).await;
    let lasts = |token: &DomainRouteToken| {
        let life = token.expiration_time.as_ref().zip(token.revision_time.as_ref());
        life.is_some_and(|(end, begin)| end.0.duration_since(begin.0).as_secs() > 100)
    };
    let before = listed(&world.alice, &both, |token| token.revision > rolled.revision && lasts(token)).await;
    let stored = world.alice.stored_status("alice-bob").await.unwrap();
    let negotiates = stored.token_status.revision_initializer;
    let (dies, takes_over) =
        if negotiates == both[0] { (&mut world.alice, &other) } else { (&mut other, &world.alice) };
    dies.mesh.take().unwrap().kill9().await.unwrap();
    until_alive(takes_over, 1).await;
    let heir = takes_over.status().await.unwrap().instance;
    let after = listed(takes_over, &[&heir], |token| token.revision > before.revision).await;
    let stored = takes_over.stored_status("alice-bob").await.unwrap();
    assert_eq!(stored.token_status.revision_initializer, heir);

    dies.start_mesh(Path::new(PROGRAM)).await.unwrap();
    listed(dies, &both, |token| token.revision == after.revision).await;
    none_failed(load.into_iter().flatten().collect()).await;
    none_unauthorized(&world.bob).await;
}

/// One more gateway of `domain`, which runs.
async fn replica(domain: &Domain, suffix: &str, envoy: &Path) -> Domain {
    let mut replica = domain.lay_out_replica(suffix, &json!({})).unwrap();
    replica.start_mesh(Path::new(PROGRAM)).await.unwrap();
    replica.start_envoy(Path::new(PROGRAM), envoy).await.unwrap();
    replica
}

/// Waits until `gateway` knows that so many gateways of its domain are alive.
async fn until_alive(gateway: &Domain, count: usize) {
    eventually(&format!("{count} gateways are alive"), async || {
        let live = gateway.status().await.unwrap().gateways;
        if live.len() == count { Ok(()) } else { Err(format!("{live:?}")) }
    })
    .await;
}

/// Waits until alice sends the token of `revision` or a later one.
async fn until_rolled(world: &World, revision: i64) {
    eventually(&format!("revision {revision}"), async || {
        let last = confirmed_revision(&world.alice, &world.bob).await;
        if last >= revision { Ok(()) } else { Err(format!("revision {last}")) }
    })
    .await;
}

/// Waits until alice's newest token is as it should be, and all of these gateways send it.
async fn listed(
    alice: &Domain,
    gateways: &[&str],
    is: impl Fn(&DomainRouteToken) -> bool,
) -> DomainRouteToken {
    eventually(&format!("{gateways:?} send a new token"), async || {
        let newest = alice.stored_status("alice-bob").await.unwrap().token_status.revision_token;
        if newest.effective_instances == gateways && is(&newest) {
            Ok(newest)
        } else {
            Err(format!("{newest:?}"))
        }
    })
    .await
}

/// Calls bob's echo service through a gateway of alice, so many times a second.
fn load(alice: &Domain, protocol: Protocol, rate: u32) -> Load {
    Load::start(alice.addresses.internal, "echo.bob", protocol, NonZeroU32::new(rate).unwrap())
}

/// Ends the load once everything was sent that is due, and answers how much of each that was.
async fn none_failed(load: Vec<Load>) -> Vec<u32> {
    let mut sent = Vec::new();
    let mut failures = Vec::new();
    for load in load {
        let outcome = timeout(PATIENCE, load.finish()).await.expect("the machine keeps up in the end");
        sent.push(outcome.sent);
        failures.extend(outcome.failures);
    }
    let shown = failures.len().min(SHOWN_FAILURES);
    assert!(
        failures.is_empty(),
        "{} of {sent:?} requests failed:\n{}",
        failures.len(),
        failures[..shown].join("\n")
    );
    sent
}

/// Everybody who came to `gateway` had a token that it accepts.
async fn none_unauthorized(gateway: &Domain) {
    let count = async |name: &str| figure(gateway, &format!("http.external_http.rbac.{name}")).await;
    assert!(count("allowed").await > 0);
    assert_eq!(count("denied").await, 0);
}
