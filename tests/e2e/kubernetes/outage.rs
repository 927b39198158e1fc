//! An API server that goes, comes back, and has forgotten.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use networkmesh::harness::domain::{Domain, service_manifest};
use serde_json::json;

use super::own::{OwnServer, two_domains};
use crate::figures::envoy_says;
use crate::stream::Traffic;
use crate::world::{World, answers, confirmed_revision, eventually};

/// How long the API server is away.
const OUTAGE: Duration = Duration::from_secs(30);

/// Alice and bob on an API server of their own, with tokens that roll every `period` seconds; and where bob's service
/// `echo` listens.
async fn world(own: &OwnServer, period: u64) -> (World, SocketAddr) {
    let mut world = two_domains(own, own).await;
    let echo = world.bob.serve_echo("echo").await.unwrap();
    for mut route in [world.alice.route_to(&world.bob), world.bob.route_to(&world.alice)] {
        route["spec"]["tokenConfig"]["rollingUpdatePeriod"] = json!(period);
        world.connect(&route).await;
    }
    world.start().await;
    world.agree().await;
    (world, echo)
}

#[tokio::test]
async fn while_the_api_server_is_down_nothing_fails_and_what_changes_arrives_afterwards() {
    let mut own = OwnServer::start().await;
    let (world, echo) = world(&own, 60).await;
    let traffic = Traffic::start(&world.alice, "echo.bob.svc").await;
    let before = confirmed_revision(&world.alice, &world.bob).await;
    own.server.stop().await.unwrap();
    eventually("the outage is told", async || {
        let problems = world.bob.status().await.unwrap().source.problems;
        let told = problems.iter().any(|problem| problem.message.contains("Envoy keeps its configuration"));
        if told { Ok(()) } else { Err(format!("{problems:?}")) }
    })
    .await;
    tokio::time::sleep(OUTAGE).await;
    traffic.more(20).await;
    own.server.start_again().await.unwrap();
    world.bob.apply("late.json", &service_manifest("late", &[echo])).await.unwrap();
    answers(&world.alice, "late.bob.svc", 200).await;
    let mut faster = world.alice.route_to(&world.bob);
    faster["spec"]["tokenConfig"]["rollingUpdatePeriod"] = json!(2);
    world.connect(&faster).await;
    eventually("tokens roll", async || {
        let revision = confirmed_revision(&world.alice, &world.bob).await;
        if revision > before + 1 { Ok(()) } else { Err(format!("revision {revision}")) }
    })
    .await;
    is_well(&world.bob).await;
    assert_eq!(traffic.failures().await, Vec::<String>::new());
}

#[tokio::test]
async fn when_the_api_server_has_forgotten_what_was_read_all_is_read_again_and_envoy_is_told_only_what_changed()
 {
    let mut own = OwnServer::start().await;
    let (world, echo) = world(&own, 0).await;
    // Envoy asks for a partner's routes when that calls for the first time.
    answers(&world.alice, "echo.bob.svc", 200).await;
    // The first use of a token is noted, and changes its routes.
    eventually("the token's first use is known and Envoy told of it", async || {
        let tokens = world.bob.stored_status("alice-bob").await.unwrap().token_status;
        let status = world.bob.status().await.unwrap();
        let mut counts = status.envoys.iter().flat_map(|envoy| envoy.resources.values());
        let is_told = counts.all(|counts| counts.acked == counts.sent);
        let is_known = tokens.revision_token.heart_beat_time.is_some();
        if is_known && is_told { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    let before = updates(&world.bob).await;
    let read = world.bob.status().await.unwrap().source.last_read;
    // Nobody reads while etcd goes on and forgets.
    world.bob.mesh.as_ref().unwrap().pause().unwrap();
    let elsewhere = own.cluster.namespace("elsewhere").await.unwrap();
    for number in 1..=3 {
        let address = format!("192.0.2.{number}:80").parse().unwrap();
        elsewhere.apply("web.json", &service_manifest("web", &[address])).await.unwrap();
    }
    own.server.compact().await.unwrap();
    own.server.start_again().await.unwrap();
    world.bob.mesh.as_ref().unwrap().resume().unwrap();

    eventually("all is read again", async || {
        let last_read = world.bob.status().await.unwrap().source.last_read;
        if last_read > read { Ok(()) } else { Err(format!("{last_read:?}")) }
    })
    .await;
    // A change after it shows that the others have been taken in.
    world.bob.apply("late.json", &service_manifest("late", &[echo])).await.unwrap();
    answers(&world.alice, "late.bob.svc", 200).await;
    let after = updates(&world.bob).await;
    assert_eq!(after.listeners, before.listeners);
    assert_eq!(after.routes, before.routes);
    assert_eq!(after.clusters, before.clusters + 1, "the new one");
}

#[tokio::test]
async fn an_api_server_that_is_restored_from_a_backup_is_followed() {
    let mut own = OwnServer::start().await;
    let (world, echo) = world(&own, 0).await;
    let (data, backup) = (own.folder().join("etcd"), own.folder().join("backup"));
    world.bob.apply("old.json", &service_manifest("old", &[echo])).await.unwrap();
    answers(&world.alice, "old.bob.svc", 200).await;
    own.server.stop().await.unwrap();
    copy_folder(&data, &backup);
    own.server.start_again().await.unwrap();
    world.bob.apply("new.json", &service_manifest("new", &[echo])).await.unwrap();
    world.bob.remove("old.json").await.unwrap();
    answers(&world.alice, "new.bob.svc", 200).await;
    answers(&world.alice, "old.bob.svc", 404).await;
    is_well(&world.bob).await;

    // Versions of objects go backwards.
    own.server.stop().await.unwrap();
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&backup, &data).unwrap();
    eventually("the outage is told", async || {
        let problems = world.bob.status().await.unwrap().source.problems;
        if problems.is_empty() { Err("no problem".to_owned()) } else { Ok(()) }
    })
    .await;
    own.server.start_again().await.unwrap();
    answers(&world.alice, "old.bob.svc", 200).await;
    answers(&world.alice, "new.bob.svc", 404).await;
    confirmed_revision(&world.alice, &world.bob).await;
}

/// Waits until nothing is wrong with the source of a domain.
async fn is_well(domain: &Domain) {
    eventually("the outage is over", async || {
        let problems = domain.status().await.unwrap().source.problems;
        if problems.is_empty() { Ok(()) } else { Err(format!("{problems:?}")) }
    })
    .await;
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What Envoy was told since its start.
#[derive(Debug, PartialEq, Eq)]
struct Updates {
    listeners: u64,
    clusters: u64,
    routes: u64,
}

async fn updates(domain: &Domain) -> Updates {
    let stats: serde_json::Value =
        serde_json::from_str(&envoy_says(domain, "/stats?format=json").await).unwrap();
    let sum = |start: &str, end: &str| {
        let stats = stats["stats"].as_array().unwrap().iter();
        let is_meant = |name: &str| name.starts_with(start) && name.ends_with(end);
        let meant = stats.filter(|stat| stat["name"].as_str().is_some_and(is_meant));
        meant.filter_map(|stat| stat["value"].as_u64()).sum()
    };
    Updates {
        listeners: sum("listener_manager.lds.", "config_reload"),
        clusters: sum("cluster_manager.cds.", "config_reload"),
        routes: sum("http.", "config_reload"),
    }
}
