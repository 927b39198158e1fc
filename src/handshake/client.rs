//! Calls to the handshake service of a destination, through this domain's own gateway.

use std::net::SocketAddr;
use std::time::Duration;

use ::http::{HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use certs::{DomainKey, Fingerprint, PublicKey};
use jiff::Timestamp;
use model::{DomainId, TOKEN_BYTES, TokenValue};
use proto::handshake::{
    Ciphertext, HandshakeKind, HandshakeRequest, HandshakeResponse, StatusResponse, TokenConfig, TokenState,
};
use zeroize::Zeroizing;

use super::mint::SHARE_BYTES;
use crate::http::{Cause, Error, Limits, Target, send};

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
    /// The token ends before it begins.
    #[error("the token of {destination} ended at {expires} by this domain's clock; set both clocks")]
    ClocksDiffer { destination: DomainId, expires: Timestamp },
    /// Another domain answered.
    #[error("domain {actual:?} answers where {expected} was expected; check the route's endpoint")]
    OtherDomain { expected: DomainId, actual: String },
    /// The destination refused. Most refusals are about keys, so both are named.
    #[error(
        "{destination} refused: {message} (key of this domain: {own_key}; of {destination}, by the route: {peer_key})"
    )]
    Refused { destination: DomainId, message: String, own_key: Fingerprint, peer_key: Fingerprint },
    /// The destination's share is not encrypted for this domain's key.
    #[error(
        "the share of {destination} is not encrypted for this domain's key {own_key}: it seems to hold another one"
    )]
    KeyMismatch { destination: DomainId, own_key: Fingerprint },
    /// No request can be made.
    #[error("no request can be made: {0}")]
    Internal(String),
}

impl CallError {
    fn bad_answer(destination: &DomainId, problem: &str) -> Self {
        Self::BadAnswer { destination: destination.clone(), problem: problem.to_owned() }
    }

    /// Whether the destination was not reached at all.
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            Self::OwnGateway(_) | Self::NoAnswer { .. } => true,
            Self::Http { status, .. } => status.is_server_error(),
            _ => false,
        }
    }

    /// One word for the route's condition.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::OwnGateway(_) => "OwnGatewayDown",
            Self::NoAnswer { .. } => "DestinationUnreachable",
            Self::Http { status, .. } if status.is_server_error() => "DestinationUnreachable",
            Self::Http { .. } | Self::BadAnswer { .. } => "NotAHandshakeService",
            Self::ClocksDiffer { .. } => "ClocksDiffer",
            Self::OtherDomain { .. } => "OtherDomainAnswered",
            Self::Refused { .. } => "HandshakeRefused",
            Self::KeyMismatch { .. } => "KeyMismatch",
            Self::Internal(_) => "InternalError",
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
        let internal = |error: &dyn std::error::Error| CallError::Internal(error.to_string());
        aws_lc_rs::rand::fill(&mut token[..SHARE_BYTES]).map_err(|error| internal(&error))?;
        let sealed = peer_key.seal(&token[..SHARE_BYTES]).map_err(|error| internal(&error))?;
        let own_key = self.key.public_key();
        let request = HandshakeRequest {
            domain_id: self.domain.to_string(),
            kind: HandshakeKind::Rsa,
            token_config: Some(TokenConfig {
                token: Ciphertext(sealed),
                revision,
                pubhash: own_key.pubhash(),
            }),
            request_time: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
        };
        let body = serde_json::to_vec(&request).map_err(|error| internal(&error))?;
        let request = self.request(Method::POST, destination).header("content-type", "application/json");
        let response = self.call(destination, request, body.into(), NEGOTIATION_TIMEOUT).await?;
        let bad = |problem: &str| CallError::bad_answer(destination, problem);
        let answer: HandshakeResponse =
            serde_json::from_slice(response.body()).map_err(|_| bad("the answer is not its JSON"))?;
        let status = answer.status.ok_or_else(|| bad("the answer has no status"))?;
        if status.code != 0 {
            return Err(CallError::Refused {
                destination: destination.clone(),
                message: quoted(&status.message),
                own_key: own_key.fingerprint(),
                peer_key: peer_key.fingerprint(),
            });
        }
        let answer = answer.token.ok_or_else(|| bad("the answer has no token"))?;
        let share = self.key.open(&answer.token.0, SHARE_BYTES).map_err(|_| CallError::KeyMismatch {
            destination: destination.clone(),
            own_key: own_key.fingerprint(),
        })?;
        token[SHARE_BYTES..].copy_from_slice(&share);
        let expires = Timestamp::from_nanosecond(answer.expiration_time.into());
        let expires = expires.map_err(|_| bad("the token's end is no time"))?;
        if expires <= now {
            return Err(CallError::ClocksDiffer { destination: destination.clone(), expires });
        }
        Ok(Negotiated { value: TokenValue::new(*token), revision: answer.revision.into(), expires })
    }

    /// Asks `destination` for the state of the token of `revision`, and proves with `token` that this domain has it.
    pub(super) async fn probe(
        &self,
        destination: &DomainId,
        revision: i64,
        token: &TokenValue,
    ) -> Result<TokenState, CallError> {
        let token = Zeroizing::new(token.header_value());
        let mut token =
            HeaderValue::from_str(&token).map_err(|error| CallError::Internal(error.to_string()))?;
        token.set_sensitive(true);
        let request = self
            .request(Method::GET, destination)
            .header("kuscia-token-revision", revision)
            .header("kuscia-token", token);
        let response = self.call(destination, request, Bytes::new(), PROBE_TIMEOUT).await?;
        let answer: StatusResponse = serde_json::from_slice(response.body())
            .map_err(|_| CallError::bad_answer(destination, "the answer is not its JSON"))?;
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
        let request = request.body(body).map_err(|error| CallError::Internal(error.to_string()))?;
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
