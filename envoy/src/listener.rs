//! The listeners: for applications of this domain, for gateways of others, and for what is forwarded between those.

use envoy_types::pb::envoy::config::core::v3::{
    TrafficDirection, TransportSocket, transport_socket::ConfigType as SocketConfig,
};
use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, Listener,
    filter::ConfigType,
    listener::{InternalListenerConfig, ListenerSpecifier},
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, common_tls_context::ValidationContextType,
};
use envoy_types::pb::google::protobuf::BoolValue;

use crate::client_authorities::CLIENT_AUTHORITIES;
use crate::gateway::{Gateway, Side};
use crate::hcm::connection_manager;
use crate::message::{address, any, seconds, tcp_keepalive, uint};
use crate::resource::{Resource, type_url};
use crate::secrets::{self, sds};
use crate::settings::{ExternalProtocol, Settings};

/// What Envoy holds of a connection in each direction before it stops reading.
const BUFFER_BYTES: u32 = 256 << 10;
const TLS_HANDSHAKE_SECONDS: i64 = 10;

/// Name of a listener.
pub(crate) fn listener_name(side: Side) -> String {
    format!("{}-listener", side.name())
}

pub(crate) fn listener(side: Side, gateway: &Gateway, settings: &Settings) -> Resource {
    let name = listener_name(side);
    let manager = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&connection_manager(side, gateway, settings)))),
    };
    let transport_socket = match side {
        Side::Internal | Side::Transit => None,
        Side::External => tls_socket(settings.external_protocol),
    };
    let at = |socket, direction: TrafficDirection| Listener {
        address: Some(address(socket)),
        traffic_direction: direction.into(),
        tcp_keepalive: Some(tcp_keepalive()),
        ..Listener::default()
    };
    let place = match side {
        Side::Internal => Listener {
            // Strangers who take all connections that there may be must not keep applications of this domain out.
            ignore_global_conn_limit: true,
            ..at(settings.internal, TrafficDirection::Outbound)
        },
        Side::External => at(settings.external, TrafficDirection::Inbound),
        Side::Transit => Listener {
            listener_specifier: Some(ListenerSpecifier::InternalListener(InternalListenerConfig {})),
            traffic_direction: TrafficDirection::Outbound.into(),
            ..Listener::default()
        },
    };
    let listener = Listener {
        name: name.clone(),
        per_connection_buffer_limit_bytes: uint(BUFFER_BYTES),
        filter_chains: vec![FilterChain {
            // Errors say it.
            name: side.name().to_owned(),
            filters: vec![manager],
            transport_socket,
            transport_socket_connect_timeout: seconds(TLS_HANDSHAKE_SECONDS),
            ..FilterChain::default()
        }],
        ..place
    };
    Resource::new(type_url::LISTENER, name, &listener)
}

/// Everybody who shows a certificate is checked; who shows none can only be let in by something else.
fn tls_socket(protocol: ExternalProtocol) -> Option<TransportSocket> {
    let asks_for_certificate = match protocol {
        ExternalProtocol::NoTls => return None,
        ExternalProtocol::Tls => false,
        ExternalProtocol::Mtls => true,
    };
    let authorities = sds(CLIENT_AUTHORITIES);
    let context = DownstreamTlsContext {
        require_client_certificate: Some(BoolValue { value: asks_for_certificate }),
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(secrets::tls_params()),
            tls_certificate_sds_secret_configs: vec![sds(secrets::EXTERNAL_SERVER)],
            alpn_protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
            validation_context_type: Some(ValidationContextType::ValidationContextSdsSecretConfig(
                authorities,
            )),
            ..CommonTlsContext::default()
        }),
        ..DownstreamTlsContext::default()
    };
    Some(TransportSocket {
        name: secrets::TLS_SOCKET.to_owned(),
        config_type: Some(SocketConfig::TypedConfig(any(&context))),
    })
}
