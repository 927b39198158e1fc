//! `DomainRoute`s, parsed for the side on which they stand.

mod admission;
mod detour;
mod direct;
mod fields;
mod parse;
mod proof;
mod token_fields;
mod way;

use std::sync::Arc;
use std::time::Duration;

use certs::PublicKey;
use ipnet::IpNet;

use crate::api::DomainRouteStatus;
use crate::token::{Opener, Token};
use crate::{DomainId, ObjectRef};

pub use admission::{CertificatePin, Forward, RequestHeader};
pub use detour::ForwardedRoute;
pub use way::{
    BandwidthLimit, ClientCertificate, Direct, Endpoint, EndpointPort, PortProtocol, Timeouts, Transit,
    Trust, Way,
};

pub(crate) use detour::{Cargo, Detour, Place};
pub(crate) use fields::{check, check_both_sides};
pub(crate) use parse::{Draft, Rejection, Route, Surroundings, Terms, parse};

/// Which side of a route this domain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// This domain is the source.
    Outbound,
    /// This domain is the destination.
    Inbound,
}

/// A way out of this domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundRoute {
    /// The object it was made from.
    pub object: ObjectRef,
    /// The domain it leads to.
    pub destination: DomainId,
    /// How it gets there.
    pub way: Way,
    /// How this domain proves to the destination who it is.
    pub auth: OutboundAuth,
    /// What the services of this domain's tasks may send to the destination, and get from it.
    pub bandwidth: Arc<[BandwidthLimit]>,
    /// The object's status.
    pub status: Arc<DomainRouteStatus>,
}

impl OutboundRoute {
    /// The way to the first gateway that requests get to, be it the destination's or that of a domain in between.
    #[must_use]
    pub fn first_hop(&self) -> (&Self, &Direct) {
        match &self.way {
            Way::Direct(direct) => (self, direct),
            Way::Transit(transit) => transit.next.first_hop(),
        }
    }

    /// The way to the destination's gateway, if it leads there without a detour.
    #[must_use]
    pub fn direct(&self) -> Option<&Direct> {
        match &self.way {
            Way::Direct(direct) => Some(direct),
            Way::Transit(_) => None,
        }
    }

    /// Takes over the object's newest status, and with it the token to send.
    pub(crate) fn set_status(&mut self, status: &Arc<DomainRouteStatus>, opener: &mut Opener) {
        self.status = Arc::clone(status);
        self.auth.set_tokens(status, opener);
    }
}

/// How a source authenticates its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundAuth {
    /// It does not.
    None,
    /// By the client certificate of [`Direct::client`].
    Mtls,
    /// By a token.
    Token {
        /// How it is negotiated.
        settings: TokenSettings,
        /// The one to send; `None` until one is negotiated.
        sending: Option<Token>,
    },
}

impl OutboundAuth {
    fn set_tokens(&mut self, status: &DomainRouteStatus, opener: &mut Opener) {
        if let Self::Token { sending, .. } = self {
            *sending = opener.sending(&status.token_status);
        }
    }
}

/// A way into this domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundRoute {
    /// The object it was made from.
    pub object: ObjectRef,
    /// The domain it comes from.
    pub source: DomainId,
    /// The domain whose gateway brings its requests, if that is not its own. Then all but the tokens concerns the route
    /// of that domain.
    pub carrier: Option<DomainId>,
    /// How the source proves who it is.
    pub auth: InboundAuth,
    /// The authority that may have signed the source's client certificate, as PEM: the source's own, from its `Domain`.
    /// `None` where client certificates have no part in the route.
    pub authority: Option<Arc<str>>,
    /// The networks that the source may come from; empty: any.
    pub addresses: Arc<[IpNet]>,
    /// What is added to its requests.
    pub request_headers: Arc<[RequestHeader]>,
    /// Other domains whose requests for this domain it brings: it may name them as origin.
    pub origins: Arc<[DomainId]>,
    /// Where else its requests may go.
    pub forwards: Arc<[Forward]>,
    /// The object's status.
    pub status: Arc<DomainRouteStatus>,
}

impl InboundRoute {
    /// The tokens that let its source in now, oldest first; none where it asks for none.
    #[must_use]
    pub fn accepted(&self) -> &[Token] {
        match &self.auth {
            InboundAuth::Token { accepted, .. } => accepted,
            InboundAuth::Mtls { .. } | InboundAuth::None => &[],
        }
    }

    /// Takes over the object's newest status, and with it the tokens to accept.
    pub(crate) fn set_status(&mut self, status: &Arc<DomainRouteStatus>, opener: &mut Opener) {
        self.status = Arc::clone(status);
        self.auth.set_tokens(status, opener);
    }

    /// Takes over what the source brings for others.
    pub(crate) fn set_cargo(&mut self, cargo: Cargo) {
        self.origins = cargo.origins;
        self.forwards = cargo.forwards;
    }
}

/// How a destination authenticates requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundAuth {
    /// It does not; the source must only be known.
    None,
    /// By the client certificate of the connection, which [`InboundRoute::authority`] has signed, or which is this one.
    Mtls {
        /// The client certificate that the route names.
        pin: Option<CertificatePin>,
    },
    /// By a token.
    Token {
        /// How it is negotiated.
        settings: TokenSettings,
        /// All that are accepted now, oldest first.
        accepted: Vec<Token>,
    },
}

impl InboundAuth {
    fn set_tokens(&mut self, status: &DomainRouteStatus, opener: &mut Opener) {
        if let Self::Token { accepted, .. } = self {
            *accepted = opener.accepted(&status.token_status);
        }
    }
}

/// How the token of a route is negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSettings {
    /// Public key of the domain at the other end.
    pub peer_key: PublicKey,
    /// Time from one token to the next; `None`: a token is never renewed.
    pub rolling_update_period: Option<Duration>,
    /// How it comes about.
    pub method: TokenMethod,
    /// Which handshakes make one.
    pub handshake: HandshakePolicy,
}

/// How the 32 bytes of a token come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenMethod {
    /// Each side contributes 16 bytes, encrypted for the other: Kuscia's `tokenGenMethod: RSA-GEN`, handshake type
    /// `RSA`.
    Rsa,
    /// The destination makes all of them and encrypts them for the source: Kuscia's `tokenGenMethod: UID-RSA-GEN`,
    /// handshake type `UID`. Deprecated there.
    Uid,
}

/// Whether a handshake must be signed with the keys of both domains to make a token. Kuscia's handshakes are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandshakePolicy {
    /// It must: unsigned ones are refused.
    Signed,
    /// It need not: unsigned ones are always taken.
    Compatible,
    /// Unsigned ones are taken until the peer has signed one, and refused from then on.
    #[default]
    WhatPeerCan,
}
