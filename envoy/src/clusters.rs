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
use envoy_types::pb::envoy::extensions::filters::http::upstream_codec::v3::UpstreamCodec;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter,
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
use envoy_types::pb::google::protobuf::Any;
use model::{
    Direct, DomainId, EndpointPort, Host, OutboundRoute, PortProtocol, Protocol, Service, ServiceName, Trust,
};
use prost::Name as _;

use crate::callers::callers_of;
use crate::endpoints::assignment;
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

/// Name of the cluster that leads to a port of the gateway of `destination`.
pub(crate) fn peer_cluster_name(domain: &DomainId, destination: &DomainId, protocol: PortProtocol) -> String {
    format!("{domain}-to-{destination}-{}", port_name(protocol))
}

/// The domain to whose gateway the cluster of this name leads, see [`peer_cluster_name`].
pub(crate) fn peer_of_cluster(name: &str, domain: &DomainId) -> Option<DomainId> {
    let rest = name.strip_prefix(domain.as_str())?.strip_prefix("-to-")?;
    let (peer, port) = rest.rsplit_once('-')?;
    let is_port = [PortProtocol::Http, PortProtocol::Grpc].into_iter().any(|known| port_name(known) == port);
    peer.parse().ok().filter(|_| is_port)
}

fn port_name(protocol: PortProtocol) -> &'static str {
    match protocol {
        PortProtocol::Http => "http",
        PortProtocol::Grpc => "grpc",
    }
}

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
        http_filters: callers_of(service, domain).map(upstream_filters).unwrap_or_default(),
        ..HttpProtocolOptions::default()
    };
    resource(&Cluster {
        // The assignment has the cluster's name.
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(ads()), ..EdsClusterConfig::default() }),
        connect_timeout: seconds(SERVICE_CONNECT_SECONDS),
        ..cluster(
            service_cluster_name(&domain.service_host(service.name.as_str())),
            DiscoveryType::Eds,
            &options,
        )
    })
}

/// What a request passes once its cluster is chosen: who may call, then the wire.
fn upstream_filters(callers: Any) -> Vec<HttpFilter> {
    let filter = |name: &str, config| HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    };
    vec![
        filter("callers", callers),
        filter("envoy.filters.http.upstream_codec", any(&UpstreamCodec::default())),
    ]
}

pub(crate) fn handshake_cluster(settings: &Settings) -> Resource {
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(as_downstream(Http2ProtocolOptions::default())),
        ..HttpProtocolOptions::default()
    };
    resource(&Cluster {
        load_assignment: Some(assignment(HANDSHAKE, [address(settings.handshake)].into_iter())),
        connect_timeout: seconds(SERVICE_CONNECT_SECONDS),
        ..cluster(HANDSHAKE.to_owned(), DiscoveryType::Static, &options)
    })
}

/// The clusters of the ports of the destination's gateway.
pub(crate) fn peer_clusters<'a>(
    route: &'a OutboundRoute,
    domain: &'a DomainId,
) -> impl Iterator<Item = Resource> + 'a {
    let direct = route.direct().into_iter();
    direct.flat_map(|direct| {
        let ports = direct.endpoint.ports.iter();
        ports.map(|port| resource(&peer_cluster(domain, &route.destination, direct, port)))
    })
}

fn peer_cluster(domain: &DomainId, destination: &DomainId, direct: &Direct, port: &EndpointPort) -> Cluster {
    let name = peer_cluster_name(domain, destination, port.protocol);
    let host = &direct.endpoint.host;
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
    let options = HttpProtocolOptions {
        common_http_protocol_options: Some(CommonHttpOptions {
            idle_timeout: seconds(PEER_IDLE_SECONDS),
            ..CommonHttpOptions::default()
        }),
        upstream_protocol_options: Some(protocol),
        ..HttpProtocolOptions::default()
    };
    let gateway = host_and_port(host.to_string(), port.port);
    Cluster {
        load_assignment: Some(assignment(&name, [gateway].into_iter())),
        connect_timeout: seconds(PEER_CONNECT_SECONDS),
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(tcp_keepalive()),
            ..UpstreamConnectionOptions::default()
        }),
        transport_socket: port.tls.then(|| tls_socket(destination, direct)),
        ..cluster(name, discovery, &options)
    }
}

fn cluster(name: String, discovery: DiscoveryType, options: &HttpProtocolOptions) -> Cluster {
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
        typed_extension_protocol_options: [(HttpProtocolOptions::full_name(), any(options))].into(),
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

fn tls_socket(destination: &DomainId, direct: &Direct) -> TransportSocket {
    let host = &direct.endpoint.host;
    let validation = match &direct.trust {
        // Whoever that authority signed for is the destination, whatever name its gateway goes by.
        Trust::Authority(_) => {
            ValidationContextType::ValidationContextSdsSecretConfig(sds(peer_authority(destination)))
        }
        Trust::SystemRoots => ValidationContextType::ValidationContext(known_to_system(host)),
        Trust::Anybody => ValidationContextType::ValidationContext(CertificateValidationContext::default()),
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
