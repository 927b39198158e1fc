//! In-domain DNS: the names of this domain's services and of the domains it has a route to, and a forwarder for
//! everything else.
//!
//! ```text
//! Snapshot ─► RecordTable ─► watch ─┐
//!                                   ▼
//!      query (UDP, TCP) ─► handler: ours? ──yes─► addresses, NODATA or NXDOMAIN, with authority
//!                                   └─no─► client may recurse? ──yes─► upstreams, with a cache
//!                                                              └─no─► REFUSED
//! ```
//!
//! The table is pure and is replaced as a whole, so that a query sees one moment of the domain. Sockets are bound
//! before anything is served: a port already taken is an error at start.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod forward;
mod handler;
mod metrics;
mod reply;
mod server;
mod table;

pub use metrics::Metrics;
pub use server::{BindError, Bound, ServeError, Settings, Upstreams, bind, loopback_subnets};
pub use table::{Answer, DEFAULT_TTL, RecordTable};
