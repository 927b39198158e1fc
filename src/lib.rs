//! networkmesh: the network mesh of a privacy-computing domain.

pub mod harness;
pub mod http;
