//! Where requests of this domain's applications go.

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, Route, RouteAction, RouteMatch, VirtualHost,
    route_action::{ClusterSpecifier, HostRewriteSpecifier},
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use model::{DomainId, EndpointPort, Host, OutboundAuth, OutboundRoute, PortProtocol, Snapshot};

use super::{
    any_path, header_matches, refusal, resource, route_action, route_by_header, route_config, route_to,
    service_action, virtual_host,
};
use crate::clusters::peer_cluster_name;
use crate::gateway::{Gateway, Side};
use crate::headers::{self, add_if_absent, overwrite};
use crate::resource::Resource;

/// What Kuscia sends and expects in `Kuscia-Token` where a route has no authentication.
const NO_TOKEN: &str = "noop";

pub(crate) fn internal(snapshot: &Snapshot, gateway: &Gateway) -> Resource {
    let outbound = snapshot.outbound.values().flat_map(|route| {
        [handshake_host(&snapshot.domain, route), destination_host(&snapshot.domain, route, gateway)]
    });
    let hosts = outbound.chain(own_services(&snapshot.domain)).collect();
    resource(&route_config(Side::Internal, gateway, hosts))
}

/// The destination's handshake server. Tokens pass as the mesh sets them, for it asks about them there.
fn handshake_host(domain: &DomainId, route: &OutboundRoute) -> VirtualHost {
    let destination = &route.destination;
    let name = format!("{domain}-to-{destination}-handshake");
    VirtualHost {
        request_headers_to_add: outbound_headers(domain),
        ..virtual_host(name, destination.handshake_host(), peer_routes(domain, route))
    }
}

fn destination_host(domain: &DomainId, route: &OutboundRoute, gateway: &Gateway) -> VirtualHost {
    let destination = &route.destination;
    let name = format!("{domain}-to-{destination}");
    let hosts = format!("*.{destination}.svc");
    let token = match &route.auth {
        OutboundAuth::None => NO_TOKEN.to_owned(),
        OutboundAuth::Token { sending: Some(token), .. } => token.value.header_value(),
        OutboundAuth::Token { sending: None, .. } => {
            let reason = format!("no token is negotiated with {destination} yet.");
            let refusal = refusal(gateway, Side::Internal, 503, "token_missing", &reason);
            return virtual_host(name, hosts, vec![refusal]);
        }
    };
    let mut request_headers_to_add = outbound_headers(domain);
    request_headers_to_add.push(overwrite(headers::TOKEN, token));
    VirtualHost { request_headers_to_add, ..virtual_host(name, hosts, peer_routes(domain, route)) }
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
fn peer_routes(domain: &DomainId, route: &OutboundRoute) -> Vec<Route> {
    let ports = &route.endpoint.ports;
    let both = ports.len() > 1;
    let is_grpc = || header_matches("content-type", MatchPattern::Prefix("application/grpc".to_owned()));
    let (grpc, rest): (Vec<_>, Vec<_>) =
        ports.iter().partition(|port| both && port.protocol == PortProtocol::Grpc);
    let grpc = grpc.into_iter().map(|port| peer_route(domain, route, port, any_path(vec![is_grpc()])));
    grpc.chain(rest.into_iter().map(|port| peer_route(domain, route, port, any_path(Vec::new())))).collect()
}

fn peer_route(domain: &DomainId, route: &OutboundRoute, port: &EndpointPort, path: RouteMatch) -> Route {
    let cluster = peer_cluster_name(domain, &route.destination, port.protocol);
    let action = RouteAction {
        prefix_rewrite: match port.path_prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        },
        host_rewrite_specifier: Some(HostRewriteSpecifier::HostRewriteLiteral(host_header(
            &route.endpoint.host,
        ))),
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

/// Services of this domain, which are known as `web`, `web.alice` and `web.alice.svc`. They may believe
/// `Kuscia-Source`, so it says the truth here too.
fn own_services(domain: &DomainId) -> [VirtualHost; 3] {
    let label = HeaderMatcher {
        invert_match: true,
        ..header_matches(headers::AUTHORITY, MatchPattern::Contains(".".to_owned()))
    };
    let by_label = route_to(any_path(vec![label]), service_action(headers::CLUSTER_OF_LABEL));
    let full = vec![route_by_header(headers::CLUSTER)];
    let with_domain = vec![route_by_header(headers::CLUSTER_OF_DOMAIN)];
    [
        virtual_host("services", format!("*.{domain}.svc"), full.clone()),
        virtual_host("services-by-domain", format!("*.{domain}"), with_domain),
        virtual_host("default", "*", [vec![by_label], full].concat()),
    ]
    .map(|host| VirtualHost {
        request_headers_to_add: vec![
            overwrite(headers::SOURCE, domain.as_str()),
            overwrite(headers::ORIGIN_SOURCE, domain.as_str()),
        ],
        request_headers_to_remove: vec![headers::TOKEN.to_owned()],
        ..host
    })
}
