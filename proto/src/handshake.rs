//! The JSON bodies of Kuscia's handshake, in which a source domain and a destination domain agree on a token.
//!
//! Kuscia encodes Go structs with `omitempty`: a field that has its zero value is left out. The same is done here,
//! so that both implementations write the same bytes; on reading, a missing field is its zero value, and unknown
//! fields are skipped.
//!
//! # Signatures
//!
//! Kuscia's handshake is not signed: whoever can change it on its way decides what the two sides agree on. Two sides
//! that know signatures add `nonce`, `signature` and `last_request_time`, which Kuscia skips; without them the JSON is
//! Kuscia's own. A signature covers no JSON, which can be written in several ways, but a row of these parts:
//!
//! | part | bytes |
//! |---|---|
//! | number | 8 bytes: two's complement, the most significant byte first |
//! | text | its length in bytes as a number, then its bytes in UTF-8, as the JSON string has them: base64 stays base64 |
//! | option | the number 0 where the JSON object is absent or null; else the number 1, then the parts of the object |
//!
//! A field that the JSON leaves out is 0 or the empty text. No two messages have the same bytes, and those of a request
//! are never those of a response. [`HandshakeRequest::signed_bytes`] and [`HandshakeResponse::signed_bytes`] list the
//! parts.

mod signed;

use std::fmt;

use serde::{Deserialize, Serialize};

/// `POST /handshake`: the source asks for a new token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandshakeRequest {
    /// The source domain.
    #[serde(skip_serializing_if = "is_zero")]
    pub domain_id: String,
    /// How the token comes about.
    #[serde(rename = "type", skip_serializing_if = "is_zero")]
    pub kind: HandshakeKind,
    /// The source's share; absent in the `UID` handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_config: Option<TokenConfig>,
    /// When the request was made: nanoseconds since the Unix epoch, by the source's clock.
    #[serde(skip_serializing_if = "is_zero")]
    pub request_time: i64,
    /// Base64 of 16 random bytes, which make the request like no other; empty where it is not signed.
    #[serde(skip_serializing_if = "is_zero")]
    pub nonce: String,
    /// Base64 of the source's signature of [`signed_bytes`](Self::signed_bytes): RSASSA-PSS (RFC 8017 section 8.1) with
    /// SHA-256, MGF1 with SHA-256 and a salt of 32 bytes, by the source's domain key. Empty: not signed.
    #[serde(skip_serializing_if = "is_zero")]
    pub signature: String,
}

/// How the 32 bytes of a token come about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HandshakeKind {
    /// Each side contributes 16 bytes.
    #[serde(rename = "RSA")]
    Rsa,
    /// The destination makes all 32 bytes. Deprecated in Kuscia.
    #[serde(rename = "UID")]
    Uid,
    /// A kind that this version does not know, or none. Kept, so that a refusal can name it.
    #[serde(untagged)]
    Other(String),
}

impl Default for HandshakeKind {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

/// The source's share of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenConfig {
    /// The source's 16 bytes, encrypted for the destination.
    #[serde(skip_serializing_if = "is_zero")]
    pub token: Ciphertext,
    /// Revision of the token that the source has now; 0 where it has none.
    #[serde(skip_serializing_if = "is_zero")]
    pub revision: i64,
    /// Base64 of the SHA-256 of the source's public key, as PEM of PKCS#1.
    #[serde(skip_serializing_if = "is_zero")]
    pub pubhash: String,
}

/// Answer to a [`HandshakeRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandshakeResponse {
    /// The outcome. Kuscia always sends it; an answer without it must be taken for a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The destination's share, where the outcome is success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// In a refusal because of the `request_time`, the time after which one is expected: nanoseconds since the Unix epoch, by
    /// the destination's clock, or of the last request that it has answered, if that is later. 0: not said.
    #[serde(skip_serializing_if = "is_zero")]
    pub last_request_time: i64,
    /// Base64 of the destination's signature of [`signed_bytes`](Self::signed_bytes), made as that of a request but by
    /// the destination's domain key. Empty: not signed.
    #[serde(skip_serializing_if = "is_zero")]
    pub signature: String,
}

/// Outcome of a handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// 0 is success; Kuscia answers 500 otherwise.
    #[serde(skip_serializing_if = "is_zero")]
    pub code: i32,
    /// Why it failed, for a human.
    #[serde(skip_serializing_if = "is_zero")]
    pub message: String,
    /// One word of why it failed, for programs; empty: not said. Not Kuscia's.
    #[serde(skip_serializing_if = "is_zero")]
    pub reason: String,
}

/// The destination's share of a token, and what the destination decided about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Token {
    /// The destination's 16 bytes (`UID`: all 32), encrypted for the source.
    #[serde(skip_serializing_if = "is_zero")]
    pub token: Ciphertext,
    /// Until when the token is accepted: nanoseconds since the Unix epoch, by the destination's clock.
    #[serde(skip_serializing_if = "is_zero")]
    pub expiration_time: i64,
    /// The new token's revision.
    #[serde(skip_serializing_if = "is_zero")]
    pub revision: i32,
}

/// Base64 of a share of a token, encrypted by RSA PKCS#1 v1.5 for the other side. `Debug` does not show it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ciphertext(pub String);

impl fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Answer to `GET /handshake`, the probe that sources send to learn the state of their token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusResponse {
    /// The domain that answers.
    #[serde(default)]
    pub namespace: String,
    /// State of the token that the probe asked about. Not optional: zero means ready, and must be said.
    pub state: TokenState,
}

/// State of a source's token at the destination; an integer on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "i64", try_from = "i64")]
pub enum TokenState {
    /// 0: accepted.
    TokenReady,
    /// 1: the probe named no source domain.
    DomainIdInputInvalid,
    /// 2: the probe named no revision.
    TokenRevisionInputInvalid,
    /// 3: known, not accepted yet.
    TokenNotReady,
    /// 4: the destination has no token of this revision; the source has to make a new one.
    TokenNotFound,
    /// 5: the destination has no route from this source.
    NoAuthentication,
    /// 6: the destination failed.
    InternalError,
    /// 7: the destination cannot be reached.
    NetworkUnreachable,
}

impl TokenState {
    /// In the order of their numbers.
    const ALL: [Self; 8] = [
        Self::TokenReady,
        Self::DomainIdInputInvalid,
        Self::TokenRevisionInputInvalid,
        Self::TokenNotReady,
        Self::TokenNotFound,
        Self::NoAuthentication,
        Self::InternalError,
        Self::NetworkUnreachable,
    ];
}

impl From<TokenState> for i64 {
    fn from(state: TokenState) -> Self {
        state as Self
    }
}

impl TryFrom<i64> for TokenState {
    type Error = UnknownTokenState;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        let known = usize::try_from(number).ok().and_then(|index| Self::ALL.get(index));
        known.copied().ok_or(UnknownTokenState(number))
    }
}

/// A number that stands for no [`TokenState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown token state {0}: expected 0 to 7")]
pub struct UnknownTokenState(pub i64);

/// Go's `omitempty`.
fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request() -> HandshakeRequest {
        HandshakeRequest {
            domain_id: "alice".into(),
            kind: HandshakeKind::Rsa,
            token_config: Some(TokenConfig {
                token: Ciphertext("c2VjcmV0".into()),
                revision: 3,
                pubhash: "aGFzaA==".into(),
            }),
            request_time: 1_700_000_000_123_456_789,
            ..HandshakeRequest::default()
        }
    }

    #[test]
    fn a_request_has_the_bytes_that_go_writes() {
        let json = serde_json::to_string(&request()).expect("encodes");
        assert_eq!(
            json,
            concat!(
                r#"{"domain_id":"alice","type":"RSA","#,
                r#""token_config":{"token":"c2VjcmV0","revision":3,"pubhash":"aGFzaA=="},"#,
                r#""request_time":1700000000123456789}"#
            )
        );
        assert_eq!(serde_json::from_str::<HandshakeRequest>(&json).expect("decodes"), request());
    }

    #[test]
    fn what_signatures_add_stands_behind_the_fields_of_kuscia() {
        let signed = HandshakeRequest { nonce: "bm9uY2U=".into(), signature: "c2ln".into(), ..request() };
        let json = serde_json::to_string(&signed).expect("encodes");
        let unsigned = serde_json::to_string(&request()).expect("encodes");
        let kuscias = unsigned.strip_suffix('}').expect("is an object");
        assert_eq!(json, format!(r#"{kuscias},"nonce":"bm9uY2U=","signature":"c2ln"}}"#));
        assert_eq!(serde_json::from_str::<HandshakeRequest>(&json).expect("decodes"), signed);

        let refusal = HandshakeResponse {
            status: Some(Status { code: 500, message: "no".into(), ..Status::default() }),
            last_request_time: 9,
            signature: "c2ln".into(),
            ..HandshakeResponse::default()
        };
        let json = serde_json::to_string(&refusal).expect("encodes");
        let expected = r#"{"status":{"code":500,"message":"no"},"last_request_time":9,"signature":"c2ln"}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<HandshakeResponse>(&json).expect("decodes"), refusal);
    }

    #[test]
    fn zero_values_are_left_out_as_go_does() {
        let mut first = request();
        first.token_config.as_mut().expect("present").revision = 0;
        let json = serde_json::to_string(&first).expect("encodes");
        assert!(json.contains(r#""token_config":{"token":"c2VjcmV0","pubhash":"aGFzaA=="}"#), "{json}");
        assert_eq!(serde_json::to_string(&HandshakeRequest::default()).expect("encodes"), "{}");
    }

    #[test]
    fn a_success_keeps_its_empty_status() {
        let response = HandshakeResponse {
            status: Some(Status::default()),
            token: Some(Token { token: Ciphertext("eA==".into()), expiration_time: 7, revision: 1 }),
            ..HandshakeResponse::default()
        };
        let json = serde_json::to_string(&response).expect("encodes");
        assert_eq!(json, r#"{"status":{},"token":{"token":"eA==","expiration_time":7,"revision":1}}"#);
        assert_eq!(serde_json::from_str::<HandshakeResponse>(&json).expect("decodes"), response);
    }

    #[test]
    fn a_refusal_has_no_token() {
        let response = HandshakeResponse {
            status: Some(Status { code: 500, message: "no".into(), ..Status::default() }),
            ..HandshakeResponse::default()
        };
        let json = serde_json::to_string(&response).expect("encodes");
        assert_eq!(json, r#"{"status":{"code":500,"message":"no"}}"#);
    }

    #[test]
    fn missing_null_and_unknown_fields_are_tolerated() {
        let request: HandshakeRequest = serde_json::from_value(json!({
            "domain_id": "alice", "type": "UID", "token_config": null, "request_time": 1, "details": [1, 2],
        }))
        .expect("decodes");
        assert_eq!((request.kind, request.token_config), (HandshakeKind::Uid, None));

        let response: HandshakeResponse =
            serde_json::from_value(json!({"status": {"code": 0, "details": []}, "token": null}))
                .expect("decodes");
        assert_eq!(
            response,
            HandshakeResponse { status: Some(Status::default()), ..HandshakeResponse::default() }
        );
    }

    #[test]
    fn an_unknown_kind_is_kept_to_be_named_in_the_refusal() {
        let request: HandshakeRequest = serde_json::from_value(json!({"type": "SM2"})).expect("decodes");
        assert_eq!(request.kind, HandshakeKind::Other("SM2".into()));
        assert_eq!(serde_json::to_value(&request).expect("encodes"), json!({"type": "SM2"}));
    }

    #[test]
    fn numbers_in_strings_are_refused() {
        assert!(serde_json::from_value::<HandshakeRequest>(json!({"request_time": "1"})).is_err());
    }

    #[test]
    fn states_are_the_numbers_of_kuscia() {
        for (number, state) in (0..).zip(TokenState::ALL) {
            assert_eq!(i64::from(state), number);
            assert_eq!(TokenState::try_from(number), Ok(state));
        }
        for number in [-1, 8, i64::MAX] {
            assert_eq!(TokenState::try_from(number), Err(UnknownTokenState(number)));
        }
    }

    #[test]
    fn a_status_answer_says_its_state_even_when_it_is_zero() {
        let ready = StatusResponse { namespace: "bob".into(), state: TokenState::TokenReady };
        let json = serde_json::to_string(&ready).expect("encodes");
        assert_eq!(json, r#"{"namespace":"bob","state":0}"#);
        assert_eq!(serde_json::from_str::<StatusResponse>(&json).expect("decodes"), ready);
        assert!(serde_json::from_str::<StatusResponse>("{}").is_err());
    }

    #[test]
    fn debug_shows_no_share_of_a_token() {
        let shown = format!("{:?}", request());
        assert!(!shown.contains("c2VjcmV0") && shown.contains("aGFzaA=="), "{shown}");
    }
}
