//! Negotiated tokens.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certs::DomainKey;
use jiff::Timestamp;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::api::{DomainRouteToken, DomainRouteTokenStatus};

/// Bytes of a token: one half from each side.
pub const TOKEN_BYTES: usize = 32;

/// The secret of a token. It is wiped when dropped and never shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct TokenValue([u8; TOKEN_BYTES]);

impl TokenValue {
    /// A token of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; TOKEN_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What stands in the header `Kuscia-Token`: base64.
    #[must_use]
    pub fn header_value(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl fmt::Debug for TokenValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// One generation of a route's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Number of the generation.
    pub revision: i64,
    /// The secret.
    pub value: TokenValue,
    /// When it ends; `None`: never.
    pub expires: Option<Timestamp>,
}

/// The tokens that a destination accepts: all that its status holds, oldest first.
///
/// Entries that `key` cannot open are left out: they were made for another key, and the peer's next handshake
/// replaces them.
pub(crate) fn accepted(status: &DomainRouteTokenStatus, key: &DomainKey) -> Vec<Token> {
    let entries = status.tokens.iter().chain([&status.revision_token]);
    // The newest token often stands in both places, and opening one costs a millisecond.
    let mut seen = BTreeSet::new();
    let mut tokens: Vec<Token> = entries
        .filter(|entry| seen.insert((entry.revision, &entry.token)))
        .filter_map(|entry| open(entry, key))
        .collect();
    tokens.sort_by_key(|token| token.revision);
    tokens.dedup_by(|a, b| a.revision == b.revision && a.value == b.value);
    tokens
}

/// The token that a source sends: the last made that is ready and can be opened.
///
/// Its number need not be the highest, for a destination that lost its state counts from one again.
pub(crate) fn sending(status: &DomainRouteTokenStatus, key: &DomainKey) -> Option<Token> {
    let newest_first = [&status.revision_token].into_iter().chain(status.tokens.iter().rev());
    newest_first.filter(|entry| entry.is_ready).find_map(|entry| open(entry, key))
}

fn open(entry: &DomainRouteToken, key: &DomainKey) -> Option<Token> {
    if entry.token.is_empty() {
        return None;
    }
    let bytes = key.open(&entry.token, TOKEN_BYTES).ok()?;
    Some(Token {
        revision: entry.revision,
        value: TokenValue(bytes.as_slice().try_into().ok()?),
        expires: entry.expiration_time.as_ref().map(|time| time.0),
    })
}
