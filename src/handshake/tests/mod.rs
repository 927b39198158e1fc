//! Handshakes between domains that have everything but an Envoy and files.

#![allow(clippy::unwrap_used)]

mod acceptance;
mod client;
mod destination;
mod ledger;
mod negotiation;
mod server;
mod supervisor;
mod watch;
pub(super) mod world;
