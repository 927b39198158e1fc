//! This domain's services.

use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster, UpstreamConnectionOptions,
    cluster::{DiscoveryType, DnsLookupFamily, EdsClusterConfig},
};
use envoy_types::pb::envoy::config::core::v3::{Http2ProtocolOptions, TransportSocket};
use envoy_types::pb::envoy::extensions::filters::http::{lua::v3::Lua, upstream_codec::v3::UpstreamCodec};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::google::protobuf::Any;
use model::{DomainId, Host, HostPort, Protocol, Service, ServiceName, ServiceTls};

use super::balancing::{affinity, last_resort, outlier_detection};
use super::tls::{Trusted, tls_socket};
use super::{SERVICE_CONNECT_SECONDS, as_downstream, cluster, host_header, http2, resource};
use crate::callers::callers_of;
use crate::endpoints::assignment;
use crate::message::{ads, any, discovery, host_and_port, http_filter, inline, seconds, tcp_keepalive};
use crate::resource::Resource;
use crate::secrets::DOMAIN_AUTHORITY;

/// Name of the cluster of the service that is asked for as `host`, and of its endpoints.
pub(crate) fn service_cluster_name(host: &str) -> String {
    format!("svc|{host}")
}

/// The service whose cluster has this name, see [`service_cluster_name`].
pub(crate) fn service_of_cluster(name: &str, domain: &DomainId) -> Option<ServiceName> {
    let host = name.strip_prefix("svc|")?;
    let service = host.strip_suffix(".svc")?.strip_suffix(domain.as_str())?.strip_suffix('.')?;
    service.parse().ok()
}

/// The cluster of a service, which says by itself who may call it.
pub(crate) fn service_cluster(service: &Service, domain: &DomainId) -> Resource {
    let protocol = match service.protocol {
        Protocol::Http => as_downstream(Http2ProtocolOptions::default()),
        Protocol::Grpc => http2(Http2ProtocolOptions::default()),
    };
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(protocol),
        http_filters: upstream_filters(service, domain),
        ..HttpProtocolOptions::default()
    };
    let host = domain.service_host(service.name.as_str());
    let cluster = Cluster {
        connect_timeout: seconds(SERVICE_CONNECT_SECONDS),
        // Notices replicas that vanished with their machine.
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(tcp_keepalive()),
            ..UpstreamConnectionOptions::default()
        }),
        load_balancing_policy: affinity(&service.affinity),
        outlier_detection: Some(outlier_detection()),
        common_lb_config: Some(last_resort()),
        transport_socket: service.tls.map(|tls| service_socket(tls, service, &host)),
        ..cluster(service_cluster_name(&host), DiscoveryType::Eds, &options)
    };
    resource(&match &service.external {
        Some(external) => with_addresses_of(external, cluster),
        // The assignment has the cluster's name.
        None => Cluster {
            eds_cluster_config: Some(EdsClusterConfig {
                eds_config: Some(ads()),
                ..EdsClusterConfig::default()
            }),
            ..cluster
        },
    })
}

fn with_addresses_of(external: &HostPort, cluster: Cluster) -> Cluster {
    let address = host_and_port(external.host.to_string(), external.port);
    Cluster {
        cluster_discovery_type: Some(super::ClusterDiscoveryType::Type(discovery(&external.host).into())),
        load_assignment: Some(assignment(&cluster.name, [address].into_iter())),
        // Nothing checks whether this machine gets to addresses of IPv6, so they are for hosts that have no others.
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        ..cluster
    }
}

fn service_socket(tls: ServiceTls, service: &Service, host: &str) -> TransportSocket {
    let own = Host::Name(host.to_owned());
    let named = service.external.as_ref().map_or(&own, |external| &external.host);
    let trusted = match tls {
        ServiceTls::Unverified => Trusted::Anyway,
        ServiceTls::Verified if service.external.is_some() => Trusted::BySystem(named),
        ServiceTls::Verified => Trusted::By(DOMAIN_AUTHORITY.to_owned(), Some(named)),
    };
    tls_socket(named, trusted, None)
}

/// What a request passes once its cluster is chosen: who may call, as whom the service is asked, then the wire.
fn upstream_filters(service: &Service, domain: &DomainId) -> Vec<HttpFilter> {
    let callers = callers_of(service, domain).map(|callers| http_filter("callers", callers));
    let host = service.external.as_ref().map(|external| {
        let is_default = external.port == if service.tls.is_some() { 443 } else { 80 };
        let authority = if is_default { host_header(&external.host) } else { external.to_string() };
        http_filter("host", set_host(&authority))
    });
    let mut filters: Vec<_> = callers.into_iter().chain(host).collect();
    if !filters.is_empty() {
        filters.push(http_filter("envoy.filters.http.upstream_codec", any(&UpstreamCodec::default())));
    }
    filters
}

/// Asks a host by its own name, whatever name the service has here.
///
/// It is a script because Envoy's filter for headers refuses to write this one, and a route would do it for all services.
fn set_host(authority: &str) -> Any {
    let script = format!(
        "function envoy_on_request(handle) handle:headers():replace(\":authority\", \"{authority}\") end"
    );
    any(&Lua { default_source_code: Some(inline(script)), ..Lua::default() })
}
