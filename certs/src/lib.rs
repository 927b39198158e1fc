//! Keys and certificates of a domain.
//!
//! A domain has one RSA key, [`DomainKey`]. Four things follow from it:
//!
//! - The domain's certificate: a [`DomainAuthority`] signs itself with the key, and partners are given the
//!   result. It can be made again anywhere and at any time: every certificate made from the same key verifies
//!   the leaves of every other.
//! - [`Leaf`] certificates for the TLS listeners and clients, issued by that authority, each with a key of its
//!   own. [`maintain`] keeps one fresh and publishes it.
//! - The secrets of Kuscia's handshake: a partner [seals](PublicKey::seal) for the domain's [`PublicKey`], and
//!   the domain [opens](DomainKey::open).
//! - Signatures under what the domain says in a handshake: it [signs](DomainKey::sign), and a partner
//!   [verifies](PublicKey::verify).
//!
//! A domain that joins a master also needs a [`certificate_signing_request`].
//!
//! All cryptography is done by aws-lc. Private keys are wiped from memory when dropped and never shown by
//! `Debug` or in an error. Every certificate and request that is made is read back by a second parser before it
//! is given out.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod authority;
mod certificate;
mod check;
mod csr;
mod encoding;
mod error;
mod key;
mod manager;
mod names;
mod public_key;

pub use authority::{
    CA_LIFETIME, DEFAULT_LEAF_LIFETIME, DomainAuthority, Leaf, LeafRequest, LeafUsage, MAX_ALTERNATIVE_NAMES,
};
pub use certificate::{Certificate, PrivateKey};
pub use csr::certificate_signing_request;
pub use error::{CertError, KeyError, OpenError, SealError, SignError};
pub use key::DomainKey;
pub use manager::{CertState, maintain};
pub use public_key::{Fingerprint, PublicKey};
