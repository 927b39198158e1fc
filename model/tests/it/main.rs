//! What the crate makes of manifests and events, seen from outside.

#![allow(clippy::unwrap_used)]

mod admission;
mod bandwidth;
mod crds;
mod index;
mod kuscia;
mod manifests;
mod mtls;
mod properties;
mod routes;
mod services;
mod support;
mod tokens;
mod transit;
