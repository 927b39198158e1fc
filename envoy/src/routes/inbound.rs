//! Where requests of another domain go.

use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteAction, RouteConfiguration, VirtualHost, route,
    route_action::HostRewriteSpecifier,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use model::InboundRoute;
use serde_json::json;

use super::{
    any_path, header_matches, resource, route_config, route_to, routes_from, service_action, virtual_host,
};
use crate::TOKEN_AUTH;
use crate::callers::token_of;
use crate::gateway::{Gateway, Side};
use crate::headers::{self, overwrite};
use crate::message::inline;
use crate::resource::Resource;

/// The routes of the source, with the tokens that let it in: whoever takes them has said to be that source, and must
/// prove it.
///
/// Which services it may call is for the clusters to say. An application gets no token, and as source and origin the
/// domain that proved itself, since no domain may forward for another.
pub(crate) fn inbound(route: &InboundRoute, gateway: &Gateway) -> Resource {
    let any_service = RouteAction {
        host_rewrite_specifier: Some(HostRewriteSpecifier::HostRewriteHeader(headers::HOST.to_owned())),
        ..service_action(headers::CLUSTER)
    };
    let routes = vec![datapath(route, gateway), route_to(any_path(Vec::new()), any_service)];
    let source = route.source.as_str();
    let services = VirtualHost {
        request_headers_to_add: vec![
            overwrite(headers::SOURCE, source),
            overwrite(headers::ORIGIN_SOURCE, source),
        ],
        request_headers_to_remove: vec![headers::TOKEN.to_owned()],
        ..virtual_host("services", "*", routes)
    };
    resource(&RouteConfiguration {
        typed_per_filter_config: [(TOKEN_AUTH.to_owned(), token_of(route))].into(),
        ..route_config(routes_from(&route.source), Side::External, gateway, vec![services])
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
