//! Services as Envoy is told of them: a cluster of about 450 bytes each, and its endpoints of about 120.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::config::{
        cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig},
        },
        core::v3::{
            Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress, TransportSocket,
            address, config_source::ConfigSourceSpecifier, socket_address::PortSpecifier, transport_socket,
        },
        endpoint::v3::{
            ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
        },
    },
    google::protobuf::{Any, Duration},
};
use networkmesh_xds::{Cache, Change, Protocol, ResourceType, bench::Client};
use prost::Message;

pub(crate) fn name(service: usize) -> String {
    format!("service-{service:06}.alice.svc")
}

/// The cluster of a service. Another `revision` is another content.
pub(crate) fn cluster(service: usize, revision: u64) -> Change {
    let source = ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource::default())),
        ..ConfigSource::default()
    };
    let tls = Any { type_url: "type.googleapis.com/envoy.Tls".to_owned(), value: vec![7; 150] };
    let options =
        Any { type_url: "type.googleapis.com/envoy.HttpProtocolOptions".to_owned(), value: vec![7; 50] };
    let cluster = Cluster {
        name: name(service),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(source), service_name: String::new() }),
        connect_timeout: Some(Duration { seconds: 5, nanos: 0 }),
        alt_stat_name: revision.to_string(),
        typed_extension_protocol_options: HashMap::from([("envoy.HttpProtocolOptions".to_owned(), options)]),
        transport_socket: Some(TransportSocket {
            name: "tls".to_owned(),
            config_type: Some(transport_socket::ConfigType::TypedConfig(tls)),
        }),
        ..Cluster::default()
    };
    Change::Set(ResourceType::Cluster, name(service), cluster.encode_to_vec().into())
}

pub(crate) fn endpoints(service: usize) -> Change {
    let endpoint = |host: usize| LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(Address {
                address: Some(address::Address::SocketAddress(SocketAddress {
                    address: format!("10.{host}.{}.{}", service / 256 % 256, service % 256),
                    port_specifier: Some(PortSpecifier::PortValue(8080)),
                    ..SocketAddress::default()
                })),
            }),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    let assignment = ClusterLoadAssignment {
        cluster_name: name(service),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: (1..=3).map(endpoint).collect(),
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    };
    Change::Set(ResourceType::ClusterLoadAssignment, name(service), assignment.encode_to_vec().into())
}

/// A cache with this many services.
pub(crate) fn cache(services: usize) -> Cache {
    let cache = Cache::new();
    for service in 0..services {
        cache.apply([cluster(service, 0), endpoints(service)]);
    }
    cache
}

/// A client that has all clusters and, as Envoy does, asks for the endpoints of each by name.
pub(crate) fn client(cache: &Cache, services: usize, protocol: Protocol) -> Client {
    client_of(cache, protocol, (0..services).map(name).collect())
}

/// A client that has all clusters, and these endpoints.
pub(crate) fn client_of(cache: &Cache, protocol: Protocol, endpoints: Vec<String>) -> Client {
    let mut client = Client::new(cache, protocol);
    client.ask(ResourceType::Cluster, Vec::new(), HashMap::new());
    client.ask(ResourceType::ClusterLoadAssignment, endpoints, HashMap::new());
    client.take();
    client
}
