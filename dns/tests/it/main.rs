//! The server on real sockets, asked by a client that shares only the message codec with it.

#![allow(clippy::unwrap_used, missing_docs)]

mod forwarding;
mod life;
mod own_names;
mod support;
