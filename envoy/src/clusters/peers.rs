//! The gateways of other domains.

use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster, UpstreamConnectionOptions, cluster::DnsLookupFamily,
};
use envoy_types::pb::envoy::config::core::v3::{
    HealthCheck, Http2ProtocolOptions, HttpProtocolOptions as CommonHttpOptions, KeepaliveSettings,
    TransportSocket,
    health_check::{HealthChecker, HttpHealthCheck, TlsOptions},
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::r#type::v3::{CodecClientType, Int64Range};
use model::{
    ClientCertificate, Direct, DomainId, Endpoint, EndpointPort, OutboundRoute, PortProtocol, Trust,
};

use super::balancing::{last_resort, outlier_detection};
use super::tls::{Trusted, tls_socket};
use super::{as_downstream, cluster, host_header, http1, http2, resource};
use crate::endpoints::assignment;
use crate::headers::{self, overwrite};
use crate::message::{discovery, duration, host_and_port, seconds, tcp_keepalive, uint};
use crate::resource::Resource;
use crate::secrets::{OWN_CLIENT, client_certificate, peer_authority, sds};

/// Middleboxes between institutions cut idle connections after 20 minutes, without a word to either end.
const IDLE_SECONDS: i64 = 600;
const PING_SECONDS: i64 = 60;
const PING_TIMEOUT_SECONDS: i64 = 20;
/// Where there are requests, and where there are none.
const CHECK_SECONDS: i64 = 15;
/// A gateway that was away is found again soon.
const CHECK_UNHEALTHY_SECONDS: i64 = 3;
const CHECK_TIMEOUT_SECONDS: i64 = 5;
/// So that a thousand gateways are not checked in the same moment.
const CHECK_JITTER_PERCENT: u32 = 20;
const CHECKS_FAILED: u32 = 3;

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
    let endpoint = &direct.endpoint;
    let options = HttpProtocolOptions {
        common_http_protocol_options: Some(CommonHttpOptions {
            idle_timeout: seconds(IDLE_SECONDS),
            ..CommonHttpOptions::default()
        }),
        upstream_protocol_options: Some(match Wire::of(endpoint, port) {
            Wire::Http1 => http1(),
            Wire::AsDownstream => as_downstream(with_pings()),
            Wire::Http2 => http2(with_pings()),
        }),
        ..HttpProtocolOptions::default()
    };
    let gateway = host_and_port(endpoint.host.to_string(), port.port);
    Cluster {
        load_assignment: Some(assignment(&name, [gateway].into_iter())),
        connect_timeout: duration(endpoint.timeouts.connect),
        // Those that cannot be reached from here, such as all of one family, fail their first check.
        dns_lookup_family: DnsLookupFamily::All.into(),
        // An address that DNS no longer names is left even if something still answers there.
        ignore_health_on_host_removal: true,
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(tcp_keepalive()),
            ..UpstreamConnectionOptions::default()
        }),
        transport_socket: port.tls.then(|| peer_socket(destination, direct)),
        health_checks: vec![health_check(domain, destination, endpoint, port)],
        outlier_detection: Some(outlier_detection()),
        common_lb_config: Some(last_resort()),
        ..cluster(name, discovery(&endpoint.host), &options)
    }
}

/// What is spoken to a port.
#[derive(Clone, Copy)]
enum Wire {
    Http1,
    AsDownstream,
    Http2,
}

impl Wire {
    fn of(endpoint: &Endpoint, port: &EndpointPort) -> Self {
        match port.protocol {
            _ if endpoint.grpc_degrade => Self::Http1,
            PortProtocol::Http => Self::AsDownstream,
            PortProtocol::Grpc => Self::Http2,
        }
    }
}

/// A connection on which the other end no longer answers is noticed, however long its streams are silent.
fn with_pings() -> Http2ProtocolOptions {
    Http2ProtocolOptions {
        connection_keepalive: Some(KeepaliveSettings {
            interval: seconds(PING_SECONDS),
            timeout: seconds(PING_TIMEOUT_SECONDS),
            ..KeepaliveSettings::default()
        }),
        ..Http2ProtocolOptions::default()
    }
}

/// The certificates in it are secrets of their own: a new one holds for new connections, and cuts none.
fn peer_socket(destination: &DomainId, direct: &Direct) -> TransportSocket {
    let Endpoint { host, server_name, .. } = &direct.endpoint;
    let named = server_name.as_ref().unwrap_or(host);
    let trusted = match &direct.trust {
        // Without a name, whoever that authority signed for is the destination, whatever name its gateway goes by.
        Trust::Authority(_) => Trusted::By(peer_authority(destination), server_name.as_ref()),
        Trust::SystemRoots => Trusted::BySystem(named),
        Trust::Anybody => Trusted::Anyway,
    };
    let client = direct.client.as_ref().map(|certificate| match certificate {
        ClientCertificate::Own => sds(OWN_CLIENT),
        ClientCertificate::Given { .. } => sds(client_certificate(destination)),
    });
    tls_socket(named, trusted, client)
}

/// Asks what a source may ask without a token: how its handshake stands. Every answer but 200 counts as a failure, and
/// none of them before it has come [`CHECKS_FAILED`] times, unless nothing has ever worked.
fn health_check(
    domain: &DomainId,
    destination: &DomainId,
    endpoint: &Endpoint,
    port: &EndpointPort,
) -> HealthCheck {
    let (codec, alpn) = match Wire::of(endpoint, port) {
        Wire::Http1 | Wire::AsDownstream => (CodecClientType::Http1, "http/1.1"),
        Wire::Http2 => (CodecClientType::Http2, "h2"),
    };
    let request = HttpHealthCheck {
        host: host_header(&endpoint.host),
        path: format!("{}/handshake", port.path_prefix),
        request_headers_to_add: vec![
            overwrite(headers::HOST, destination.handshake_host()),
            overwrite(headers::SOURCE, domain.as_str()),
        ],
        retriable_statuses: vec![Int64Range { start: 300, end: 600 }],
        codec_client_type: codec.into(),
        ..HttpHealthCheck::default()
    };
    HealthCheck {
        timeout: seconds(CHECK_TIMEOUT_SECONDS),
        interval: seconds(CHECK_SECONDS),
        interval_jitter_percent: CHECK_JITTER_PERCENT,
        no_traffic_interval: seconds(CHECK_SECONDS),
        unhealthy_interval: seconds(CHECK_UNHEALTHY_SECONDS),
        unhealthy_threshold: uint(CHECKS_FAILED),
        healthy_threshold: uint(1),
        tls_options: port.tls.then(|| TlsOptions { alpn_protocols: vec![alpn.to_owned()] }),
        health_checker: Some(HealthChecker::HttpHealthCheck(request)),
        ..HealthCheck::default()
    }
}
