//! Where requests of another domain go.

use envoy_types::pb::envoy::config::route::v3::{
    RouteAction, RouteConfiguration, VirtualHost, route_action::HostRewriteSpecifier,
};
use model::InboundRoute;

use super::{any_path, resource, route_config, route_to, routes_from, service_action, virtual_host};
use crate::TOKEN_AUTH;
use crate::callers::token_of;
use crate::gateway::{Gateway, Side};
use crate::headers::{self, overwrite};
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
    let source = route.source.as_str();
    let services = VirtualHost {
        request_headers_to_add: vec![
            overwrite(headers::SOURCE, source),
            overwrite(headers::ORIGIN_SOURCE, source),
        ],
        request_headers_to_remove: vec![headers::TOKEN.to_owned()],
        ..virtual_host("services", "*", vec![route_to(any_path(Vec::new()), any_service)])
    };
    resource(&RouteConfiguration {
        typed_per_filter_config: [(TOKEN_AUTH.to_owned(), token_of(route))].into(),
        ..route_config(routes_from(&route.source), Side::External, gateway, vec![services])
    })
}
