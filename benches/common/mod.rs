//! What benches share.

pub(crate) mod envoy;
#[allow(dead_code, reason = "each bench uses a part of it")]
pub(crate) mod process;
pub(crate) mod proofs;
pub(crate) mod table;
