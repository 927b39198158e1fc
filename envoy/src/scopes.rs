//! How a request finds its route configuration: by the domain at the other end.
//!
//! The routes of a domain are a resource of their own, and so is the scope that leads to them: whatever changes about one
//! domain costs Envoy nothing for the others.
//!
//! | listener | request | scope |
//! |---|---|---|
//! | internal, transit | for `<service>.<domain>.svc` | `internal`, `<domain>` |
//! | internal | for `<service>` or `<service>.<self>` | `internal`, `<self>` |
//! | external | for `kuscia-handshake.<self>.svc` | `external`, `handshake` |
//! | external | any other, with `Kuscia-Source: <domain>` | `external`, `source\|<domain>` |

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::route::v3::{
    ScopedRouteConfiguration,
    scoped_route_configuration::{Key, key},
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    ScopedRds, ScopedRoutes,
    scoped_routes::{
        ConfigSpecifier, ScopeKeyBuilder,
        scope_key_builder::{
            FragmentBuilder,
            fragment_builder::{
                self, HeaderValueExtractor,
                header_value_extractor::{ExtractType, KvElement},
            },
        },
    },
};
use model::DomainId;

use crate::gateway::{Gateway, Side};
use crate::headers::{self, overwrite};
use crate::message::ads;
use crate::resource::{Resource, type_url};
use crate::routes::{HANDSHAKE_ROUTES, OWN_ROUTES, routes_from, routes_to};

const HANDSHAKE: &str = "handshake";
const SEPARATOR: &str = ";";

/// The header that names the scope of a request, set before routing whatever the client sent in it. It begins with the
/// direction, which no client can influence.
pub(crate) fn scope_header(side: Side, gateway: &Gateway) -> HeaderValueOption {
    let domain = &gateway.domain;
    let direction = direction(side);
    let scope = match side {
        // The second label of the host is the domain, also of a host that is short of one.
        Side::Internal | Side::Transit => format!("{direction}.%REQ(:authority)%.{domain}"),
        // The first pair whose key is the handshake's host counts. Of the host that is asked for, only as much is
        // compared as that host is long, so what a client sends cannot hold a pair with that key itself.
        Side::External => {
            let host = domain.handshake_host();
            let length = host.len();
            let asked_for = format!("%REQ({}):{length}%", headers::HOST);
            let source = source_key(&format!("%REQ({})%", headers::SOURCE));
            format!("{direction}{SEPARATOR}{asked_for}={HANDSHAKE}{SEPARATOR}{host}={source}")
        }
    };
    overwrite(headers::SCOPE, scope)
}

/// How a listener finds the scope of a request.
pub(crate) fn scoped_routes(side: Side, gateway: &Gateway) -> ScopedRoutes {
    let (separator, domain) = match side {
        Side::Internal | Side::Transit => (".", ExtractType::Index(2)),
        Side::External => {
            let key = gateway.domain.handshake_host();
            (SEPARATOR, ExtractType::Element(KvElement { separator: "=".to_owned(), key }))
        }
    };
    let fragments = [ExtractType::Index(0), domain].map(|extract_type| FragmentBuilder {
        r#type: Some(fragment_builder::Type::HeaderValueExtractor(HeaderValueExtractor {
            name: headers::SCOPE.to_owned(),
            element_separator: separator.to_owned(),
            extract_type: Some(extract_type),
        })),
    });
    ScopedRoutes {
        name: direction(side).to_owned(),
        scope_key_builder: Some(ScopeKeyBuilder { fragments: fragments.into() }),
        rds_config_source: Some(ads()),
        config_specifier: Some(ConfigSpecifier::ScopedRds(ScopedRds {
            scoped_rds_config_source: Some(ads()),
            ..ScopedRds::default()
        })),
    }
}

/// The scopes that do not depend on other domains.
pub(crate) fn own_scopes(gateway: &Gateway) -> [Resource; 2] {
    [
        scope(OWN_ROUTES.to_owned(), Side::Internal, gateway.domain.to_string()),
        scope(HANDSHAKE_ROUTES.to_owned(), Side::External, HANDSHAKE.to_owned()),
    ]
}

pub(crate) fn outbound_scope(destination: &DomainId) -> Resource {
    scope(routes_to(destination), Side::Internal, destination.to_string())
}

pub(crate) fn inbound_scope(source: &DomainId) -> Resource {
    scope(routes_from(source), Side::External, source_key(source.as_str()))
}

/// What is forwarded takes the same routes as what applications send.
fn direction(side: Side) -> &'static str {
    match side {
        Side::Internal | Side::Transit => Side::Internal.name(),
        Side::External => Side::External.name(),
    }
}

fn source_key(source: &str) -> String {
    format!("source|{source}")
}

fn scope(name: String, side: Side, domain: String) -> Resource {
    let fragments = [direction(side).to_owned(), domain]
        .map(|text| key::Fragment { r#type: Some(key::fragment::Type::StringKey(text)) });
    let scope = ScopedRouteConfiguration {
        name: name.clone(),
        route_configuration_name: name.clone(),
        key: Some(Key { fragments: fragments.into() }),
        ..ScopedRouteConfiguration::default()
    };
    Resource::new(type_url::SCOPES, name, &scope)
}
