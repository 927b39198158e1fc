//! Calls to the handshake service of a destination, through this domain's own gateway.

use std::net::SocketAddr;
use std::time::Duration;

use ::http::{Method, Request, Response, StatusCode};
use bytes::Bytes;
use certs::{DomainKey, PublicKey};
use jiff::Timestamp;
use model::{DomainId, TOKEN_BYTES, TokenValue};
use proto::handshake::{
    Ciphertext, HandshakeKind, HandshakeRequest, HandshakeResponse, StatusResponse, TokenConfig, TokenState,
};
use zeroize::Zeroizing;

use crate::http::{Cause, Error, Limits, Target, send};

/// Bytes that each side contributes to a token.
const SHARE_BYTES: usize = TOKEN_BYTES / 2;

/// An answer is some hundred bytes; a peer may not make us read more than this.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A destination answers a handshake only once its gateways accept the token, which may take it half a minute.
const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(35);

const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest part of a peer's message that is repeated.
const MAX_QUOTED_CHARS: usize = 300;

/// A handshake that brought no token, or a probe that brought no state.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// This domain's own gateway does not answer.
    #[error("this domain's gateway: {0}; is Envoy running with this mesh's bootstrap?")]
    OwnGateway(Error),
    /// The answer did not come whole, in time or in size.
    #[error("no proper answer from {destination}: {cause}")]
    NoAnswer { destination: DomainId, cause: String },
    /// A gateway on the way answered with an error.
    #[error("HTTP status {status}: {message}")]
    Http { status: StatusCode, message: String },
    /// What came is not the answer of a handshake service.
    #[error("what answers for {destination} is no handshake service: {problem}; check the route's endpoint")]
    BadAnswer { destination: DomainId, problem: String },
    /// Another domain answered.
    #[error("domain {actual:?} answers where {expected} was expected; check the route's endpoint")]
    OtherDomain { expected: DomainId, actual: String },
    /// The destination refused.
    #[error("{destination} refused: {message}")]
    Refused { destination: DomainId, message: String },
    /// A share could not be encrypted or decrypted.
    #[error("{0}")]
    Crypto(String),
}

impl CallError {
    /// Whether the destination was reached at all.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::OwnGateway(_) | Self::NoAnswer { .. } | Self::Http { .. })
    }

    /// One word for the route's condition.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::OwnGateway(_) => "OwnGatewayDown",
            Self::NoAnswer { .. } | Self::Http { .. } => "DestinationUnreachable",
            Self::BadAnswer { .. } => "NotAHandshakeService",
            Self::OtherDomain { .. } => "OtherDomainAnswered",
            Self::Refused { .. } => "HandshakeRefused",
            Self::Crypto(_) => "KeyMismatch",
        }
    }
}

/// A token fresh from a handshake.
pub(super) struct Negotiated {
    pub(super) value: TokenValue,
    pub(super) revision: i64,
    pub(super) expires: Timestamp,
}

/// Calls destinations in the name of one domain.
#[derive(Clone, Debug)]
pub(super) struct HandshakeClient {
    pub(super) domain: DomainId,
    pub(super) key: DomainKey,
    /// Where applications of this domain reach the gateway.
    pub(super) gateway: SocketAddr,
}

impl HandshakeClient {
    /// Negotiates a token with `destination`, which holds `peer_key`; `revision` is the one in use, or 0.
    pub(super) async fn negotiate(
        &self,
        destination: &DomainId,
        peer_key: &PublicKey,
        revision: i64,
        now: Timestamp,
    ) -> Result<Negotiated, CallError> {
        let mut token = Zeroizing::new([0; TOKEN_BYTES]);
        let crypto = |error: &dyn std::error::Error| CallError::Crypto(error.to_string());
        aws_lc_rs::rand::fill(&mut token[..SHARE_BYTES]).map_err(|error| crypto(&error))?;
        let sealed = peer_key.seal(&token[..SHARE_BYTES]).map_err(|error| crypto(&error))?;
        let request = HandshakeRequest {
            domain_id: self.domain.to_string(),
            kind: HandshakeKind::Rsa,
            token_config: Some(TokenConfig {
                token: Ciphertext(sealed),
                revision,
                pubhash: self.key.public_key().pubhash(),
            }),
            request_time: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
        };
        let bad = |problem: &str| CallError::BadAnswer {
            destination: destination.clone(),
            problem: problem.to_owned(),
        };
        let body = serde_json::to_vec(&request).map_err(|error| crypto(&error))?;
        let request = self.request(Method::POST, destination).header("content-type", "application/json");
        let response = self.call(destination, request, body.into(), NEGOTIATION_TIMEOUT).await?;
        let answer: HandshakeResponse =
            serde_json::from_slice(response.body()).map_err(|_| bad("the answer is not its JSON"))?;
        let status = answer.status.ok_or_else(|| bad("the answer has no status"))?;
        if status.code != 0 {
            let message = quoted(&status.message);
            return Err(CallError::Refused { destination: destination.clone(), message });
        }
        let answer = answer.token.ok_or_else(|| bad("the answer has no token"))?;
        let share = self.key.open(&answer.token.0, SHARE_BYTES).map_err(|error| {
            let own = self.key.public_key().fingerprint();
            CallError::Crypto(format!("{error}: {destination} seems to hold another key of ours than {own}"))
        })?;
        token[SHARE_BYTES..].copy_from_slice(&share);
        let expires = Timestamp::from_nanosecond(answer.expiration_time.into());
        let expires =
            expires.ok().filter(|time| *time > now).ok_or_else(|| bad("the token has already expired"))?;
        Ok(Negotiated { value: TokenValue::new(*token), revision: answer.revision.into(), expires })
    }

    /// Asks `destination` for the state of the token of `revision`, and proves with `token` that this domain has it.
    pub(super) async fn probe(
        &self,
        destination: &DomainId,
        revision: i64,
        token: &TokenValue,
    ) -> Result<TokenState, CallError> {
        let request = self
            .request(Method::GET, destination)
            .header("kuscia-token-revision", revision)
            .header("kuscia-token", token.header_value());
        let response = self.call(destination, request, Bytes::new(), PROBE_TIMEOUT).await?;
        let answer: StatusResponse =
            serde_json::from_slice(response.body()).map_err(|_| CallError::BadAnswer {
                destination: destination.clone(),
                problem: "the answer is not its JSON".into(),
            })?;
        if answer.namespace != destination.as_str() {
            let actual = quoted(&answer.namespace);
            return Err(CallError::OtherDomain { expected: destination.clone(), actual });
        }
        Ok(answer.state)
    }

    fn request(&self, method: Method, destination: &DomainId) -> ::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("http://{}/handshake", destination.handshake_host()))
            .header("kuscia-source", self.domain.as_str())
    }

    async fn call(
        &self,
        destination: &DomainId,
        request: ::http::request::Builder,
        body: Bytes,
        total: Duration,
    ) -> Result<Response<Bytes>, CallError> {
        let request = request.body(body).map_err(|error| CallError::Crypto(error.to_string()))?;
        let limits = Limits { total, body: MAX_ANSWER_BYTES, ..Limits::default() };
        let response =
            send(&Target::Tcp(self.gateway), request, limits).await.map_err(|error| match error.cause {
                Cause::Refused | Cause::Connect(_) => CallError::OwnGateway(error),
                cause => CallError::NoAnswer { destination: destination.clone(), cause: cause.to_string() },
            })?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let hops = response.headers().get("kuscia-error-message").and_then(|value| value.to_str().ok());
        let body = || String::from_utf8_lossy(response.body()).into_owned();
        let message = hops.map_or_else(body, ToOwned::to_owned);
        Err(CallError::Http { status: response.status(), message: quoted(&message) })
    }
}

/// A peer's words, short and without control characters, so that they may stand in a log or a status.
fn quoted(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_QUOTED_CHARS).collect()
}
