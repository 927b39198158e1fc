//! What a source may do beside proving who it is.

use std::fmt;

use crate::DomainId;
use crate::api::SecretString;

/// The client certificate that a route names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePin {
    /// The certificate, as PEM.
    pub pem: std::sync::Arc<str>,
    /// SHA-256 of its DER form, in lower-case hexadecimal.
    pub fingerprint: String,
}

/// A header that is added to requests of a source. Its value may be a credential.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// Its name, in lower case.
    pub name: String,
    /// Its value.
    pub value: SecretString,
}

impl fmt::Debug for RequestHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.name, self.value)
    }
}

/// Another domain to which requests of a source are forwarded (`transitMethod: THIRD-DOMAIN`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Where they go.
    pub destination: DomainId,
    /// The domains that may have made them, sorted: the source itself, or others whose requests it brings.
    pub origins: Box<[DomainId]>,
}
