//! What benches share.

pub(crate) mod envoy;
pub(crate) mod process;
pub(crate) mod table;
