//! Envoy gets every type of resource, and every change of it, however it asks.

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            route::v3::{ScopedRouteConfiguration, scoped_route_configuration},
        },
        extensions::{
            filters::network::http_connection_manager::v3::{
                ScopedRds, ScopedRoutes,
                http_connection_manager::RouteSpecifier,
                scoped_routes::{
                    ConfigSpecifier, ScopeKeyBuilder,
                    scope_key_builder::{
                        FragmentBuilder,
                        fragment_builder::{
                            HeaderValueExtractor, Type,
                            header_value_extractor::{ExtractType, KvElement},
                        },
                    },
                },
            },
            transport_sockets::tls::v3::{
                CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, Secret, TlsCertificate,
                UpstreamTlsContext, common_tls_context::ValidationContextType, secret,
            },
            upstreams::http::v3::{
                HttpProtocolOptions,
                http_protocol_options::{
                    ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
                },
            },
        },
    },
    google::protobuf::UInt32Value,
};
use harness::free_address;
use networkmesh_xds::{Change, Protocol, ResourceType};
use rcgen::{CertificateParams, KeyPair};

use crate::support::{
    eventually, filters,
    resources::{Dialect, any, connection_manager, endpoints, listener, routes, set, transport_socket},
    upstream::{get, has_line, has_status, is_from},
    world::World,
};

in_every_dialect! {
    listeners_routes_clusters_and_endpoints_follow_the_cache
    certificates_and_authorities_are_renewed_without_touching_their_users
    generic_secrets_and_extensions_are_renewed_without_touching_their_users
    scopes_lead_to_routes_of_their_own
}

async fn listeners_routes_clusters_and_endpoints_follow_the_cache(dialect: Dialect) {
    let world = World::start(dialect).await;
    let server = &world.server;
    eventually("blue answers", || world.request(), |it| is_from(it, "blue")).await;
    server
        .acknowledged([
            (ResourceType::Listener, "front"),
            (ResourceType::RouteConfiguration, "routes"),
            (ResourceType::Cluster, "web"),
            (ResourceType::ClusterLoadAssignment, "web"),
        ])
        .await;
    let clients = server.clients.snapshot();
    assert!(clients.iter().all(|client| client.node == "envoy" && client.protocol == dialect.protocol));
    assert!(clients.iter().all(|client| client.user_agent.starts_with("envoy 1.")), "{clients:?}");
    assert!(if dialect.is_aggregated { clients.len() == 1 } else { clients.len() >= 4 }, "{clients:?}");

    // Endpoints move.
    server.set([set("web", &endpoints("web", world.green))]);
    eventually("green answers", || world.request(), |it| is_from(it, "green")).await;
    server.acknowledged([(ResourceType::ClusterLoadAssignment, "web")]).await;

    // A changed cluster warms with the endpoints it has.
    let changed = Cluster { alt_stat_name: "renamed".to_owned(), ..dialect.cluster("web") };
    server.set([set("web", &changed)]);
    server.acknowledged([(ResourceType::Cluster, "web")]).await;
    let web = async || {
        let dump = world.envoy.dump("ClustersConfigDump").await;
        let clusters = dump["dynamic_active_clusters"].as_array().cloned().unwrap_or_default();
        clusters.into_iter().find(|cluster| cluster["cluster"]["name"] == "web")
    };
    let is_renamed = |web: &Option<serde_json::Value>| {
        web.as_ref().is_some_and(|web| web["cluster"]["alt_stat_name"] == "renamed")
    };
    eventually("the changed cluster is active", web, is_renamed).await;
    if dialect.protocol == Protocol::Delta {
        let version = server.version(ResourceType::Cluster, "web");
        assert_eq!(web().await.unwrap()["version_info"], version.to_string());
    }
    assert!(is_from(&world.request().await, "green"));

    // A route leads to another cluster that comes with it.
    server.set([
        set("other", &dialect.cluster("other")),
        set("other", &endpoints("other", world.blue)),
        set("routes", &routes("routes", "other")),
    ]);
    eventually("blue answers", || world.request(), |it| is_from(it, "blue")).await;
    server.acknowledged([(ResourceType::RouteConfiguration, "routes")]).await;

    // One listener moves, another comes and goes.
    let [moved, side] = [(); 2].map(|()| free_address().unwrap());
    server.set([
        set("front", &dialect.listener("front", moved, "routes")),
        set("side", &dialect.listener("side", side, "routes")),
    ]);
    eventually("the moved listener", || get(moved, "/", &[]), |it| is_from(it, "blue")).await;
    eventually("the new listener", || get(side, "/", &[]), |it| is_from(it, "blue")).await;
    eventually("the old address is closed", || world.request(), Result::is_err).await;
    server.acknowledged([(ResourceType::Listener, "front"), (ResourceType::Listener, "side")]).await;

    server.remove(ResourceType::Listener, "side");
    server.remove(ResourceType::Cluster, "web");
    eventually("the removed listener is closed", || get(side, "/", &[]), Result::is_err).await;
    eventually("the removed cluster is gone", web, Option::is_none).await;
    assert!(is_from(&get(moved, "/", &[]).await, "blue"));
    let listed = async || {
        let mut types = server.types("envoy");
        types.remove(&ResourceType::Cluster).unwrap_or_default().resources
    };
    eventually("the server knows", listed, |it| !it.contains_key("web")).await;
    assert_eq!(world.envoy.stat("listener_manager.lds.update_rejected").await, 0);
    assert_eq!(world.envoy.stat("cluster_manager.cds.update_rejected").await, 0);
}

async fn certificates_and_authorities_are_renewed_without_touching_their_users(dialect: Dialect) {
    let world = World::start(dialect).await;
    let server = &world.server;
    let [old, new] = [(); 2].map(|()| Identity::new());

    // Envoy calls itself: the cluster `tls` leads to the listener `tls`, and both fetch what they need by SDS.
    let tls = free_address().unwrap();
    let server_context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![filters::secret_at(dialect, "certificate")],
            ..CommonTlsContext::default()
        }),
        ..DownstreamTlsContext::default()
    };
    let mut back = dialect.listener("tls", tls, "routes");
    back.filter_chains[0].transport_socket = Some(transport_socket(&server_context));
    let trust =
        ValidationContextType::ValidationContextSdsSecretConfig(filters::secret_at(dialect, "authority"));
    let client_context = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            validation_context_type: Some(trust),
            ..CommonTlsContext::default()
        }),
        sni: "gateway.test".to_owned(),
        // A resumed session would not show the certificate.
        max_session_keys: Some(UInt32Value { value: 0 }),
        ..UpstreamTlsContext::default()
    };
    let to_tls = Cluster {
        transport_socket: Some(transport_socket(&client_context)),
        typed_extension_protocol_options: [(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
            any(&one_request_per_connection()),
        )]
        .into(),
        ..dialect.cluster("tls")
    };
    let front = free_address().unwrap();
    server.set([
        old.certificate(),
        old.authority(),
        set("tls", &to_tls),
        set("tls", &endpoints("tls", tls)),
        set("to-tls", &routes("to-tls", "tls")),
        set("tls", &back),
        set("to-tls", &dialect.listener("to-tls", front, "to-tls")),
    ]);
    let through = || get(front, "/", &[]);
    eventually("TLS works", through, |it| is_from(it, "blue")).await;
    server.acknowledged([(ResourceType::Secret, "certificate"), (ResourceType::Secret, "authority")]).await;
    let listeners = world.envoy.stat("listener_manager.listener_create_success").await;

    server.set([new.certificate()]);
    eventually("the new certificate is not trusted", through, |it| has_status(it, 503)).await;
    server.set([new.authority()]);
    eventually("the new certificate is trusted", through, |it| is_from(it, "blue")).await;
    server.acknowledged([(ResourceType::Secret, "certificate"), (ResourceType::Secret, "authority")]).await;
    assert_eq!(world.envoy.stat("listener_manager.listener_create_success").await, listeners);
    assert_eq!(world.envoy.stat("listener_manager.listener_modified").await, 0);
}

async fn generic_secrets_and_extensions_are_renewed_without_touching_their_users(dialect: Dialect) {
    let world = World::start(dialect).await;
    let has = |it: &_, value: &str| {
        has_line(it, &format!("x-token: {value}")) && has_line(it, &format!("x-mark: {value}"))
    };
    eventually("both work", || world.request(), |it| has(it, "one")).await;
    world.server.set([filters::token("two"), filters::mark("two")]);
    eventually("both are renewed", || world.request(), |it| has(it, "two")).await;
    world
        .server
        .acknowledged([(ResourceType::Secret, "token"), (ResourceType::TypedExtensionConfig, "mark")])
        .await;
    assert_eq!(world.envoy.stat("listener_manager.listener_modified").await, 0);
}

async fn scopes_lead_to_routes_of_their_own(dialect: Dialect) {
    let world = World::start(dialect).await;
    let server = &world.server;
    let builder = FragmentBuilder {
        r#type: Some(Type::HeaderValueExtractor(HeaderValueExtractor {
            name: "x-scope".to_owned(),
            element_separator: ";".to_owned(),
            extract_type: Some(ExtractType::Element(KvElement {
                separator: "=".to_owned(),
                key: "tenant".to_owned(),
            })),
        })),
    };
    let scoped = ScopedRoutes {
        name: "scopes".to_owned(),
        scope_key_builder: Some(ScopeKeyBuilder { fragments: vec![builder] }),
        rds_config_source: Some(dialect.source()),
        config_specifier: Some(ConfigSpecifier::ScopedRds(ScopedRds {
            scoped_rds_config_source: Some(dialect.source()),
            ..ScopedRds::default()
        })),
    };
    let manager = connection_manager(RouteSpecifier::ScopedRoutes(scoped), Vec::new());
    let address = free_address().unwrap();
    server.set([
        set("tenants", &listener("tenants", address, &manager)),
        set("green", &dialect.cluster("green")),
        set("green", &endpoints("green", world.green)),
        set("to-green", &routes("to-green", "green")),
        scope("one", "routes"),
        scope("two", "to-green"),
    ]);
    let ask = |tenant: &'static str| async move || get(address, "/", &[("x-scope", tenant)]).await;
    eventually("the first scope", ask("tenant=one"), |it| is_from(it, "blue")).await;
    eventually("the second scope", ask("tenant=two"), |it| is_from(it, "green")).await;
    assert!(has_status(&ask("tenant=three")().await, 404));

    server.set([scope("three", "to-green"), scope("one", "to-green")]);
    eventually("the new scope", ask("tenant=three"), |it| is_from(it, "green")).await;
    eventually("the changed scope", ask("tenant=one"), |it| is_from(it, "green")).await;
    server.acknowledged([(ResourceType::ScopedRouteConfiguration, "three")]).await;

    server.remove(ResourceType::ScopedRouteConfiguration, "three");
    eventually("the removed scope", ask("tenant=three"), |it| has_status(it, 404)).await;
    assert!(is_from(&ask("tenant=two")().await, "green"));
}

fn one_request_per_connection() -> HttpProtocolOptions {
    let http1 =
        ExplicitHttpConfig { protocol_config: Some(ProtocolConfig::HttpProtocolOptions(Default::default())) };
    HttpProtocolOptions {
        common_http_protocol_options: Some(envoy_types::pb::envoy::config::core::v3::HttpProtocolOptions {
            max_requests_per_connection: Some(UInt32Value { value: 1 }),
            ..Default::default()
        }),
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(http1)),
        ..HttpProtocolOptions::default()
    }
}

fn scope(tenant: &str, routes: &str) -> Change {
    let fragment = scoped_route_configuration::key::Fragment {
        r#type: Some(scoped_route_configuration::key::fragment::Type::StringKey(tenant.to_owned())),
    };
    let scope = ScopedRouteConfiguration {
        name: tenant.to_owned(),
        route_configuration_name: routes.to_owned(),
        key: Some(scoped_route_configuration::Key { fragments: vec![fragment] }),
        ..ScopedRouteConfiguration::default()
    };
    set(tenant, &scope)
}

/// A certificate that vouches for itself.
struct Identity {
    certificate: String,
    key: String,
}

impl Identity {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["gateway.test".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        Self { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn certificate(&self) -> Change {
        let pair = TlsCertificate {
            certificate_chain: Some(filters::inline(&self.certificate)),
            private_key: Some(filters::inline(&self.key)),
            ..TlsCertificate::default()
        };
        let name = "certificate".to_owned();
        set("certificate", &Secret { name, r#type: Some(secret::Type::TlsCertificate(pair)) })
    }

    fn authority(&self) -> Change {
        let context = CertificateValidationContext {
            trusted_ca: Some(filters::inline(&self.certificate)),
            ..CertificateValidationContext::default()
        };
        let name = "authority".to_owned();
        set("authority", &Secret { name, r#type: Some(secret::Type::ValidationContext(context)) })
    }
}
