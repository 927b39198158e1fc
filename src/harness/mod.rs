//! What the demo and the end-to-end tests need around a mesh: a real Envoy, echo services, and processes that never
//! outlive their owner.

pub mod domain;
pub mod echo;
pub mod envoy_binary;
pub mod process;

mod address;

pub use address::free_address;
