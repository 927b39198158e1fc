//! How a source proves who it is, from what the route and the `Domain` at its other end tell.

use std::sync::Arc;
use std::time::Duration;

use certs::PublicKey;

use super::admission::{self, Admission, Pin};
use super::fields::{AuthFields, TokenFields};
use super::parse::{Rejection, Surroundings};
use super::token_fields::{DESTINATION_KEY, SOURCE_KEY};
use super::{
    CertificatePin, Direction, HandshakePolicy, InboundAuth, OutboundAuth, TokenMethod, TokenSettings,
};
use crate::DomainId;
use crate::domain::DomainCertificate;
use crate::error::{FieldErrors, Problem};

const AUTHENTICATION: &str = "spec.authenticationType";

/// What an object tells of the proof of who the source is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AuthTerms {
    None,
    Mtls,
    Token(TokenTerms),
}

/// What an object tells of the tokens of a route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TokenTerms {
    /// What is wrong with the key that it names for this domain.
    own_key_problem: Option<Problem>,
    peer_key: Option<PublicKey>,
    rolling_update_period: Option<Duration>,
    method: TokenMethod,
    handshake: HandshakePolicy,
}

impl AuthTerms {
    pub(super) fn new(fields: AuthFields, direction: Direction, own_key: &PublicKey) -> Self {
        match fields {
            AuthFields::None => Self::None,
            AuthFields::Mtls => Self::Mtls,
            AuthFields::Token(fields) => Self::Token(TokenTerms::new(fields, direction, own_key)),
        }
    }

    /// How the source authenticates itself to `destination`.
    pub(super) fn outbound(
        &self,
        destination: &DomainId,
        certificate: Option<&DomainCertificate>,
    ) -> Result<OutboundAuth, Rejection> {
        Ok(match self {
            Self::None => OutboundAuth::None,
            Self::Mtls => OutboundAuth::Mtls,
            Self::Token(tokens) => OutboundAuth::Token {
                settings: tokens.settings(Direction::Outbound, destination, certificate)?,
                sending: None,
            },
        })
    }

    /// How the destination authenticates `source`.
    pub(super) fn inbound(
        &self,
        source: &DomainId,
        admission: &Admission,
        surroundings: &Surroundings,
    ) -> Result<InboundAuth, Rejection> {
        let certificate = surroundings.certificates.get(source);
        match self {
            Self::None => Ok(InboundAuth::None),
            Self::Mtls if !surroundings.verifies_clients => {
                let problem = Problem::new(
                    "is MTLS, and the external listener verifies no client certificates",
                    "set `protocol: TLS` or `MTLS` in networkmesh.yaml, or use \"Token\"",
                );
                Err(Rejection::new("ListenerWithoutTLS", FieldErrors::one(AUTHENTICATION, problem)))
            }
            Self::Mtls => Ok(InboundAuth::Mtls { pin: admission.pin(source, certificate)? }),
            Self::Token(tokens) => Ok(InboundAuth::Token {
                settings: tokens.settings(Direction::Inbound, source, certificate)?,
                accepted: Vec::new(),
            }),
        }
    }
}

impl TokenTerms {
    /// The route may leave this domain's key out, but where it names one, it must be ours: the peer reads the same
    /// route.
    fn new(fields: TokenFields, direction: Direction, own_key: &PublicKey) -> Self {
        let (given, peer_key) = match direction {
            Direction::Outbound => (fields.source_key, fields.destination_key),
            Direction::Inbound => (fields.destination_key, fields.source_key),
        };
        let given = given.filter(|given| given != own_key);
        Self {
            own_key_problem: given.map(|given| key_mismatch(&given, own_key)),
            peer_key,
            rolling_update_period: fields.rolling_update_period,
            method: fields.method,
            handshake: fields.handshake,
        }
    }

    fn settings(
        &self,
        direction: Direction,
        peer: &DomainId,
        certificate: Option<&DomainCertificate>,
    ) -> Result<TokenSettings, Rejection> {
        let (own_path, peer_path) = match direction {
            Direction::Outbound => (SOURCE_KEY, DESTINATION_KEY),
            Direction::Inbound => (DESTINATION_KEY, SOURCE_KEY),
        };
        let mut errors = FieldErrors::default();
        let mut reason = "PeerKeyMissing";
        if let Some(problem) = &self.own_key_problem {
            reason = "KeyMismatch";
            errors.add(own_path, problem.clone());
        }
        let peer_key = self.peer_key.as_ref().or_else(|| certificate.map(|certificate| &certificate.key));
        match errors.check(peer_path, peer_key.ok_or_else(|| missing_key(peer))) {
            Some(peer_key) if errors.is_empty() => Ok(TokenSettings {
                peer_key: peer_key.clone(),
                rolling_update_period: self.rolling_update_period,
                method: self.method,
                handshake: self.handshake,
            }),
            _ => Err(Rejection::new(reason, errors)),
        }
    }
}

impl Admission {
    /// The authority whose client certificates stand for `source`.
    pub(super) fn authority(
        &self,
        source: &DomainId,
        certificate: Option<&DomainCertificate>,
    ) -> Result<Option<Arc<str>>, Rejection> {
        let Some(certificate) = certificate.filter(|_| self.has_certificates) else { return Ok(None) };
        if certificate.is_authority {
            return Ok(Some(Arc::clone(&certificate.pem)));
        }
        let problem = Problem::new(
            format!(
                "needs client certificates, but the certificate of Domain {source} is no authority named CN={source} alone"
            ),
            format!("put there what `networkmesh cert --base64` prints at {source}"),
        );
        Err(Rejection::new("PeerCertificateUnusable", FieldErrors::one(AUTHENTICATION, problem)))
    }

    /// The client certificate that lets `source` in beside those that its authority signs.
    fn pin(
        &self,
        source: &DomainId,
        certificate: Option<&DomainCertificate>,
    ) -> Result<Option<CertificatePin>, Rejection> {
        match (&self.pin, certificate) {
            (Some(Pin { is_authority: false, certificate }), _) => Ok(Some(certificate.clone())),
            (Some(pin), Some(known)) if pin.certificate.pem == known.pem => Ok(None),
            (Some(_), _) => {
                let problem = Problem::new(
                    "is an authority's certificate, which could let in others",
                    format!("give one that is no authority's, or put this one into Domain {source} too"),
                );
                Err(Rejection::invalid(FieldErrors::one(admission::PIN, problem)))
            }
            (None, Some(_)) => Ok(None),
            (None, None) => {
                let problem = Problem::new(
                    "is MTLS, and nothing tells the certificates of the source",
                    format!("add a Domain {source} with its certificate, or {}", admission::PIN),
                );
                Err(Rejection::new("PeerCertificateMissing", FieldErrors::one(AUTHENTICATION, problem)))
            }
        }
    }
}

fn key_mismatch(given: &PublicKey, own: &PublicKey) -> Problem {
    Problem::new(
        format!("is the key {}, but this domain's key is {}", given.fingerprint(), own.fingerprint()),
        "put this domain's public key there on both sides (`networkmesh cert --public-key`), or mend domainKeyData",
    )
}

fn missing_key(peer: &DomainId) -> Problem {
    let remedy = format!("put the public key of {peer} there, or add a Domain {peer} with its certificate");
    Problem::new("is missing", remedy)
}
