//! What Envoy rejects hurts nothing else.

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{DataSource, data_source::Specifier},
            listener::v3::Listener,
            route::v3::RouteConfiguration,
        },
        extensions::transport_sockets::tls::v3::{GenericSecret, Secret, secret},
    },
    google::protobuf::{BoolValue, Duration},
};
use harness::free_address;
use networkmesh_xds::{Change, ResourceType};

use crate::support::{
    eventually, filters,
    resources::{Dialect, address, endpoints, extension, routes, set},
    upstream::{get, has_line, is_from},
    world::World,
};

/// Envoy's counters of rejected updates, a type each.
const REJECTIONS: [&str; 6] = [
    "cluster_manager.cds.update_rejected",
    "cluster.web.update_rejected",
    "sds.token.update_rejected",
    "extension_config_discovery.http_filter.mark.update_fail",
    "listener_manager.lds.update_rejected",
    "http.http.rds.routes.update_rejected",
];

in_every_dialect! {
    what_envoy_rejects_is_held_back_alone_until_it_is_mended
}

async fn what_envoy_rejects_is_held_back_alone_until_it_is_mended(dialect: Dialect) {
    let world = World::start(dialect).await;
    let server = &world.server;
    eventually("blue answers", || world.request(), |it| is_from(it, "blue")).await;

    // A bad one of each type, among good ones, all in one step.
    let bad_cluster =
        Cluster { connect_timeout: Some(Duration { seconds: -1, nanos: 0 }), ..dialect.cluster("bad") };
    let bad_listener = Listener { address: None, ..dialect.listener("bad", world.front, "routes") };
    let bad_routes = RouteConfiguration {
        validate_clusters: Some(BoolValue { value: true }),
        ..routes("routes", "nobody")
    };
    let mut bad_endpoints = endpoints("web", world.green);
    bad_endpoints.endpoints[0].priority = 1_000;
    let side = free_address().unwrap();
    server.set([
        set("bad", &bad_cluster),
        set("other", &dialect.cluster("other")),
        set("other", &endpoints("other", world.green)),
        set("web", &bad_endpoints),
        bad_token(),
        set("mark", &extension("mark", &bad_routes)),
        set("bad", &bad_listener),
        set("side", &dialect.listener("side", side, "others")),
        set("others", &routes("others", "other")),
        set("routes", &bad_routes),
    ]);
    for (ty, name, words) in [
        (ResourceType::Cluster, "bad", "duration"),
        (ResourceType::ClusterLoadAssignment, "web", "Priority"),
        (ResourceType::Secret, "token", "/no/such/"),
        (ResourceType::TypedExtensionConfig, "mark", "RouteConfiguration"),
        (ResourceType::Listener, "bad", "ddress"),
        (ResourceType::RouteConfiguration, "routes", "nobody"),
    ] {
        let told = server.rejected("envoy", ty, name).await;
        assert!(told.contains(words), "{ty} {name}: {told}");
    }
    eventually("the good ones work", || get(side, "/", &[]), |it| is_from(it, "green")).await;
    server
        .acknowledged([
            (ResourceType::Cluster, "other"),
            (ResourceType::ClusterLoadAssignment, "other"),
            (ResourceType::Listener, "side"),
            (ResourceType::RouteConfiguration, "others"),
        ])
        .await;
    let answer = world.request().await;
    assert!(is_from(&answer, "blue"), "the last good version stays: {answer:?}");
    assert!(has_line(&answer, "x-token: one") && has_line(&answer, "x-mark: one"), "{answer:?}");

    // Nothing bad is sent again for the sake of something else.
    let before = rejections(&world).await;
    let mut changed = dialect.cluster("other");
    changed.alt_stat_name = "renamed".to_owned();
    server.set([set("other", &changed), set("others", &routes("others", "web"))]);
    eventually("the change is through", || get(side, "/", &[]), |it| is_from(it, "blue")).await;
    server
        .acknowledged([(ResourceType::Cluster, "other"), (ResourceType::RouteConfiguration, "others")])
        .await;
    assert_eq!(rejections(&world).await, before);

    let mended = free_address().unwrap();
    server.set([
        set("bad", &dialect.cluster("bad")),
        set("bad", &endpoints("bad", world.blue)),
        set("web", &endpoints("web", world.green)),
        filters::token("two"),
        filters::mark("two"),
        set("bad", &Listener { address: Some(address(mended)), ..bad_listener }),
        set("routes", &routes("routes", "web")),
    ]);
    eventually(
        "the mended filters",
        || world.request(),
        |it| is_from(it, "green") && has_line(it, "x-token: two") && has_line(it, "x-mark: two"),
    )
    .await;
    eventually("the mended listener", || get(mended, "/", &[]), |it| is_from(it, "green")).await;
    server
        .acknowledged([
            (ResourceType::Cluster, "bad"),
            (ResourceType::ClusterLoadAssignment, "web"),
            (ResourceType::Secret, "token"),
            (ResourceType::TypedExtensionConfig, "mark"),
            (ResourceType::Listener, "bad"),
            (ResourceType::RouteConfiguration, "routes"),
        ])
        .await;
    let types = server.types("envoy");
    let nacks = types.values().flat_map(|status| status.resources.values()).filter(|it| it.nack.is_some());
    assert_eq!(nacks.count(), 0, "{types:?}");
}

async fn rejections(world: &World) -> [u64; 6] {
    let mut counts = [0; 6];
    for (count, name) in counts.iter_mut().zip(REJECTIONS) {
        *count = world.envoy.stat(name).await;
    }
    counts
}

/// The secret `token`, from a file that does not exist.
fn bad_token() -> Change {
    let file = DataSource {
        specifier: Some(Specifier::Filename("/no/such/token".to_owned())),
        ..DataSource::default()
    };
    let generic = GenericSecret { secret: Some(file), ..GenericSecret::default() };
    set("token", &Secret { name: "token".to_owned(), r#type: Some(secret::Type::GenericSecret(generic)) })
}
