//! The bootstrap of the Envoy beside the mesh: where it finds the mesh, and the limits that only a bootstrap can set.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use model::Host;
use serde_json::{Value, json};

use crate::secrets::TLS_SOCKET;

/// Name of the cluster that is the mesh itself. The external listener refers to it too.
pub(crate) const XDS_CLUSTER: &str = "xds";

/// What goes into a bootstrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapSettings {
    /// Name of this Envoy, by which the mesh tells its clients apart.
    pub node_id: String,
    /// Name of the group of Envoys that it belongs to: the domain.
    pub cluster: String,
    /// Where the mesh serves xDS.
    pub xds: XdsAddress,
    /// Where Envoy serves its admin pages. They show tokens and shut Envoy down, so strangers must not reach them.
    pub admin: AdminAddress,
    /// Connections that Envoy accepts in all. It refuses more, for each takes a file handle.
    pub max_connections: u32,
    /// Bytes of heap beyond which Envoy refuses requests.
    pub max_heap_bytes: u64,
}

impl BootstrapSettings {
    /// Connections that a gateway accepts unless told otherwise.
    pub const DEFAULT_MAX_CONNECTIONS: u32 = 50_000;
    /// Heap of a gateway unless told otherwise: 4 GiB.
    pub const DEFAULT_MAX_HEAP_BYTES: u64 = 4 << 30;
}

/// Where the mesh serves xDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XdsAddress {
    /// At a Unix socket.
    Unix(PathBuf),
    /// At a TCP port, which may ask for TLS.
    Tcp(SocketAddr, Option<XdsTls>),
}

/// How Envoy and the mesh prove themselves to each other. All files are PEM, and named as Envoy finds them; it reads
/// them at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdsTls {
    /// Envoy's certificate, and then those that lead to its root.
    pub certificate: PathBuf,
    /// The private key of that certificate.
    pub key: PathBuf,
    /// The CAs of which one must have signed the mesh's certificate.
    pub ca: PathBuf,
    /// What the mesh's certificate must be for: one of its subject alternative names.
    pub server_name: Host,
}

/// Where Envoy serves its admin pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// At a Unix socket.
    Unix(PathBuf),
    /// At a TCP port.
    Tcp(SocketAddr),
}

/// Prefixes and suffixes of the statistics that Envoy keeps. Clusters make a hundred each, which with thousands of
/// services is most of Envoy's memory; of those, only what shows the state of a service or a peer is kept.
const STATISTICS: [(&str, &str); 21] = [
    ("prefix", "server."),
    ("prefix", "listener."),
    ("prefix", "listener_manager."),
    ("prefix", "cluster_manager."),
    ("prefix", "control_plane."),
    ("prefix", "http."),
    ("prefix", "http1."),
    ("prefix", "http2."),
    ("prefix", "bandwidth_share."),
    ("prefix", "overload."),
    ("prefix", "extension_config_discovery."),
    ("prefix", "cluster.xds."),
    ("suffix", ".membership_healthy"),
    ("suffix", ".membership_total"),
    ("suffix", ".upstream_cx_active"),
    ("suffix", ".upstream_cx_connect_fail"),
    ("suffix", ".upstream_rq_total"),
    ("suffix", ".upstream_rq_5xx"),
    ("suffix", ".ssl.fail_verify_error"),
    ("suffix", ".health_check.success"),
    ("suffix", ".health_check.failure"),
];

/// A bootstrap with delta xDS, as the JSON (and so YAML) that `envoy -c` reads.
#[must_use]
pub fn bootstrap(settings: &BootstrapSettings) -> Value {
    let admin = match &settings.admin {
        AdminAddress::Unix(path) => pipe(path),
        AdminAddress::Tcp(address) => socket(*address),
    };
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    json!({
        "node": {"id": settings.node_id, "cluster": settings.cluster},
        "admin": {"address": admin},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                // A mesh that restarts is found again within two seconds, not thirty.
                "grpc_services": [{"envoy_grpc": {
                    "cluster_name": XDS_CLUSTER,
                    "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "2s"}},
                }}],
            },
            "lds_config": ads,
            "cds_config": ads,
        },
        // What is forwarded goes from one listener of this Envoy to another.
        "bootstrap_extensions": [{
            "name": "envoy.bootstrap.internal_listener",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
            },
        }],
        "layered_runtime": {"layers": [{"name": "limits", "static_layer": runtime_limits()}]},
        "static_resources": {"clusters": [xds_cluster(&settings.xds)]},
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": statistics()}}},
        "overload_manager": overload_manager(settings),
    })
}

fn xds_cluster(xds: &XdsAddress) -> Value {
    let (address, tls) = match xds {
        XdsAddress::Unix(path) => (pipe(path), None),
        XdsAddress::Tcp(address, tls) => (socket(*address), tls.as_ref()),
    };
    let mut cluster = json!({
        "name": XDS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": XDS_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {
                    "connection_keepalive": {"interval": "30s", "timeout": "5s"},
                }},
            },
        },
    });
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls_socket(tls);
    }
    cluster
}

fn tls_socket(tls: &XdsTls) -> Value {
    let file = |path: &Path| json!({"filename": path});
    let (sni, san_type) = match &tls.server_name {
        Host::Address(_) => ("", "IP_ADDRESS"),
        Host::Name(name) => (name.as_str(), "DNS"),
    };
    json!({
        "name": TLS_SOCKET,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": sni,
            "common_tls_context": {
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_2",
                    "tls_maximum_protocol_version": "TLSv1_3",
                },
                "alpn_protocols": ["h2"],
                "tls_certificates": [{
                    "certificate_chain": file(&tls.certificate),
                    "private_key": file(&tls.key),
                }],
                "validation_context": {
                    "trusted_ca": file(&tls.ca),
                    "match_typed_subject_alt_names": [
                        {"san_type": san_type, "matcher": {"exact": tls.server_name.to_string()}},
                    ],
                },
            },
        },
    })
}

fn statistics() -> Vec<Value> {
    STATISTICS.iter().map(|(kind, text)| json!({*kind: text})).collect()
}

fn overload_manager(settings: &BootstrapSettings) -> Value {
    let at = |resource: &str, share: f64| json!([{"name": resource, "threshold": {"value": share}}]);
    json!({
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": settings.max_connections,
                },
            },
            {
                "name": "envoy.resource_monitors.fixed_heap",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": settings.max_heap_bytes,
                },
            },
        ],
        "actions": [
            {
                "name": "envoy.overload_actions.shrink_heap",
                "triggers": at("envoy.resource_monitors.fixed_heap", 0.9),
            },
            {
                "name": "envoy.overload_actions.reduce_timeouts",
                "triggers": [{
                    "name": "envoy.resource_monitors.fixed_heap",
                    "scaled": {"scaling_threshold": 0.85, "saturation_threshold": 0.95},
                }],
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig",
                    "timer_scale_factors": [{"timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout": "10s"}],
                },
            },
            {
                "name": "envoy.overload_actions.stop_accepting_requests",
                "triggers": at("envoy.resource_monitors.fixed_heap", 0.95),
            },
        ],
    })
}

/// Limits against clients that open streams only to reset them (CVE-2023-44487), said here so that they hold whatever
/// Envoy's defaults become.
fn runtime_limits() -> Value {
    json!({
        // A connection ends once most of its first 500 streams were reset within a second each.
        "overload.premature_reset_total_stream_count": 500,
        "overload.premature_reset_min_stream_lifetime_seconds": 1,
        // No connection keeps a worker busy with all requests that it sent at once while others wait.
        "http.max_requests_per_io_cycle": 32,
    })
}

fn pipe(path: &Path) -> Value {
    json!({"pipe": {"path": path}})
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{from_json, to_json};

    const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

    fn settings(xds: XdsAddress) -> BootstrapSettings {
        BootstrapSettings {
            node_id: "gateway-1".to_owned(),
            cluster: "alice".to_owned(),
            xds,
            admin: AdminAddress::Tcp("127.0.0.1:9901".parse().unwrap()),
            max_connections: BootstrapSettings::DEFAULT_MAX_CONNECTIONS,
            max_heap_bytes: BootstrapSettings::DEFAULT_MAX_HEAP_BYTES,
        }
    }

    /// The bootstrap, as Envoy reads it.
    fn read(settings: &BootstrapSettings) -> Value {
        let bytes = from_json(BOOTSTRAP, &bootstrap(settings)).unwrap();
        to_json(BOOTSTRAP, &bytes).unwrap()
    }

    #[test]
    fn envoy_knows_every_field_of_a_bootstrap() {
        let read = read(&settings(XdsAddress::Unix("run/xds.sock".into())));
        assert_eq!(read["node"], json!({"id": "gateway-1", "cluster": "alice"}));
        assert_eq!(
            read.pointer("/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint"),
            Some(&json!({"address": {"pipe": {"path": "run/xds.sock"}}})),
        );
        assert_eq!(read.pointer("/static_resources/clusters/0/transport_socket"), None);
    }

    #[test]
    fn a_bootstrap_with_tls_names_files_and_whose_certificate_is_good() {
        for (name, sni, san_type) in [
            ("mesh.alice.example", json!("mesh.alice.example"), "DNS"),
            ("192.0.2.7", Value::Null, "IP_ADDRESS"),
        ] {
            let tls = XdsTls {
                certificate: "envoy.pem".into(),
                key: "envoy.key".into(),
                ca: "ca.pem".into(),
                server_name: name.parse().unwrap(),
            };
            let read = read(&settings(XdsAddress::Tcp("192.0.2.7:18000".parse().unwrap(), Some(tls))));
            let context = &read["static_resources"]["clusters"][0]["transport_socket"]["typed_config"];
            assert_eq!(context["sni"], sni);
            let common = &context["common_tls_context"];
            assert_eq!(
                common["tls_certificates"],
                json!([{
                    "certificate_chain": {"filename": "envoy.pem"},
                    "private_key": {"filename": "envoy.key"},
                }])
            );
            assert_eq!(
                common["validation_context"],
                json!({
                    "trusted_ca": {"filename": "ca.pem"},
                    "match_typed_subject_alt_names": [{"san_type": san_type, "matcher": {"exact": name}}],
                })
            );
        }
    }
}
