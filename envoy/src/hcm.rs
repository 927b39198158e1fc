//! The HTTP connection managers of both listeners.
//!
//! Limits follow Envoy's
//! [best practices for an edge proxy](https://www.envoyproxy.io/docs/envoy/latest/configuration/best_practices/edge),
//! except where long streams and bulk data between institutions need more.

use envoy_types::pb::envoy::config::common::mutation_rules::v3::{HeaderMutation, header_mutation::Action};
use envoy_types::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions,
    http_protocol_options::HeadersWithUnderscoresAction,
};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter,
    http_connection_manager::{
        HcmAccessLogOptions, PathWithEscapedSlashesAction, RouteSpecifier, ServerHeaderTransformation,
        StripPortMode,
    },
    http_filter::ConfigType,
};
use envoy_types::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3::HeaderMutation as EarlyHeaderMutation;

use crate::TOKEN_AUTH;
use crate::access_log::access_log;
use crate::callers;
use crate::clusters::service_cluster_name;
use crate::gateway::{Gateway, Side};
use crate::headers::{self, overwrite};
use crate::message::{any, extension, on, seconds, uint};
use crate::scopes::{scope_headers, scoped_routes};
use crate::settings::Settings;

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
        early_header_mutation_extensions: vec![extension(
            "envoy.http.early_header_mutation.header_mutation",
            &EarlyHeaderMutation { mutations: routing_headers(side, gateway) },
        )],
        http2_protocol_options: Some(Http2ProtocolOptions {
            max_concurrent_streams: uint(STREAMS_PER_CONNECTION),
            initial_stream_window_size: uint(STREAM_WINDOW_BYTES),
            initial_connection_window_size: uint(CONNECTION_WINDOW_BYTES),
            ..Http2ProtocolOptions::default()
        }),
        stream_idle_timeout: seconds(STREAM_IDLE_SECONDS),
        request_headers_timeout: seconds(HEADERS_SECONDS),
        use_remote_address: on(),
        normalize_path: on(),
        merge_slashes: true,
        // Applications' own headers pass; without one there is none.
        server_header_transformation: ServerHeaderTransformation::PassThrough.into(),
        local_reply_config: Some(gateway.local_replies(side)),
        access_log: access_log(side, &settings.access_log),
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
            http_filters: vec![router()],
            ..common
        },
        Side::External => HttpConnectionManager {
            common_http_protocol_options: Some(connection_limits(
                HeadersWithUnderscoresAction::RejectRequest,
            )),
            // Redirecting to the unescaped path would break requests with a body, and keeping the escape lets
            // gateways and applications disagree about what a path means.
            path_with_escaped_slashes_action: PathWithEscapedSlashesAction::RejectRequest.into(),
            // One ID from the first gateway to the application.
            preserve_external_request_id: true,
            access_log_options: Some(HcmAccessLogOptions {
                access_log_flush_interval: seconds(PROOF_SECONDS),
                ..HcmAccessLogOptions::default()
            }),
            http_filters: vec![token_auth(), router()],
            ..common
        },
    }
}

/// Names the scope of the request, and the cluster of the service asked for, before routing, whatever the client sent
/// in these headers.
fn routing_headers(side: Side, gateway: &Gateway) -> Vec<HeaderMutation> {
    let domain = &gateway.domain;
    let clusters = match side {
        Side::Internal => vec![
            overwrite(headers::CLUSTER, service_cluster_name("%REQ(:authority)%")),
            overwrite(
                headers::CLUSTER_OF_LABEL,
                service_cluster_name(&format!("%REQ(:authority)%.{domain}.svc")),
            ),
            overwrite(headers::CLUSTER_OF_DOMAIN, service_cluster_name("%REQ(:authority)%.svc")),
        ],
        Side::External => {
            vec![overwrite(headers::CLUSTER, service_cluster_name(&format!("%REQ({})%", headers::HOST)))]
        }
    };
    let headers = scope_headers(side, gateway).into_iter().chain(clusters);
    headers.map(|header| HeaderMutation { action: Some(Action::Append(header)) }).collect()
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
    HttpFilter {
        name: TOKEN_AUTH.to_owned(),
        config_type: Some(ConfigType::TypedConfig(callers::nobody())),
        ..HttpFilter::default()
    }
}

fn router() -> HttpFilter {
    let router = Router { suppress_envoy_headers: true, ..Router::default() };
    HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&router))),
        ..HttpFilter::default()
    }
}
