//! What a domain proves itself with.

use std::time::SystemTime;

use certs::{DEFAULT_LEAF_LIFETIME, DomainAuthority, DomainKey, LeafRequest, LeafUsage};
use envoy::{Certificate, KeyMaterial};
use model::DomainId;

use crate::Failure;

/// The authority of a domain, as PEM, and what its gateway proves itself with.
pub(crate) fn proofs(domain: &DomainId, key: &DomainKey) -> Result<(String, KeyMaterial), Failure> {
    let now = SystemTime::now();
    let authority = DomainAuthority::new(domain.as_str(), key, now)?;
    let client = authority.issue(
        &LeafRequest {
            common_name: domain.to_string(),
            subject_alt_names: Vec::new(),
            usage: LeafUsage::Client,
            lifetime: DEFAULT_LEAF_LIFETIME,
        },
        now,
    )?;
    let client = Certificate { chain_pem: client.chain_pem, key_pem: client.key_pem };
    Ok((authority.certificate_pem().to_owned(), KeyMaterial { external: None, client }))
}
