//! The way from this gateway to itself, for what it forwards.
//!
//! A request must find routes twice then: those that say who sends it, and those that say where it goes. So it leaves the
//! external listener for one more, without a socket, in the same Envoy.

use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster,
    circuit_breakers::Thresholds,
    cluster::{ClusterDiscoveryType, DiscoveryType},
};
use envoy_types::pb::envoy::config::core::v3::{
    Address, EnvoyInternalAddress, Http2ProtocolOptions, address,
    envoy_internal_address::AddressNameSpecifier,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use prost::Name as _;

use crate::clusters::as_downstream;
use crate::endpoints::assignment;
use crate::gateway::Side;
use crate::listener::listener_name;
use crate::message::{any, seconds, uint};
use crate::resource::{Resource, type_url};

/// Name of the cluster that leads to the transit listener.
pub(crate) const TRANSIT: &str = "transit";

/// What is forwarded is limited where it enters and where it leaves, not in between.
const UNLIMITED: u32 = u32::MAX;
const CONNECT_SECONDS: i64 = 5;

/// The cluster of the transit listener.
pub(crate) fn transit_cluster() -> Resource {
    let listener = EnvoyInternalAddress {
        address_name_specifier: Some(AddressNameSpecifier::ServerListenerName(listener_name(Side::Transit))),
        ..EnvoyInternalAddress::default()
    };
    let listener = Address { address: Some(address::Address::EnvoyInternalAddress(listener)) };
    // Whoever asks by HTTP/1.1 may be for an application that knows no other.
    let as_asked =
        as_downstream(Http2ProtocolOptions { allow_connect: true, ..Http2ProtocolOptions::default() });
    let options =
        HttpProtocolOptions { upstream_protocol_options: Some(as_asked), ..HttpProtocolOptions::default() };
    let thresholds = Thresholds {
        max_connections: uint(UNLIMITED),
        max_pending_requests: uint(UNLIMITED),
        max_requests: uint(UNLIMITED),
        ..Thresholds::default()
    };
    let cluster = Cluster {
        name: TRANSIT.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        connect_timeout: seconds(CONNECT_SECONDS),
        load_assignment: Some(assignment(TRANSIT, [listener].into_iter())),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![thresholds],
            ..CircuitBreakers::default()
        }),
        typed_extension_protocol_options: [(HttpProtocolOptions::full_name(), any(&options))].into(),
        ..Cluster::default()
    };
    Resource::new(type_url::CLUSTER, TRANSIT, &cluster)
}
