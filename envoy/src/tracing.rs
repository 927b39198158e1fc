//! Where Envoy tells of requests: one span for each listener that a request passes.
//!
//! Spans of several gateways belong together by W3C's `traceparent`. The headers of other systems, such as b3, pass as
//! they are.

use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster::ClusterDiscoveryType};
use envoy_types::pb::envoy::config::core::v3::{
    GrpcService, Http2ProtocolOptions,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
};
use envoy_types::pb::envoy::config::trace::v3::{
    OpenTelemetryConfig,
    tracing::{Http, http::ConfigType},
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    RequestIdExtension, http_connection_manager::Tracing as HttpTracing,
};
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::BoolValue;
use model::DomainId;
use prost::Name as _;

use crate::clusters::http2;
use crate::endpoints::assignment;
use crate::message::{any, discovery, host_and_port, seconds};
use crate::resource::{Resource, type_url};
use crate::settings::Tracing;

/// Name of the collector's cluster.
const TRACING: &str = "tracing";
const CONNECT_SECONDS: i64 = 5;

/// What a listener tells, and how much of it.
pub(crate) fn http_tracing(tracing: &Tracing, domain: &DomainId) -> HttpTracing {
    let collector = EnvoyGrpc { cluster_name: TRACING.to_owned(), ..EnvoyGrpc::default() };
    let config = OpenTelemetryConfig {
        grpc_service: Some(GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(collector)),
            ..GrpcService::default()
        }),
        service_name: domain.to_string(),
        ..OpenTelemetryConfig::default()
    };
    HttpTracing {
        // Nobody but this gateway, and who began the trace, says whether a request is traced.
        client_sampling: Some(Percent { value: 0.0 }),
        random_sampling: Some(Percent { value: tracing.sampling }),
        provider: Some(Http {
            name: "envoy.tracers.opentelemetry".to_owned(),
            config_type: Some(ConfigType::TypedConfig(any(&config))),
        }),
        ..HttpTracing::default()
    }
}

/// Request ids are what their first gateway or application made: Envoy notes in them what it traces, unless told not to.
pub(crate) fn request_ids() -> RequestIdExtension {
    let no = || Some(BoolValue { value: false });
    let config = UuidRequestIdConfig { pack_trace_reason: no(), use_request_id_for_trace_sampling: no() };
    RequestIdExtension { typed_config: Some(any(&config)) }
}

/// The cluster of the collector.
pub(crate) fn tracing_cluster(tracing: &Tracing) -> Resource {
    let collector = &tracing.collector;
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(http2(Http2ProtocolOptions::default())),
        ..HttpProtocolOptions::default()
    };
    let address = host_and_port(collector.host.to_string(), collector.port);
    let cluster = Cluster {
        name: TRACING.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery(&collector.host).into())),
        connect_timeout: seconds(CONNECT_SECONDS),
        load_assignment: Some(assignment(TRACING, [address].into_iter())),
        typed_extension_protocol_options: [(HttpProtocolOptions::full_name(), any(&options))].into(),
        ..Cluster::default()
    };
    Resource::new(type_url::CLUSTER, TRACING, &cluster)
}
