//! The controller against a real API server.

#![allow(clippy::unwrap_used)]

mod election;
mod rights;
mod routes;
mod support;
