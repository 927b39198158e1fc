//! What does not depend on other domains: this domain's services for its own applications, and the mesh itself.

use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    route_action::{ClusterSpecifier, MaxStreamDuration},
    route_match::PathSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::RbacPerRoute;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

use super::{
    HANDSHAKE_ROUTES, OWN_ROUTES, any_path, header_matches, refusal, resource, route_by_header, route_config,
    route_to, service_action, virtual_host, with_connect_to_service,
};
use crate::TOKEN_AUTH;
use crate::clusters::HANDSHAKE;
use crate::gateway::Gateway;
use crate::headers::{self, overwrite};
use crate::message::{any, seconds};
use crate::resource::Resource;

const HANDSHAKE_SECONDS: i64 = 30;
/// Requests that nobody has let in yet are over after this time, however slowly their bodies come.
const HANDSHAKE_STREAM_SECONDS: i64 = 60;

/// Services of this domain, which are known as `web`, `web.alice` and `web.alice.svc`. They may believe
/// the headers of gateways, so these say the truth here too, or nothing.
pub(crate) fn own_services(gateway: &Gateway) -> Resource {
    let domain = &gateway.domain;
    let label = HeaderMatcher {
        invert_match: true,
        ..header_matches(headers::AUTHORITY, MatchPattern::Contains(".".to_owned()))
    };
    let by_label = route_to(any_path(vec![label]), service_action(headers::CLUSTER_OF_LABEL));
    let by_label = with_connect_to_service(by_label).to_vec();
    let full = with_connect_to_service(route_by_header(headers::CLUSTER)).to_vec();
    let with_domain = with_connect_to_service(route_by_header(headers::CLUSTER_OF_DOMAIN)).to_vec();
    let hosts = [
        virtual_host("services", format!("*.{domain}.svc"), full.clone()),
        virtual_host("services-by-domain", format!("*.{domain}"), with_domain),
        virtual_host("default", "*", [by_label, full].concat()),
    ]
    .map(|host| VirtualHost {
        request_headers_to_add: vec![
            overwrite(headers::SOURCE, domain.as_str()),
            overwrite(headers::ORIGIN_SOURCE, domain.as_str()),
        ],
        request_headers_to_remove: [
            headers::TOKEN,
            headers::TOKEN_REVISION,
            headers::HOST,
            headers::INTERCONN_PROTOCOL,
        ]
        .map(str::to_owned)
        .into(),
        ..host
    });
    resource(&route_config(OWN_ROUTES.to_owned(), gateway, hosts.into()))
}

/// The mesh itself, which negotiates tokens and so cannot ask for one.
pub(crate) fn handshake(gateway: &Gateway) -> Resource {
    let path = RouteMatch {
        path_specifier: Some(PathSpecifier::Path("/handshake".to_owned())),
        ..RouteMatch::default()
    };
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(HANDSHAKE.to_owned())),
        timeout: seconds(HANDSHAKE_SECONDS),
        max_stream_duration: Some(MaxStreamDuration {
            max_stream_duration: seconds(HANDSHAKE_STREAM_SECONDS),
            ..MaxStreamDuration::default()
        }),
        ..RouteAction::default()
    };
    let other = refusal(gateway, 404, "direct_response", "only /handshake is served here.");
    let handshake = Route {
        // The mesh gets to know the address that Envoy compares, and not what the client says of it.
        request_headers_to_add: vec![overwrite(
            headers::FORWARDED_FOR,
            "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        )],
        ..route_to(path, action)
    };
    let host = virtual_host("handshake", gateway.domain.handshake_host(), vec![handshake, other]);
    resource(&RouteConfiguration {
        vhost_header: headers::HOST.to_owned(),
        typed_per_filter_config: [(TOKEN_AUTH.to_owned(), any(&RbacPerRoute::default()))].into(),
        ..route_config(HANDSHAKE_ROUTES.to_owned(), gateway, vec![host])
    })
}
