//! networkmesh: the network mesh of a privacy-computing domain.

mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod demo;
mod dump;
mod explain;
mod handshake;
pub mod harness;
pub mod http;
mod kubernetes;
mod metrics;
mod names;
pub mod output;
mod program;
mod programmed;
mod queries;
mod replicas;
mod serve;
pub mod source;
pub mod status;
mod usage;
