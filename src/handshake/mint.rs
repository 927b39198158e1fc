//! Makes a token out of the source's half and a new one.
//!
//! Anybody may send a half, so the answer must not help to decrypt with the domain key what others encrypted for it, or
//! to sign (Bleichenbacher's attack on PKCS#1 v1.5). Yet a half that cannot be opened is refused in so many words. The
//! refusal tells only that a whole block is not as a half has to be: its first two bytes, a padding without a zero, the
//! zero after it, and `kuscia` before exactly 16 bytes. A block of chance is so once in 2^73 tries, and the attack
//! needs many such blocks. Whatever is wrong within the block, the refusal is the same, and it is answered a fixed time
//! after the request: timers go by milliseconds, far more than the kinds of failure differ by.
//!
//! To go on with a random half instead, as TLS does, would let strangers write tokens who have no key at all, and would
//! leave the operator of a source that holds a wrong key, above all of a Kuscia, with a token that is refused for no
//! visible reason.

use certs::{DomainKey, PublicKey};
use model::TOKEN_BYTES;
use zeroize::Zeroizing;

/// Bytes that each side contributes to a token.
pub(super) const SHARE_BYTES: usize = TOKEN_BYTES / 2;

/// A new token, in the two forms in which it leaves the memory.
pub(super) struct Minted {
    /// The whole token, encrypted with this domain's key.
    pub(super) stored: String,
    /// What the source lacks of it, encrypted for the source.
    pub(super) answered: String,
}

/// Why there is no token.
#[derive(Debug)]
pub(super) enum MintError {
    /// The source's share is not encrypted for this domain.
    NotForUs,
    /// No random bytes, or a share that cannot be encrypted.
    Failed,
}

/// Opens the source's share with `key`, and makes the other one for `peer_key`. It takes some milliseconds.
pub(super) fn mint(key: &DomainKey, source_share: &str, peer_key: &PublicKey) -> Result<Minted, MintError> {
    let source_share = key.open(source_share, SHARE_BYTES).map_err(|_| MintError::NotForUs)?;
    let mut token = Zeroizing::new([0; TOKEN_BYTES]);
    token[..SHARE_BYTES].copy_from_slice(&source_share);
    aws_lc_rs::rand::fill(&mut token[SHARE_BYTES..]).map_err(|_| MintError::Failed)?;
    let stored = key.public_key().seal(&token[..]).map_err(|_| MintError::Failed)?;
    let answered = peer_key.seal(&token[SHARE_BYTES..]).map_err(|_| MintError::Failed)?;
    Ok(Minted { stored, answered })
}

/// Makes a whole token for `peer_key`, of which the source has no share.
pub(super) fn mint_alone(key: &DomainKey, peer_key: &PublicKey) -> Result<Minted, MintError> {
    let mut token = Zeroizing::new([0; TOKEN_BYTES]);
    aws_lc_rs::rand::fill(&mut token[..]).map_err(|_| MintError::Failed)?;
    let stored = key.public_key().seal(&token[..]).map_err(|_| MintError::Failed)?;
    let answered = peer_key.seal(&token[..]).map_err(|_| MintError::Failed)?;
    Ok(Minted { stored, answered })
}
