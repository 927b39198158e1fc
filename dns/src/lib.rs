//! In-domain DNS: the names of this domain's services and of the domains it has a route to, and a forwarder for
//! everything else.
//!
//! ```text
//!                                       NameChange ─► Names
//!                                                       ▼
//!      UDP ─► worker: plain query for a host? ──yes─► written on the spot
//!                └─no─┐                                 ▼
//!      TCP ───────────┴─► handler: ours? ──yes─► any type, aliases, NODATA or NXDOMAIN, with authority
//!                            └─no─► client may recurse? ──yes─► upstreams, with a cache
//!                                                       └─no─► REFUSED
//! ```
//!
//! The table of names is changed by whoever knows when the gateway can serve a name, and a query sees all changes of one
//! moment or none. Sockets are bound before anything is served: a port already taken is an error at start.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod address;
mod answer;
mod client;
mod cookies;
mod edns;
mod explain;
mod fast;
mod forward;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handler;
mod host_networks;
mod intake;
mod master_file;
mod metrics;
mod query_log;
mod rate_limit;
mod recursion;
mod reply;
mod server;
mod shares;
mod sockets;
mod table;
mod tcp;
#[cfg(test)]
mod testing;
mod udp;
mod zone;

pub use explain::{Explanation, NameKind};
pub use forward::{Rebinding, Settings as ForwardSettings, Upstreams};
pub use master_file::render_master_file;
pub use metrics::{CacheUse, LATENCY_BOUNDS, Limited, Metrics, Responses, UpstreamUse};
pub use query_log::{How, QueryEntry, QueryLog, Transport};
pub use recursion::Recursion;
pub use server::{ServeError, Settings};
pub use sockets::{BindError, Bound, bind};
pub use table::{Counts, NameChange, Names};
pub use zone::{DEFAULT_TTL, ZoneSettings};
