//! Clusters: this domain's services, the gateways of other domains, and the mesh's own handshake server.

use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, UpstreamConnectionOptions,
    circuit_breakers::Thresholds,
    cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy},
};
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonHttpOptions,
    KeepaliveSettings, TransportSocket, data_source, transport_socket,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher, UpstreamTlsContext,
    common_tls_context::ValidationContextType, subject_alt_name_matcher::SanType,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
        explicit_http_config::ProtocolConfig,
    },
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use model::{
    DomainId, EndpointPort, Host, OutboundRoute, PortProtocol, PortScope, Protocol, Service, Snapshot, Trust,
};
use prost::Name as _;

use crate::endpoints::{assignment, assignment_name};
use crate::message::{address, ads, any, host_and_port, seconds, string_matcher, tcp_keepalive, uint};
use crate::resource::{Resource, type_url};
use crate::secrets::{TLS_SOCKET, peer_authority, sds, tls_versions};
use crate::settings::Settings;

/// Name of the cluster of the mesh's handshake server.
pub(crate) const HANDSHAKE: &str = "handshake-cluster";

/// The authorities that Envoy's host trusts, where Debian, Alpine and Envoy's own images keep them. Envoy knows no
/// name for them: its `system_root_certs` does nothing.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

const SERVICE_CONNECT_SECONDS: i64 = 5;
const PEER_CONNECT_SECONDS: i64 = 10;
/// Middleboxes between institutions cut idle connections after 20 minutes, without a word to either end.
const PEER_IDLE_SECONDS: i64 = 600;
const PEER_PING_SECONDS: i64 = 60;
const PEER_PING_TIMEOUT_SECONDS: i64 = 20;
/// Envoy's own limits of 1024 are for fleets in which every instance gets little.
const MAX_CONNECTIONS: u32 = 16_384;
const MAX_REQUESTS: u32 = 65_536;
const MAX_RETRIES: u32 = 64;

pub(crate) fn clusters(snapshot: &Snapshot, settings: &Settings) -> Vec<Resource> {
    let domain = &snapshot.domain;
    let services = snapshot.services.values().flat_map(|service| service_clusters(domain, service));
    let peers = snapshot
        .outbound
        .values()
        .flat_map(|route| route.endpoint.ports.iter().map(|port| peer_cluster(domain, route, port)));
    [handshake_cluster(settings)]
        .into_iter()
        .chain(services)
        .chain(peers)
        .map(|cluster| resource(&cluster))
        .collect()
}

/// Name of the cluster that leads to a port of the gateway of `destination`.
pub(crate) fn peer_cluster_name(domain: &DomainId, destination: &DomainId, protocol: PortProtocol) -> String {
    let port = match protocol {
        PortProtocol::Http => "http",
        PortProtocol::Grpc => "grpc",
    };
    format!("{domain}-to-{destination}-{port}")
}

/// `in|<host>` for callers of this domain, `ex|<host>` for those of others: who may call is in which clusters exist.
fn service_clusters(domain: &DomainId, service: &Service) -> Vec<Cluster> {
    let sides: &[&str] = match service.scope {
        PortScope::Cluster => &["in", "ex"],
        PortScope::Domain => &["in"],
        PortScope::Local => &[],
    };
    let host = domain.service_host(service.name.as_str());
    sides.iter().map(|side| service_cluster(format!("{side}|{host}"), service)).collect()
}

fn service_cluster(name: String, service: &Service) -> Cluster {
    let protocol = match service.protocol {
        Protocol::Http => as_downstream(Http2ProtocolOptions::default()),
        Protocol::Grpc => http2(Http2ProtocolOptions::default()),
    };
    Cluster {
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ads()),
            service_name: assignment_name(&service.name),
        }),
        connect_timeout: seconds(SERVICE_CONNECT_SECONDS),
        ..cluster(name, DiscoveryType::Eds, protocol, CommonHttpOptions::default())
    }
}

fn handshake_cluster(settings: &Settings) -> Cluster {
    let protocol = as_downstream(Http2ProtocolOptions::default());
    Cluster {
        load_assignment: Some(assignment(HANDSHAKE, [address(settings.handshake)].into_iter())),
        connect_timeout: seconds(SERVICE_CONNECT_SECONDS),
        ..cluster(HANDSHAKE.to_owned(), DiscoveryType::Static, protocol, CommonHttpOptions::default())
    }
}

fn peer_cluster(domain: &DomainId, route: &OutboundRoute, port: &EndpointPort) -> Cluster {
    let name = peer_cluster_name(domain, &route.destination, port.protocol);
    let host = &route.endpoint.host;
    let discovery = match host {
        Host::Address(_) => DiscoveryType::Static,
        Host::Name(_) => DiscoveryType::StrictDns,
    };
    let ping = Http2ProtocolOptions {
        connection_keepalive: Some(KeepaliveSettings {
            interval: seconds(PEER_PING_SECONDS),
            timeout: seconds(PEER_PING_TIMEOUT_SECONDS),
            ..KeepaliveSettings::default()
        }),
        ..Http2ProtocolOptions::default()
    };
    let protocol = match port.protocol {
        PortProtocol::Http => as_downstream(ping),
        PortProtocol::Grpc => http2(ping),
    };
    let idle = CommonHttpOptions { idle_timeout: seconds(PEER_IDLE_SECONDS), ..CommonHttpOptions::default() };
    let gateway = host_and_port(host.to_string(), port.port);
    Cluster {
        load_assignment: Some(assignment(&name, [gateway].into_iter())),
        connect_timeout: seconds(PEER_CONNECT_SECONDS),
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(tcp_keepalive()),
            ..UpstreamConnectionOptions::default()
        }),
        transport_socket: port.tls.then(|| tls_socket(route)),
        ..cluster(name, discovery, protocol, idle)
    }
}

fn cluster(
    name: String,
    discovery: DiscoveryType,
    protocol: UpstreamProtocolOptions,
    common: CommonHttpOptions,
) -> Cluster {
    let options = HttpProtocolOptions {
        common_http_protocol_options: Some(common),
        upstream_protocol_options: Some(protocol),
        ..HttpProtocolOptions::default()
    };
    let thresholds = Thresholds {
        max_connections: uint(MAX_CONNECTIONS),
        max_pending_requests: uint(MAX_CONNECTIONS),
        max_requests: uint(MAX_REQUESTS),
        max_retries: uint(MAX_RETRIES),
        ..Thresholds::default()
    };
    Cluster {
        name,
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        lb_policy: LbPolicy::LeastRequest.into(),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![thresholds],
            ..CircuitBreakers::default()
        }),
        typed_extension_protocol_options: [(HttpProtocolOptions::full_name(), any(&options))].into(),
        ..Cluster::default()
    }
}

/// HTTP/2 for requests that came by HTTP/2, else HTTP/1.1: an application that speaks only HTTP/1.1 must not get
/// HTTP/2 because the gateways do.
fn as_downstream(http2: Http2ProtocolOptions) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: Some(Http1ProtocolOptions::default()),
        http2_protocol_options: Some(http2),
        ..UseDownstreamHttpConfig::default()
    })
}

fn http2(options: Http2ProtocolOptions) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
        protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(options)),
    })
}

fn tls_socket(route: &OutboundRoute) -> TransportSocket {
    let host = &route.endpoint.host;
    let validation = match &route.trust {
        // Whoever that authority signed for is the destination, whatever name its gateway goes by.
        Trust::Authority(_) => {
            ValidationContextType::ValidationContextSdsSecretConfig(sds(peer_authority(&route.destination)))
        }
        Trust::SystemRoots => ValidationContextType::ValidationContext(known_to_system(host)),
    };
    let context = UpstreamTlsContext {
        sni: match host {
            Host::Address(_) => String::new(),
            Host::Name(name) => name.clone(),
        },
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(tls_versions()),
            validation_context_type: Some(validation),
            ..CommonTlsContext::default()
        }),
        ..UpstreamTlsContext::default()
    };
    TransportSocket {
        name: TLS_SOCKET.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(&context))),
    }
}

fn known_to_system(host: &Host) -> CertificateValidationContext {
    let san_type = match host {
        Host::Address(_) => SanType::IpAddress,
        Host::Name(_) => SanType::Dns,
    };
    CertificateValidationContext {
        trusted_ca: Some(DataSource {
            specifier: Some(data_source::Specifier::Filename(SYSTEM_ROOTS.to_owned())),
            ..DataSource::default()
        }),
        match_typed_subject_alt_names: vec![SubjectAltNameMatcher {
            san_type: san_type.into(),
            matcher: Some(string_matcher(MatchPattern::Exact(host.to_string()))),
            ..SubjectAltNameMatcher::default()
        }],
        ..CertificateValidationContext::default()
    }
}

fn resource(cluster: &Cluster) -> Resource {
    Resource::new(type_url::CLUSTER, cluster.name.clone(), cluster)
}
