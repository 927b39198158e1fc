//! What Envoy asks for only when a request needs it. It does so by delta alone.

use std::net::SocketAddr;

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::ConfigSource,
            route::v3::{RouteConfiguration, Vhds, route_action::ClusterSpecifier},
        },
        extensions::filters::http::on_demand::v3::{OnDemand, OnDemandCds},
    },
    google::protobuf::Duration,
};
use harness::free_address;
use networkmesh_xds::{ListenAddress, ResourceType};
use tempfile::TempDir;

use crate::support::{
    envoy::Envoy,
    eventually,
    resources::{Dialect, endpoints, http_filter, listener, set, virtual_host, virtual_host_to},
    server::Server,
    upstream::{Answer, get, has_status, is_from, upstream},
};

#[tokio::test]
async fn virtual_hosts_come_when_they_are_asked_for() {
    virtual_hosts_come(Dialect::DELTA).await;
}

#[tokio::test]
async fn virtual_hosts_come_when_they_are_asked_for_with_a_stream_per_type() {
    virtual_hosts_come(Dialect::DELTA_PER_TYPE).await;
}

async fn virtual_hosts_come(dialect: Dialect) {
    let gateway = Gateway::lay_out().await;
    let server = &gateway.server;
    // Envoy begins by asking for nothing, and waits for an answer. It may as well begin at once.
    let initial_fetch_timeout = Some(Duration { seconds: 0, nanos: 1_000_000 });
    let source = ConfigSource { initial_fetch_timeout, ..dialect.source() };
    let routes = RouteConfiguration {
        name: "routes".to_owned(),
        vhds: Some(Vhds { config_source: Some(source) }),
        ..RouteConfiguration::default()
    };
    let filter = http_filter("envoy.filters.http.on_demand", &OnDemand::default());
    let manager = dialect.connection_manager("routes", vec![filter]);
    server.set([
        set("blue", &dialect.cluster("blue")),
        set("blue", &endpoints("blue", gateway.blue)),
        set("green", &dialect.cluster("green")),
        set("green", &endpoints("green", gateway.green)),
        set("front", &listener("front", gateway.front, &manager)),
        set("routes", &routes),
        set("routes/early.test", &virtual_host("routes/early.test", "early.test", "blue")),
    ]);
    // Envoy removes a virtual host by the name within it, so that has to be the resource's.
    let _envoy = Envoy::start(gateway.folder.path(), &server.address, "envoy", dialect).await;

    assert!(is_from(&gateway.ask("host", "early.test").await, "blue"));
    server.acknowledged([(ResourceType::VirtualHost, "routes/early.test")]).await;
    assert!(has_status(&gateway.ask("host", "late.test").await, 404));
    assert!(has_status(&gateway.ask("host", "never.test").await, 404));

    server.set([
        set("routes/early.test", &virtual_host("routes/early.test", "early.test", "green")),
        set("routes/late.test", &virtual_host("routes/late.test", "late.test", "green")),
    ]);
    let early = || gateway.ask("host", "early.test");
    eventually("the host has changed", early, |it| is_from(it, "green")).await;
    eventually("the late host has come", || gateway.ask("host", "late.test"), |it| is_from(it, "green"))
        .await;
    assert!(has_status(&gateway.ask("host", "never.test").await, 404));

    server.remove(ResourceType::VirtualHost, "routes/early.test");
    eventually("the host is gone", early, |it| has_status(it, 404)).await;
    assert!(is_from(&gateway.ask("host", "late.test").await, "green"));
}

#[tokio::test]
async fn clusters_come_when_they_are_asked_for() {
    clusters_come(Dialect::DELTA).await;
}

#[tokio::test]
async fn clusters_come_when_they_are_asked_for_with_a_stream_per_type() {
    clusters_come(Dialect::DELTA_PER_TYPE).await;
}

async fn clusters_come(dialect: Dialect) {
    let gateway = Gateway::lay_out().await;
    let server = &gateway.server;
    let host = virtual_host_to("all", "*", ClusterSpecifier::ClusterHeader("x-cluster".to_owned()));
    let routes = RouteConfiguration {
        name: "routes".to_owned(),
        virtual_hosts: vec![host],
        ..RouteConfiguration::default()
    };
    let on_demand = OnDemand {
        odcds: Some(OnDemandCds {
            source: Some(dialect.source()),
            timeout: Some(Duration { seconds: 20, nanos: 0 }),
            ..OnDemandCds::default()
        }),
    };
    let filter = http_filter("envoy.filters.http.on_demand", &on_demand);
    let manager = dialect.connection_manager("routes", vec![filter]);
    server.set([
        set("early", &dialect.cluster("early")),
        set("early", &endpoints("early", gateway.blue)),
        set("unused", &dialect.cluster("unused")),
        set("unused", &endpoints("unused", gateway.blue)),
        set("front", &listener("front", gateway.front, &manager)),
        set("routes", &routes),
    ]);
    let envoy = Envoy::without_clusters(gateway.folder.path(), &server.address, "envoy", dialect).await;
    let before = envoy.stat("cluster_manager.active_clusters").await;

    assert!(is_from(&gateway.ask("x-cluster", "early").await, "blue"));
    server
        .acknowledged([(ResourceType::Cluster, "early"), (ResourceType::ClusterLoadAssignment, "early")])
        .await;
    assert!(has_status(&gateway.ask("x-cluster", "late").await, 503));
    assert!(has_status(&gateway.ask("x-cluster", "never").await, 503));
    assert_eq!(envoy.stat("cluster_manager.active_clusters").await, before + 1, "the unused one is not sent");

    server.set([
        set("early", &endpoints("early", gateway.green)),
        set("late", &dialect.cluster("late")),
        set("late", &endpoints("late", gateway.green)),
    ]);
    let early = || gateway.ask("x-cluster", "early");
    eventually("the endpoints have moved", early, |it| is_from(it, "green")).await;
    eventually("the late cluster has come", || gateway.ask("x-cluster", "late"), |it| is_from(it, "green"))
        .await;

    // Envoy does not ask for a removed cluster again, as it still subscribes to it. It has it as soon as it is there.
    server.remove(ResourceType::Cluster, "early");
    envoy.stat_is("cluster_manager.active_clusters", before + 1).await;
    assert!(is_from(&gateway.ask("x-cluster", "late").await, "green"));
    server.set([set("early", &dialect.cluster("early"))]);
    envoy.stat_is("cluster_manager.active_clusters", before + 2).await;
    assert!(is_from(&early().await, "green"));
}

/// A server, two upstreams, and an address for Envoy to listen on.
struct Gateway {
    server: Server,
    front: SocketAddr,
    blue: SocketAddr,
    green: SocketAddr,
    folder: TempDir,
}

impl Gateway {
    async fn lay_out() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&ListenAddress::Unix(folder.path().join("xds.sock")));
        let (blue, green) = (upstream("blue").await, upstream("green").await);
        Self { server, front: free_address().unwrap(), blue, green, folder }
    }

    async fn ask(&self, header: &str, value: &str) -> Answer {
        get(self.front, "/", &[(header, value)]).await
    }
}
