//! What the demo and the end-to-end tests need around a mesh: domains with their services, and where their objects live.

pub mod ask;
pub mod balancer;
pub mod cluster;
pub mod domain;
pub mod echo;
pub mod load;
