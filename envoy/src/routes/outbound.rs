//! Where this domain's requests for another domain go.

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, VirtualHost,
    route_action::{ClusterSpecifier, HostRewriteSpecifier, UpgradeConfig},
};
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use envoy_types::pb::google::protobuf::Any;
use model::{
    Direct, DomainId, Endpoint, EndpointPort, OutboundAuth, OutboundRoute, PortProtocol, ServiceName, Way,
};

use super::{
    any_path, connect_path, header_is, header_matches, refusal, resource, route_action, route_config,
    route_to, routes_to, virtual_host,
};
use crate::clusters::{host_header, peer_cluster_name};
use crate::gateway::Gateway;
use crate::headers::{self, overwrite};
use crate::message::{duration, string_matcher};
use crate::outbound_filters::{degrade, limit};
use crate::resource::Resource;

/// What Kuscia sends and expects in `Kuscia-Token` where a route has no authentication by token.
const NO_TOKEN: &str = "noop";

/// The routes to the destination, whose token is in them: a new token changes nothing else.
pub(crate) fn outbound(route: &OutboundRoute, gateway: &Gateway) -> Resource {
    let hosts = match route.way {
        Way::Direct(_) => vec![handshake_host(route, gateway), services_host(route, gateway)],
        // To the domains in between, the handshake is a service like others.
        Way::Transit(_) => vec![services_host(route, gateway)],
    };
    let (_, Direct { endpoint, .. }) = route.first_hop();
    resource(&RouteConfiguration {
        typed_per_filter_config: endpoint.grpc_degrade.then(degrade).into_iter().collect(),
        ..route_config(routes_to(&route.destination), gateway, hosts)
    })
}

/// The destination's handshake server. Tokens pass as the mesh sets them, for it asks about them there.
fn handshake_host(route: &OutboundRoute, gateway: &Gateway) -> VirtualHost {
    let host = route.destination.handshake_host();
    VirtualHost {
        request_headers_to_add: outbound_headers(&gateway.domain),
        ..virtual_host("handshake", host, peer_routes(route, gateway))
    }
}

fn services_host(route: &OutboundRoute, gateway: &Gateway) -> VirtualHost {
    let destination = &route.destination;
    let hosts = format!("*.{destination}.svc");
    let (first_hop, _) = route.first_hop();
    let token = match &first_hop.auth {
        OutboundAuth::Mtls | OutboundAuth::None => NO_TOKEN.to_owned(),
        OutboundAuth::Token { sending: Some(token), .. } => token.value.header_value(),
        OutboundAuth::Token { sending: None, .. } => {
            let reason = format!("no token is negotiated with {} yet.", first_hop.destination);
            let refusal = refusal(gateway, 503, "token_missing", &reason);
            return virtual_host("services", hosts, vec![refusal]);
        }
    };
    let mut request_headers_to_add = outbound_headers(&gateway.domain);
    request_headers_to_add.push(overwrite(headers::TOKEN, token));
    let routes: Vec<_> = tunnel(route, gateway).into_iter().chain(peer_routes(route, gateway)).collect();
    let limits = route.bandwidth.iter().enumerate();
    let services = limits
        .flat_map(|(number, limit)| limit.services.iter().map(move |service| (service, number, limit.limit)));
    let limited = services.flat_map(|(service, number, kibibytes)| {
        let limit = limit(destination, number, kibibytes);
        routes.iter().map(move |route| limited(route.clone(), service, limit.clone()))
    });
    let routes = limited.chain(routes.iter().cloned()).collect();
    VirtualHost { request_headers_to_add, ..virtual_host("services", hosts, routes) }
}

fn outbound_headers(domain: &DomainId) -> Vec<HeaderValueOption> {
    vec![
        overwrite(headers::SOURCE, domain.as_str()),
        overwrite(headers::HOST, "%REQ(:authority)%"),
        overwrite(headers::INTERCONN_PROTOCOL, "kuscia"),
    ]
}

/// gRPC to the gateway's port for it, if it has one; the rest to the other port.
fn peer_routes(route: &OutboundRoute, gateway: &Gateway) -> Vec<Route> {
    let (_, Direct { endpoint, .. }) = route.first_hop();
    let is_grpc = || header_matches("content-type", MatchPattern::Prefix("application/grpc".to_owned()));
    let both = endpoint.ports.len() > 1;
    let (grpc, rest): (Vec<_>, Vec<_>) =
        endpoint.ports.iter().partition(|port| both && port.protocol == PortProtocol::Grpc);
    let to = |port: &EndpointPort, path| {
        let action = RouteAction {
            prefix_rewrite: match port.path_prefix.as_str() {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            },
            ..peer_action(port, route, gateway)
        };
        route_to(path, action)
    };
    let grpc = grpc.into_iter().map(|port| to(port, any_path(vec![is_grpc()])));
    grpc.chain(rest.into_iter().map(|port| to(port, any_path(Vec::new())))).collect()
}

/// `CONNECT` is passed on: the tunnel to the service begins at the destination's gateway. It has no path that could be
/// given a prefix, and always a port (RFC 9110, section 9.3.6).
fn tunnel(route: &OutboundRoute, gateway: &Gateway) -> Option<Route> {
    let (_, Direct { endpoint, .. }) = route.first_hop();
    let port = endpoint.ports.first()?;
    let authority = format!("{}:{}", host_header(&endpoint.host), port.port);
    let action = RouteAction {
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "CONNECT".to_owned(),
            ..UpgradeConfig::default()
        }],
        host_rewrite_specifier: Some(HostRewriteSpecifier::HostRewriteLiteral(authority)),
        ..peer_action(port, route, gateway)
    };
    Some(route_to(connect_path(), action))
}

fn peer_action(port: &EndpointPort, route: &OutboundRoute, gateway: &Gateway) -> RouteAction {
    let (first_hop, Direct { endpoint: Endpoint { host, timeouts, .. }, .. }) = route.first_hop();
    let cluster = peer_cluster_name(&gateway.domain, &first_hop.destination, port.protocol);
    RouteAction {
        timeout: duration(timeouts.request.unwrap_or_default()),
        idle_timeout: duration(timeouts.idle),
        // Middleboxes in front of the destination's gateway choose by its own name, not by the service's. Kuscia sends
        // it without a port, whatever the port.
        host_rewrite_specifier: Some(HostRewriteSpecifier::HostRewriteLiteral(host_header(host))),
        ..route_action(ClusterSpecifier::Cluster(cluster))
    }
}

/// The route, for the service of a task alone and within what the task may use.
fn limited(mut route: Route, service: &ServiceName, limit: (String, Any)) -> Route {
    if let Some(path) = &mut route.r#match {
        let name = string_matcher(MatchPattern::Prefix(service.to_string()));
        path.headers.push(header_is(headers::AUTHORITY, StringMatcher { ignore_case: true, ..name }));
    }
    route.typed_per_filter_config = [limit].into();
    route
}
