//! Where requests of another domain go.

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteAction, RouteConfiguration, VirtualHost, route,
    route_action::HostRewriteSpecifier,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use model::InboundRoute;
use serde_json::json;

use super::forward::{forwarded, one_of};
use super::{
    any_path, header_matches, resource, route_config, route_to, routes_from, service_action, virtual_host,
    with_connect_to_service,
};
use crate::TOKEN_AUTH;
use crate::callers::source_of;
use crate::gateway::Gateway;
use crate::headers::{self, overwrite};
use crate::message::inline;
use crate::resource::Resource;

/// The routes of the source, with what lets it in: whoever takes them has said to be that source, and must prove it.
///
/// Which services may be called is for the clusters to say.
pub(crate) fn inbound(route: &InboundRoute, gateway: &Gateway) -> Resource {
    let routes = [vec![datapath(route, gateway)], forwarded(route, gateway), services(route, gateway)];
    let host = VirtualHost {
        request_headers_to_remove: [headers::TOKEN, headers::TRANSIT_HASH, headers::TRANSIT_FLAG]
            .map(str::to_owned)
            .into(),
        ..virtual_host("services", "*", routes.concat())
    };
    resource(&RouteConfiguration {
        typed_per_filter_config: [(TOKEN_AUTH.to_owned(), source_of(route))].into(),
        // The listener by which a request leaves this gateway names itself in errors, not both that it passes.
        response_headers_to_add: vec![Gateway::unbuffered()],
        ..route_config(routes_from(&route.source), gateway, vec![host])
    })
}

/// The gateway's own answer to a source that wants to know whether requests such as those of its applications get in.
///
/// It is a route, not a virtual host of its own: then a request without `Kuscia-Host`, or with several, is refused as it
/// is for a service, and no other answer gets around the token.
fn datapath(route: &InboundRoute, gateway: &Gateway) -> Route {
    let (domain, source) = (gateway.domain.as_str(), route.source.as_str());
    let host = header_matches(headers::HOST, MatchPattern::Exact(gateway.domain.datapath_host()));
    Route {
        name: "datapath".to_owned(),
        r#match: Some(any_path(vec![host])),
        action: Some(route::Action::DirectResponse(DirectResponseAction {
            status: 200,
            body: Some(inline(json!({"domain": domain, "source": source}).to_string())),
            body_format: None,
        })),
        response_headers_to_add: vec![
            overwrite(headers::DATAPATH, domain),
            overwrite("content-type", "application/json"),
        ],
        ..Route::default()
    }
}

/// This domain's services. They get what the route adds, and no token; as source the domain that proved itself; and as
/// origin that domain too, or one of those whose requests it brings.
fn services(route: &InboundRoute, gateway: &Gateway) -> Vec<Route> {
    let service = |headers| {
        let action = RouteAction {
            host_rewrite_specifier: Some(HostRewriteSpecifier::HostRewriteHeader(headers::HOST.to_owned())),
            ..service_action(headers::CLUSTER)
        };
        Route {
            request_headers_to_remove: vec![headers::TOKEN_REVISION.to_owned()],
            response_headers_to_add: gateway.passed_errors().into(),
            ..route_to(any_path(headers), action)
        }
    };
    let brought = one_of(headers::ORIGIN_SOURCE, &route.origins)
        .map(|origin| Route { request_headers_to_add: service_headers(route), ..service(vec![origin]) });
    let mut own = Route { request_headers_to_add: service_headers(route), ..service(Vec::new()) };
    own.request_headers_to_add.push(overwrite(headers::ORIGIN_SOURCE, route.source.as_str()));
    brought.chain([own]).flat_map(with_connect_to_service).collect()
}

fn service_headers(route: &InboundRoute) -> Vec<HeaderValueOption> {
    // Envoy takes what stands between two of them for a command.
    let literal = |value: &str| value.replace('%', "%%");
    let added = route.request_headers.iter();
    let added = added.map(|header| overwrite(&header.name, literal(header.value.expose())));
    added.chain([overwrite(headers::SOURCE, route.source.as_str())]).collect()
}
