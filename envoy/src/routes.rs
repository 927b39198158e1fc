//! Route configurations: one for every domain at the other end, in each direction, and those of this domain itself.

mod forward;
mod inbound;
mod outbound;
mod own;

use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, HeaderMatcher, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch,
    VirtualHost,
    header_matcher::HeaderMatchSpecifier,
    retry_policy::{RetryHostPredicate, retry_host_predicate},
    route,
    route_action::{
        ClusterNotFoundResponseCode, ClusterSpecifier, UpgradeConfig, upgrade_config::ConnectConfig,
    },
    route_match::{ConnectMatcher, PathSpecifier},
};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use model::DomainId;

use crate::gateway::Gateway;
use crate::headers::{self, overwrite};
use crate::message::{any, inline, seconds, string_matcher, uint};
use crate::resource::{Resource, type_url};

pub(crate) use inbound::inbound;
pub(crate) use outbound::outbound;
pub(crate) use own::{handshake, own_services};

/// Name of the routes to this domain's own services.
pub(crate) const OWN_ROUTES: &str = "own-services";
/// Name of the routes to the mesh's handshake server.
pub(crate) const HANDSHAKE_ROUTES: &str = "handshake";

/// A stream on which nothing moves ends after a day. There is no other limit: jobs hold streams open for hours.
const STREAM_IDLE_SECONDS: i64 = 24 * 3600;

/// Name of the route configuration, and of its scope, that leads to `destination` and carries the token for it.
#[must_use]
pub fn routes_to(destination: &DomainId) -> String {
    format!("to|{destination}")
}

/// Name of the route configuration, and of its scope, of requests from `source`, which holds the tokens that let it in.
#[must_use]
pub fn routes_from(source: &DomainId) -> String {
    format!("from|{source}")
}

/// The destination whose routes have this name, see [`routes_to`].
pub(crate) fn destination_of_routes(name: &str) -> Option<DomainId> {
    name.strip_prefix("to|")?.parse().ok()
}

/// The source whose routes have this name, see [`routes_from`].
pub(crate) fn source_of_routes(name: &str) -> Option<DomainId> {
    name.strip_prefix("from|")?.parse().ok()
}

fn route_config(name: String, gateway: &Gateway, virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name,
        virtual_hosts,
        request_headers_to_remove: headers::NEVER_SENT_ON.map(str::to_owned).into(),
        response_headers_to_add: gateway.response_headers(),
        // What a route says about its own refusal replaces what is said about every error.
        most_specific_header_mutations_wins: true,
        ..RouteConfiguration::default()
    }
}

fn resource(config: &RouteConfiguration) -> Resource {
    Resource::new(type_url::ROUTES, config.name.clone(), config)
}

/// Every path, to the cluster that `header` names. No such cluster: 404.
fn route_by_header(header: &str) -> Route {
    route_to(any_path(Vec::new()), service_action(header))
}

/// To the cluster that `header` names, and there to another replica if one cannot be reached.
fn service_action(header: &str) -> RouteAction {
    RouteAction {
        cluster_not_found_response_code: ClusterNotFoundResponseCode::NotFound.into(),
        retry_policy: Some(RetryPolicy {
            retry_host_predicate: vec![RetryHostPredicate {
                name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
                config_type: Some(retry_host_predicate::ConfigType::TypedConfig(any(
                    &PreviousHostsPredicate {},
                ))),
            }],
            host_selection_retry_max_attempts: 3,
            ..retry_policy()
        }),
        ..route_action(ClusterSpecifier::ClusterHeader(header.to_owned()))
    }
}

fn route_to(path: RouteMatch, action: RouteAction) -> Route {
    Route { r#match: Some(path), action: Some(route::Action::Route(action)), ..Route::default() }
}

fn route_action(cluster: ClusterSpecifier) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(cluster),
        timeout: seconds(0),
        idle_timeout: seconds(STREAM_IDLE_SECONDS),
        retry_policy: Some(retry_policy()),
        ..RouteAction::default()
    }
}

/// Retries only what cannot have reached an application.
fn retry_policy() -> RetryPolicy {
    RetryPolicy {
        retry_on: "connect-failure,refused-stream,reset-before-request".to_owned(),
        num_retries: uint(2),
        ..RetryPolicy::default()
    }
}

/// The gateway's own answer to every request.
fn refusal(gateway: &Gateway, status: u32, details: &str, reason: &str) -> Route {
    Route {
        r#match: Some(any_path(Vec::new())),
        action: Some(route::Action::DirectResponse(DirectResponseAction {
            status,
            body: Some(inline(gateway.error_body(reason))),
            body_format: None,
        })),
        response_headers_to_add: vec![
            overwrite(headers::ERROR_MESSAGE, gateway.error_message(details, reason)),
            overwrite("content-type", "application/json"),
        ],
        ..Route::default()
    }
}

fn any_path(headers: Vec<HeaderMatcher>) -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        headers,
        ..RouteMatch::default()
    }
}

/// The route, and one for `CONNECT`, which asks for raw bytes to the same place.
fn with_connect(route: Route) -> [Route; 2] {
    let path = connect_path();
    let connect = Route {
        r#match: route.r#match.clone().map(|any_path| RouteMatch { headers: any_path.headers, ..path }),
        ..route.clone()
    };
    [route, connect]
}

/// The same, where the bytes of a `CONNECT` end at a service, as they are.
fn with_connect_to_service(route: Route) -> [Route; 2] {
    let [route, mut connect] = with_connect(route);
    if let Some(route::Action::Route(action)) = &mut connect.action {
        action.upgrade_configs = vec![UpgradeConfig {
            upgrade_type: "CONNECT".to_owned(),
            connect_config: Some(ConnectConfig::default()),
            ..UpgradeConfig::default()
        }];
    }
    [route, connect]
}

/// Every `CONNECT`, which has no path.
pub(crate) fn connect_path() -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::ConnectMatcher(ConnectMatcher {})),
        ..RouteMatch::default()
    }
}

fn header_matches(name: &str, pattern: MatchPattern) -> HeaderMatcher {
    header_is(name, string_matcher(pattern))
}

fn header_is(name: &str, value: StringMatcher) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(value)),
        ..HeaderMatcher::default()
    }
}

fn virtual_host(name: impl Into<String>, domain: impl Into<String>, routes: Vec<Route>) -> VirtualHost {
    VirtualHost { name: name.into(), domains: vec![domain.into()], routes, ..VirtualHost::default() }
}
