//! What the translation needs to know beside the snapshot.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use model::HostPort;
use zeroize::Zeroizing;

/// The settings of one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of this host, by which error messages say where they come from.
    pub instance: String,
    /// Version of the mesh, which error bodies name.
    pub version: String,
    /// Where applications of this domain connect.
    pub internal: SocketAddr,
    /// Where gateways of other domains connect.
    pub external: SocketAddr,
    /// What the external listener speaks.
    pub external_protocol: ExternalProtocol,
    /// The domain's own authority, as PEM.
    pub authority_pem: String,
    /// Where the mesh answers handshakes.
    pub handshake: SocketAddr,
    /// Where Envoy writes access logs.
    pub access_log: AccessLog,
    /// Proxies in front of the external listener, which are believed what they say of their clients' addresses
    /// (`X-Forwarded-For`).
    pub trusted_proxies: Vec<IpNet>,
    /// Where Envoy tells of the requests that it has passed on, if anywhere.
    pub tracing: Option<Tracing>,
}

/// Where and of what Envoy tells by the OpenTelemetry protocol (OTLP over gRPC).
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// The collector.
    pub collector: HostPort,
    /// The part of the requests that is traced unless their traces have begun elsewhere, in percent.
    pub sampling: f64,
}

impl Eq for Tracing {}

/// What the external listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalProtocol {
    /// HTTP without TLS.
    NoTls,
    /// HTTP over TLS. Clients that show a certificate are checked.
    Tls,
    /// HTTP over TLS, for clients with a certificate only.
    Mtls,
}

/// Where Envoy writes access logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// To its standard output.
    Stdout,
    /// To `internal.log`, `external.log` and, what is forwarded, `transit.log` in this folder, which must exist.
    Directory(PathBuf),
    /// Nowhere.
    Off,
}

/// What a domain proves itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyMaterial {
    /// The certificate of the external listener, if that speaks TLS. Without it, such a listener accepts nothing.
    pub external: Option<Certificate>,
    /// The certificate that gateways of other domains are shown.
    pub client: Certificate,
}

/// A certificate and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate, then those that lead to its authority.
    pub chain_pem: String,
    /// Its private key.
    pub key_pem: Zeroizing<String>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("chain_pem", &self.chain_pem)
            .field("key_pem", &"<redacted>")
            .finish()
    }
}
