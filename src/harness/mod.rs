//! What the demo and the end-to-end tests need around a mesh: domains with their services.

pub mod domain;
pub mod echo;
