//! How a source shows that it has a token where it must not show the token itself: others forward its requests.
//!
//! The proof is an authentication code under the token (RFC 2104, with SHA-256). Who repeats it shows what is true anyway:
//! that the source has the token of that number.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::{DomainId, Token};

/// The header of a probe that carries the proof.
pub(super) const HEADER: &str = "kuscia-token-proof";

/// The proof that `source` has `token`, for `destination`: base64.
pub(super) fn proof(token: &Token, source: &DomainId, destination: &DomainId) -> String {
    let tag = hmac::sign(&key(token), signed(token, source, destination).as_bytes());
    STANDARD.encode(tag)
}

/// Whether `sent` is that proof.
pub(super) fn is_proof(sent: &str, token: &Token, source: &DomainId, destination: &DomainId) -> bool {
    let Ok(tag) = STANDARD.decode(sent) else { return false };
    hmac::verify(&key(token), signed(token, source, destination).as_bytes(), &tag).is_ok()
}

fn key(token: &Token) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, token.value.as_bytes())
}

fn signed(token: &Token, source: &DomainId, destination: &DomainId) -> String {
    format!("networkmesh token proof v1\n{source}\n{destination}\n{}", token.revision)
}

#[cfg(test)]
mod tests {
    use model::{TOKEN_BYTES, TokenValue};

    use super::*;

    fn domain(name: &str) -> DomainId {
        name.parse().expect("a domain ID")
    }

    fn token(byte: u8, revision: i64) -> Token {
        Token { revision, value: TokenValue::new([byte; TOKEN_BYTES]), expires: None, proven: false }
    }

    #[test]
    fn a_proof_is_of_one_token_and_one_route() {
        let (alice, dave) = (domain("alice"), domain("dave"));
        let sent = proof(&token(1, 1), &alice, &dave);
        assert!(is_proof(&sent, &token(1, 1), &alice, &dave));
        assert!(!is_proof(&sent, &token(2, 1), &alice, &dave));
        assert!(!is_proof(&sent, &token(1, 2), &alice, &dave));
        assert!(!is_proof(&sent, &token(1, 1), &dave, &alice));
        for garbage in ["", "!", &sent[..40], &token(1, 1).value.header_value()] {
            assert!(!is_proof(garbage, &token(1, 1), &alice, &dave), "{garbage}");
        }
    }
}
