//! In-domain DNS: the names of this domain's services and of the domains it has a route to, and a forwarder for
//! everything else.
//!
//! ```text
//!                  newest Snapshot ─┐
//!                                   ▼
//!      query (UDP, TCP) ─► handler: ours? ──yes─► addresses, NODATA or NXDOMAIN, with authority
//!                                   └─no─► client may recurse? ──yes─► upstreams, with a cache
//!                                                              └─no─► REFUSED
//! ```
//!
//! Names are looked up in the snapshot itself, so that a query sees one moment of the domain, a change of the domain
//! costs nothing here, and a name takes no memory here. Sockets are bound before anything is served: a port already
//! taken is an error at start.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cookies;
mod forward;
mod handler;
mod metrics;
mod query_log;
mod rate_limit;
mod reply;
mod server;
mod table;

pub use metrics::{CacheUse, LATENCY_BOUNDS, Limited, Metrics, Responses, UpstreamUse};
pub use query_log::{How, QueryEntry, QueryLog, Transport};
pub use server::{BindError, Bound, ServeError, Settings, Upstreams, bind, loopback_subnets};
pub use table::{DEFAULT_TTL, NameChange, Names, ZoneSettings};
