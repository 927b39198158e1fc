//! What can be wrong with keys and certificates, each with its remedy.
//!
//! No error carries a part of its input that could be secret.

use std::time::Duration;

use crate::authority::{CA_LIFETIME, MAX_ALTERNATIVE_NAMES};
use crate::encoding::MAX_INPUT;

/// Why a key, or a certificate that holds one, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The input is larger than any key.
    #[error("the input is longer than {} KiB: give one key only", MAX_INPUT / 1024)]
    TooLong,
    /// The outer base64 does not decode.
    #[error("this is not base64: give the base64 of the whole PEM text, as `base64 -w0 FILE` prints it")]
    NotBase64,
    /// There is no PEM block.
    #[error("there is no PEM text in it (`-----BEGIN …-----`): give a PEM {wanted}")]
    NoPem {
        /// What should have been there.
        wanted: &'static str,
    },
    /// A PEM block starts but is not well formed.
    #[error("the PEM text is broken: check that it was copied whole, from `-----BEGIN` to `-----END …-----`")]
    BrokenPem,
    /// The PEM is fine but holds something else.
    #[error("this is a PEM `{found}`: give a PEM {wanted} instead")]
    WrongBlock {
        /// The label of the first block found.
        found: String,
        /// What should have been there.
        wanted: &'static str,
    },
    /// The private key is protected by a passphrase.
    #[error("the key is encrypted: remove its passphrase with `openssl rsa -in FILE -out PLAIN`")]
    Encrypted,
    /// The key is of another algorithm.
    #[error("the key is not an RSA key: make one with `networkmesh keygen`")]
    NotRsa,
    /// The modulus is shorter than is safe.
    #[error("the key has {bits} bits; domain keys need 2048 or more: make one with `networkmesh keygen`")]
    TooSmall {
        /// Length of the modulus.
        bits: usize,
    },
    /// The modulus is longer than is supported.
    #[error("the key has {bits} bits; domain keys have 8192 at most: make one with `networkmesh keygen`")]
    TooLarge {
        /// Length of the modulus.
        bits: usize,
    },
    /// The bytes inside the PEM are not what its label says, or the numbers do not make a key.
    #[error("the PEM text does not hold what its label says: make the key or certificate again")]
    Malformed,
    /// The random number generator or the library failed.
    #[error("no key could be generated: the system's random number generator failed")]
    Generate,
}

/// Why a secret could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// One RSA block does not hold that many bytes.
    #[error("a secret of {len} bytes cannot be sealed by this key: it takes {max} at most")]
    TooLong {
        /// Length of the secret in bytes.
        len: usize,
        /// Most bytes that this key seals.
        max: usize,
    },
    /// The random number generator or the library failed.
    #[error("the secret could not be sealed: the system's random number generator failed")]
    Failed,
}

/// Why a sealed secret could not be opened.
///
/// Wrong key, padding, prefix and length are one and the same error: which of them it was would tell an
/// attacker how to decrypt what others sealed (Bleichenbacher's attack, RFC 8017 section 7.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The outer base64 does not decode.
    #[error("the sealed secret is not base64")]
    NotBase64,
    /// It was not sealed for this key, or is damaged.
    #[error("the sealed secret does not open: it must be sealed with this domain's public key as it is now")]
    Refused,
}

/// A message could not be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message could not be signed: the system's random number generator failed")]
pub struct SignError;

/// Why a certificate or a signing request could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertError {
    /// Not an RFC 1123 label.
    #[error("{0:?} is not a domain ID: use 1 to 63 lowercase letters, digits and inner dashes")]
    DomainId(String),
    /// Empty, too long, or with control characters.
    #[error("{0:?} is not a common name: use 1 to 128 characters and no control characters")]
    CommonName(String),
    /// Neither an IP address nor a DNS name.
    #[error("{0:?} is neither an IP address nor a DNS name: give names like `gw.example.com`, without port")]
    AlternativeName(String),
    /// A server certificate that no client would accept.
    #[error("a server certificate needs a DNS name or an IP address that clients call it by")]
    NoAlternativeName,
    /// More names than are accepted.
    #[error("{0} alternative names are too many: a certificate takes {MAX_ALTERNATIVE_NAMES}")]
    TooManyAlternativeNames(usize),
    /// Lifetime of a leaf out of range.
    #[error("a certificate cannot live for {} s: give between 1 s and {} s", .0.as_secs_f64(), CA_LIFETIME.as_secs())]
    Lifetime(Duration),
    /// The clock shows a time that certificates cannot express.
    #[error("the clock is before 1970 or after 9999: set the system's clock")]
    Clock,
    /// The deploy token is empty or out of proportion.
    #[error("the deploy token must have 1 to 4096 bytes: copy it from the master's `deployTokenStatuses`")]
    DeployToken,
    /// The library refused to make it.
    #[error("the certificate could not be made")]
    Make(#[from] rcgen::Error),
    /// A second parser disagrees with what was asked for.
    #[error("the certificate just made does not read back ({0}): this is a defect of networkmesh, report it")]
    ReadBack(&'static str),
}
