//! A `DomainRoute` and this domain's key → the terms of a route; these and the `Domain`s → the route.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use certs::PublicKey;

use super::fields::{self, Fields, TokenFields};
use super::{
    Direct, Direction, Endpoint, HandshakePolicy, InboundAuth, InboundRoute, OutboundAuth, OutboundRoute,
    TokenMethod, TokenSettings, Trust, Way,
};
use crate::api::{DomainRoute, DomainRouteStatus};
use crate::domain::DomainCertificate;
use crate::error::{FieldErrors, Problem};
use crate::token::Opener;
use crate::{DomainId, ObjectRef};

/// What an object tells of a route of this domain. Where it leaves out the peer's key, the peer's `Domain` tells it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    Outbound { destination: DomainId, endpoint: Arc<Endpoint>, tokens: Option<TokenTerms> },
    Inbound { source: DomainId, tokens: Option<TokenTerms> },
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
    fn new(reason: &'static str, errors: FieldErrors) -> Self {
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
    own_key: &PublicKey,
) -> Result<Terms, Rejection> {
    let Some(direction) = Direction::of(&object.spec, domain.as_str()) else {
        return Err(Rejection::invalid(fields::stranger(object, domain.as_str())));
    };
    let mut errors = FieldErrors::default();
    let fields = fields::parse(object, Some(direction), &mut errors);
    let terms = match direction {
        Direction::Outbound => {
            let endpoint = fields::parse_endpoint(&object.spec.endpoint, &mut errors);
            fields.zip(endpoint).map(|(Fields { destination, tokens, .. }, endpoint)| Terms::Outbound {
                destination,
                endpoint: Arc::new(endpoint),
                tokens: tokens.map(|tokens| TokenTerms::new(tokens, direction, own_key)),
            })
        }
        Direction::Inbound => fields.map(|Fields { source, tokens, .. }| Terms::Inbound {
            source,
            tokens: tokens.map(|tokens| TokenTerms::new(tokens, direction, own_key)),
        }),
    };
    terms.filter(|_| errors.is_empty()).ok_or_else(|| Rejection::invalid(errors))
}

impl Terms {
    /// The route of `object`, without its status. `certificates` are those of the `Domain`s.
    pub(crate) fn route(
        &self,
        object: ObjectRef,
        certificates: &BTreeMap<DomainId, DomainCertificate>,
    ) -> Result<Route, Rejection> {
        let status = Arc::default();
        match self {
            Self::Outbound { destination, endpoint, tokens } => {
                let certificate = certificates.get(destination);
                let settings =
                    |tokens: &TokenTerms| tokens.settings(Direction::Outbound, destination, certificate);
                let settings = tokens.as_ref().map(settings).transpose()?;
                Ok(Route::Outbound(OutboundRoute {
                    object,
                    destination: destination.clone(),
                    way: Way::Direct(Arc::new(Direct {
                        endpoint: Endpoint::clone(endpoint),
                        trust: certificate.map_or(Trust::SystemRoots, |certificate| {
                            Trust::Authority(Arc::clone(&certificate.pem))
                        }),
                        client: None,
                    })),
                    auth: settings.map_or(OutboundAuth::None, |settings| OutboundAuth::Token {
                        settings,
                        sending: None,
                    }),
                    bandwidth: Arc::default(),
                    status,
                }))
            }
            Self::Inbound { source, tokens } => {
                let certificate = certificates.get(source);
                let settings = |tokens: &TokenTerms| tokens.settings(Direction::Inbound, source, certificate);
                let settings = tokens.as_ref().map(settings).transpose()?;
                Ok(Route::Inbound(InboundRoute {
                    object,
                    source: source.clone(),
                    carrier: None,
                    auth: settings.map_or(InboundAuth::None, |settings| InboundAuth::Token {
                        settings,
                        accepted: Vec::new(),
                    }),
                    authority: None,
                    addresses: Arc::default(),
                    request_headers: Arc::default(),
                    origins: Arc::default(),
                    forwards: Arc::default(),
                    status,
                }))
            }
        }
    }
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
            Direction::Outbound => (fields::SOURCE_KEY, fields::DESTINATION_KEY),
            Direction::Inbound => (fields::DESTINATION_KEY, fields::SOURCE_KEY),
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
