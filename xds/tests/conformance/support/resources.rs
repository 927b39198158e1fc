//! Resources as small as each service of xDS allows.

use std::net::SocketAddr;

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig},
            },
            core::v3::{
                Address, AggregatedConfigSource, ApiConfigSource, ApiVersion, ConfigSource, GrpcService,
                SocketAddress, TransportSocket, TypedExtensionConfig, address,
                api_config_source::ApiType,
                config_source::ConfigSourceSpecifier,
                grpc_service::{EnvoyGrpc, TargetSpecifier},
                socket_address::PortSpecifier,
                transport_socket,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
            },
            listener::v3::{Filter, FilterChain, Listener, filter},
            route::v3::{
                Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route::Action,
                route_action::ClusterSpecifier, route_match::PathSpecifier,
            },
        },
        extensions::filters::{
            http::router::v3::Router,
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier,
                http_filter::ConfigType,
            },
        },
    },
    google::protobuf::{Any, Duration, UInt32Value},
};
use networkmesh_xds::{Change, Protocol, ResourceType};
use prost::{Message, Name};
use serde_json::{Value, json};

/// How a client asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    pub(crate) protocol: Protocol,
    /// Whether one stream carries all types.
    pub(crate) is_aggregated: bool,
}

impl Dialect {
    pub(crate) const DELTA: Self = Self { protocol: Protocol::Delta, is_aggregated: true };
    pub(crate) const DELTA_PER_TYPE: Self = Self { protocol: Protocol::Delta, is_aggregated: false };
    pub(crate) const WORLD: Self = Self { protocol: Protocol::StateOfTheWorld, is_aggregated: true };
    pub(crate) const WORLD_PER_TYPE: Self =
        Self { protocol: Protocol::StateOfTheWorld, is_aggregated: false };

    /// Where resources refer to for others.
    pub(crate) fn source(self) -> ConfigSource {
        let specifier = if self.is_aggregated {
            ConfigSourceSpecifier::Ads(AggregatedConfigSource {})
        } else {
            let service = EnvoyGrpc { cluster_name: "xds".to_owned(), ..EnvoyGrpc::default() };
            let service = GrpcService {
                target_specifier: Some(TargetSpecifier::EnvoyGrpc(service)),
                ..GrpcService::default()
            };
            let api_type = match self.protocol {
                Protocol::Delta => ApiType::DeltaGrpc,
                Protocol::StateOfTheWorld => ApiType::Grpc,
            };
            ConfigSourceSpecifier::ApiConfigSource(ApiConfigSource {
                api_type: api_type.into(),
                transport_api_version: ApiVersion::V3.into(),
                grpc_services: vec![service],
                ..ApiConfigSource::default()
            })
        };
        ConfigSource {
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(specifier),
            ..ConfigSource::default()
        }
    }

    /// The same for the bootstrap.
    pub(crate) fn bootstrap_source(self) -> Value {
        if self.is_aggregated {
            json!({"resource_api_version": "V3", "ads": {}})
        } else {
            json!({"resource_api_version": "V3", "api_config_source": self.api_config_source()})
        }
    }

    pub(crate) fn api_config_source(self) -> Value {
        let api_type = match self.protocol {
            Protocol::Delta => "DELTA_GRPC",
            Protocol::StateOfTheWorld => "GRPC",
        };
        json!({
            "api_type": api_type,
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{"envoy_grpc": {
                "cluster_name": "xds",
                "retry_policy": {"retry_back_off": {"base_interval": "0.05s", "max_interval": "0.2s"}},
            }}],
        })
    }

    /// A cluster whose endpoints come by EDS, under its own name.
    pub(crate) fn cluster(self, name: &str) -> Cluster {
        Cluster {
            name: name.to_owned(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
            eds_cluster_config: Some(EdsClusterConfig {
                eds_config: Some(self.source()),
                ..EdsClusterConfig::default()
            }),
            connect_timeout: Some(Duration { seconds: 5, nanos: 0 }),
            ..Cluster::default()
        }
    }

    /// A connection manager whose routes come by RDS, with these filters before the router.
    pub(crate) fn connection_manager(self, routes: &str, filters: Vec<HttpFilter>) -> HttpConnectionManager {
        let rds = Rds { config_source: Some(self.source()), route_config_name: routes.to_owned() };
        connection_manager(RouteSpecifier::Rds(rds), filters)
    }

    /// A listener with such a connection manager.
    pub(crate) fn listener(self, name: &str, address: SocketAddr, routes: &str) -> Listener {
        listener(name, address, &self.connection_manager(routes, Vec::new()))
    }
}

pub(crate) fn connection_manager(
    route_specifier: RouteSpecifier,
    mut http_filters: Vec<HttpFilter>,
) -> HttpConnectionManager {
    http_filters.push(http_filter("envoy.filters.http.router", &Router::default()));
    HttpConnectionManager {
        stat_prefix: "http".to_owned(),
        route_specifier: Some(route_specifier),
        http_filters,
        ..HttpConnectionManager::default()
    }
}

pub(crate) fn http_filter<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(config))),
        ..HttpFilter::default()
    }
}

pub(crate) fn listener(name: &str, at: SocketAddr, manager: &HttpConnectionManager) -> Listener {
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(any(manager))),
    };
    Listener {
        name: name.to_owned(),
        address: Some(address(at)),
        filter_chains: vec![FilterChain { filters: vec![filter], ..FilterChain::default() }],
        ..Listener::default()
    }
}

pub(crate) fn transport_socket<M: Message + Name>(config: &M) -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(config))),
    }
}

/// Routes that lead all requests to a cluster.
pub(crate) fn routes(name: &str, cluster: &str) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![virtual_host("all", "*", cluster)],
        ..RouteConfiguration::default()
    }
}

pub(crate) fn virtual_host(name: &str, domain: &str, cluster: &str) -> VirtualHost {
    virtual_host_to(name, domain, ClusterSpecifier::Cluster(cluster.to_owned()))
}

pub(crate) fn virtual_host_to(name: &str, domain: &str, cluster: ClusterSpecifier) -> VirtualHost {
    let route = Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix(String::new())),
            ..RouteMatch::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(cluster),
            ..RouteAction::default()
        })),
        ..Route::default()
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec![domain.to_owned()],
        routes: vec![route],
        ..VirtualHost::default()
    }
}

pub(crate) fn endpoints(cluster: &str, at: SocketAddr) -> ClusterLoadAssignment {
    let endpoint = Endpoint { address: Some(address(at)), ..Endpoint::default() };
    let endpoint =
        LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..LbEndpoint::default() };
    let locality = LocalityLbEndpoints {
        lb_endpoints: vec![endpoint],
        // gRPC wants localities to be named and weighed.
        locality: Some(envoy_types::pb::envoy::config::core::v3::Locality {
            region: "here".to_owned(),
            ..Default::default()
        }),
        load_balancing_weight: Some(UInt32Value { value: 1 }),
        ..LocalityLbEndpoints::default()
    };
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: vec![locality],
        ..ClusterLoadAssignment::default()
    }
}

pub(crate) fn address(at: SocketAddr) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: at.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(at.port().into())),
            ..SocketAddress::default()
        })),
    }
}

pub(crate) fn extension<M: Message + Name>(name: &str, config: &M) -> TypedExtensionConfig {
    TypedExtensionConfig { name: name.to_owned(), typed_config: Some(any(config)) }
}

pub(crate) fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// The change that makes this message the resource of a name.
pub(crate) fn set<M: Message + Name>(name: &str, message: &M) -> Change {
    let ty = ResourceType::from_type_url(&M::type_url()).unwrap();
    Change::Set(ty, name.to_owned(), message.encode_to_vec().into())
}
