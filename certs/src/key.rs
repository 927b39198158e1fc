//! The private key of a domain: opening what was sealed for it, and signing.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize, Pkcs1PrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::asn1_rs::{Integer, OctetString, Sequence};
use x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::AlgorithmIdentifier;
use zeroize::Zeroizing;

use crate::encoding::{Wanted, decode_base64, parse_pem, to_pem};
use crate::error::{KeyError, OpenError, SignError};
use crate::public_key::{PublicKey, SEAL_PREFIX, check_modulus};

const PKCS1: &str = "RSA PRIVATE KEY";
const PKCS8: &str = "PRIVATE KEY";

const PRIVATE_KEY: Wanted =
    Wanted { labels: &[PKCS1, PKCS8], description: "RSA private key (`RSA PRIVATE KEY` or `PRIVATE KEY`)" };

/// The RSA private key of a domain, of 2048 to 8192 bits. Cheap to clone; wiped when the last clone is dropped.
#[derive(Clone)]
pub struct DomainKey(Arc<Inner>);

struct Inner {
    /// `RSAPrivateKey` of RFC 8017.
    pkcs1: Zeroizing<Vec<u8>>,
    signing: rsa::KeyPair,
    decrypting: Pkcs1PrivateDecryptingKey,
    public: PublicKey,
}

impl DomainKey {
    /// Makes a new key of 2048 bits, the size that Kuscia makes.
    ///
    /// # Errors
    /// When the system's random number generator fails.
    pub fn generate() -> Result<Self, KeyError> {
        let key = rsa::KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::Generate)?;
        let pkcs8: Pkcs8V1Der<'_> = key.as_der().map_err(|_| KeyError::Generate)?;
        Self::from_pkcs1_der(pkcs1_in_pkcs8(pkcs8.as_ref())?)
    }

    /// Reads `domainKeyData`: base64 of a PEM private key. White space within the base64 is ignored.
    ///
    /// # Errors
    /// Says what is wrong with the input and how to mend it.
    pub fn from_domain_key_data(data: &str) -> Result<Self, KeyError> {
        Self::from_pem_bytes(&decode_base64(data)?)
    }

    /// Reads a PEM private key, PKCS#1 (`RSA PRIVATE KEY`) or PKCS#8 (`PRIVATE KEY`).
    ///
    /// # Errors
    /// Says what is wrong with the input and how to mend it.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        Self::from_pem_bytes(pem.as_bytes())
    }

    /// The key as PEM `RSA PRIVATE KEY`.
    #[must_use]
    pub fn to_pkcs1_pem(&self) -> Zeroizing<String> {
        to_pem(PKCS1, &self.0.pkcs1)
    }

    /// Base64 of [`to_pkcs1_pem`](Self::to_pkcs1_pem), for the setting `domainKeyData`.
    #[must_use]
    pub fn to_domain_key_data(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.to_pkcs1_pem().as_bytes()))
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public
    }

    /// Decrypts a secret of `len` bytes that [`PublicKey::seal`] or Kuscia encrypted for this key.
    ///
    /// # Errors
    /// Whatever is wrong within the base64, the error is [`OpenError::Refused`].
    pub fn open(&self, sealed: &str, len: usize) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let size = self.0.decrypting.key_size_bytes();
        if sealed.len() > 4 * size.div_ceil(3) {
            return Err(OpenError::Refused);
        }
        let ciphertext = STANDARD.decode(sealed).map_err(|_| OpenError::NotBase64)?;
        let mut plain = Zeroizing::new(vec![0; size]);
        let decrypted = self.0.decrypting.decrypt(&ciphertext, &mut plain).map(|plain| plain.len());

        // The prefix is compared even where decryption failed, so that the time taken does not tell the two
        // apart.
        let (prefix, secret) = plain.split_at(SEAL_PREFIX.len());
        let has_prefix = verify_slices_are_equal(prefix, SEAL_PREFIX).is_ok();
        let has_length = decrypted.is_ok_and(|total| total == SEAL_PREFIX.len() + len);
        if !(has_prefix & has_length) {
            return Err(OpenError::Refused);
        }
        Ok(Zeroizing::new(secret[..len].to_vec()))
    }

    /// Signs a message by RSASSA-PSS (RFC 8017 section 8.1) with SHA-256, MGF1 with SHA-256 and a salt of 32 bytes.
    /// The signature has as many bytes as the modulus; [`PublicKey::verify`] checks it.
    ///
    /// # Errors
    /// When the system's random number generator fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.sign_with(&RSA_PSS_SHA256, message).map_err(|_| SignError)
    }

    fn from_pem_bytes(text: &[u8]) -> Result<Self, KeyError> {
        let block = parse_pem(text, &PRIVATE_KEY)?;
        if block.label == PKCS8 {
            return Self::from_pkcs1_der(pkcs1_in_pkcs8(&block.der)?);
        }
        Self::from_pkcs1_der(block.der)
    }

    fn from_pkcs1_der(pkcs1: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        // RSAPrivateKey ::= SEQUENCE { version INTEGER, modulus INTEGER, … } (RFC 8017 appendix A.1.2)
        let (_, numbers) = Sequence::from_der(&pkcs1).map_err(|_| KeyError::Malformed)?;
        let (rest, _version) = Integer::from_der(&numbers.content).map_err(|_| KeyError::Malformed)?;
        let (_, modulus) = Integer::from_der(rest).map_err(|_| KeyError::Malformed)?;
        check_modulus(&modulus)?;

        let signing = rsa::KeyPair::from_der(&pkcs1).map_err(|_| KeyError::Malformed)?;
        let pkcs8: Pkcs8V1Der<'_> = signing.as_der().map_err(|_| KeyError::Malformed)?;
        let decrypting = PrivateDecryptingKey::from_pkcs8(pkcs8.as_ref())
            .ok()
            .and_then(|key| Pkcs1PrivateDecryptingKey::new(key).ok())
            .ok_or(KeyError::Malformed)?;
        let public = PublicKey::from_pkcs1_der(signing.public_key().as_ref())?;
        Ok(Self(Arc::new(Inner { pkcs1, signing, decrypting, public })))
    }

    fn sign_with(&self, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut signature = vec![0; self.0.signing.public_modulus_len()];
        self.0.signing.sign(encoding, &SystemRandom::new(), message, &mut signature)?;
        Ok(signature)
    }
}

impl fmt::Debug for DomainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DomainKey({})", self.0.public.fingerprint())
    }
}

/// Lets rcgen sign with the key where it is, instead of handing it a copy.
pub(crate) struct Signer<'a>(pub(crate) &'a DomainKey);

impl rcgen::PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().pkcs1_der()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

impl rcgen::SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign_with(&RSA_PKCS1_SHA256, message).map_err(|_| rcgen::Error::RingUnspecified)
    }
}

/// The `RSAPrivateKey` within a `PrivateKeyInfo` (RFC 5208 section 5).
fn pkcs1_in_pkcs8(der: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let (_, info) = Sequence::from_der(der).map_err(|_| KeyError::Malformed)?;
    let (rest, _version) = Integer::from_der(&info.content).map_err(|_| KeyError::Malformed)?;
    let (rest, algorithm) = AlgorithmIdentifier::from_der(rest).map_err(|_| KeyError::Malformed)?;
    if algorithm.algorithm != OID_PKCS1_RSAENCRYPTION {
        return Err(KeyError::NotRsa);
    }
    let (_, key) = OctetString::from_der(rest).map_err(|_| KeyError::Malformed)?;
    Ok(Zeroizing::new(key.as_ref().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_own_encoding() {
        let key = DomainKey::generate().unwrap();
        let read = DomainKey::from_domain_key_data(&key.to_domain_key_data()).unwrap();
        assert_eq!(read.public_key(), key.public_key());
        assert_eq!(read.to_pkcs1_pem(), key.to_pkcs1_pem());
    }

    #[test]
    fn white_space_within_domain_key_data_is_ignored() {
        let key = DomainKey::generate().unwrap();
        let wrapped: String = key.to_domain_key_data().chars().flat_map(|c| [c, '\r', '\n', ' ']).collect();
        let read = DomainKey::from_domain_key_data(&wrapped).unwrap();
        assert_eq!(read.public_key(), key.public_key());
    }

    #[test]
    fn what_is_sealed_opens_again() {
        let key = DomainKey::generate().unwrap();
        for len in [0, 1, 16, 32, 239] {
            let secret = vec![0xA5; len];
            let sealed = key.public_key().seal(&secret).unwrap();
            assert_eq!(*key.open(&sealed, len).unwrap(), secret);
        }
    }

    #[test]
    fn everything_that_does_not_open_gives_the_same_error() {
        let key = DomainKey::generate().unwrap();
        let stranger = DomainKey::generate().unwrap();
        let sealed = STANDARD.decode(key.public_key().seal(&[1; 16]).unwrap()).unwrap();
        let mut flipped = sealed.clone();
        flipped[100] ^= 1;

        for (what, damaged) in [
            ("truncated", &sealed[..255]),
            ("empty", &[]),
            ("longer", &[&sealed[..], &[0]].concat()),
            ("flipped", &flipped),
            ("zero", &[0; 256]),
            ("beyond the modulus", &[0xFF; 256]),
        ] {
            assert_eq!(key.open(&STANDARD.encode(damaged), 16), Err(OpenError::Refused), "{what}");
        }
        let sealed = STANDARD.encode(sealed);
        assert_eq!(key.open(&sealed, 15), Err(OpenError::Refused), "shorter than sealed");
        assert_eq!(key.open(&sealed, 32), Err(OpenError::Refused), "longer than sealed");
        assert_eq!(stranger.open(&sealed, 16), Err(OpenError::Refused), "another key");
        assert_eq!(key.open(&"A".repeat(1 << 20), 16), Err(OpenError::Refused), "a megabyte");
        assert_eq!(key.open("no base64!", 16), Err(OpenError::NotBase64));
    }

    #[test]
    fn what_is_signed_verifies_by_this_key_and_this_message_alone() {
        let key = DomainKey::generate().unwrap();
        let stranger = DomainKey::generate().unwrap();
        for message in [&b""[..], b"a message", &[7; 100_000]] {
            let signature = key.sign(message).unwrap();
            assert!(key.public_key().verify(message, &signature));
            assert!(!stranger.public_key().verify(message, &signature));
            assert!(!key.public_key().verify(&[message, b"."].concat(), &signature));
        }
    }

    #[test]
    fn a_damaged_signature_does_not_verify() {
        let key = DomainKey::generate().unwrap();
        let signature = key.sign(b"a message").unwrap();
        let certificates = key.sign_with(&RSA_PKCS1_SHA256, b"a message").unwrap();
        let mut flipped = signature.clone();
        flipped[100] ^= 1;
        for (what, damaged) in [
            ("empty", &[][..]),
            ("truncated", &signature[..255]),
            ("longer", &[&signature[..], &[0]].concat()),
            ("longer in front", &[&[0], &signature[..]].concat()),
            ("huge", &vec![0xA5; 1 << 20]),
            ("flipped", &flipped),
            ("zero", &[0; 256]),
            ("beyond the modulus", &[0xFF; 256]),
            ("of the kind that certificates have", &certificates),
        ] {
            assert!(!key.public_key().verify(b"a message", damaged), "{what}");
        }
    }

    #[test]
    fn debug_shows_fingerprints_and_no_key() {
        let key = DomainKey::generate().unwrap();
        let fingerprint = key.public_key().fingerprint();
        assert_eq!(format!("{key:?}"), format!("DomainKey({fingerprint})"));
        assert_eq!(format!("{:?}", key.public_key()), format!("PublicKey({fingerprint})"));
    }

    #[test]
    fn input_without_bounds_is_refused_unread() {
        let huge = "A".repeat(65 * 1024);
        assert_eq!(DomainKey::from_domain_key_data(&huge).unwrap_err(), KeyError::TooLong);
        assert_eq!(DomainKey::from_pem(&huge).unwrap_err(), KeyError::TooLong);
        assert_eq!(PublicKey::from_base64_pem(&huge).unwrap_err(), KeyError::TooLong);
    }

    #[test]
    fn numbers_that_make_no_key_are_refused() {
        let mut pkcs1 = DomainKey::generate().unwrap().0.pkcs1.clone();
        pkcs1[40] ^= 1;
        let pem = to_pem(PKCS1, &pkcs1);
        assert_eq!(DomainKey::from_pem(&pem).unwrap_err(), KeyError::Malformed);
    }
}
