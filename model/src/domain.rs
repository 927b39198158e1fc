//! `Domain`s, parsed.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certs::PublicKey;
use kube::ResourceExt as _;
use pem::{EncodeConfig, LineEnding};

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
}

/// Parses a domain; its certificate is `None` where it has none.
pub(crate) fn parse(domain: &Domain) -> Result<(DomainId, Option<DomainCertificate>), FieldErrors> {
    let mut errors = FieldErrors::default();
    let id = errors.check("metadata.name", domain.name_any().parse::<DomainId>());
    let certificate = errors.check("spec.cert", parse_certificate(&domain.spec.cert));
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

fn parse_certificate(base64: &str) -> Result<Option<DomainCertificate>, Problem> {
    const REMEDY: &str = "give the base64 of the PEM of the domain's certificate";
    if base64.is_empty() {
        return Ok(None);
    }
    let key = PublicKey::from_certificate_base64_pem(base64)
        .map_err(|error| Problem::new(error.to_string(), REMEDY))?;
    let pem = first_certificate(base64).ok_or_else(|| Problem::new("holds no certificate", REMEDY))?;
    Ok(Some(DomainCertificate { pem: pem.into(), key }))
}

/// The block from which the key is read. A private key may stand in the same text: it must get no further.
fn first_certificate(base64: &str) -> Option<String> {
    let dense: String = base64.split_ascii_whitespace().collect();
    let blocks = pem::parse_many(STANDARD.decode(dense).ok()?).ok()?;
    let block = blocks.iter().find(|block| block.tag() == "CERTIFICATE")?;
    Some(pem::encode_config(block, EncodeConfig::new().set_line_ending(LineEnding::LF)))
}
