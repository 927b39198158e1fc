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
/// Number of the token that a handshake asks about.
pub(crate) const TOKEN_REVISION: &str = "kuscia-token-revision";
/// What Kuscia's gateways tell each other where one calls through a tunnel that the other has opened.
pub(crate) const TRANSIT_HASH: &str = "kuscia-transit-hash";
/// The same.
pub(crate) const TRANSIT_FLAG: &str = "kuscia-transit-flag";
/// How the headers begin by which Kuscia's gateways say how a body is encrypted.
pub(crate) const ENCRYPT_PREFIX: &str = "kuscia-encrypt-";
/// Protocol between the domains.
pub(crate) const INTERCONN_PROTOCOL: &str = "x-interconn-protocol";
/// The host of the request.
pub(crate) const AUTHORITY: &str = ":authority";
/// The gateways that have forwarded a request (RFC 9110, section 7.6.3).
pub(crate) const VIA: &str = "via";
/// The addresses that a request came from, one gateway or proxy after the other.
pub(crate) const FORWARDED_FOR: &str = "x-forwarded-for";

/// Whether a request came by TLS.
pub(crate) const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// What the names of Envoy's own headers begin with.
pub(crate) const ENVOY_PREFIX: &str = "x-envoy-";

/// Address of the client, as Envoy sees it: that of an application is none of the other domain's business.
pub(crate) const CLIENT_ADDRESS: &str = "x-envoy-external-address";

/// Cluster of the service asked for, where its host stands in full. Our own, and never sent on.
pub(crate) const CLUSTER: &str = "x-nm-cluster";
/// The same, where the host is `<service>`.
pub(crate) const CLUSTER_OF_LABEL: &str = "x-nm-cluster-label";
/// The same, where the host is `<service>.<domain>`.
pub(crate) const CLUSTER_OF_DOMAIN: &str = "x-nm-cluster-domain";
/// Tells the direction and the domain at the other end, for the choice of the route configuration. Our own, and never
/// sent on.
pub(crate) const SCOPE: &str = "x-nm-scope";
/// Issuer of the connection's client certificate. Our own, and never sent on.
pub(crate) const PEER_ISSUER: &str = "x-nm-peer-issuer";
/// The connection's client certificate. Our own, and never sent on.
pub(crate) const PEER_CERTIFICATE: &str = "x-nm-peer-certificate";

/// What neither applications nor other domains get to see.
pub(crate) const NEVER_SENT_ON: [&str; 7] =
    [CLUSTER, CLUSTER_OF_LABEL, CLUSTER_OF_DOMAIN, SCOPE, PEER_ISSUER, PEER_CERTIFICATE, CLIENT_ADDRESS];

/// The value of [`PEER_ISSUER`] for an issuer of this name; never empty, so that it replaces whatever a client sent.
pub(crate) fn peer_issuer(name: &str) -> String {
    format!("issuer={name}")
}

/// The value of [`PEER_CERTIFICATE`] for the certificate that has this SHA-256; never empty either.
pub(crate) fn peer_certificate(sha256: &str) -> String {
    format!("sha256={sha256}")
}

pub(crate) fn overwrite(name: &str, value: impl Into<String>) -> HeaderValueOption {
    option(name, value.into(), HeaderAppendAction::OverwriteIfExistsOrAdd)
}

pub(crate) fn overwrite_if_present(name: &str, value: impl Into<String>) -> HeaderValueOption {
    option(name, value.into(), HeaderAppendAction::OverwriteIfExists)
}

pub(crate) fn add_if_absent(name: &str, value: impl Into<String>) -> HeaderValueOption {
    option(name, value.into(), HeaderAppendAction::AddIfAbsent)
}

pub(crate) fn append(name: &str, value: impl Into<String>) -> HeaderValueOption {
    option(name, value.into(), HeaderAppendAction::AppendIfExistsOrAdd)
}

fn option(name: &str, value: String, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value, ..HeaderValue::default() }),
        append_action: action.into(),
        ..HeaderValueOption::default()
    }
}
