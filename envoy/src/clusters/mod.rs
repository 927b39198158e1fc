//! Clusters: this domain's services, the gateways of other domains, and the mesh's own handshake server.

mod balancing;
mod peers;
mod services;
mod tls;

use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster,
    circuit_breakers::Thresholds,
    cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy},
};
use envoy_types::pb::envoy::config::core::v3::{Http1ProtocolOptions, Http2ProtocolOptions};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
        explicit_http_config::ProtocolConfig,
    },
};
use model::Host;
use prost::Name as _;

use crate::endpoints::assignment;
use crate::message::{address, any, seconds, uint};
use crate::resource::{Resource, type_url};
use crate::settings::Settings;

pub(crate) use balancing::origin_filter;
pub(crate) use peers::{peer_cluster_name, peer_clusters, peer_of_cluster};
pub(crate) use services::{service_cluster, service_cluster_name, service_of_cluster};

/// Name of the cluster of the mesh's handshake server.
pub(crate) const HANDSHAKE: &str = "handshake-cluster";

const SERVICE_CONNECT_SECONDS: i64 = 5;
/// Envoy's own limits of 1024 are for fleets in which every instance gets little.
const MAX_CONNECTIONS: u32 = 16_384;
const MAX_REQUESTS: u32 = 65_536;
const MAX_RETRIES: u32 = 64;

pub(crate) fn handshake_cluster(settings: &Settings) -> Resource {
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(as_downstream(Http2ProtocolOptions::default())),
        ..HttpProtocolOptions::default()
    };
    resource(&Cluster {
        load_assignment: Some(assignment(HANDSHAKE, [address(settings.handshake)].into_iter())),
        connect_timeout: seconds(SERVICE_CONNECT_SECONDS),
        ..cluster(HANDSHAKE.to_owned(), DiscoveryType::Static, &options)
    })
}

/// A host as it stands in `Host` headers (RFC 9110, section 7.2).
pub(crate) fn host_header(host: &Host) -> String {
    match host {
        Host::Address(address) if address.is_ipv6() => format!("[{address}]"),
        Host::Address(_) | Host::Name(_) => host.to_string(),
    }
}

fn cluster(name: String, discovery: DiscoveryType, options: &HttpProtocolOptions) -> Cluster {
    let thresholds = Thresholds {
        max_connections: uint(MAX_CONNECTIONS),
        max_pending_requests: uint(MAX_CONNECTIONS),
        max_requests: uint(MAX_REQUESTS),
        max_retries: uint(MAX_RETRIES),
        ..Thresholds::default()
    };
    Cluster {
        name,
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        lb_policy: LbPolicy::LeastRequest.into(),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![thresholds],
            ..CircuitBreakers::default()
        }),
        typed_extension_protocol_options: [(HttpProtocolOptions::full_name(), any(options))].into(),
        ..Cluster::default()
    }
}

/// HTTP/2 for requests that came by HTTP/2, else HTTP/1.1: an application that speaks only HTTP/1.1 must not get
/// HTTP/2 because the gateways do, and gRPC must not get HTTP/1.1.
///
/// To TLS ports Envoy then offers by ALPN (RFC 7301) the one protocol that the request needs. A list of its own would
/// let the other end choose the other one.
pub(crate) fn as_downstream(http2: Http2ProtocolOptions) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: Some(Http1ProtocolOptions::default()),
        http2_protocol_options: Some(http2),
        ..UseDownstreamHttpConfig::default()
    })
}

fn http1() -> UpstreamProtocolOptions {
    explicit(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default()))
}

pub(crate) fn http2(options: Http2ProtocolOptions) -> UpstreamProtocolOptions {
    explicit(ProtocolConfig::Http2ProtocolOptions(options))
}

fn explicit(protocol: ProtocolConfig) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(protocol) })
}

fn resource(cluster: &Cluster) -> Resource {
    Resource::new(type_url::CLUSTER, cluster.name.clone(), cluster)
}
