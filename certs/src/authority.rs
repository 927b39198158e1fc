//! The domain as a certificate authority of its own.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SerialNumber,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::check;
use crate::encoding::to_pem;
use crate::error::CertError;
use crate::key::{DomainKey, Signer};
use crate::names::{alternative_name, domain_name, leaf_name};

/// How long a domain certificate lives: ten years.
pub const CA_LIFETIME: Duration = Duration::from_hours(24 * 3652);

/// How long a leaf lives unless configured otherwise: 90 days.
pub const DEFAULT_LEAF_LIFETIME: Duration = Duration::from_hours(24 * 90);

/// Most alternative names of one leaf.
pub const MAX_ALTERNATIVE_NAMES: usize = 100;

/// Certificates count as valid since a day before they are made, for peers whose clock is behind.
const CLOCK_SKEW: Duration = Duration::from_hours(24);

/// A domain's self-signed certificate and what it takes to issue leaves under it.
///
/// All authorities made of the same domain ID and key are interchangeable: each one's certificate verifies the
/// leaves of the others.
pub struct DomainAuthority {
    key: DomainKey,
    params: CertificateParams,
    certificate_der: Vec<u8>,
    certificate_pem: String,
}

impl DomainAuthority {
    /// Makes the domain's certificate, valid for ten years from `now`, with the domain ID as its common name.
    ///
    /// # Errors
    /// When `domain` is not an RFC 1123 label, or `now` is not a time that certificates can express.
    pub fn new(domain: &str, key: &DomainKey, now: SystemTime) -> Result<Self, CertError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = domain_name(domain)?;
        (params.not_before, params.not_after) = validity(now, CA_LIFETIME)?;
        params.serial_number = Some(random_serial()?);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.key_identifier_method = KeyIdMethod::PreSpecified(key_identifier(key));

        let certificate = params.self_signed(&Signer(key))?;
        check::certificate(certificate.der(), &params, key.public_key().pkcs1_der(), None)?;
        Ok(Self {
            key: key.clone(),
            params,
            certificate_der: certificate.der().to_vec(),
            certificate_pem: to_pem("CERTIFICATE", certificate.der()).to_string(),
        })
    }

    /// The domain's certificate, as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Base64 of [`certificate_pem`](Self::certificate_pem): what partners put into `Domain.spec.cert`.
    #[must_use]
    pub fn certificate_base64_pem(&self) -> String {
        STANDARD.encode(&self.certificate_pem)
    }

    /// Issues a certificate with a fresh ECDSA P-256 key.
    ///
    /// # Errors
    /// When a field of the request does not fit into a certificate, or `now` is not a time that certificates
    /// can express.
    pub fn issue(&self, request: &LeafRequest, now: SystemTime) -> Result<Leaf, CertError> {
        let mut params = request.params()?;
        (params.not_before, params.not_after) = validity(now, request.lifetime)?;
        params.serial_number = Some(random_serial()?);

        let key = Zeroizing::new(KeyPair::generate()?);
        let issuer = Issuer::from_params(&self.params, Signer(&self.key));
        let certificate = params.signed_by(&*key, &issuer)?;
        check::certificate(certificate.der(), &params, key.der_bytes(), Some(&self.certificate_der))?;
        Ok(Leaf {
            chain_pem: to_pem("CERTIFICATE", certificate.der()).to_string(),
            key_pem: to_pem("PRIVATE KEY", key.serialized_der()),
            not_before: params.not_before.into(),
            not_after: params.not_after.into(),
            renew_at: now + request.lifetime.mul_f64(2.0 / 3.0),
        })
    }
}

impl fmt::Debug for DomainAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DomainAuthority")
            .field("key", &self.key)
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

/// What a leaf certificate is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRequest {
    /// Common name of the subject, for people to read: 1 to 128 characters.
    pub common_name: String,
    /// IP addresses and DNS names that the leaf stands for. A server needs one or more.
    pub subject_alt_names: Vec<String>,
    /// Which end of TLS connections it is for.
    pub usage: LeafUsage,
    /// For how long it is valid from when it is issued: one second to ten years. [`DEFAULT_LEAF_LIFETIME`] is
    /// the usual value.
    pub lifetime: Duration,
}

impl LeafRequest {
    fn params(&self) -> Result<CertificateParams, CertError> {
        if !(Duration::from_secs(1)..=CA_LIFETIME).contains(&self.lifetime) {
            return Err(CertError::Lifetime(self.lifetime));
        }
        if self.subject_alt_names.len() > MAX_ALTERNATIVE_NAMES {
            return Err(CertError::TooManyAlternativeNames(self.subject_alt_names.len()));
        }
        if self.usage == LeafUsage::Server && self.subject_alt_names.is_empty() {
            return Err(CertError::NoAlternativeName);
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = leaf_name(&self.common_name)?;
        params.subject_alt_names =
            self.subject_alt_names.iter().map(|name| alternative_name(name)).collect::<Result<_, _>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match self.usage {
            LeafUsage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            LeafUsage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

/// The end of a TLS connection that a leaf certificate authenticates (RFC 5280 section 4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafUsage {
    /// A listener.
    Server,
    /// The side that connects.
    Client,
}

/// A leaf certificate with its private key.
#[derive(PartialEq, Eq)]
pub struct Leaf {
    /// The certificates to present, as PEM. It is the leaf alone: peers already hold the domain certificate,
    /// which they trust in whichever of its forms they were given.
    pub chain_pem: String,
    /// The private key, as PEM `PRIVATE KEY`.
    pub key_pem: Zeroizing<String>,
    /// When it starts to be valid: a day before it was issued.
    pub not_before: SystemTime,
    /// When it ends to be valid.
    pub not_after: SystemTime,
    /// When it is to be replaced: after two thirds of its life.
    pub renew_at: SystemTime,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("chain_pem", &self.chain_pem)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .field("renew_at", &self.renew_at)
            .finish_non_exhaustive()
    }
}

/// From a day ago until `lifetime` from now, in the whole seconds that X.509 counts.
fn validity(now: SystemTime, lifetime: Duration) -> Result<(OffsetDateTime, OffsetDateTime), CertError> {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| CertError::Clock)?;
    let now = i64::try_from(since_epoch.as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(CertError::Clock)?;
    let end = i64::try_from(lifetime.as_secs())
        .ok()
        .and_then(|seconds| now.checked_add(time::Duration::seconds(seconds)))
        .ok_or(CertError::Clock)?;
    Ok((now - CLOCK_SKEW, end))
}

/// 127 random bits: unique without a register, and positive as RFC 5280 section 4.1.2.2 asks.
fn random_serial() -> Result<SerialNumber, CertError> {
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
    serial[0] &= 0x7F;
    Ok(SerialNumber::from_slice(&serial))
}

/// Method (1) of RFC 5280 section 4.2.1.2. Kuscia and openssl derive it in the same way, so leaves also verify
/// against the domain certificates that they make of the same key. SHA-1 gives a label here, no security.
fn key_identifier(key: &DomainKey) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, key.public_key().pkcs1_der()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(names: &[&str]) -> LeafRequest {
        LeafRequest {
            common_name: "alice_ENVOY_EXTERNAL".into(),
            subject_alt_names: names.iter().map(|&name| name.into()).collect(),
            usage: LeafUsage::Server,
            lifetime: DEFAULT_LEAF_LIFETIME,
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_leaf_lives_as_long_as_asked_and_renews_at_two_thirds() {
        let now = at(1_800_000_000);
        let authority = DomainAuthority::new("alice", &DomainKey::generate().unwrap(), now).unwrap();
        let leaf = authority.issue(&server(&["gw.example.com", "10.0.0.1"]), now).unwrap();
        assert_eq!(leaf.not_before, now - Duration::from_hours(24));
        assert_eq!(leaf.not_after, now + Duration::from_hours(24 * 90));
        assert_eq!(leaf.renew_at, now + Duration::from_hours(24 * 60));
    }

    #[test]
    fn every_leaf_has_a_key_of_its_own() {
        let now = SystemTime::now();
        let authority = DomainAuthority::new("alice", &DomainKey::generate().unwrap(), now).unwrap();
        let leaf = || authority.issue(&server(&["gw"]), now).unwrap();
        assert_ne!(leaf().key_pem, leaf().key_pem);
    }

    #[test]
    fn the_domain_certificate_carries_the_domain_key() {
        let key = DomainKey::generate().unwrap();
        let authority = DomainAuthority::new("alice", &key, SystemTime::now()).unwrap();
        let read = crate::PublicKey::from_certificate_base64_pem(&authority.certificate_base64_pem());
        assert_eq!(read.as_ref(), Ok(key.public_key()));
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        let now = SystemTime::now();
        let authority = DomainAuthority::new("alice", &DomainKey::generate().unwrap(), now).unwrap();
        let refusal = |request: &LeafRequest| authority.issue(request, now).unwrap_err();

        assert_eq!(refusal(&server(&[])), CertError::NoAlternativeName);
        assert_eq!(refusal(&server(&["gw:443"])), CertError::AlternativeName("gw:443".into()));
        assert_eq!(refusal(&server(&["gw"; 101])), CertError::TooManyAlternativeNames(101));
        let nameless = LeafRequest { common_name: String::new(), ..server(&["gw"]) };
        assert_eq!(refusal(&nameless), CertError::CommonName(String::new()));
        for lifetime in [Duration::ZERO, CA_LIFETIME + Duration::from_secs(1), Duration::MAX] {
            let request = LeafRequest { lifetime, ..server(&["gw"]) };
            assert_eq!(refusal(&request), CertError::Lifetime(lifetime));
        }
        assert!(authority.issue(&LeafRequest { usage: LeafUsage::Client, ..server(&[]) }, now).is_ok());
    }

    #[test]
    fn a_clock_out_of_range_is_an_error() {
        let key = DomainKey::generate().unwrap();
        for clock in [at(0) - Duration::from_secs(1), at(253_402_300_799), at(1 << 40)] {
            assert_eq!(DomainAuthority::new("alice", &key, clock).unwrap_err(), CertError::Clock);
        }
        assert!(DomainAuthority::new("alice", &key, at(0)).is_ok());
    }

    #[test]
    fn debug_shows_no_private_key() {
        let now = SystemTime::now();
        let key = DomainKey::generate().unwrap();
        let authority = DomainAuthority::new("alice", &key, now).unwrap();
        let leaf = authority.issue(&server(&["gw"]), now).unwrap();
        let shown = format!("{authority:?} {leaf:?}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
        let of_domain_key = key.to_pkcs1_pem();
        for line in leaf.key_pem.lines().chain(of_domain_key.lines()).filter(|line| !line.starts_with('-')) {
            assert!(!shown.contains(line), "{shown}");
        }
    }
}
