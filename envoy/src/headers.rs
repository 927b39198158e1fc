//! The headers of Kuscia's wire, and how they are set.

use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
};

/// Domain of the last gateway.
pub(crate) const SOURCE: &str = "kuscia-source";
/// Domain that made the request.
pub(crate) const ORIGIN_SOURCE: &str = "kuscia-origin-source";
/// Service asked for.
pub(crate) const HOST: &str = "kuscia-host";
/// What the source authenticates itself with.
pub(crate) const TOKEN: &str = "kuscia-token";
/// Where a request failed, gateway by gateway.
pub(crate) const ERROR_MESSAGE: &str = "kuscia-error-message";
/// The domain whose gateway answered by itself a request that it let in. Not of Kuscia's wire.
pub(crate) const DATAPATH: &str = "kuscia-datapath";
/// Protocol between the domains.
pub(crate) const INTERCONN_PROTOCOL: &str = "x-interconn-protocol";
/// The host of the request.
pub(crate) const AUTHORITY: &str = ":authority";

/// Address of the client, as Envoy sees it: that of an application is none of the other domain's business.
pub(crate) const CLIENT_ADDRESS: &str = "x-envoy-external-address";

/// Cluster of the service asked for, where its host stands in full. Our own, and never sent on.
pub(crate) const CLUSTER: &str = "x-nm-cluster";
/// The same, where the host is `<service>`.
pub(crate) const CLUSTER_OF_LABEL: &str = "x-nm-cluster-label";
/// The same, where the host is `<service>.<domain>`.
pub(crate) const CLUSTER_OF_DOMAIN: &str = "x-nm-cluster-domain";
/// The listener that a request came to. Our own, and never sent on.
pub(crate) const SIDE: &str = "x-nm-side";
/// Tells the domain at the other end, for the choice of the route configuration. Our own, and never sent on.
pub(crate) const SCOPE: &str = "x-nm-scope";

/// What neither applications nor other domains get to see.
pub(crate) const NEVER_SENT_ON: [&str; 6] =
    [CLUSTER, CLUSTER_OF_LABEL, CLUSTER_OF_DOMAIN, SIDE, SCOPE, CLIENT_ADDRESS];

pub(crate) fn overwrite(name: &str, value: impl Into<String>) -> HeaderValueOption {
    option(name, value.into(), HeaderAppendAction::OverwriteIfExistsOrAdd)
}

pub(crate) fn overwrite_if_present(name: &str, value: impl Into<String>) -> HeaderValueOption {
    option(name, value.into(), HeaderAppendAction::OverwriteIfExists)
}

pub(crate) fn add_if_absent(name: &str, value: impl Into<String>) -> HeaderValueOption {
    option(name, value.into(), HeaderAppendAction::AddIfAbsent)
}

fn option(name: &str, value: String, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value, ..HeaderValue::default() }),
        append_action: action.into(),
        ..HeaderValueOption::default()
    }
}
