//! HTTP filters that leave a trace in requests, and what they fetch from the server.

use envoy_types::pb::envoy::{
    config::{
        common::mutation_rules::v3::{HeaderMutation as Mutation, header_mutation::Action},
        core::v3::{
            DataSource, ExtensionConfigSource, HeaderValue, HeaderValueOption, data_source::Specifier,
            header_value_option::HeaderAppendAction,
        },
    },
    extensions::{
        filters::{
            http::{
                credential_injector::v3::CredentialInjector,
                header_mutation::v3::{HeaderMutation, Mutations},
            },
            network::http_connection_manager::v3::{HttpFilter, http_filter::ConfigType},
        },
        http::injected_credentials::generic::v3::Generic,
        transport_sockets::tls::v3::{GenericSecret, SdsSecretConfig, Secret, secret},
    },
};
use networkmesh_xds::Change;
use prost::Name as _;

use super::resources::{Dialect, extension, http_filter, set};

/// A filter that puts the secret `token` into the header `x-token`.
pub(crate) fn injector(dialect: Dialect) -> HttpFilter {
    let generic = Generic {
        credential: Some(secret_at(dialect, "token")),
        header: "x-token".to_owned(),
        ..Generic::default()
    };
    let injector = CredentialInjector {
        overwrite: true,
        credential: Some(extension("envoy.http.injected_credentials.generic", &generic)),
        ..CredentialInjector::default()
    };
    http_filter("envoy.filters.http.credential_injector", &injector)
}

/// The secret `token`.
pub(crate) fn token(value: &str) -> Change {
    let generic = GenericSecret { secret: Some(inline(value)), ..GenericSecret::default() };
    let secret = Secret { name: "token".to_owned(), r#type: Some(secret::Type::GenericSecret(generic)) };
    set("token", &secret)
}

/// A filter that comes by extension config discovery, by the name `mark`.
pub(crate) fn discovered_mark(dialect: Dialect) -> HttpFilter {
    let discovery = ExtensionConfigSource {
        config_source: Some(dialect.source()),
        type_urls: vec![HeaderMutation::type_url()],
        ..ExtensionConfigSource::default()
    };
    HttpFilter {
        name: "mark".to_owned(),
        config_type: Some(ConfigType::ConfigDiscovery(discovery)),
        ..HttpFilter::default()
    }
}

/// The extension `mark`, which puts a value into the header `x-mark`.
pub(crate) fn mark(value: &str) -> Change {
    let header = HeaderValueOption {
        header: Some(HeaderValue {
            key: "x-mark".to_owned(),
            value: value.to_owned(),
            ..HeaderValue::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    };
    let mutations = Mutations {
        request_mutations: vec![Mutation { action: Some(Action::Append(header)) }],
        ..Mutations::default()
    };
    let filter = HeaderMutation { mutations: Some(mutations), ..HeaderMutation::default() };
    set("mark", &extension("mark", &filter))
}

pub(crate) fn secret_at(dialect: Dialect, name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: Some(dialect.source()) }
}

pub(crate) fn inline(text: &str) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineString(text.to_owned())), ..DataSource::default() }
}
