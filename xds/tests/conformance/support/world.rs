//! One Envoy before two upstreams.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::{
    cluster::v3::{
        Cluster,
        cluster::{ClusterDiscoveryType, DiscoveryType},
    },
    listener::v3::Listener,
};
use harness::free_address;
use networkmesh_xds::{Change, ListenAddress, ResourceType};
use tempfile::TempDir;

use super::{
    envoy::Envoy,
    filters,
    resources::{Dialect, endpoints, listener, routes, set},
    server::Server,
    upstream::{Answer, get, upstream},
};

/// Envoy's listener `front` leads through filters and the routes `routes` to the cluster `web`, whose endpoint is the
/// upstream `blue`. The cluster `spare` is unused.
pub(crate) struct World {
    pub(crate) dialect: Dialect,
    pub(crate) server: Server,
    pub(crate) envoy: Envoy,
    /// Where the listener `front` listens.
    pub(crate) front: SocketAddr,
    pub(crate) blue: SocketAddr,
    pub(crate) green: SocketAddr,
    // Dropped after Envoy, which writes into it.
    _folder: TempDir,
}

impl World {
    /// A resource of each type.
    pub(crate) const RESOURCES: [(ResourceType, &str); 6] = [
        (ResourceType::Cluster, "web"),
        (ResourceType::ClusterLoadAssignment, "web"),
        (ResourceType::Secret, "token"),
        (ResourceType::TypedExtensionConfig, "mark"),
        (ResourceType::Listener, "front"),
        (ResourceType::RouteConfiguration, "routes"),
    ];

    pub(crate) async fn start(dialect: Dialect) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&ListenAddress::Unix(folder.path().join("xds.sock")));
        let (blue, green) = (upstream("blue").await, upstream("green").await);
        let front = free_address().unwrap();
        server.set([
            set("web", &dialect.cluster("web")),
            set("web", &endpoints("web", blue)),
            spare(0),
            filters::token("one"),
            filters::mark("one"),
            set("routes", &routes("routes", "web")),
            set("front", &front_listener(dialect, front)),
        ]);
        let envoy = Envoy::start(folder.path(), &server.address, "envoy", dialect).await;
        Self { dialect, server, envoy, front, blue, green, _folder: folder }
    }

    /// Sends a request through the listener `front`.
    pub(crate) async fn request(&self) -> Answer {
        get(self.front, "/", &[]).await
    }
}

/// A listener whose filters mark requests with the extension `mark` and the secret `token`.
pub(crate) fn front_listener(dialect: Dialect, at: SocketAddr) -> Listener {
    let filters = vec![filters::discovered_mark(dialect), filters::injector(dialect)];
    listener("front", at, &dialect.connection_manager("routes", filters))
}

/// A cluster without endpoints, which differs from one revision to the other.
pub(crate) fn spare(revision: u32) -> Change {
    let spare = Cluster {
        name: "spare".to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        alt_stat_name: format!("spare-{revision}"),
        ..Cluster::default()
    };
    set("spare", &spare)
}
