//! Why a destination gives no token.

use std::net::IpAddr;

use certs::Fingerprint;
use jiff::Timestamp;
use model::DomainId;
use proto::handshake::{HandshakeResponse, Status};

use super::ledger::LedgerError;
use super::state::{Stale, TooManyUnproven};

/// Kuscia's code for any failure.
pub(super) const FAILED: i32 = 500;

/// Why a handshake is refused. The texts go to the peer: they name keys by their public fingerprints only.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The requester is no domain.
    #[error("domain {0:?} is no domain ID")]
    NoDomainId(String),
    /// No route, or one without tokens.
    #[error(
        "{destination} has no route from {requester} with token authentication; its operator must add one"
    )]
    NoRoute { requester: DomainId, destination: DomainId },
    /// The source does not come from there.
    #[error(
        "{destination} takes handshakes of {requester} from certain addresses only, and sees this one come from \
         {address}; its operator must add that to sourceWhiteIPList"
    )]
    OtherAddress { requester: DomainId, destination: DomainId, address: IpAddr },
    /// Another way to make tokens is wanted.
    #[error("handshake type {0:?} is not known; use RSA-GEN")]
    Kind(String),
    /// The source's half is missing.
    #[error("the request has no token_config")]
    NoShare,
    /// The request names another key of the source.
    #[error("{destination} holds the key {known} for {requester}, which is not the key of the request")]
    OtherSourceKey { requester: DomainId, destination: DomainId, known: Fingerprint },
    /// The source's half cannot be opened.
    #[error("the token is not encrypted for {destination}, whose key is {own}; the source holds another key")]
    OtherDestinationKey { destination: DomainId, own: Fingerprint },
    /// The request must be signed.
    #[error(
        "the request is not signed, but {destination} takes only signed ones from {requester}{}",
        if *.has_signed {
            ", which has signed before; if it cannot any more, set tokenConfig.handshake of the route there to \"compatible\""
        } else {
            ": tokenConfig.handshake of the route there is \"signed\""
        }
    )]
    NotSigned { requester: DomainId, destination: DomainId, has_signed: bool },
    /// The request was altered, or somebody else signed it.
    #[error("the request is not signed by the key {known}, which {destination} holds for {requester}")]
    WrongSignature { requester: DomainId, destination: DomainId, known: Fingerprint },
    /// The request is a repeated or delayed one, or the clocks differ.
    #[error(
        "the request is of {}, but after {} was expected by the clock of {destination}",
        shown(*.asked_at), shown(.stale.expected_after)
    )]
    Stale { destination: DomainId, asked_at: i64, stale: Stale },
    /// Too much is under way, or was asked for.
    #[error("too many handshakes at once; try again")]
    Busy,
    /// Too much was asked for, and the source has not signed it.
    #[error("too many unsigned handshakes in the name of {0} or from the same address; try again")]
    TooOften(DomainId),
    /// Too many tokens that nobody uses.
    #[error(transparent)]
    TooManyUnproven(#[from] TooManyUnproven),
    /// The token is stored, but not in force everywhere.
    #[error("not every gateway of {0} accepted the token in time; try again")]
    GatewayLate(DomainId),
    /// The token is not stored. Why concerns this side only.
    #[error("the token could not be kept; try again")]
    NotKept(#[from] LedgerError),
    /// No random bytes, or a share that cannot be encrypted.
    #[error("no token could be made")]
    Crypto,
}

impl Refusal {
    /// One word for the source's condition.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NoRoute { .. } => "RouteMissing",
            Self::OtherAddress { .. } => "AddressNotAllowed",
            Self::OtherSourceKey { .. } => "KeyUnknownToPeer",
            Self::OtherDestinationKey { .. } => "PeerKeyDiffers",
            Self::NotSigned { .. } => "SignatureMissing",
            Self::WrongSignature { .. } => "SignatureWrong",
            Self::Stale { .. } => "ClocksDiffer",
            Self::Busy | Self::TooOften(_) | Self::TooManyUnproven(_) => "TooManyHandshakes",
            Self::GatewayLate(_) | Self::NotKept(_) => "TokenNotReady",
            Self::NoDomainId(_) | Self::Kind(_) | Self::NoShare | Self::Crypto => "HandshakeRefused",
        }
    }

    /// What the source is answered.
    pub(super) fn response(&self) -> HandshakeResponse {
        let status = Status { code: FAILED, message: self.to_string(), reason: self.reason().to_owned() };
        let last_request_time = match self {
            Self::Stale { stale, .. } => stale.expected_after,
            _ => 0,
        };
        HandshakeResponse { status: Some(status), last_request_time, ..HandshakeResponse::default() }
    }
}

/// Nanoseconds since the Unix epoch, for people.
fn shown(nanoseconds: i64) -> Timestamp {
    let time = Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default();
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
