//! The server on real sockets, asked by a client that shares only the message codec with it.

#![allow(clippy::unwrap_used, missing_docs)]

mod fake;
mod forward_cache;
mod forward_rebinding;
mod forward_upstreams;
mod forwarding;
mod life;
mod options;
mod own_names;
mod strangers;
mod support;
