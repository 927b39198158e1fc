//! The two listeners.

use envoy_types::pb::envoy::config::core::v3::{
    TrafficDirection, TransportSocket, transport_socket::ConfigType as SocketConfig,
};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter::ConfigType};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, common_tls_context::ValidationContextType,
};

use crate::gateway::{Gateway, Side};
use crate::hcm::connection_manager;
use crate::message::{address, any, on, seconds, tcp_keepalive, uint};
use crate::resource::{Resource, type_url};
use crate::secrets::{self, sds};
use crate::settings::{ExternalProtocol, Settings};

/// What Envoy holds of a connection in each direction before it stops reading.
const BUFFER_BYTES: u32 = 256 << 10;
const TLS_HANDSHAKE_SECONDS: i64 = 10;

pub(crate) fn listener(side: Side, gateway: &Gateway, settings: &Settings) -> Resource {
    let (socket, direction, transport_socket) = match side {
        Side::Internal => (settings.internal, TrafficDirection::Outbound, None),
        Side::External => {
            (settings.external, TrafficDirection::Inbound, tls_socket(settings.external_protocol))
        }
    };
    let manager = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&connection_manager(side, gateway, settings)))),
    };
    let name = format!("{}-listener", side.name());
    let listener = Listener {
        name: name.clone(),
        address: Some(address(socket)),
        traffic_direction: direction.into(),
        tcp_keepalive: Some(tcp_keepalive()),
        per_connection_buffer_limit_bytes: uint(BUFFER_BYTES),
        filter_chains: vec![FilterChain {
            filters: vec![manager],
            transport_socket,
            transport_socket_connect_timeout: seconds(TLS_HANDSHAKE_SECONDS),
            ..FilterChain::default()
        }],
        ..Listener::default()
    };
    Resource::new(type_url::LISTENER, name, &listener)
}

fn tls_socket(protocol: ExternalProtocol) -> Option<TransportSocket> {
    let authority =
        || ValidationContextType::ValidationContextSdsSecretConfig(sds(secrets::DOMAIN_AUTHORITY));
    let client_authority = match protocol {
        ExternalProtocol::NoTls => return None,
        ExternalProtocol::Tls => None,
        ExternalProtocol::Mtls => Some(authority()),
    };
    let context = DownstreamTlsContext {
        require_client_certificate: client_authority.as_ref().and_then(|_| on()),
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(secrets::tls_versions()),
            tls_certificate_sds_secret_configs: vec![sds(secrets::EXTERNAL_SERVER)],
            alpn_protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
            validation_context_type: client_authority,
            ..CommonTlsContext::default()
        }),
        ..DownstreamTlsContext::default()
    };
    Some(TransportSocket {
        name: secrets::TLS_SOCKET.to_owned(),
        config_type: Some(SocketConfig::TypedConfig(any(&context))),
    })
}
