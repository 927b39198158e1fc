//! `Domain`s, parsed.

use std::sync::Arc;

use certs::{Certificate, KeyError, PublicKey};
use kube::ResourceExt as _;

use crate::DomainId;
use crate::api::Domain;
use crate::error::{FieldErrors, Problem};

/// The certificate of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DomainCertificate {
    /// The certificate alone, whatever else stood beside it.
    pub(crate) pem: Arc<str>,
    /// The key in it.
    pub(crate) key: PublicKey,
    /// Whether it names the domain, and no other, as its issuer, and so does what it signs. It may be shown by itself too.
    pub(crate) is_authority: bool,
}

/// Parses a domain; its certificate is `None` where it has none.
pub(crate) fn parse(domain: &Domain) -> Result<(DomainId, Option<DomainCertificate>), FieldErrors> {
    let mut errors = FieldErrors::default();
    let id = errors.check("metadata.name", domain.name_any().parse::<DomainId>());
    let certificate = errors.check("spec.cert", parse_certificate(&domain.spec.cert, &domain.name_any()));
    id.zip(certificate).ok_or(errors)
}

/// The public key in the certificate of `domain`, in the form of `tokenConfig`: base64 of PEM. `None` where the domain
/// has no certificate.
///
/// # Errors
/// Everything that is wrong with the domain.
pub fn public_key_of(domain: &Domain) -> Result<Option<String>, FieldErrors> {
    let (_, certificate) = parse(domain)?;
    Ok(certificate.map(|certificate| certificate.key.to_base64_pem()))
}

fn parse_certificate(base64: &str, id: &str) -> Result<Option<DomainCertificate>, Problem> {
    if base64.is_empty() {
        return Ok(None);
    }
    let refused = |error: KeyError| {
        Problem::new(error.to_string(), "give the base64 of the PEM of the domain's certificate")
    };
    let key = PublicKey::from_certificate_base64_pem(base64).map_err(refused)?;
    let certificates = Certificate::all_from_base64_pem(base64).map_err(refused)?;
    let certificate = certificates.first().ok_or(KeyError::Malformed).map_err(refused)?;
    Ok(Some(DomainCertificate {
        pem: certificate.pem().into(),
        key,
        is_authority: certificate.is_authority()
            && [certificate.subject(), certificate.issuer()] == [Some(id); 2],
    }))
}
