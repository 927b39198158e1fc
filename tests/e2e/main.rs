//! The program as its users run it: real meshes, real Envoys, real tools around them.

#![allow(clippy::unwrap_used, missing_docs)]

mod auth;
mod commands;
mod demo;
mod dns;
mod faults;
mod partner;
mod peers;
mod programmed;
mod sources;
mod stream;
mod tls;
mod tokens;
mod traffic;
mod world;
mod xds;
