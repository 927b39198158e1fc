//! The server on real sockets, with gRPC clients.

mod access_log;
mod crowd;
mod limits;
mod per_type;
mod streams;
mod support;
mod tls;
mod tools;
mod views;
