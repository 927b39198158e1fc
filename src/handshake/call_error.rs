//! What can go wrong in a call to a destination.

use ::http::{Response, StatusCode};
use bytes::Bytes;
use certs::Fingerprint;
use model::{DomainId, printable};
use proto::handshake::Status;

use crate::http::Error;

/// Longest part of a `Kuscia-Error-Message` that is read: each of the gateways that it names takes some fifty characters.
const MAX_HOPS_CHARS: usize = 2000;

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
    #[error(transparent)]
    Refused(Box<PeerRefusal>),
    /// The answer must be signed.
    #[error(
        "the answer of {destination} is not signed, but must be: tokenConfig.handshake of the route says so, or \
         {destination} has signed before; if it cannot any more, set that to \"compatible\""
    )]
    NotSigned { destination: DomainId },
    /// The answer was altered, or somebody else signed it.
    #[error("the answer of {destination} is not signed by its key {peer_key}, as the route has it")]
    WrongSignature { destination: DomainId, peer_key: Fingerprint },
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
    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }

    /// A gateway's answer that is an error, or no answer of a handshake service.
    pub(super) fn of_response(response: &Response<Bytes>) -> Self {
        let hops = response.headers().get("kuscia-error-message").and_then(|value| value.to_str().ok());
        let body = String::from_utf8_lossy(response.body());
        let message = printable(hops.unwrap_or(&body), MAX_HOPS_CHARS);
        Self::Http { status: response.status(), message }
    }

    pub(super) fn bad_answer(destination: &DomainId, problem: &str) -> Self {
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
            Self::OtherDomain { .. } => "OtherDomainAnswered",
            Self::Refused(refusal) => refusal.reason,
            Self::NotSigned { .. } => "SignatureMissing",
            Self::WrongSignature { .. } => "SignatureWrong",
            Self::KeyMismatch { .. } => "KeyUnknownToPeer",
            Self::Internal(_) => "InternalError",
        }
    }
}

/// A destination's refusal of a handshake. Most are about keys, so both are named.
#[derive(Debug, thiserror::Error)]
#[error(
    "{destination} refused: {message} (key of this domain: {own_key}; of {destination}, by the route: {peer_key})"
)]
pub(super) struct PeerRefusal {
    pub(super) destination: DomainId,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) own_key: Fingerprint,
    pub(super) peer_key: Fingerprint,
    /// A request of a time shortly after this one would not be refused for its time: nanoseconds since the Unix epoch. The
    /// destination has signed that it is so.
    pub(super) expected_time: Option<i64>,
}

/// One word for why a destination refused: what it says itself, or what Kuscia's words mean.
pub(super) fn refusal_reason(status: &Status) -> &'static str {
    const KNOWN: [&str; 9] = [
        "AddressNotAllowed",
        "RouteMissing",
        "KeyUnknownToPeer",
        "PeerKeyDiffers",
        "SignatureMissing",
        "SignatureWrong",
        "ClocksDiffer",
        "TooManyHandshakes",
        "TokenNotReady",
    ];
    const KUSCIAS: [(&str, &str); 3] = [
        ("not found in dest domain", "RouteMissing"),
        ("publickey hash mismatch", "KeyUnknownToPeer"),
        ("may be not correct", "PeerKeyDiffers"),
    ];
    let said = KNOWN.into_iter().find(|known| *known == status.reason);
    let meant =
        || KUSCIAS.iter().find(|(words, _)| status.message.contains(words)).map(|(_, reason)| *reason);
    said.or_else(meant).unwrap_or("HandshakeRefused")
}
