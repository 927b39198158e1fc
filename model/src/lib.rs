//! The resources of a domain as types that cannot hold nonsense.
//!
//! ```text
//! manifest text ─► Object (api) ─► parsed Route, Service … or errors with field paths ─► Index ─► Arc<Snapshot>
//!                                                                                           └──► StatusUpdates
//! ```
//!
//! Sources (a directory, a Kubernetes API server) feed [`Event`]s into the [`Index`]; everything that serves the
//! domain (Envoy translation, DNS, token negotiation) reads the [`Snapshot`] that the index publishes. Nothing in
//! this crate opens a socket, reads a clock or knows Envoy.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
mod cluster_route;
mod domain;
mod endpoints;
mod error;
mod event;
mod heartbeats;
mod index;
mod manifest;
mod names;
mod object;
mod quote;
mod route;
mod service;
mod settle;
mod snapshot;
mod status;
mod token;

pub use cluster_route::expand as expand_cluster_route;
pub use domain::public_key_of;
pub use error::{FieldError, FieldErrors, Problem};
pub use event::Event;
pub use heartbeats::{HEARTBEAT_PERIOD, Heartbeats};
pub use index::Index;
pub use manifest::{Document, ManifestError, read_manifests, read_object};
pub use names::{DomainId, Host, HostPort, NameError, ServiceName};
pub use object::{Kind, Object, ObjectRef};
pub use quote::{printable, quoted};
pub use route::{
    BandwidthLimit, CertificatePin, ClientCertificate, Direct, Direction, Endpoint, EndpointPort, Forward,
    ForwardedRoute, HandshakePolicy, InboundAuth, InboundRoute, OutboundAuth, OutboundRoute, PortProtocol,
    RequestHeader, Timeouts, TokenMethod, TokenSettings, Transit, Trust, Way,
};
pub use service::{Access, Affinity, PortScope, Protocol, READY_TIME, Service, ServiceTls, SessionCookie};
pub use settle::{settle_tokens, with_listed};
pub use snapshot::{Changed, Snapshot};
pub use status::{StatusChange, StatusUpdate};
pub use token::{TOKEN_BYTES, Token, TokenValue};
