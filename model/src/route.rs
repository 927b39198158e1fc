//! `DomainRoute`s, parsed for the side on which they stand.

mod fields;
mod parse;

use std::sync::Arc;
use std::time::Duration;

use certs::PublicKey;

use crate::api::DomainRouteStatus;
use crate::token::{Opener, Token};
use crate::{DomainId, Host, ObjectRef};

pub(crate) use fields::check;
pub(crate) use parse::{Rejection, Route, Terms, parse};

/// Which side of a route this domain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// This domain is the source.
    Outbound,
    /// This domain is the destination.
    Inbound,
}

/// How requests of a route are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationKind {
    /// By a negotiated token.
    Token,
    /// Not at all; the source must only be known.
    None,
}

/// A way out of this domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundRoute {
    /// The object it was made from.
    pub object: ObjectRef,
    /// The domain it leads to.
    pub destination: DomainId,
    /// The destination's gateway.
    pub endpoint: Arc<Endpoint>,
    /// Whom a TLS port of that gateway is to prove to be.
    pub trust: Trust,
    /// How this domain proves who it is.
    pub auth: OutboundAuth,
    /// The object's status.
    pub status: Arc<DomainRouteStatus>,
}

impl OutboundRoute {
    /// Takes over the object's newest status, and with it the token to send.
    pub(crate) fn set_status(&mut self, status: &Arc<DomainRouteStatus>, opener: &mut Opener) {
        self.status = Arc::clone(status);
        if let OutboundAuth::Token { sending, .. } = &mut self.auth {
            *sending = opener.sending(&status.token_status);
        }
    }
}

/// What the certificate of a destination's gateway is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The destination's own authority, as PEM, from its `Domain`: nobody else can have signed.
    Authority(Arc<str>),
    /// The authorities that the system trusts, and the endpoint's host name.
    SystemRoots,
}

/// How a source authenticates its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundAuth {
    /// It does not.
    None,
    /// By a token.
    Token {
        /// How it is negotiated.
        settings: TokenSettings,
        /// The one to send; `None` until one is negotiated.
        sending: Option<Token>,
    },
}

/// A way into this domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundRoute {
    /// The object it was made from.
    pub object: ObjectRef,
    /// The domain it comes from.
    pub source: DomainId,
    /// How the source proves who it is.
    pub auth: InboundAuth,
    /// The object's status.
    pub status: Arc<DomainRouteStatus>,
}

impl InboundRoute {
    /// The tokens that let its source in now, oldest first; none where it asks for none.
    #[must_use]
    pub fn accepted(&self) -> &[Token] {
        match &self.auth {
            InboundAuth::Token { accepted, .. } => accepted,
            InboundAuth::None => &[],
        }
    }

    /// Takes over the object's newest status, and with it the tokens to accept.
    pub(crate) fn set_status(&mut self, status: &Arc<DomainRouteStatus>, opener: &mut Opener) {
        self.status = Arc::clone(status);
        if let InboundAuth::Token { accepted, .. } = &mut self.auth {
            *accepted = opener.accepted(&status.token_status);
        }
    }
}

/// How a destination authenticates requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundAuth {
    /// It does not; the source must only be known.
    None,
    /// By a token.
    Token {
        /// How it is negotiated.
        settings: TokenSettings,
        /// All that are accepted now, oldest first.
        accepted: Vec<Token>,
    },
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

/// The gateway of a destination: at most one port a protocol, at least one port in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its host.
    pub host: Host,
    /// Its ports, that for HTTP first.
    pub ports: Vec<EndpointPort>,
}

/// A port of a destination's gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// The traffic that takes it.
    pub protocol: PortProtocol,
    /// Its number.
    pub port: u16,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// What is put in front of paths: empty, or starting with `/` and not ending with it.
    pub path_prefix: String,
}

/// The traffic that a port of a gateway takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortProtocol {
    /// Everything, or all but gRPC where there is a port for gRPC too.
    Http,
    /// gRPC; everything where it is the only port.
    Grpc,
}
