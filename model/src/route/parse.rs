//! A `DomainRoute` and this domain's key → the terms of a route; these and the `Domain`s → the route.

use std::collections::BTreeMap;
use std::sync::Arc;

use certs::DomainKey;

use super::admission::{self, Admission};
use super::detour::{Detour, Place};
use super::direct::{self, DirectTerms};
use super::fields::{self, Fields};
use super::proof::AuthTerms;
use super::{Direction, InboundRoute, OutboundRoute, Way};
use crate::api::{DomainRoute, DomainRouteStatus};
use crate::domain::DomainCertificate;
use crate::error::FieldErrors;
use crate::token::Opener;
use crate::{DomainId, ObjectRef};

/// What an object tells of a route of this domain. The rest is told by the `Domain` of its other end, and by other
/// routes where it makes a detour.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    Outbound { destination: DomainId, direct: Box<DirectTerms>, auth: AuthTerms },
    Inbound { source: DomainId, admission: Box<Admission>, auth: AuthTerms },
    Detour(Box<DetourTerms>),
}

/// What an object tells of a detour.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DetourTerms {
    source: DomainId,
    destination: DomainId,
    via: DomainId,
    /// The end that this domain is; `None`: neither.
    end: Option<(Direction, AuthTerms)>,
}

/// What a domain knows beside its routes.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// The certificates of the `Domain`s.
    pub(crate) certificates: BTreeMap<DomainId, DomainCertificate>,
    /// Whether the external listener verifies client certificates.
    pub(crate) verifies_clients: bool,
}

/// What becomes of an object by itself.
#[derive(Debug)]
pub(crate) enum Draft {
    Route(Route),
    /// To become a route by other routes.
    Detour(Detour),
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

    pub(super) fn invalid(errors: FieldErrors) -> Self {
        Self::new("Invalid", errors)
    }
}

/// Parses what `object` tells `domain`, which holds `own_key`.
pub(crate) fn parse(
    object: &DomainRoute,
    domain: &DomainId,
    own_key: &DomainKey,
) -> Result<Terms, Rejection> {
    let Some(end) = Direction::of(&object.spec, domain.as_str()) else {
        let forwarded = fields::parse_forwarded(object, domain.as_str()).map_err(Rejection::invalid)?;
        let (Fields { source, destination, .. }, via) = forwarded;
        return Ok(Terms::Detour(Box::new(DetourTerms { source, destination, via, end: None })));
    };
    let mut errors = FieldErrors::default();
    let fields = fields::parse(object, &mut errors);
    let terms = match end {
        Direction::Outbound => outbound(object, fields, own_key, &mut errors),
        Direction::Inbound => inbound(object, fields, own_key, &mut errors),
    };
    terms.filter(|_| errors.is_empty()).ok_or_else(|| Rejection::invalid(errors))
}

fn outbound(
    object: &DomainRoute,
    fields: Option<Fields>,
    own_key: &DomainKey,
    errors: &mut FieldErrors,
) -> Option<Terms> {
    if object.spec.transit.is_some() {
        direct::refuse_with_transit(&object.spec, errors);
        return detour(fields?, Direction::Outbound, own_key);
    }
    let direct = direct::parse(object, Some(own_key), errors);
    let Fields { destination, auth, .. } = fields?;
    let auth = AuthTerms::new(auth, Direction::Outbound, own_key.public_key());
    Some(Terms::Outbound { destination, direct: Box::new(direct?), auth })
}

fn inbound(
    object: &DomainRoute,
    fields: Option<Fields>,
    own_key: &DomainKey,
    errors: &mut FieldErrors,
) -> Option<Terms> {
    let fields = fields?;
    let admission = admission::parse(&object.spec, &fields, errors)?;
    if fields.transit.is_some() {
        return detour(fields, Direction::Inbound, own_key);
    }
    let auth = AuthTerms::new(fields.auth, Direction::Inbound, own_key.public_key());
    Some(Terms::Inbound { source: fields.source, admission: Box::new(admission), auth })
}

fn detour(fields: Fields, end: Direction, own_key: &DomainKey) -> Option<Terms> {
    let auth = AuthTerms::new(fields.auth, end, own_key.public_key());
    let Fields { source, destination, transit, .. } = fields;
    Some(Terms::Detour(Box::new(DetourTerms { source, destination, via: transit?, end: Some((end, auth)) })))
}

impl Terms {
    /// The route of `object`, without its status.
    pub(crate) fn route(&self, object: ObjectRef, surroundings: &Surroundings) -> Result<Draft, Rejection> {
        let certificates = &surroundings.certificates;
        match self {
            Self::Outbound { destination, direct, auth } => {
                let certificate = certificates.get(destination);
                Ok(Draft::Route(Route::Outbound(OutboundRoute {
                    object,
                    destination: destination.clone(),
                    way: Way::Direct(Arc::new(direct.with(certificate))),
                    auth: auth.outbound(destination, certificate)?,
                    bandwidth: Arc::default(),
                    status: Arc::default(),
                })))
            }
            Self::Inbound { source, admission, auth } => {
                let certificate = certificates.get(source);
                Ok(Draft::Route(Route::Inbound(InboundRoute {
                    object,
                    source: source.clone(),
                    carrier: None,
                    auth: auth.inbound(source, admission, surroundings)?,
                    authority: admission.authority(source, certificate)?,
                    addresses: Arc::clone(&admission.addresses),
                    request_headers: Arc::clone(&admission.request_headers),
                    origins: Arc::default(),
                    forwards: Arc::default(),
                    status: Arc::default(),
                })))
            }
            Self::Detour(terms) => {
                let DetourTerms { source, destination, via, end } = &**terms;
                let place = match end {
                    Some((Direction::Outbound, auth)) => {
                        Place::Source(auth.outbound(destination, certificates.get(destination))?)
                    }
                    Some((Direction::Inbound, auth)) => {
                        Place::Destination(auth.inbound(source, &Admission::default(), surroundings)?)
                    }
                    None => Place::Between,
                };
                let (source, destination, via) = (source.clone(), destination.clone(), via.clone());
                Ok(Draft::Detour(Detour { object, source, destination, via, place, status: Arc::default() }))
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
