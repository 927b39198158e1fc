//! A `DomainRoute`, this domain's key and what is known of the others → a route of this domain.

use std::collections::BTreeMap;

use certs::{DomainKey, PublicKey};
use kube::ResourceExt as _;

use super::fields::{self, Fields, TokenFields};
use super::{Direction, InboundAuth, InboundRoute, OutboundAuth, OutboundRoute, TokenSettings, Trust};
use crate::api::{DomainRoute, DomainRouteStatus};
use crate::domain::DomainCertificate;
use crate::error::{FieldErrors, Problem};
use crate::{DomainId, Kind, ObjectRef};

/// What a route is parsed against.
pub(crate) struct Context<'a> {
    pub(crate) domain: &'a DomainId,
    pub(crate) key: &'a DomainKey,
    /// The certificates of the `Domain` objects, for routes that leave keys out.
    pub(crate) certificates: &'a BTreeMap<DomainId, DomainCertificate>,
}

/// A route of this domain.
#[derive(Debug)]
pub(crate) enum Route {
    Outbound(OutboundRoute),
    Inbound(InboundRoute),
}

/// Why a route is not taken.
#[derive(Debug)]
pub(crate) struct Rejection {
    /// Reason of the `Accepted` condition: one word.
    pub(crate) reason: &'static str,
    pub(crate) errors: FieldErrors,
}

impl Rejection {
    fn invalid(errors: FieldErrors) -> Self {
        Self { reason: "Invalid", errors }
    }
}

/// Parses `object` for this domain.
pub(crate) fn parse(object: &DomainRoute, context: &Context<'_>) -> Result<Route, Rejection> {
    match Direction::of(&object.spec, context.domain.as_str()) {
        Some(Direction::Outbound) => outbound(object, context).map(Route::Outbound),
        Some(Direction::Inbound) => inbound(object, context).map(Route::Inbound),
        None => Err(Rejection::invalid(fields::stranger(object, context.domain.as_str()))),
    }
}

fn outbound(object: &DomainRoute, context: &Context<'_>) -> Result<OutboundRoute, Rejection> {
    let mut errors = FieldErrors::default();
    let fields = fields::parse(object, Some(Direction::Outbound), &mut errors);
    let endpoint = fields::parse_endpoint(&object.spec.endpoint, &mut errors);
    let (Some(Fields { destination, tokens, .. }), Some(endpoint), true) =
        (fields, endpoint, errors.is_empty())
    else {
        return Err(Rejection::invalid(errors));
    };
    let auth = match tokens {
        Some(tokens) => OutboundAuth::Token {
            settings: settings(tokens, Direction::Outbound, &destination, context)?,
            sending: None,
        },
        None => OutboundAuth::None,
    };
    let trust = match context.certificates.get(&destination) {
        Some(certificate) => Trust::Authority(certificate.pem.clone()),
        None => Trust::SystemRoots,
    };
    let status = object.status.clone().unwrap_or_default();
    let object = reference(object);
    let mut route =
        OutboundRoute { object, destination, endpoint, trust, auth, status: DomainRouteStatus::default() };
    route.set_status(&status, context.key);
    Ok(route)
}

fn inbound(object: &DomainRoute, context: &Context<'_>) -> Result<InboundRoute, Rejection> {
    let mut errors = FieldErrors::default();
    let fields = fields::parse(object, Some(Direction::Inbound), &mut errors);
    let (Some(Fields { source, tokens, .. }), true) = (fields, errors.is_empty()) else {
        return Err(Rejection::invalid(errors));
    };
    let auth = match tokens {
        Some(tokens) => InboundAuth::Token {
            settings: settings(tokens, Direction::Inbound, &source, context)?,
            accepted: Vec::new(),
        },
        None => InboundAuth::None,
    };
    let status = object.status.clone().unwrap_or_default();
    let mut route =
        InboundRoute { object: reference(object), source, auth, status: DomainRouteStatus::default() };
    route.set_status(&status, context.key);
    Ok(route)
}

fn reference(object: &DomainRoute) -> ObjectRef {
    ObjectRef {
        kind: Kind::DomainRoute,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    }
}

/// The settings of the side that this domain is. The route may leave this domain's key out, but where it names one, it
/// must be ours: the peer reads the same route.
fn settings(
    tokens: TokenFields,
    direction: Direction,
    peer: &DomainId,
    context: &Context<'_>,
) -> Result<TokenSettings, Rejection> {
    let source = (fields::SOURCE_KEY, tokens.source_key);
    let destination = (fields::DESTINATION_KEY, tokens.destination_key);
    let ((own_path, own_key), (peer_path, peer_key)) = match direction {
        Direction::Outbound => (source, destination),
        Direction::Inbound => (destination, source),
    };
    let mut errors = FieldErrors::default();
    let mut reason = "PeerKeyMissing";
    if let Some(given) = own_key.filter(|given| given != context.key.public_key()) {
        reason = "KeyMismatch";
        errors.add(own_path, key_mismatch(&given, context.key.public_key()));
    }
    let peer_key = peer_key.or_else(|| Some(context.certificates.get(peer)?.key.clone()));
    let peer_key = errors.check(peer_path, peer_key.ok_or_else(|| missing_key(peer)));
    match peer_key {
        Some(peer_key) if errors.is_empty() => {
            Ok(TokenSettings { peer_key, rolling_update_period: tokens.rolling_update_period })
        }
        _ => Err(Rejection { reason, errors }),
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
