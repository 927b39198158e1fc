//! Certificates that others made, and the private keys that belong to them.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{KeyPair, PublicKeyData as _};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_X509_COMMON_NAME;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{X509Name, X509Version};
use zeroize::Zeroizing;

use crate::encoding::{Wanted, decode_base64, parse_pem, parse_pem_blocks, to_pem};
use crate::error::KeyError;
use crate::key::DomainKey;
use crate::public_key::CERTIFICATE;

const PRIVATE_KEY: Wanted = Wanted {
    labels: &["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"],
    description: "private key (`PRIVATE KEY`, `RSA PRIVATE KEY` or `EC PRIVATE KEY`)",
};

/// What a certificate says. Nothing of it is verified: neither its signature nor its dates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pem: String,
    fingerprint: String,
    subject: Option<String>,
    issuer: Option<String>,
    is_v3: bool,
    is_authority: bool,
    may_sign: bool,
    /// The bits of `subjectPublicKey`.
    public_key: Vec<u8>,
}

impl Certificate {
    /// Reads base64 of PEM certificates, one or more, in their order. White space within the base64 and other PEM
    /// blocks are passed over.
    ///
    /// # Errors
    /// Says what is wrong with the input and how to mend it.
    pub fn all_from_base64_pem(data: &str) -> Result<Vec<Self>, KeyError> {
        let blocks = parse_pem_blocks(&decode_base64(data)?, &CERTIFICATE)?;
        blocks.iter().map(|block| Self::from_der(&block.der)).collect()
    }

    /// The certificate alone, as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of its DER form, in lower-case hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The common name of its subject, where that consists of nothing else.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The common name of its issuer, where that consists of nothing else.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Whether it is of version 3, and so says whether it is an authority.
    #[must_use]
    pub fn is_v3(&self) -> bool {
        self.is_v3
    }

    /// Whether it says that it may issue certificates (RFC 5280 section 4.2.1.9).
    #[must_use]
    pub fn is_authority(&self) -> bool {
        self.is_authority
    }

    /// Whether verifiers that trust it take certificates that it has issued, whatever else it says: it names no use of its
    /// key (RFC 5280 section 4.2.1.3), or this one.
    #[must_use]
    pub fn may_sign(&self) -> bool {
        self.may_sign
    }

    /// Whether it is for the public half of `key`.
    #[must_use]
    pub fn belongs_to(&self, key: &PrivateKey) -> bool {
        self.public_key == key.public
    }

    fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let Ok(([], parsed)) = X509Certificate::from_der(der) else { return Err(KeyError::Malformed) };
        let constraints = parsed.basic_constraints().map_err(|_| KeyError::Malformed)?;
        let key_usage = parsed.key_usage().map_err(|_| KeyError::Malformed)?;
        Ok(Self {
            pem: to_pem("CERTIFICATE", der).to_string(),
            fingerprint: digest(&SHA256, der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
            subject: sole_common_name(parsed.subject())?,
            issuer: sole_common_name(parsed.issuer())?,
            is_v3: parsed.version() == X509Version::V3,
            is_authority: constraints.is_some_and(|constraints| constraints.value.ca),
            may_sign: key_usage.is_none_or(|usage| usage.value.key_cert_sign()),
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
        })
    }
}

/// The one attribute of a name, if that is a common name. One in an encoding that RFC 5280 section 4.1.2.4 gives up is
/// an error: other programs may read a name in it that is not seen here.
fn sole_common_name(name: &X509Name<'_>) -> Result<Option<String>, KeyError> {
    let mut attributes = name.iter_attributes();
    match (attributes.next(), attributes.next()) {
        (Some(only), None) if *only.attr_type() == OID_X509_COMMON_NAME => {
            only.as_str().map(|text| Some(text.to_owned())).map_err(|_| KeyError::Malformed)
        }
        _ => Ok(None),
    }
}

/// A private key of TLS: RSA, ECDSA or Ed25519. It is wiped when dropped and never shown.
pub struct PrivateKey {
    pem: Zeroizing<String>,
    /// The bits of `subjectPublicKey` of its certificates.
    public: Vec<u8>,
}

impl PrivateKey {
    /// Reads base64 of a PEM private key: PKCS#8, PKCS#1 or SEC 1. White space within the base64 and other PEM blocks
    /// are passed over.
    ///
    /// # Errors
    /// Says what is wrong with the input and how to mend it.
    pub fn from_base64_pem(data: &str) -> Result<Self, KeyError> {
        let block = parse_pem(&decode_base64(data)?, &PRIVATE_KEY)?;
        let pair = Zeroizing::new(KeyPair::try_from(block.der.as_slice()).map_err(|_| KeyError::Malformed)?);
        Ok(Self { pem: to_pem(block.label, &block.der), public: pair.der_bytes().to_vec() })
    }

    /// The key alone, as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

impl From<&DomainKey> for PrivateKey {
    fn from(key: &DomainKey) -> Self {
        Self { pem: key.to_pkcs1_pem(), public: key.public_key().pkcs1_der().to_vec() }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(<redacted>)")
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::string::BmpString;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue};

    use super::*;
    use crate::{DEFAULT_LEAF_LIFETIME, DomainAuthority, LeafRequest, LeafUsage};

    fn read(pem: &str) -> Result<Vec<Certificate>, KeyError> {
        Certificate::all_from_base64_pem(&STANDARD.encode(pem))
    }

    fn self_signed(names: &[(DnType, DnValue)]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn a_chain_is_read_in_its_order_and_its_key_is_found() {
        let key = DomainKey::generate().unwrap();
        let now = SystemTime::now();
        let authority = DomainAuthority::new("alice", &key, now).unwrap();
        let request = LeafRequest {
            common_name: "client".into(),
            subject_alt_names: vec![],
            usage: LeafUsage::Client,
            lifetime: DEFAULT_LEAF_LIFETIME,
        };
        let leaf = authority.issue(&request, now).unwrap();
        let text = format!("{}{}{}", leaf.chain_pem, *leaf.key_pem, authority.certificate_pem());
        let [client, issuer] = &read(&text).unwrap()[..] else { panic!("two certificates") };
        assert_eq!((client.subject(), client.issuer()), (Some("client"), Some("alice")));
        assert_eq!((issuer.subject(), issuer.issuer()), (Some("alice"), Some("alice")));
        assert!(client.is_v3() && !client.is_authority() && issuer.is_authority());
        assert!(!client.may_sign() && issuer.may_sign());
        assert_eq!((client.pem(), issuer.pem()), (leaf.chain_pem.as_str(), authority.certificate_pem()));
        assert_eq!(client.fingerprint().len(), 64);

        let own = PrivateKey::from(&key);
        let given = PrivateKey::from_base64_pem(&STANDARD.encode(&text)).unwrap();
        assert_eq!(given.pem(), *leaf.key_pem);
        assert!(client.belongs_to(&given) && issuer.belongs_to(&own));
        assert!(!client.belongs_to(&own) && !issuer.belongs_to(&given));
        let rsa = PrivateKey::from_base64_pem(&key.to_domain_key_data()).unwrap();
        assert!(issuer.belongs_to(&rsa));
        assert!(!format!("{given:?} {rsa:?}").contains("MI"));
    }

    #[test]
    fn a_common_name_among_others_is_not_the_whole_name() {
        let text = |text: &str| DnValue::Utf8String(text.into());
        let both = [(DnType::CommonName, text("bob")), (DnType::OrganizationName, text("Bob Inc"))];
        assert_eq!(read(&self_signed(&both)).unwrap()[0].subject(), None);
        assert_eq!(read(&self_signed(&both[..1])).unwrap()[0].subject(), Some("bob"));
        assert_eq!(read(&self_signed(&both[1..])).unwrap()[0].issuer(), None);
        assert!(read(&self_signed(&both)).unwrap()[0].may_sign(), "nothing says what its key is for");
    }

    #[test]
    fn a_name_that_others_may_read_is_not_passed_over() {
        let hidden = DnValue::BmpString(BmpString::try_from("bob").unwrap());
        assert_eq!(read(&self_signed(&[(DnType::CommonName, hidden)])), Err(KeyError::Malformed));
    }

    #[test]
    fn what_is_no_certificate_or_key_is_named() {
        let key = DomainKey::generate().unwrap();
        let only_key = Certificate::all_from_base64_pem(&key.to_domain_key_data());
        assert!(matches!(only_key, Err(KeyError::WrongBlock { .. })), "{only_key:?}");
        assert_eq!(
            read("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            Err(KeyError::Malformed)
        );
        assert_eq!(Certificate::all_from_base64_pem("?"), Err(KeyError::NotBase64));
        let broken = STANDARD.encode("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        assert_eq!(PrivateKey::from_base64_pem(&broken).unwrap_err(), KeyError::Malformed);
    }
}
