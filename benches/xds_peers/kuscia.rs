//! The same domain in the layout of Kuscia's gateway: for each service a cluster with its addresses and a virtual host
//! in each of the two route tables, for each partner a cluster and a virtual host.
//!
//! Left out are Kuscia's own HTTP filters, which only its fork of Envoy knows, and its health checks, which would keep
//! Envoy busy. Both would make a change dearer.

use std::net::SocketAddr;

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{
                Address, AggregatedConfigSource, ApiVersion, ConfigSource, HeaderValue, HeaderValueOption,
                SocketAddress, address, config_source::ConfigSourceSpecifier, socket_address::PortSpecifier,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
            },
            listener::v3::{Filter, FilterChain, Listener, filter},
            route::v3::{
                Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
                route::Action,
                route_action::{
                    ClusterSpecifier, HashPolicy, HostRewriteSpecifier, MaxStreamDuration,
                    hash_policy::{Header, PolicySpecifier},
                },
                route_match::PathSpecifier,
            },
        },
        extensions::filters::{
            http::router::v3::Router,
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier, http_filter,
            },
        },
    },
    google::protobuf::{Any, BoolValue, Duration},
};
use prost::{Message, Name};
use xds::ResourceType;

use crate::{
    file::Resource,
    world::{GATEWAY_PORT, Kind, SERVICE_PORT, service_name},
};

const INTERNAL: &str = "internal-route";
const EXTERNAL: &str = "external-route";

const TOKEN: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const ROLLED_TOKEN: &str = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";

pub(crate) fn resources(
    services: usize,
    domains: usize,
    internal: SocketAddr,
    external: SocketAddr,
) -> Vec<Resource> {
    let partners = (0..domains).map(|number| partner_host(number, TOKEN));
    let internal_hosts = (0..services).map(|number| service_host(number, "internal")).chain(partners);
    let external_hosts = (0..services).map(|number| service_host(number, "external"));
    let service_clusters = (0..services).map(|number| service_cluster(number, SERVICE_PORT));
    let partner_clusters = (0..domains).map(|number| partner_cluster(number, GATEWAY_PORT));
    service_clusters
        .chain(partner_clusters)
        .chain([
            listener("internal-listener", internal, INTERNAL),
            listener("external-listener", external, EXTERNAL),
            table(INTERNAL, internal_hosts.collect()),
            table(EXTERNAL, external_hosts.collect()),
        ])
        .collect()
}

/// What Kuscia sets for a change and for the way back; `None` for accepted tokens, which a filter of its own holds.
pub(crate) fn change(services: usize, domains: usize, kind: Kind) -> Option<[Vec<Resource>; 2]> {
    let (service, partner) = (services / 2, domains / 2);
    Some(match kind {
        // Whatever changes of a service, all three are set.
        Kind::Endpoint => [SERVICE_PORT + 1, SERVICE_PORT].map(|port| {
            vec![
                service_cluster(service, port),
                in_table(INTERNAL, &service_host(service, "internal")),
                in_table(EXTERNAL, &service_host(service, "external")),
            ]
        }),
        Kind::Cluster => [GATEWAY_PORT + 1, GATEWAY_PORT].map(|port| vec![partner_cluster(partner, port)]),
        Kind::Route => {
            [ROLLED_TOKEN, TOKEN].map(|token| vec![in_table(INTERNAL, &partner_host(partner, token))])
        }
        Kind::Token => return None,
    })
}

/// What Kuscia sets when services move one after the other, `count` times in all: in its favour, only the clusters.
pub(crate) fn moves(services: usize, count: usize) -> Vec<Resource> {
    (0..count)
        .map(|number| service_cluster(number % services, SERVICE_PORT + 1 + number / services))
        .collect()
}

fn service_cluster(number: usize, port: usize) -> Resource {
    cluster(format!("service-{}", service_name(number)), port)
}

fn partner_cluster(number: usize, port: usize) -> Resource {
    cluster(format!("alice-to-domain-{number}-HTTP"), port)
}

fn cluster(name: String, port: usize) -> Resource {
    let endpoint = Endpoint {
        address: Some(address(SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap_or_default())))),
        ..Endpoint::default()
    };
    let endpoint =
        LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..LbEndpoint::default() };
    let cluster = Cluster {
        name: name.clone(),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.clone(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![endpoint],
                ..LocalityLbEndpoints::default()
            }],
            ..ClusterLoadAssignment::default()
        }),
        connect_timeout: Some(Duration { seconds: 5, nanos: 0 }),
        ..Cluster::default()
    };
    resource(ResourceType::Cluster, name, &cluster)
}

fn service_host(number: usize, side: &str) -> VirtualHost {
    let name = service_name(number);
    let hash = HashPolicy {
        policy_specifier: Some(PolicySpecifier::Header(Header {
            header_name: "x-ptp-session-id".to_owned(),
            ..Header::default()
        })),
        ..HashPolicy::default()
    };
    VirtualHost {
        name: format!("service-{name}-{side}"),
        domains: vec![format!("{name}.alice.svc"), name.clone()],
        routes: vec![route(format!("service-{name}"), vec![hash])],
        ..VirtualHost::default()
    }
}

fn partner_host(number: usize, token: &str) -> VirtualHost {
    let headers = [
        ("Kuscia-Source", "alice"),
        ("Kuscia-Token", token),
        ("Kuscia-Host", "%REQ(:authority)%"),
        ("x-interconn-protocol", "kuscia"),
    ];
    VirtualHost {
        name: format!("alice-to-domain-{number}"),
        domains: vec![format!("*.domain-{number}.svc")],
        routes: vec![route(format!("alice-to-domain-{number}-HTTP"), Vec::new())],
        request_headers_to_add: headers
            .map(|(key, value)| HeaderValueOption {
                header: Some(HeaderValue {
                    key: key.to_owned(),
                    value: value.to_owned(),
                    ..HeaderValue::default()
                }),
                ..HeaderValueOption::default()
            })
            .into(),
        ..VirtualHost::default()
    }
}

fn route(cluster: String, hash_policy: Vec<HashPolicy>) -> Route {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        host_rewrite_specifier: Some(HostRewriteSpecifier::AutoHostRewrite(BoolValue { value: true })),
        hash_policy,
        timeout: Some(Duration::default()),
        idle_timeout: Some(Duration { seconds: 60, nanos: 0 }),
        max_stream_duration: Some(MaxStreamDuration {
            max_stream_duration: Some(Duration::default()),
            grpc_timeout_header_max: Some(Duration::default()),
            ..MaxStreamDuration::default()
        }),
        ..RouteAction::default()
    };
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..RouteMatch::default()
        }),
        action: Some(Action::Route(action)),
        ..Route::default()
    }
}

fn table(name: &str, virtual_hosts: Vec<VirtualHost>) -> Resource {
    let table = RouteConfiguration { name: name.to_owned(), virtual_hosts, ..RouteConfiguration::default() };
    resource(ResourceType::RouteConfiguration, name.to_owned(), &table)
}

/// A virtual host for one of the tables: the peer puts it there.
fn in_table(table: &str, host: &VirtualHost) -> Resource {
    resource(ResourceType::VirtualHost, format!("{table}/{}", host.name), host)
}

fn listener(name: &str, socket: SocketAddr, table: &str) -> Resource {
    let source = ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource::default())),
        resource_api_version: ApiVersion::V3.into(),
        ..ConfigSource::default()
    };
    let router = HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(&Router::default()))),
        ..HttpFilter::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: name.to_owned(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(source),
            route_config_name: table.to_owned(),
        })),
        http_filters: vec![router],
        ..HttpConnectionManager::default()
    };
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(any(&manager))),
    };
    let listener = Listener {
        name: name.to_owned(),
        address: Some(address(socket)),
        filter_chains: vec![FilterChain { filters: vec![filter], ..FilterChain::default() }],
        ..Listener::default()
    };
    resource(ResourceType::Listener, name.to_owned(), &listener)
}

fn address(socket: SocketAddr) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: socket.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(socket.port().into())),
            ..SocketAddress::default()
        })),
    }
}

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn resource(ty: ResourceType, name: String, message: &impl Message) -> Resource {
    Resource { ty, name, body: message.encode_to_vec().into() }
}
