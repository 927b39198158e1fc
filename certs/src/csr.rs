//! Asking a master to certify the domain's key.

use rcgen::{CertificateParams, CustomExtension};

use crate::check;
use crate::encoding::to_pem;
use crate::error::CertError;
use crate::key::{DomainKey, Signer};
use crate::names::domain_name;

/// Where Kuscia's master looks for the deploy token.
const DEPLOY_TOKEN_OID: &[u64] = &[1, 2, 3, 4];

const MAX_DEPLOY_TOKEN: usize = 4096;

/// Makes a certificate signing request (PKCS#10, PEM) with which a domain joins a master.
///
/// The common name is the domain ID. A deploy token goes in as extension 1.2.3.4, whose value is the token's
/// bytes themselves and not DER, as Kuscia's master expects. It is a secret and can be read in the result.
///
/// # Errors
/// When `domain` is not an RFC 1123 label, or the deploy token is empty or longer than 4096 bytes.
pub fn certificate_signing_request(
    domain: &str,
    key: &DomainKey,
    deploy_token: Option<&str>,
) -> Result<String, CertError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = domain_name(domain)?;
    if let Some(token) = deploy_token {
        if token.is_empty() || token.len() > MAX_DEPLOY_TOKEN {
            return Err(CertError::DeployToken);
        }
        params.custom_extensions = vec![CustomExtension::from_oid_content(DEPLOY_TOKEN_OID, token.into())];
    }
    let request = params.serialize_request(&Signer(key))?;
    check::signing_request(request.der(), &params, key.public_key().pkcs1_der())?;
    Ok(to_pem("CERTIFICATE REQUEST", request.der()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deploy_tokens_out_of_proportion_are_refused() {
        let key = DomainKey::generate().unwrap();
        let request = |token: &str| certificate_signing_request("alice", &key, Some(token));
        assert_eq!(request(""), Err(CertError::DeployToken));
        assert_eq!(request(&"t".repeat(4097)), Err(CertError::DeployToken));
        assert!(request(&"t".repeat(4096)).is_ok());
    }

    #[test]
    fn the_domain_must_be_a_domain_id() {
        let key = DomainKey::generate().unwrap();
        let refused = certificate_signing_request("Alice", &key, None);
        assert_eq!(refused, Err(CertError::DomainId("Alice".into())));
    }
}
