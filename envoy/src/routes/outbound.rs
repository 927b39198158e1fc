//! Where this domain's requests for another domain go.

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteMatch, VirtualHost,
    route_action::{ClusterSpecifier, HostRewriteSpecifier},
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use model::{Direct, DomainId, Endpoint, EndpointPort, Host, OutboundAuth, OutboundRoute, PortProtocol};

use super::{
    any_path, header_matches, refusal, resource, route_action, route_config, route_to, routes_to,
    virtual_host,
};
use crate::clusters::peer_cluster_name;
use crate::gateway::{Gateway, Side};
use crate::headers::{self, add_if_absent, overwrite};
use crate::resource::Resource;

/// What Kuscia sends and expects in `Kuscia-Token` where a route has no authentication.
const NO_TOKEN: &str = "noop";

/// The routes to the destination, whose token is in them: a new token changes nothing else.
pub(crate) fn outbound(route: &OutboundRoute, gateway: &Gateway) -> Resource {
    let hosts = vec![handshake_host(route, gateway), services_host(route, gateway)];
    resource(&route_config(routes_to(&route.destination), Side::Internal, gateway, hosts))
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
            let refusal = refusal(gateway, Side::Internal, 503, "token_missing", &reason);
            return virtual_host("services", hosts, vec![refusal]);
        }
    };
    let mut request_headers_to_add = outbound_headers(&gateway.domain);
    request_headers_to_add.push(overwrite(headers::TOKEN, token));
    VirtualHost { request_headers_to_add, ..virtual_host("services", hosts, peer_routes(route, gateway)) }
}

fn outbound_headers(domain: &DomainId) -> Vec<HeaderValueOption> {
    vec![
        overwrite(headers::SOURCE, domain.as_str()),
        overwrite(headers::HOST, "%REQ(:authority)%"),
        overwrite(headers::INTERCONN_PROTOCOL, "kuscia"),
        add_if_absent(headers::ORIGIN_SOURCE, domain.as_str()),
    ]
}

/// gRPC to the gateway's port for it, if it has one; the rest to the other port.
fn peer_routes(route: &OutboundRoute, gateway: &Gateway) -> Vec<Route> {
    let (first_hop, Direct { endpoint, .. }) = route.first_hop();
    let ports = &endpoint.ports;
    let both = ports.len() > 1;
    let is_grpc = || header_matches("content-type", MatchPattern::Prefix("application/grpc".to_owned()));
    let (grpc, rest): (Vec<_>, Vec<_>) =
        ports.iter().partition(|port| both && port.protocol == PortProtocol::Grpc);
    let to = |port, path| peer_route(&first_hop.destination, endpoint, port, path, gateway);
    let grpc = grpc.into_iter().map(|port| to(port, any_path(vec![is_grpc()])));
    grpc.chain(rest.into_iter().map(|port| to(port, any_path(Vec::new())))).collect()
}

fn peer_route(
    first_hop: &DomainId,
    endpoint: &Endpoint,
    port: &EndpointPort,
    path: RouteMatch,
    gateway: &Gateway,
) -> Route {
    let cluster = peer_cluster_name(&gateway.domain, first_hop, port.protocol);
    let action = RouteAction {
        prefix_rewrite: match port.path_prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        },
        host_rewrite_specifier: Some(HostRewriteSpecifier::HostRewriteLiteral(host_header(&endpoint.host))),
        ..route_action(ClusterSpecifier::Cluster(cluster))
    };
    route_to(path, action)
}

/// Middleboxes in front of the destination's gateway choose by its own name, not by the service's. Kuscia sends it
/// without a port, whatever the port.
fn host_header(host: &Host) -> String {
    match host {
        Host::Address(address) if address.is_ipv6() => format!("[{address}]"),
        Host::Address(_) | Host::Name(_) => host.to_string(),
    }
}
