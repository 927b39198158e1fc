//! Where requests of other domains go.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::route::v3::{
    RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    route_action::{ClusterSpecifier, HostRewriteSpecifier},
    route_match::PathSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::RbacPerRoute;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use model::{Access, DomainId, PortScope, ServiceName, Snapshot};

use super::{
    any_path, header_matches, refusal, resource, route_config, route_to, service_action, virtual_host,
};
use crate::TOKEN_AUTH;
use crate::clusters::HANDSHAKE;
use crate::gateway::{Gateway, Side};
use crate::headers::{self, overwrite};
use crate::message::{any, seconds};
use crate::resource::Resource;

const HANDSHAKE_SECONDS: i64 = 30;

pub(crate) fn external(snapshot: &Snapshot, gateway: &Gateway) -> Resource {
    let restricted =
        snapshot.services.values().filter_map(|service| match (&service.access, service.scope) {
            (Access::Only(domains), PortScope::Cluster) => {
                Some(restricted_host(&service.name, domains, gateway))
            }
            (Access::Only(_), PortScope::Domain | PortScope::Local) | (Access::Anyone, _) => None,
        });
    let any_service = route_to(any_path(Vec::new()), to_service());
    let hosts = [handshake_host(gateway)]
        .into_iter()
        .chain(restricted)
        .chain([to_applications(virtual_host("default", "*", vec![any_service]))]);
    let config = RouteConfiguration {
        vhost_header: headers::HOST.to_owned(),
        ..route_config(Side::External, gateway, hosts.collect())
    };
    resource(&config)
}

/// The mesh itself, which negotiates tokens and so cannot ask for one.
fn handshake_host(gateway: &Gateway) -> VirtualHost {
    let path = RouteMatch {
        path_specifier: Some(PathSpecifier::Path("/handshake".to_owned())),
        ..RouteMatch::default()
    };
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(HANDSHAKE.to_owned())),
        timeout: seconds(HANDSHAKE_SECONDS),
        ..RouteAction::default()
    };
    let other = refusal(gateway, Side::External, 404, "direct_response", "only /handshake is served here.");
    VirtualHost {
        typed_per_filter_config: [(TOKEN_AUTH.to_owned(), any(&RbacPerRoute::default()))].into(),
        ..virtual_host("handshake", gateway.domain.handshake_host(), vec![route_to(path, action), other])
    }
}

/// A service that only `domains` may call. The token proved the source before.
fn restricted_host(service: &ServiceName, domains: &BTreeSet<DomainId>, gateway: &Gateway) -> VirtualHost {
    let allowed = domains.iter().map(|domain| {
        let source = header_matches(headers::SOURCE, MatchPattern::Exact(domain.to_string()));
        route_to(any_path(vec![source]), to_service())
    });
    let reason = format!("this domain may not call {service}.");
    let refusal = refusal(gateway, Side::External, 403, "domain_not_allowed", &reason);
    let host = gateway.domain.service_host(service.as_str());
    to_applications(virtual_host(format!("restricted|{service}"), host, allowed.chain([refusal]).collect()))
}

fn to_service() -> RouteAction {
    RouteAction {
        host_rewrite_specifier: Some(HostRewriteSpecifier::HostRewriteHeader(headers::HOST.to_owned())),
        ..service_action(headers::CLUSTER)
    }
}

/// An application gets no token, and as the origin the source that proved itself, since no domain may forward for
/// another.
fn to_applications(host: VirtualHost) -> VirtualHost {
    VirtualHost {
        request_headers_to_add: vec![overwrite(headers::ORIGIN_SOURCE, "%REQ(kuscia-source)%")],
        request_headers_to_remove: vec![headers::TOKEN.to_owned()],
        ..host
    }
}
