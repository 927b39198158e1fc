//! Programs that the demo, tests and benches run: fetched, started, stopped.

pub mod api_server;
pub mod envoy_binary;
pub mod grpc_tool;
pub mod nsd;
pub mod process;
pub mod python;

mod address;
mod cache;
mod command;

pub use address::{free_address, free_ipv6_address};
pub use command::{Failed, system_command};
