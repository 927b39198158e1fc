//! Token negotiation with other domains: Kuscia's RSA handshake, as source and as destination.
//!
//! ```text
//!  source (negotiate.rs, client.rs)                        destination (server.rs, destination.rs)
//!  state::Source says Negotiate ── POST /handshake ──────► makes its half, stores the token, waits until
//!                                                          its gateways accept it
//!  stores the token, sends it   ◄── half, revision ──────
//!  state::Source says Probe ────── GET /handshake ───────► answers whether it has that revision; a probe that
//!                                                          carries the token proves that the source has it too
//! ```
//!
//! Where requests are forwarded (`transitMethod: THIRD-DOMAIN`), handshakes are as well, and tokens are between the two ends
//! all the same. Routes without tokens have no handshakes: there requests alone tell of the link ([`watch`]).
//!
//! Several gateways of one domain share the status of its routes. One of them negotiates as the source of a route; as
//! destination, whoever is asked offers the token, and every gateway lists itself as soon as it accepts it
//! ([`acceptance`]).
//!
//! What happens when is decided in [`state`], which is pure; every change of a route's tokens goes through the
//! [`ledger`], so that two changes never overwrite each other.

mod acceptance;
mod call_error;
mod client;
mod contact;
mod destination;
mod findings;
mod ledger;
mod limits;
mod mint;
mod negotiate;
mod outcomes;
mod path;
mod proof;
mod refusal;
mod server;
mod signing;
#[cfg(test)]
mod simulation;
mod state;
mod supervisor;
#[cfg(test)]
mod tests;
mod turns;
mod watch;

pub(crate) use acceptance::Acceptance;
pub(crate) use destination::Destination;
pub(crate) use ledger::Ledger;
pub(crate) use negotiate::negotiate_all;
pub(crate) use outcomes::Outcomes;
pub(crate) use path::Path;
pub(crate) use server::serve;
