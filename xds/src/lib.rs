//! An xDS server for Envoy, gRPC and all that speak the protocol: delta and state-of-the-world, aggregated or a stream
//! for each type (LDS, RDS, SRDS, VHDS, CDS, EDS, SDS, ECDS).
//!
//! The server knows resources as names with encoded messages. Whoever uses it puts these into a [`Cache`]; the
//! server brings every connected client to that state, whatever the client has missed, and [`Clients`] tells how
//! far each of them is.
//!
//! ```text
//!  messages ──► Cache ── watch: newest State ──► session ◄── requests ──┐
//!               content hash = version;          one per stream         gRPC ◄──► Envoy
//!               same content, no news            no I/O, no clock       │
//!                                                   │  └── responses ───┘
//!                                                   ▼
//!                                                Clients: who is connected, sent, ACKed, NACKed
//! ```
//!
//! - **A change costs what it changes.** A [`State`] shares all it has in common with the states before, so that what
//!   differs between any two is found without looking at the rest. A session sends that, and keeps in mind what its
//!   client holds only where it differs from the state. If changes come faster than a client answers, they coalesce:
//!   at most one response of each type is on its way to a client, and the next one carries the newest content.
//! - **A bad resource hurts only itself.** What a client rejects (NACK) is found, held back until its content
//!   changes, and shown with the client's words in [`Clients::rejections`]. The client keeps the version it accepted
//!   last, and all other resources go on.
//! - **Make before break.** Clusters, endpoints, secrets and extension configs are sent and answered before the
//!   listeners and routes that came with them. What goes is removed in the reverse order, after all that comes.
//! - **A lost connection loses nothing.** A delta client that comes back says what it holds and is sent only the
//!   difference; before the first state is set, no client is told anything.
//! - **A restart needs nobody.** A [`Store`] keeps the last state on disk. [`Cache::restore`] serves it to clients that
//!   hold nothing until the sources of a new one answer.
//! - **What a client may cost is bounded.** Connections, streams, sizes and names have [`Limits`]. A client that does not
//!   read costs two responses and one state; one that does not answer is waited for by nobody but itself; one that
//!   floods the server with requests is read more slowly; requests that make no sense are ignored or end their stream.
//!   The limits are those of the server, not of each client: many streams that each ask for all they may do take
//!   memory, and one client can take all streams. Let only those connect whom you know.
//! - **Each client sees what it may.** A closure is enough to give each [`Node`] a cache of its own, or none
//!   ([`Views`]). With [`Tls`] every client has to have a certificate, which the closure knows too ([`Peer`]).
//! - **Envoy's access logs** may come to the same server, by the same connections: [`Bound::with_access_log`].
//! - **Standard tools work.** The server answers the client status discovery service (CSDS), gRPC's health protocol
//!   and, with [`Bound::with_reflection`], reflection. No content of a resource is shown, unless
//!   [`Bound::with_contents`] says how to redact it, and no status to whom [`Views::may_inspect`] does not let ask.
//!
//! Make before break holds within a stream, so aggregated streams are the better ones.
//!
//! # Limitations
//!
//! - Fetching (the protocol's unary methods), names of the form `xdstp://…` and resources with a time to live are not
//!   supported.
//! - Envoy begins VHDS by asking for no virtual host and waits for an answer, which there is none to, and the listener
//!   waits with it: give the config source of VHDS a small `initial_fetch_timeout`.
//! - gRPC's C core, and so Python's, Ruby's and C++'s, gives a Unix socket's path as the authority, in a form that
//!   HTTP/2 does not allow: set the channel argument `grpc.default_authority`, to `localhost` for instance.
//!
//! # Example
//!
//! ```
//! use envoy_types::pb::envoy::config::cluster::v3::Cluster;
//! use networkmesh_xds::{Cache, Clients, ListenAddress, ResourceType, Version, bind};
//! use prost::Message;
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster { name: "echo".to_owned(), ..Cluster::default() };
//! let cache = Cache::new();
//! cache.replace([(ResourceType::Cluster, cluster.name.clone(), cluster.encode_to_vec().into())]);
//!
//! let address: ListenAddress = "127.0.0.1:0".parse()?;
//! let bound = bind(&address)?;
//! let clients = Clients::new();
//! let shutdown = CancellationToken::new();
//! let server = tokio::spawn(bound.serve(cache, clients.clone(), shutdown.clone()));
//!
//! // Nobody is connected, so nobody holds the cluster.
//! let version = Version::of(&cluster.encode_to_vec());
//! assert!(!clients.is_acknowledged(ResourceType::Cluster, "echo", version));
//!
//! shutdown.cancel();
//! server.await??;
//! # Ok(())
//! # }
//! ```

mod access_log;
mod cache;
mod csds;
mod limits;
mod listen;
mod node;
mod resource;
mod server;
mod session;
mod status;
mod store;
mod tls;
mod view;

pub use cache::{Cache, Change, State};
pub use limits::Limits;
pub use listen::{BindError, InvalidListenAddress, ListenAddress, Listener, SocketFile};
pub use node::{Node, Peer};
pub use resource::{InvalidVersion, Resource, ResourceType, Version};
#[cfg(feature = "bench")]
#[doc(hidden)]
pub use server::bench;
pub use server::{Bound, InvalidDescriptors, ServeError, bind};
pub use session::{Nack, Protocol};
pub use status::{ClientStatus, Clients, Rejection, ResourceStatus, TypeStatus, TypeSummary};
pub use store::{LoadError, Store};
pub use tls::{Tls, TlsError, TlsSettings};
pub use view::Views;
