//! HTTP filters for requests to other domains: off, until the routes to one switch them on.

use envoy_types::pb::envoy::config::core::v3::RuntimeUInt32;
use envoy_types::pb::envoy::config::route::v3::FilterConfig;
use envoy_types::pb::envoy::extensions::filters::http::bandwidth_share::v3::{
    BandwidthShare, bandwidth_share::Limit,
};
use envoy_types::pb::envoy::extensions::filters::http::grpc_http1_reverse_bridge::v3::{
    FilterConfig as ReverseBridge, FilterConfigPerRoute as ReverseBridgePerRoute,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::google::protobuf::Any;
use model::DomainId;

use crate::message::{any, http_filter};

/// What holds the limits of [`limit`].
const BANDWIDTH: &str = "bandwidth";
/// What carries gRPC over HTTP/1.1, see [`degrade`].
const GRPC_DEGRADE: &str = "grpc-degrade";

/// The filters of listeners from which requests go to other domains.
pub(crate) fn outbound_filters() -> Vec<HttpFilter> {
    let filter = |name, config| HttpFilter { disabled: true, ..http_filter(name, config) };
    let bridge = ReverseBridge { content_type: "application/grpc".to_owned(), ..ReverseBridge::default() };
    vec![filter(BANDWIDTH, any(&BandwidthShare::default())), filter(GRPC_DEGRADE, any(&bridge))]
}

/// Limits what requests of the routes that have this entry send to `destination` together, and what they get, each to so
/// many kibibytes a second. After a rest, those of one second may go at once.
///
/// Envoy knows a limit by its identifier, which must not be that of another limit: `number` tells limits of the same
/// size apart. So the two ports of a gateway share it, and it holds on when a new token changes the routes. The task is
/// not part of it, because Envoy keeps a few counters for each identifier for ever.
pub(crate) fn limit(destination: &DomainId, number: usize, kibibytes: u64) -> (String, Any) {
    let limit = |direction: &str| Limit {
        bucket_id: format!("{destination}|{kibibytes}|{number}|{direction}"),
        kbps: Some(RuntimeUInt32 {
            default_value: u32::try_from(kibibytes).unwrap_or(u32::MAX),
            runtime_key: "bandwidth.kibibytes".to_owned(),
        }),
    };
    let share = BandwidthShare {
        request_limit: Some(limit("requests")),
        response_limit: Some(limit("responses")),
        ..BandwidthShare::default()
    };
    (BANDWIDTH.to_owned(), any(&share))
}

/// Turns gRPC of the routes that have this entry into what HTTP/1.1 can carry, and the answers back. The destination's
/// gateway does the same the other way round.
pub(crate) fn degrade() -> (String, Any) {
    let enabled = FilterConfig {
        config: Some(any(&ReverseBridgePerRoute { disabled: false })),
        ..FilterConfig::default()
    };
    (GRPC_DEGRADE.to_owned(), any(&enabled))
}
