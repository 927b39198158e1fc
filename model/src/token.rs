//! Negotiated tokens.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certs::DomainKey;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::api::{DomainRouteToken, DomainRouteTokenStatus};

/// Bytes of a token: one half from each side.
pub const TOKEN_BYTES: usize = 32;

/// Most tokens of a list that are opened. Gateways list eleven at most.
const MOST_LISTED: usize = 16;

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
    /// Whether the source is known to have it. Anybody may ask for a token in a source's name.
    pub proven: bool,
}

/// Opens the tokens of one route, each only once: it costs a millisecond of RSA.
#[derive(Debug)]
pub(crate) struct Opener {
    key: DomainKey,
    /// What came out of each ciphertext, by its digest; `None` where the key does not open it.
    opened: Vec<(Digest, Option<TokenValue>)>,
}

/// SHA-256 of a ciphertext.
type Digest = [u8; 32];

impl Opener {
    /// Opens what is sealed for `key`.
    pub(crate) fn new(key: DomainKey) -> Self {
        Self { key, opened: Vec::new() }
    }

    /// The tokens that a destination accepts: all that its status holds, oldest first.
    ///
    /// Entries that the key cannot open are left out: they were made for another key, and the peer's next handshake
    /// replaces them.
    pub(crate) fn accepted(&mut self, status: &DomainRouteTokenStatus) -> Vec<Token> {
        let mut tokens: Vec<Token> = entries(status).filter_map(|entry| self.open(entry)).collect();
        tokens.sort_by_key(|token| token.revision);
        // The newest token often stands in both places.
        tokens.dedup_by(|again, kept| {
            let is_same = again.revision == kept.revision && again.value == kept.value;
            kept.proven |= is_same && again.proven;
            is_same
        });
        self.forget_all_but(status);
        tokens
    }

    /// The token that a source sends: the last made that is ready and can be opened.
    ///
    /// Its number need not be the highest, for a destination that lost its state counts from one again.
    pub(crate) fn sending(&mut self, status: &DomainRouteTokenStatus) -> Option<Token> {
        let newest_first = entries(status).collect::<Vec<_>>().into_iter().rev();
        let sending = newest_first.filter(|entry| entry.is_ready).find_map(|entry| self.open(entry));
        self.forget_all_but(status);
        sending
    }

    fn open(&mut self, entry: &DomainRouteToken) -> Option<Token> {
        if entry.token.is_empty() {
            return None;
        }
        let digest = digest(entry);
        let value = match self.opened.iter().find(|(known, _)| *known == digest) {
            Some((_, value)) => value.clone(),
            None => {
                let bytes = self.key.open(&entry.token, TOKEN_BYTES).ok();
                let value = bytes.and_then(|bytes| Some(TokenValue(bytes.as_slice().try_into().ok()?)));
                self.opened.push((digest, value.clone()));
                value
            }
        }?;
        let expires = entry.expiration_time.as_ref().map(|time| time.0);
        let proven = entry.heart_beat_time.is_some();
        Some(Token { revision: entry.revision, value, expires, proven })
    }

    fn forget_all_but(&mut self, status: &DomainRouteTokenStatus) {
        let named: BTreeSet<Digest> = entries(status).map(digest).collect();
        self.opened.retain(|(digest, _)| named.contains(digest));
    }
}

/// The entries that count: the last few of the list, and the newest token. Whoever may write statuses must not keep
/// everybody from theirs.
fn entries(status: &DomainRouteTokenStatus) -> impl Iterator<Item = &DomainRouteToken> {
    let tokens = &status.tokens;
    tokens[tokens.len().saturating_sub(MOST_LISTED)..].iter().chain([&status.revision_token])
}

fn digest(entry: &DomainRouteToken) -> Digest {
    Sha256::digest(&entry.token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(key: &DomainKey, revision: i64, byte: u8) -> DomainRouteToken {
        let token = key.public_key().seal(&[byte; TOKEN_BYTES]).unwrap();
        DomainRouteToken { is_ready: true, token, revision, ..DomainRouteToken::default() }
    }

    fn revisions(tokens: impl IntoIterator<Item = Token>) -> Vec<i64> {
        tokens.into_iter().map(|token| token.revision).collect()
    }

    /// Opens the tokens of `status`, and then loses its key.
    fn keyless(key: &DomainKey, status: &DomainRouteTokenStatus) -> Opener {
        let mut opener = Opener::new(key.clone());
        assert_eq!(revisions(opener.accepted(status)), [1, 2]);
        opener.key = DomainKey::generate().unwrap();
        opener
    }

    #[test]
    fn a_token_is_opened_once_and_remembered_while_its_status_names_it() {
        let key = DomainKey::generate().unwrap();
        let (old, new) = (sealed(&key, 1, 1), sealed(&key, 2, 2));
        let status = DomainRouteTokenStatus {
            revision_token: new.clone(),
            tokens: vec![old, new.clone()],
            ..DomainRouteTokenStatus::default()
        };
        let mut opener = keyless(&key, &status);
        assert_eq!(revisions(opener.accepted(&status)), [1, 2]);
        assert_eq!(revisions(opener.sending(&status)), [2]);

        let rolled = DomainRouteTokenStatus { tokens: vec![new], ..status.clone() };
        assert_eq!(revisions(opener.accepted(&rolled)), [2]);
        assert_eq!(revisions(opener.accepted(&status)), [2], "the old token was forgotten");
    }

    #[test]
    fn a_token_is_proven_wherever_its_status_says_so() {
        let key = DomainKey::generate().unwrap();
        let new = sealed(&key, 2, 2);
        let used = DomainRouteToken {
            heart_beat_time: Some(crate::api::Time(Timestamp::UNIX_EPOCH)),
            ..new.clone()
        };
        for (listed, newest, proven) in
            [(&new, &new, false), (&used, &used, true), (&used, &new, true), (&new, &used, true)]
        {
            let status = DomainRouteTokenStatus {
                revision_token: newest.clone(),
                tokens: vec![sealed(&key, 1, 1), listed.clone()],
                ..DomainRouteTokenStatus::default()
            };
            let accepted = Opener::new(key.clone()).accepted(&status);
            let accepted: Vec<_> = accepted.iter().map(|token| (token.revision, token.proven)).collect();
            assert_eq!(accepted, [(1, false), (2, proven)]);
        }
    }

    #[test]
    fn of_a_list_without_end_the_last_tokens_are_opened() {
        let key = DomainKey::generate().unwrap();
        let forged = (0..10_000).map(|revision| DomainRouteToken {
            token: format!("forged-{revision}"),
            revision,
            ..DomainRouteToken::default()
        });
        let status = DomainRouteTokenStatus {
            tokens: forged.chain([sealed(&key, 10_000, 1)]).collect(),
            ..DomainRouteTokenStatus::default()
        };
        let mut opener = Opener::new(key);
        assert_eq!(revisions(opener.accepted(&status)), [10_000]);
        assert_eq!(opener.opened.len(), MOST_LISTED);
    }

    #[test]
    fn a_token_that_does_not_open_is_tried_once() {
        let key = DomainKey::generate().unwrap();
        let status = DomainRouteTokenStatus {
            revision_token: sealed(&DomainKey::generate().unwrap(), 1, 1),
            ..DomainRouteTokenStatus::default()
        };
        let mut opener = Opener::new(key);
        assert_eq!(opener.sending(&status), None);
        assert_eq!(opener.opened.len(), 1);
        assert_eq!(opener.sending(&status), None);
        assert_eq!(opener.opened.len(), 1);
    }
}
