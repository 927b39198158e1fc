//! Translation of a domain's [`Snapshot`] into the resources of a stock Envoy.
//!
//! ```text
//! application ─► internal-listener ─┬─ <service>.<self>.svc ──► cluster in|<service>.<self>.svc
//!                                   └─ <service>.<dest>.svc ──► cluster <self>-to-<dest>-http|-grpc ─► its gateway
//! gateway of ────► external-listener ─► token-auth ─► Kuscia-Host ─► cluster ex|<service>.<self>.svc
//! another domain                  └─ kuscia-handshake.<self>.svc ─► the mesh itself
//! ```
//!
//! A change in a route table costs Envoy time in proportion to the table, a change of a cluster does not. So what
//! varies is held by clusters: requests for a service take one route whose `cluster_header` names the cluster, which
//! is called after the service's host. Only a service that some domains may not call has a virtual host of its own.
//! The accepted tokens are one extension configuration ([`TOKEN_AUTH`]); within the listener they would drain its
//! connections on every change.
//!
//! Everything here is pure: the same input gives the same bytes.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access_log;
mod bootstrap;
mod clusters;
mod endpoints;
mod gateway;
mod hcm;
mod headers;
mod json;
mod listener;
mod message;
mod redact;
mod resource;
mod routes;
mod secrets;
mod settings;
mod token_auth;

use model::Snapshot;

pub use bootstrap::{AdminAddress, BootstrapSettings, XdsAddress, bootstrap};
pub use json::{JsonError, from_json, to_json};
pub use redact::redact;
pub use resource::{Resource, type_url};
pub use settings::{AccessLog, ExternalProtocol, KeyMaterial, Settings};

use crate::gateway::{Gateway, Side};

/// Name of the extension configuration that holds every accepted token, and of the HTTP filter that it configures.
pub const TOKEN_AUTH: &str = "token-auth";

/// Name of the route configuration of this domain's applications, which leads to other domains too.
pub const INTERNAL_ROUTES: &str = "internal-route";

/// The Envoy resources of a gateway, those that others refer to first.
///
/// `keys` are used where the external listener speaks TLS; without them it waits for its certificate and accepts
/// nothing.
#[must_use]
pub fn translate(snapshot: &Snapshot, settings: &Settings, keys: Option<&KeyMaterial>) -> Vec<Resource> {
    let gateway = Gateway::new(&snapshot.domain, settings);
    let mut resources = clusters::clusters(snapshot, settings);
    resources.extend(endpoints::assignments(snapshot));
    resources.extend(secrets::secrets(snapshot, settings.external_protocol, keys));
    resources.push(token_auth::extension_config(snapshot));
    resources
        .extend([Side::Internal, Side::External].map(|side| listener::listener(side, &gateway, settings)));
    resources.push(routes::internal(snapshot, &gateway));
    resources.push(routes::external(snapshot, &gateway));
    resources
}
