//! Translation of a domain's [`Snapshot`](model::Snapshot) into the resources of a stock Envoy.
//!
//! ```text
//! application ─► internal-listener ─ scope of the host's domain
//!                  ├─ own-services ─► cluster svc|<service>.<self>.svc ─► the service
//!                  └─ to|<dest> (token to send) ─► cluster <self>-to-<dest>-http|-grpc ─► its gateway
//! gateway of ────► external-listener ─ scope of Kuscia-Source
//! another domain   ├─ from|<source> (tokens to accept) ─► cluster svc|<service>.<self>.svc (callers) ─► the service
//!                  │    └─ for other domains ─► transit-listener ─ scope of the host's domain, to|<dest> as above
//!                  └─ handshake, for the host kuscia-handshake.<self>.svc ─► the mesh itself
//! ```
//!
//! A change in a route table costs Envoy time in proportion to the table, so no table grows: every other domain has a
//! route configuration of its own in each direction, found by scope, with the tokens of that route in it; and every
//! service is a cluster, named after its host, that says by itself who may call it. So a change of one object changes
//! the resources of that object alone, and none of a listener, whose connections it would drain.
//!
//! Everything here is pure: the same input gives the same bytes.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access_log;
mod bootstrap;
mod callers;
mod client_authorities;
mod clusters;
mod early_headers;
mod endpoints;
mod gateway;
mod hcm;
mod headers;
mod json;
mod listener;
mod local_replies;
mod message;
mod outbound_filters;
mod owner;
mod proof;
mod rbac;
mod redact;
mod resource;
mod routes;
mod scopes;
mod secrets;
mod settings;
mod tracing;
mod transit;
mod translator;

pub use bootstrap::{AdminAddress, BootstrapSettings, XdsAddress, XdsTls, bootstrap};
pub use json::{JsonError, descriptors, from_json, to_json};
pub use owner::Owner;
pub use proof::token_used;
pub use redact::redact;
pub use resource::{Resource, type_url};
pub use routes::{routes_from, routes_to};
pub use settings::{AccessLog, Certificate, ExternalProtocol, KeyMaterial, Settings, Tracing};
pub use translator::{Changes, Translator};

/// Name of the HTTP filter that asks for tokens.
const TOKEN_AUTH: &str = "token-auth";
