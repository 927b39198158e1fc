//! The HTTP connection managers of the listeners.
//!
//! Limits follow Envoy's
//! [best practices for an edge proxy](https://www.envoyproxy.io/docs/envoy/latest/configuration/best_practices/edge),
//! except where long streams and bulk data between institutions need more.

use envoy_types::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions,
    http_protocol_options::HeadersWithUnderscoresAction,
};
use envoy_types::pb::envoy::extensions::filters::http::grpc_http1_bridge::v3::Config as GrpcBridge;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter,
    http_connection_manager::{
        HcmAccessLogOptions, PathWithEscapedSlashesAction, RouteSpecifier, ServerHeaderTransformation,
        StripPortMode, UpgradeConfig,
    },
};
use envoy_types::pb::envoy::extensions::http::original_ip_detection::xff::v3::{XffConfig, XffTrustedCidrs};
use envoy_types::pb::google::protobuf::BoolValue;
use ipnet::IpNet;

use crate::TOKEN_AUTH;
use crate::access_log::access_log;
use crate::callers;
use crate::clusters::origin_filter;
use crate::early_headers::early_headers;
use crate::gateway::{Gateway, Side};
use crate::local_replies::local_replies;
use crate::message::{any, cidr_range, extension, http_filter, on, seconds, uint};
use crate::outbound_filters::outbound_filters;
use crate::scopes::scoped_routes;
use crate::settings::Settings;
use crate::tracing::{http_tracing, request_ids};

/// A connection without requests is closed after an hour.
const CONNECTION_IDLE_SECONDS: i64 = 3600;
/// A request that no route took yet, such as one with endless headers, ends after five minutes without progress.
const STREAM_IDLE_SECONDS: i64 = 300;
/// Headers have arrived within this time.
const HEADERS_SECONDS: i64 = 10;
/// A request that goes on for hours proves that its source has the token after this time, not only at its end.
const PROOF_SECONDS: i64 = 1;
const STREAMS_PER_CONNECTION: u32 = 100;
/// Envoy recommends 64 KiB. That would hold a stream to 2 MB/s at a round trip of 30 ms.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

pub(crate) fn connection_manager(
    side: Side,
    gateway: &Gateway,
    settings: &Settings,
) -> HttpConnectionManager {
    let common = HttpConnectionManager {
        stat_prefix: format!("{}_http", side.name()),
        route_specifier: Some(RouteSpecifier::ScopedRoutes(scoped_routes(side, gateway))),
        strip_port_mode: Some(StripPortMode::StripAnyHostPort(true)),
        early_header_mutation_extensions: vec![early_headers(side, gateway, settings)],
        http2_protocol_options: Some(Http2ProtocolOptions {
            max_concurrent_streams: uint(STREAMS_PER_CONNECTION),
            initial_stream_window_size: uint(STREAM_WINDOW_BYTES),
            initial_connection_window_size: uint(CONNECTION_WINDOW_BYTES),
            // WebSocket by HTTP/2 (RFC 8441).
            allow_connect: true,
            ..Http2ProtocolOptions::default()
        }),
        upgrade_configs: ["websocket", "CONNECT"].map(upgrade).into(),
        stream_idle_timeout: seconds(STREAM_IDLE_SECONDS),
        request_headers_timeout: seconds(HEADERS_SECONDS),
        use_remote_address: on(),
        normalize_path: on(),
        merge_slashes: true,
        // Applications' own headers pass; without one there is none.
        server_header_transformation: ServerHeaderTransformation::PassThrough.into(),
        local_reply_config: Some(local_replies(side, gateway)),
        access_log: access_log(side, &settings.access_log),
        // One ID from the first application or gateway to the last.
        preserve_external_request_id: true,
        request_id_extension: Some(request_ids()),
        tracing: settings.tracing.as_ref().map(|tracing| http_tracing(tracing, &gateway.domain)),
        ..HttpConnectionManager::default()
    };
    match side {
        Side::Internal => HttpConnectionManager {
            common_http_protocol_options: Some(connection_limits(HeadersWithUnderscoresAction::Allow)),
            http_protocol_options: Some(Http1ProtocolOptions {
                accept_http_10: true,
                ..Http1ProtocolOptions::default()
            }),
            // The addresses of applications are none of the other domain's business.
            skip_xff_append: true,
            http_filters: [outbound_filters(), vec![router()]].concat(),
            ..common
        },
        Side::Transit => HttpConnectionManager {
            common_http_protocol_options: Some(connection_limits(HeadersWithUnderscoresAction::Allow)),
            // The client is this gateway itself.
            skip_xff_append: true,
            http_filters: [outbound_filters(), vec![router()]].concat(),
            ..common
        },
        Side::External => HttpConnectionManager {
            common_http_protocol_options: Some(connection_limits(
                HeadersWithUnderscoresAction::RejectRequest,
            )),
            // Redirecting to the unescaped path would break requests with a body, and keeping the escape lets
            // gateways and applications disagree about what a path means.
            path_with_escaped_slashes_action: PathWithEscapedSlashesAction::RejectRequest.into(),
            access_log_options: Some(HcmAccessLogOptions {
                access_log_flush_interval: seconds(PROOF_SECONDS),
                ..HcmAccessLogOptions::default()
            }),
            http_filters: vec![token_auth(), origin_filter(), grpc_bridge(), router()],
            ..behind_proxies(&settings.trusted_proxies, common)
        },
    }
}

/// Takes the client's address from what `proxies` say: it is that of the last before them. Who is none of them is a
/// client itself, whatever it says.
fn behind_proxies(proxies: &[IpNet], manager: HttpConnectionManager) -> HttpConnectionManager {
    if proxies.is_empty() {
        return manager;
    }
    let trusted = XffTrustedCidrs { cidrs: proxies.iter().map(cidr_range).collect() };
    let detection = XffConfig {
        xff_trusted_cidrs: Some(trusted),
        skip_xff_append: Some(BoolValue { value: false }),
        ..XffConfig::default()
    };
    HttpConnectionManager {
        use_remote_address: None,
        original_ip_detection_extensions: vec![extension("envoy.http.original_ip_detection.xff", &detection)],
        ..manager
    }
}

fn upgrade(protocol: &str) -> UpgradeConfig {
    UpgradeConfig { upgrade_type: protocol.to_owned(), ..UpgradeConfig::default() }
}

fn connection_limits(underscores: HeadersWithUnderscoresAction) -> HttpProtocolOptions {
    HttpProtocolOptions {
        idle_timeout: seconds(CONNECTION_IDLE_SECONDS),
        headers_with_underscores_action: underscores.into(),
        ..HttpProtocolOptions::default()
    }
}

/// Denies what no route lets in.
fn token_auth() -> HttpFilter {
    http_filter(TOKEN_AUTH, callers::nobody())
}

/// Lets a source call gRPC by HTTP/1.1, where something on the way knows no other.
fn grpc_bridge() -> HttpFilter {
    http_filter("envoy.filters.http.grpc_http1_bridge", any(&GrpcBridge::default()))
}

fn router() -> HttpFilter {
    let router = Router { suppress_envoy_headers: true, ..Router::default() };
    http_filter("envoy.filters.http.router", any(&router))
}
