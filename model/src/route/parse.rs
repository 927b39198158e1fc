//! A `DomainRoute` and this domain's key → the terms of a route; these and the `Domain`s → the route.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use certs::{DomainKey, PublicKey};

use super::admission::{self, Admission, Pin};
use super::direct::{self, DirectTerms};
use super::fields::{self, AuthFields, TokenFields};
use super::token_fields::{DESTINATION_KEY, SOURCE_KEY};
use super::{
    CertificatePin, Direct, Direction, HandshakePolicy, InboundAuth, InboundRoute, OutboundAuth,
    OutboundRoute, TokenMethod, TokenSettings, Trust, Way,
};
use crate::api::{DomainRoute, DomainRouteStatus};
use crate::domain::DomainCertificate;
use crate::error::{FieldErrors, Problem};
use crate::token::Opener;
use crate::{DomainId, ObjectRef};

/// What an object tells of a route of this domain. The rest is told by the `Domain` of its other end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    Outbound { destination: DomainId, direct: Box<DirectTerms>, auth: AuthTerms },
    Inbound { source: DomainId, admission: Box<Admission>, auth: AuthTerms },
}

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

/// What a domain knows beside its routes.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// The certificates of the `Domain`s.
    pub(crate) certificates: BTreeMap<DomainId, DomainCertificate>,
    /// Whether the external listener verifies client certificates.
    pub(crate) verifies_clients: bool,
}

/// A route of this domain.
#[derive(Debug)]
pub(crate) enum Route {
    Outbound(OutboundRoute),
    Inbound(InboundRoute),
}

/// Why a route is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// Reason of the `Accepted` condition: one word.
    pub(crate) reason: &'static str,
    pub(crate) errors: Arc<FieldErrors>,
}

impl Rejection {
    pub(crate) fn new(reason: &'static str, errors: FieldErrors) -> Self {
        Self { reason, errors: Arc::new(errors) }
    }

    fn invalid(errors: FieldErrors) -> Self {
        Self::new("Invalid", errors)
    }
}

/// Parses what `object` tells `domain`, which holds `own_key`.
pub(crate) fn parse(
    object: &DomainRoute,
    domain: &DomainId,
    own_key: &DomainKey,
) -> Result<Terms, Rejection> {
    let Some(direction) = Direction::of(&object.spec, domain.as_str()) else {
        let errors = fields::forwarded(object, domain.as_str()).err().unwrap_or_default();
        return Err(Rejection::invalid(errors));
    };
    let mut errors = FieldErrors::default();
    let fields = fields::parse(object, &mut errors);
    let terms = match direction {
        Direction::Outbound => {
            let direct = direct::parse(object, Some(own_key), &mut errors);
            fields.zip(direct).map(|(fields, direct)| Terms::Outbound {
                destination: fields.destination,
                direct: Box::new(direct),
                auth: AuthTerms::new(fields.auth, direction, own_key.public_key()),
            })
        }
        Direction::Inbound => fields.and_then(|fields| {
            let admission = admission::parse(&object.spec, &fields, &mut errors)?;
            Some(Terms::Inbound {
                source: fields.source,
                admission: Box::new(admission),
                auth: AuthTerms::new(fields.auth, direction, own_key.public_key()),
            })
        }),
    };
    terms.filter(|_| errors.is_empty()).ok_or_else(|| Rejection::invalid(errors))
}

impl Terms {
    /// The route of `object`, without its status.
    pub(crate) fn route(&self, object: ObjectRef, surroundings: &Surroundings) -> Result<Route, Rejection> {
        let certificates = &surroundings.certificates;
        match self {
            Self::Outbound { destination, direct, auth } => {
                let certificate = certificates.get(destination);
                Ok(Route::Outbound(OutboundRoute {
                    object,
                    destination: destination.clone(),
                    way: Way::Direct(Arc::new(direct.with(certificate))),
                    auth: auth.outbound(destination, certificate)?,
                    bandwidth: Arc::default(),
                    status: Arc::default(),
                }))
            }
            Self::Inbound { source, admission, auth } => {
                let certificate = certificates.get(source);
                let auth = match auth {
                    AuthTerms::None => InboundAuth::None,
                    AuthTerms::Mtls if !surroundings.verifies_clients => return Err(unverified()),
                    AuthTerms::Mtls => InboundAuth::Mtls { pin: admission.pin(source, certificate)? },
                    AuthTerms::Token(tokens) => tokens.inbound(source, certificate)?,
                };
                Ok(Route::Inbound(InboundRoute {
                    object,
                    source: source.clone(),
                    carrier: None,
                    auth,
                    authority: admission.authority(source, certificate)?,
                    addresses: Arc::clone(&admission.addresses),
                    request_headers: Arc::clone(&admission.request_headers),
                    origins: Arc::default(),
                    forwards: Arc::default(),
                    status: Arc::default(),
                }))
            }
        }
    }
}

impl DirectTerms {
    fn with(&self, certificate: Option<&DomainCertificate>) -> Direct {
        let trust = self.trust.clone().unwrap_or_else(|| match certificate {
            Some(certificate) => Trust::Authority(Arc::clone(&certificate.pem)),
            None => Trust::SystemRoots,
        });
        Direct { endpoint: self.endpoint.clone(), trust, client: self.client.clone() }
    }
}

impl Admission {
    /// The authority whose client certificates stand for `source`.
    fn authority(
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

const AUTHENTICATION: &str = "spec.authenticationType";

fn unverified() -> Rejection {
    let problem = Problem::new(
        "is MTLS, and the external listener verifies no client certificates",
        "set `protocol: TLS` or `MTLS` in networkmesh.yaml, or use \"Token\"",
    );
    Rejection::new("ListenerWithoutTLS", FieldErrors::one(AUTHENTICATION, problem))
}

impl Route {
    /// Takes over the object's status, and with it the tokens.
    pub(crate) fn set_status(&mut self, status: &Arc<DomainRouteStatus>, opener: &mut Opener) {
        match self {
            Self::Outbound(route) => route.set_status(status, opener),
            Self::Inbound(route) => route.set_status(status, opener),
        }
    }
}

impl AuthTerms {
    fn new(fields: AuthFields, direction: Direction, own_key: &PublicKey) -> Self {
        match fields {
            AuthFields::None => Self::None,
            AuthFields::Mtls => Self::Mtls,
            AuthFields::Token(fields) => Self::Token(TokenTerms::new(fields, direction, own_key)),
        }
    }

    fn outbound(
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

    fn inbound(
        &self,
        source: &DomainId,
        certificate: Option<&DomainCertificate>,
    ) -> Result<InboundAuth, Rejection> {
        let settings = self.settings(Direction::Inbound, source, certificate)?;
        Ok(InboundAuth::Token { settings, accepted: Vec::new() })
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
