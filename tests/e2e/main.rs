//! The program as its users run it: real meshes, real Envoys, real tools around them.

#![allow(clippy::unwrap_used, missing_docs)]

#[macro_use]
mod world;

mod auth;
mod balancing;
mod callers;
mod certificates;
mod cluster;
mod commands;
mod datapath;
mod demo;
mod dns;
mod dns_commands;
mod dns_conformance;
mod dns_names;
mod endpoints;
mod faults;
mod figures;
mod flood;
mod hostile;
mod interop;
mod kubernetes;
mod middle;
mod mtls;
mod partner;
mod peers;
mod programmed;
mod proof;
mod protocols;
mod reasons;
mod rotation;
mod signed;
mod sockets;
mod sources;
mod statuses;
mod stream;
mod tls;
mod tokens;
mod tracing;
mod traffic;
mod transit;
mod xds;
