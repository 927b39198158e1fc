//! The controller of a cluster's domains: of several candidates one is elected, by a Kubernetes Lease, and makes the
//! routes, keys, tokens and namespaces of all domains follow what is declared.
//!
//! ```text
//! watches ─► World ─► keys that a change concerns ─► Queue ─► reconcile (pure) ─► Actions ─► API server
//! Lease ───► leader? ──────────────────────────────────┘
//! ```
//!
//! Everything between a change and an action is pure. Nothing is done before every watch has listed its objects once,
//! and nothing is read out of a watch that was cut off.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod act;
mod action;
mod board;
mod cluster_route;
mod detour;
mod gateways;
mod lease;
mod namespaces;
mod problem;
mod queue;
mod reconcile;
mod report;
mod tokens;
mod watch;
mod world;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use board::Board;
use lease::Candidate;
pub use problem::{causes, in_words};
use serde::Serialize;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

/// The namespace of the Lease, unless configured: that of `deploy/rbac/controller.yaml`.
pub const LEASE_NAMESPACE: &str = "networkmesh";

/// The name of the Lease.
const LEASE_NAME: &str = "networkmesh-controller";

/// The field manager of what the controller writes in its own name.
const FIELD_MANAGER: &str = "networkmesh-controller";

/// Pause after the leader's work has ended by itself, which it should not.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Which candidate this is, and for what.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this candidate; no other may bear it, not even an earlier run on the same machine.
    pub identity: String,
    /// Namespace of the Lease.
    pub lease_namespace: String,
    /// Name of the Lease.
    pub lease_name: String,
}

impl Settings {
    /// A candidate on the machine `host` for the Lease `networkmesh-controller`, under a name that no other bears.
    #[must_use]
    pub fn new(host: &str, lease_namespace: String) -> Self {
        let suffix = RandomState::new().build_hasher().finish();
        Self { identity: format!("{host}_{suffix:016x}"), lease_namespace, lease_name: LEASE_NAME.to_owned() }
    }
}

/// What is to be said of the controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct State {
    /// The identity of the leader, as last seen.
    pub leader: Option<String>,
    /// Whether this candidate leads.
    pub is_leader: bool,
    /// What goes wrong, each with the remedy.
    pub problems: Vec<String>,
}

/// Competes for the lease until `shutdown`, and acts while it holds it.
///
/// Whatever fails is said in `state` and tried again. A leader that cannot renew its lease stops before another one may
/// begin; at `shutdown` it gives the lease back.
pub async fn run(
    client: kube::Client,
    settings: Settings,
    state: tokio::sync::watch::Sender<State>,
    shutdown: CancellationToken,
) {
    let board = Board::new(state);
    let mut candidate = Candidate::new(&client, &settings, board.clone());
    while shutdown.run_until_cancelled(candidate.win()).await.is_some() {
        info!(identity = settings.identity, "this controller leads");
        let work = act::act(client.clone(), settings.identity.clone(), board.clone());
        let mut acting = AbortOnDropHandle::new(tokio::spawn(work));
        let failure = tokio::select! {
            () = candidate.keep() => None,
            () = shutdown.cancelled() => None,
            Err(failure) = &mut acting => Some(failure),
        };
        // Another one may begin only when the work has ended.
        if failure.is_none() {
            acting.abort();
            let _ = acting.await;
        }
        candidate.release().await;
        info!(identity = settings.identity, "this controller leads no more");
        if let Some(failure) = failure {
            error!(%failure, "the controller's work ended; it begins anew");
            let _ = shutdown.run_until_cancelled(sleep(PAUSE_AFTER_FAILURE)).await;
        }
    }
    board.leave();
}
