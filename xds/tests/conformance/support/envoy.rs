//! A running Envoy that has its configuration from the server.

use std::{fs, net::SocketAddr, num::NonZeroU16, path::Path};

use harness::{
    envoy_binary::Locator,
    free_address,
    process::{Child, envoy_command},
};
use networkmesh_xds::ListenAddress;
use serde_json::{Value, json};

use super::{
    DEADLINE, eventually,
    resources::Dialect,
    upstream::{Answer, get, has_status},
};

pub(crate) struct Envoy {
    admin: SocketAddr,
    _process: Child,
}

impl Envoy {
    /// Starts Envoy with a node ID, its files in `folder`, and waits until it serves.
    pub(crate) async fn start(folder: &Path, xds: &ListenAddress, node: &str, dialect: Dialect) -> Self {
        let source = dialect.bootstrap_source();
        let discovery = json!({"lds_config": source, "cds_config": source});
        Self::with_discovery(folder, xds, node, dialect, discovery).await
    }

    /// The same, but it asks for no clusters unless a request needs one.
    pub(crate) async fn without_clusters(
        folder: &Path,
        xds: &ListenAddress,
        node: &str,
        dialect: Dialect,
    ) -> Self {
        let discovery = json!({"lds_config": dialect.bootstrap_source()});
        Self::with_discovery(folder, xds, node, dialect, discovery).await
    }

    async fn with_discovery(
        folder: &Path,
        xds: &ListenAddress,
        node: &str,
        dialect: Dialect,
        mut discovery: Value,
    ) -> Self {
        let admin = free_address().unwrap();
        let address = |address: &SocketAddr| json!({"socket_address": {"address": address.ip(), "port_value": address.port()}});
        let xds = match xds {
            ListenAddress::Unix(path) => json!({"pipe": {"path": path}}),
            ListenAddress::Tcp(tcp) => address(tcp),
        };
        if dialect.is_aggregated {
            discovery["ads_config"] = dialect.api_config_source();
        }
        let bootstrap = json!({
            "node": {"id": node, "cluster": "conformance"},
            "admin": {"address": address(&admin)},
            "dynamic_resources": discovery,
            "static_resources": {"clusters": [{
                "name": "xds",
                "type": "STATIC",
                "load_assignment": {
                    "cluster_name": "xds",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": xds}}]}],
                },
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                }},
            }]},
        });
        let file = folder.join(format!("{node}.json"));
        fs::write(&file, bootstrap.to_string()).unwrap();

        let binary = Locator::from_env().locate(&|step| eprintln!("{step}")).await;
        let binary = binary.unwrap_or_else(|error| panic!("{error}"));
        let command = envoy_command(&binary, &file, NonZeroU16::new(1));
        let mut process = Child::spawn(node, command, &folder.join(format!("{node}.log"))).unwrap();
        let ready = async || match get(admin, "/ready", &[]).await {
            answer if has_status(&answer, 200) => Ok(()),
            answer => Err(format!("{answer:?}")),
        };
        process.wait_ready(DEADLINE, ready).await.unwrap_or_else(|error| panic!("{error}"));
        Self { admin, _process: process }
    }

    /// A counter or gauge of Envoy; 0 for one that Envoy has not begun yet.
    pub(crate) async fn stat(&self, name: &str) -> u64 {
        let (_, text) = self.admin(&format!("/stats?filter=^{name}$")).await.unwrap();
        text.trim().rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// Waits until a counter or gauge of Envoy has this value.
    pub(crate) async fn stat_is(&self, name: &str, value: u64) {
        eventually(&format!("{name} is {value}"), || self.stat(name), |it| *it == value).await;
    }

    /// The part of Envoy's configuration dump of this kind, like `ClustersConfigDump`.
    pub(crate) async fn dump(&self, kind: &str) -> Value {
        let (_, text) = self.admin("/config_dump?include_eds").await.unwrap();
        let mut dump: Value = serde_json::from_str(&text).unwrap();
        let parts = dump["configs"].as_array_mut().unwrap();
        let is_kind = |part: &&mut Value| part["@type"].as_str().unwrap().ends_with(&format!(".{kind}"));
        parts.iter_mut().find(is_kind).map(Value::take).unwrap_or_default()
    }

    async fn admin(&self, path: &str) -> Answer {
        get(self.admin, path, &[]).await
    }
}
