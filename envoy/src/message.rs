//! Small messages that many resources hold.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::cluster::v3::cluster::DiscoveryType;
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, CidrRange, ConfigSource, DataSource, SocketAddress,
    SubstitutionFormatString, TcpKeepalive, TypedExtensionConfig, address,
    config_source::ConfigSourceSpecifier, data_source, socket_address::PortSpecifier,
    substitution_format_string::Format,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration, UInt32Value};
use ipnet::IpNet;
use model::Host;
use prost::{Message, Name};

pub(crate) fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

pub(crate) fn extension<M: Message + Name>(name: &str, message: &M) -> TypedExtensionConfig {
    TypedExtensionConfig { name: name.to_owned(), typed_config: Some(any(message)) }
}

/// The aggregated stream that brought the resource brings the one referred to.
pub(crate) fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

pub(crate) fn address(address: SocketAddr) -> Address {
    host_and_port(address.ip().to_string(), address.port())
}

pub(crate) fn host_and_port(host: String, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host,
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    }
}

/// How the addresses of `host` are found.
pub(crate) fn discovery(host: &Host) -> DiscoveryType {
    match host {
        Host::Address(_) => DiscoveryType::Static,
        Host::Name(_) => DiscoveryType::StrictDns,
    }
}

pub(crate) fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

pub(crate) fn cidr_range(network: &IpNet) -> CidrRange {
    CidrRange { address_prefix: network.network().to_string(), prefix_len: uint(network.prefix_len().into()) }
}

/// Notices within two minutes that the other end is gone, and keeps the tables of address translators warm.
pub(crate) fn tcp_keepalive() -> TcpKeepalive {
    TcpKeepalive { keepalive_probes: uint(3), keepalive_time: uint(60), keepalive_interval: uint(20) }
}

pub(crate) fn inline(text: impl Into<String>) -> DataSource {
    DataSource { specifier: Some(data_source::Specifier::InlineString(text.into())), ..DataSource::default() }
}

/// A text in which `%COMMANDS%` are replaced.
pub(crate) fn text_format(text: String) -> SubstitutionFormatString {
    SubstitutionFormatString {
        format: Some(Format::TextFormatSource(inline(text))),
        ..SubstitutionFormatString::default()
    }
}

pub(crate) fn json_format(text: String) -> SubstitutionFormatString {
    SubstitutionFormatString { content_type: "application/json".to_owned(), ..text_format(text) }
}

pub(crate) fn string_matcher(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() }
}

pub(crate) fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

pub(crate) fn duration(duration: std::time::Duration) -> Option<Duration> {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Some(Duration { seconds, nanos: duration.subsec_nanos().cast_signed() })
}

pub(crate) fn uint(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(crate) fn on() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}
