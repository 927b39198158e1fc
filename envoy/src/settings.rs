//! What the translation needs to know beside the snapshot.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

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
    /// Where the mesh answers handshakes.
    pub handshake: SocketAddr,
    /// Where Envoy writes access logs.
    pub access_log: AccessLog,
}

/// What the external listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalProtocol {
    /// HTTP without TLS.
    NoTls,
    /// HTTP over TLS; needs [`KeyMaterial`].
    Tls,
    /// HTTP over TLS, with client certificates that the domain's own authority signed; needs [`KeyMaterial`].
    Mtls,
}

/// Where Envoy writes access logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// To its standard output.
    Stdout,
    /// To `internal.log` and `external.log` in this folder, which must exist.
    Directory(PathBuf),
    /// Nowhere.
    Off,
}

/// Certificates and keys of the external listener, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyMaterial {
    /// Its certificate, then those that lead to the domain's authority.
    pub external_chain_pem: String,
    /// The private key of that certificate.
    pub external_key_pem: Zeroizing<String>,
    /// The domain's own authority, against which client certificates are checked.
    pub authority_pem: String,
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyMaterial")
            .field("external_chain_pem", &self.external_chain_pem)
            .field("external_key_pem", &"<redacted>")
            .field("authority_pem", &self.authority_pem)
            .finish()
    }
}
