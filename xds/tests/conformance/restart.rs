//! The server goes and comes back while Envoy runs.

use envoy_types::pb::envoy::config::listener::v3::Listener;
use harness::free_address;
use networkmesh_xds::ResourceType;

use crate::support::{
    eventually, filters,
    resources::{Dialect, endpoints, routes, set},
    upstream::{get, has_line, is_from},
    world::{World, front_listener, spare},
};

in_every_dialect! {
    what_changed_while_the_server_was_away_is_made_up_for
}

/// Envoy's counters of accepted updates, a type each.
const UPDATES: [&str; 6] = [
    "cluster_manager.cds.update_success",
    "cluster.web.update_success",
    "sds.token.update_success",
    "extension_config_discovery.http_filter.mark.update_success",
    "listener_manager.lds.update_success",
    "http.http.rds.routes.update_success",
];

#[tokio::test]
async fn an_envoy_that_is_up_to_date_is_sent_nothing_by_delta() {
    an_envoy_that_is_up_to_date_is_sent_nothing(Dialect::DELTA).await;
}

#[tokio::test]
async fn an_envoy_that_is_up_to_date_is_sent_nothing_by_delta_with_a_stream_per_type() {
    an_envoy_that_is_up_to_date_is_sent_nothing(Dialect::DELTA_PER_TYPE).await;
}

async fn an_envoy_that_is_up_to_date_is_sent_nothing(dialect: Dialect) {
    let mut world = World::start(dialect).await;
    eventually("blue answers", || world.request(), |it| is_from(it, "blue")).await;
    world.server.acknowledged(World::RESOURCES).await;
    let before = updates(&world).await;
    assert!(before.iter().all(|count| *count > 0), "{before:?}");
    world.server.stop().await;
    world.server.resume();

    // The server knows this from what Envoy says to hold.
    world.server.acknowledged(World::RESOURCES).await;
    assert_eq!(updates(&world).await, before);

    // One change of each type, and each brings one update. Had more been sent at the reconnect, it would have come
    // before them.
    change_each_type(&world).await;
    assert_eq!(updates(&world).await, before.map(|count| count + 1));
}

async fn what_changed_while_the_server_was_away_is_made_up_for(dialect: Dialect) {
    let mut world = World::start(dialect).await;
    eventually("blue answers", || world.request(), |it| is_from(it, "blue")).await;
    world.server.acknowledged(World::RESOURCES).await;
    let clusters = world.envoy.stat("cluster_manager.active_clusters").await;
    world.server.stop().await;

    let moved = free_address().unwrap();
    world.server.remove(ResourceType::Cluster, "spare");
    world.server.set([
        set("front", &front_listener(dialect, moved)),
        set("web", &endpoints("web", world.green)),
        filters::token("two"),
    ]);
    assert!(is_from(&world.request().await, "blue"), "Envoy goes on without the server");
    world.server.resume();

    let request = || get(moved, "/", &[]);
    eventually("Envoy follows", request, |it| is_from(it, "green") && has_line(it, "x-token: two")).await;
    world.envoy.stat_is("cluster_manager.active_clusters", clusters - 1).await;
    world.server.acknowledged(World::RESOURCES).await;
    world.front = moved;
    change_each_type(&world).await;
}

/// Changes a resource of each type, and waits until Envoy has taken all of them.
async fn change_each_type(world: &World) {
    let mut routes = routes("routes", "web");
    routes.virtual_hosts[0].name = "changed".to_owned();
    let listener =
        Listener { stat_prefix: "changed".to_owned(), ..front_listener(world.dialect, world.front) };
    world.server.set([
        spare(1),
        set("web", &endpoints("web", world.green)),
        filters::token("three"),
        filters::mark("three"),
        set("front", &listener),
        set("routes", &routes),
    ]);
    let is_changed =
        |it: &_| is_from(it, "green") && has_line(it, "x-token: three") && has_line(it, "x-mark: three");
    eventually("Envoy follows", || world.request(), is_changed).await;
    world.server.acknowledged(World::RESOURCES).await;
    world.server.acknowledged([(ResourceType::Cluster, "spare")]).await;
}

async fn updates(world: &World) -> [u64; 6] {
    let mut counts = [0; 6];
    for (count, name) in counts.iter_mut().zip(UPDATES) {
        *count = world.envoy.stat(name).await;
    }
    counts
}
