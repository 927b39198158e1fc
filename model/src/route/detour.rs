//! Routes through the gateways of other domains (`transitMethod: THIRD-DOMAIN`).

use std::sync::Arc;

use super::{BandwidthLimit, Forward, InboundAuth, InboundRoute, OutboundAuth, OutboundRoute, Transit, Way};
use crate::api::DomainRouteStatus;
use crate::token::Opener;
use crate::{DomainId, ObjectRef};

/// A route between two other domains whose requests this one forwards, or lets others forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedRoute {
    /// The object it was made from.
    pub object: ObjectRef,
    /// The domain that makes the requests.
    pub source: DomainId,
    /// The domain that answers them.
    pub destination: DomainId,
    /// The domain whose gateway brings them here: the one of [`InboundRoute::forwards`].
    pub carrier: DomainId,
    /// The object's status.
    pub status: Arc<DomainRouteStatus>,
}

/// A route that makes a detour, as far as it is known without the routes on which it goes.
#[derive(Debug)]
pub(crate) struct Detour {
    pub(crate) object: ObjectRef,
    pub(crate) source: DomainId,
    pub(crate) destination: DomainId,
    /// The domain that the route names: the last before the destination, as far as the route tells.
    pub(crate) via: DomainId,
    pub(crate) place: Place,
    pub(crate) status: Arc<DomainRouteStatus>,
}

/// Where on a detour this domain is.
#[derive(Debug)]
pub(crate) enum Place {
    Source(OutboundAuth),
    Destination(InboundAuth),
    Between,
}

impl Detour {
    /// Takes over the object's newest status, and with it the tokens.
    pub(crate) fn set_status(&mut self, status: &Arc<DomainRouteStatus>, opener: &mut Opener) {
        self.status = Arc::clone(status);
        match &mut self.place {
            Place::Source(auth) => auth.set_tokens(status, opener),
            Place::Destination(auth) => auth.set_tokens(status, opener),
            Place::Between => {}
        }
    }

    /// The way out whose requests leave by `next` and pass `domains`.
    pub(crate) fn outbound(
        &self,
        auth: &OutboundAuth,
        domains: &[DomainId],
        next: Arc<OutboundRoute>,
        bandwidth: Arc<[BandwidthLimit]>,
    ) -> OutboundRoute {
        OutboundRoute {
            object: self.object.clone(),
            destination: self.destination.clone(),
            way: Way::Transit(Transit { domains: domains.into(), next }),
            auth: auth.clone(),
            bandwidth,
            status: Arc::clone(&self.status),
        }
    }

    /// The way in whose requests the gateway of `carrier` brings.
    pub(crate) fn inbound(&self, auth: &InboundAuth, carrier: DomainId) -> InboundRoute {
        InboundRoute {
            object: self.object.clone(),
            source: self.source.clone(),
            carrier: Some(carrier),
            auth: auth.clone(),
            authority: None,
            addresses: Arc::default(),
            request_headers: Arc::default(),
            origins: Arc::default(),
            forwards: Arc::default(),
            status: Arc::clone(&self.status),
        }
    }

    /// The route that passes through this domain, from the gateway of `carrier`.
    pub(crate) fn forwarded(&self, carrier: DomainId) -> ForwardedRoute {
        ForwardedRoute {
            object: self.object.clone(),
            source: self.source.clone(),
            destination: self.destination.clone(),
            carrier,
            status: Arc::clone(&self.status),
        }
    }
}

/// What the gateway of a domain may bring beside its own requests for this domain.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Cargo {
    /// As [`InboundRoute::origins`].
    pub(crate) origins: Arc<[DomainId]>,
    /// As [`InboundRoute::forwards`].
    pub(crate) forwards: Arc<[Forward]>,
}
