//! Public keys of domains: sealing secrets for them, and verifying what they signed.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{self, Pkcs1PublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use x509_parser::asn1_rs::{Integer, Sequence};
use x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use crate::encoding::{Wanted, decode_base64, parse_pem, to_pem};
use crate::error::{KeyError, SealError};

/// What stands before every secret of Kuscia's handshake inside the RSA padding.
pub(crate) const SEAL_PREFIX: &[u8] = b"kuscia";

/// What PKCS#1 v1.5 padding takes of a block (RFC 8017 section 7.2.1).
const PADDING: usize = 11;

const PKCS1: &str = "RSA PUBLIC KEY";
const PKIX: &str = "PUBLIC KEY";

const PUBLIC_KEY: Wanted =
    Wanted { labels: &[PKCS1, PKIX], description: "public key (`RSA PUBLIC KEY` or `PUBLIC KEY`)" };
pub(crate) const CERTIFICATE: Wanted =
    Wanted { labels: &["CERTIFICATE"], description: "certificate (`CERTIFICATE`)" };

/// The RSA public key of a domain, of 2048 to 8192 bits. Cheap to clone.
#[derive(Clone)]
pub struct PublicKey(Arc<Inner>);

struct Inner {
    /// `RSAPublicKey` of RFC 8017, in DER and so unique for the key.
    pkcs1: rsa::PublicKey,
    encrypting: Pkcs1PublicEncryptingKey,
}

impl PublicKey {
    /// Reads base64 of a PEM public key, PKCS#1 or PKIX: the form of a route's `sourcePublicKey` and
    /// `destinationPublicKey`.
    ///
    /// # Errors
    /// Says what is wrong with the input and how to mend it.
    pub fn from_base64_pem(data: &str) -> Result<Self, KeyError> {
        let block = parse_pem(&decode_base64(data)?, &PUBLIC_KEY)?;
        if block.label == PKCS1 {
            return Self::from_pkcs1_der(&block.der);
        }
        let (_, info) = SubjectPublicKeyInfo::from_der(&block.der).map_err(|_| KeyError::Malformed)?;
        Self::from_public_key_info(&info)
    }

    /// Reads the key out of base64 of a PEM certificate: the form of `Domain.spec.cert`. The certificate's
    /// signature and dates are not looked at.
    ///
    /// # Errors
    /// Says what is wrong with the input and how to mend it.
    pub fn from_certificate_base64_pem(data: &str) -> Result<Self, KeyError> {
        let block = parse_pem(&decode_base64(data)?, &CERTIFICATE)?;
        let (_, certificate) = X509Certificate::from_der(&block.der).map_err(|_| KeyError::Malformed)?;
        Self::from_public_key_info(certificate.public_key())
    }

    /// The key as PEM `RSA PUBLIC KEY`, in the exact bytes that Kuscia writes.
    #[must_use]
    pub fn to_pkcs1_pem(&self) -> String {
        to_pem(PKCS1, self.pkcs1_der()).to_string()
    }

    /// Base64 of [`to_pkcs1_pem`](Self::to_pkcs1_pem), for a route's `sourcePublicKey` and
    /// `destinationPublicKey`.
    #[must_use]
    pub fn to_base64_pem(&self) -> String {
        STANDARD.encode(self.to_pkcs1_pem())
    }

    /// A short name of the key that people can compare.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, self.pkcs1_der()).as_ref());
        Fingerprint(hash)
    }

    /// The `pubhash` of Kuscia's handshake: base64 of SHA-256 over the text of
    /// [`to_pkcs1_pem`](Self::to_pkcs1_pem).
    #[must_use]
    pub fn pubhash(&self) -> String {
        STANDARD.encode(digest(&SHA256, self.to_pkcs1_pem().as_bytes()))
    }

    /// Encrypts a secret for the owner of this key, as Kuscia's handshake and token status do:
    /// base64(RSAES-PKCS1-v1_5(`kuscia` ‖ secret)).
    ///
    /// # Errors
    /// When the secret does not fit into one RSA block (239 bytes for a key of 2048 bits).
    pub fn seal(&self, secret: &[u8]) -> Result<String, SealError> {
        let size = self.0.encrypting.ciphertext_size();
        let max = size - PADDING - SEAL_PREFIX.len();
        if secret.len() > max {
            return Err(SealError::TooLong { len: secret.len(), max });
        }
        let plain = Zeroizing::new([SEAL_PREFIX, secret].concat());
        let mut ciphertext = vec![0; size];
        let sealed = self.0.encrypting.encrypt(&plain, &mut ciphertext).map_err(|_| SealError::Failed)?;
        Ok(STANDARD.encode(sealed))
    }

    /// Whether [`DomainKey::sign`](crate::DomainKey::sign) made this signature of this message with the private half
    /// of this key. A signature of another length than the modulus is refused before anything is computed.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        signature.len() == self.0.encrypting.ciphertext_size()
            && UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, self.pkcs1_der())
                .verify(message, signature)
                .is_ok()
    }

    /// Reads an `RSAPublicKey` (RFC 8017 appendix A.1.1).
    pub(crate) fn from_pkcs1_der(der: &[u8]) -> Result<Self, KeyError> {
        let (_, numbers) = Sequence::from_der(der).map_err(|_| KeyError::Malformed)?;
        let (_, modulus) = Integer::from_der(&numbers.content).map_err(|_| KeyError::Malformed)?;
        check_modulus(&modulus)?;
        let pkcs1 = rsa::PublicKey::from_der(der).map_err(|_| KeyError::Malformed)?;
        let pkix: PublicKeyX509Der<'_> = pkcs1.as_der().map_err(|_| KeyError::Malformed)?;
        let encrypting = PublicEncryptingKey::from_der(pkix.as_ref())
            .ok()
            .and_then(|key| Pkcs1PublicEncryptingKey::new(key).ok())
            .ok_or(KeyError::Malformed)?;
        Ok(Self(Arc::new(Inner { pkcs1, encrypting })))
    }

    /// The `RSAPublicKey` (RFC 8017 appendix A.1.1).
    pub(crate) fn pkcs1_der(&self) -> &[u8] {
        self.0.pkcs1.as_ref()
    }

    fn from_public_key_info(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, KeyError> {
        if info.algorithm.algorithm != OID_PKCS1_RSAENCRYPTION {
            return Err(KeyError::NotRsa);
        }
        Self::from_pkcs1_der(&info.subject_public_key.data)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.pkcs1_der() == other.pkcs1_der()
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

/// SHA-256 over a key's PKCS#1 DER, shown as `SHA256:` and base64 without padding, as ssh shows keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", STANDARD_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Refuses keys by size before the library does, to be able to say the size.
pub(crate) fn check_modulus(modulus: &Integer<'_>) -> Result<(), KeyError> {
    let bytes = modulus.as_ref();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let bits = match bytes[zeros..] {
        [first, ref rest @ ..] => 8 * rest.len() + 8 - first.leading_zeros() as usize,
        [] => 0,
    };
    match bits {
        0..2048 => Err(KeyError::TooSmall { bits }),
        2048..=8192 => Ok(()),
        _ => Err(KeyError::TooLarge { bits }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DomainKey;

    #[test]
    fn every_encoding_of_a_key_reads_as_the_same_key() {
        let public = DomainKey::generate().unwrap().public_key().clone();
        assert_eq!(PublicKey::from_base64_pem(&public.to_base64_pem()).unwrap(), public);

        let pkix: PublicKeyX509Der<'_> = public.0.pkcs1.as_der().unwrap();
        let pkix = STANDARD.encode(to_pem(PKIX, pkix.as_ref()).as_bytes());
        let read = PublicKey::from_base64_pem(&pkix).unwrap();
        assert_eq!(read, public);
        assert_eq!(read.pubhash(), public.pubhash());
    }

    #[test]
    fn two_keys_differ_in_everything_that_names_them() {
        let one = DomainKey::generate().unwrap().public_key().clone();
        let two = DomainKey::generate().unwrap().public_key().clone();
        assert_ne!(one, two);
        assert_ne!(one.fingerprint(), two.fingerprint());
        assert_ne!(one.pubhash(), two.pubhash());
    }

    #[test]
    fn fingerprints_look_like_those_of_ssh() {
        let shown = Fingerprint([0; 32]).to_string();
        assert_eq!(shown, "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    }

    #[test]
    fn a_secret_that_does_not_fit_is_refused_with_the_limit() {
        let public = DomainKey::generate().unwrap().public_key().clone();
        assert!(public.seal(&[7; 239]).is_ok());
        assert_eq!(public.seal(&[7; 240]), Err(SealError::TooLong { len: 240, max: 239 }));
    }

    #[test]
    fn sizes_out_of_range_are_named() {
        let modulus = |bits: usize| {
            let mut bytes = vec![0; bits.div_ceil(8)];
            bytes[0] = 1 << ((bits - 1) % 8);
            bytes.insert(0, 0);
            bytes
        };
        let check = |bits| check_modulus(&Integer::new(&modulus(bits)));
        assert_eq!(check(1024), Err(KeyError::TooSmall { bits: 1024 }));
        assert_eq!(check(2047), Err(KeyError::TooSmall { bits: 2047 }));
        assert_eq!(check(2048), Ok(()));
        assert_eq!(check(8192), Ok(()));
        assert_eq!(check(8193), Err(KeyError::TooLarge { bits: 8193 }));
        assert_eq!(check_modulus(&Integer::new(&[0])), Err(KeyError::TooSmall { bits: 0 }));
    }
}
