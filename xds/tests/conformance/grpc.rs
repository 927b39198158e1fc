//! gRPC's own xDS client, as its Python library has it. It speaks the state of the world only.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
};

use envoy_types::pb::envoy::config::{
    cluster::v3::{
        Cluster,
        cluster::{ClusterDiscoveryType, DiscoveryType},
    },
    listener::v3::{ApiListener, Listener},
};
use harness::{free_address, process::Child, python::Python};
use networkmesh_xds::{ListenAddress, Protocol, ResourceType};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{
    DEADLINE, eventually,
    resources::{Dialect, any, endpoints, routes, set},
    server::Server,
    upstream::{Answer, get, has_status, is_from},
};

/// gRPC 1.85 with what its parts need.
const PACKAGES: [&str; 9] = [
    "grpcio==1.85.1",
    "grpcio-csds==1.85.0",
    "grpcio-health-checking==1.85.1",
    "grpcio-reflection==1.85.1",
    "grpcio-status==1.85.1",
    "googleapis-common-protos==1.76.0",
    "protobuf==7.36.2",
    "typing-extensions==4.16.0",
    "xds-protos==1.85.0",
];

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/grpc_client.py");

/// What the client needs.
pub(crate) const RESOURCES: [(ResourceType, &str); 4] = [
    (ResourceType::Listener, "echo.test"),
    (ResourceType::RouteConfiguration, "routes"),
    (ResourceType::Cluster, "web"),
    (ResourceType::ClusterLoadAssignment, "web"),
];

#[tokio::test]
async fn a_channel_follows_its_routes_clusters_and_endpoints() {
    let client = Client::start().await;
    let server = &client.server;
    eventually("blue answers", || client.call(), |it| is_from(it, "blue")).await;
    server.acknowledged(RESOURCES).await;
    let clients = server.clients.snapshot();
    assert_eq!(clients.len(), 1);
    assert_eq!((clients[0].node.as_str(), clients[0].protocol), ("grpc", Protocol::StateOfTheWorld));
    assert!(clients[0].user_agent.starts_with("gRPC C-core"), "{}", clients[0].user_agent);

    server.set([set("web", &endpoints("web", client.green))]);
    eventually("the endpoints have moved", || client.call(), |it| is_from(it, "green")).await;

    server.set([
        set("other", &Dialect::WORLD.cluster("other")),
        set("other", &endpoints("other", client.blue)),
        set("routes", &routes("routes", "other")),
    ]);
    eventually("the routes have changed", || client.call(), |it| is_from(it, "blue")).await;
    server
        .acknowledged([(ResourceType::RouteConfiguration, "routes"), (ResourceType::Cluster, "other")])
        .await;

    server.remove(ResourceType::Listener, "echo.test");
    eventually("the listener is gone", || client.call(), |it| has_status(it, 503)).await;
}

#[tokio::test]
async fn what_a_channel_rejects_is_told_and_the_last_good_version_stays() {
    let client = Client::start().await;
    let server = &client.server;
    eventually("blue answers", || client.call(), |it| is_from(it, "blue")).await;
    let is_acked = |it: &Vec<Status>| it.len() == 4 && it.iter().all(|(.., status)| status == "ACKED");
    eventually("all is acknowledged", || client.statuses(), is_acked).await;

    let bad = Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        ..Dialect::WORLD.cluster("web")
    };
    server.set([set("web", &bad)]);
    let words = server.rejected("grpc", ResourceType::Cluster, "web").await;
    assert!(words.contains("web"), "{words}");
    // It was sent the last good one again, as it drops what is missing in a list of all clusters.
    eventually("all is acknowledged", || client.statuses(), is_acked).await;
    server.set([set("web", &endpoints("web", client.green))]);
    eventually("endpoints still move", || client.call(), |it| is_from(it, "green")).await;

    let mut sparse = endpoints("web", client.blue);
    sparse.endpoints[0].priority = 1;
    server.set([set("web", &sparse)]);
    let words = server.rejected("grpc", ResourceType::ClusterLoadAssignment, "web").await;
    assert!(words.contains("priority"), "{words}");
    let is_nacked = |it: &Vec<Status>| {
        it.iter().any(|(ty, _, status)| ty.ends_with(".ClusterLoadAssignment") && status == "NACKED")
    };
    eventually("gRPC says so too", || client.statuses(), is_nacked).await;
    assert!(is_from(&client.call().await, "green"));

    let mended = Cluster { alt_stat_name: "mended".to_owned(), ..Dialect::WORLD.cluster("web") };
    server.set([set("web", &mended), set("web", &endpoints("web", client.blue))]);
    eventually("blue answers", || client.call(), |it| is_from(it, "blue")).await;
    server.acknowledged(RESOURCES).await;
    eventually("all is acknowledged", || client.statuses(), is_acked).await;
}

#[tokio::test]
async fn a_channel_goes_on_without_the_server_and_follows_it_again() {
    let mut client = Client::start().await;
    eventually("blue answers", || client.call(), |it| is_from(it, "blue")).await;
    client.server.stop().await;
    assert!(is_from(&client.call().await, "blue"));
    client.server.set([set("web", &endpoints("web", client.green))]);
    client.server.resume();
    eventually("the endpoints have moved", || client.call(), |it| is_from(it, "green")).await;
    client.server.acknowledged(RESOURCES).await;
}

/// A command line of Python with gRPC, without arguments yet.
pub(crate) async fn python() -> Command {
    let python = Python::with(&PACKAGES, &|step| eprintln!("{step}")).await;
    python.unwrap_or_else(|error| panic!("{error}")).command()
}

/// Type, name and status of a resource.
type Status = (String, String, String);

/// A server, and a process that calls `xds:///echo.test` when it is asked to.
pub(crate) struct Client {
    pub(crate) server: Server,
    /// Where the process is asked.
    control: SocketAddr,
    blue: SocketAddr,
    green: SocketAddr,
    _process: Child,
    _folder: TempDir,
}

impl Client {
    /// Calls of the channel lead to the gRPC server blue.
    pub(crate) async fn start() -> Self {
        // Not a Unix socket: gRPC then gives the path as authority, percent-encoded, which is malformed for HTTP/2
        // servers that follow RFC 3986 to the letter, like the one under tonic.
        Self::of(Server::start(&ListenAddress::Tcp(free_address().unwrap()))).await
    }

    pub(crate) async fn of(server: Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let manager = Dialect::WORLD.connection_manager("routes", Vec::new());
        let listener = Listener {
            name: "echo.test".to_owned(),
            api_listener: Some(ApiListener { api_listener: Some(any(&manager)) }),
            ..Listener::default()
        };
        let bootstrap = json!({
            "xds_servers": [{
                "server_uri": server.address.to_string(),
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }],
            "node": {"id": "grpc", "cluster": "conformance"},
        });
        let control = free_address().unwrap();
        let mut command = python().await;
        command.arg(CLIENT).arg(control.to_string()).env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap.to_string());
        let mut process = Child::spawn("gRPC client", command, &folder.path().join("grpc.log")).unwrap();
        let ready = async || get(control, "/upstreams", &[]).await.map(drop);
        process.wait_ready(DEADLINE, ready).await.unwrap_or_else(|error| panic!("{error}"));

        let (_, upstreams) = get(control, "/upstreams", &[]).await.unwrap();
        let ports: HashMap<String, u16> = serde_json::from_str(&upstreams).unwrap();
        let [blue, green] =
            ["blue", "green"].map(|name| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[name])));
        server.set([
            set("echo.test", &listener),
            set("routes", &routes("routes", "web")),
            set("web", &Dialect::WORLD.cluster("web")),
            set("web", &endpoints("web", blue)),
        ]);
        Self { server, control, blue, green, _process: process, _folder: folder }
    }

    pub(crate) async fn call(&self) -> Answer {
        get(self.control, "/call", &[]).await
    }

    /// What gRPC's client status discovery service tells of the channel's resources.
    async fn statuses(&self) -> Vec<Status> {
        let (_, dump) = get(self.control, "/csds", &[]).await.unwrap();
        serde_json::from_str(&dump).unwrap()
    }
}
