//! The one way to change a route's tokens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::api::{DomainRouteStatus, DomainRouteTokenStatus};
use model::{ObjectRef, Snapshot, StatusChange, StatusUpdate};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// How long a change may take to be stored and to come back in a snapshot.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why tokens could not be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LedgerError {
    /// The route is gone.
    #[error("the route is gone")]
    RouteGone,
    /// The change was not stored in time.
    #[error(
        "the status was not stored within {STORE_TIMEOUT:?}; see the source's problems in `networkmesh status`"
    )]
    NotStored,
}

/// Changes the status of routes, one change at a time for each route, and returns once a snapshot shows the change.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    updates: mpsc::Sender<StatusUpdate>,
    turns: Arc<Mutex<BTreeMap<ObjectRef, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Ledger {
    /// A ledger that reads `snapshots` and sends changes to `updates`, which must find their way back there.
    pub(crate) fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        updates: mpsc::Sender<StatusUpdate>,
    ) -> Self {
        Self { snapshots, updates, turns: Arc::default() }
    }

    /// The newest snapshot.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// A reader of snapshots.
    pub(crate) fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Replaces the tokens of `route` by what `change` makes of them, and returns what they are then. Nothing is
    /// written where `change` answers `None`.
    pub(crate) async fn change_tokens(
        &self,
        route: &ObjectRef,
        change: impl FnOnce(&DomainRouteTokenStatus) -> Option<DomainRouteTokenStatus>,
    ) -> Result<DomainRouteTokenStatus, LedgerError> {
        let turn = Arc::clone(
            self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(route.clone()).or_default(),
        );
        let _turn = turn.lock().await;
        let snapshot = self.snapshot();
        let current = &status_of(&snapshot, route).ok_or(LedgerError::RouteGone)?.token_status;
        let Some(wanted) = change(current).filter(|wanted| wanted != current) else {
            return Ok(current.clone());
        };
        let update = StatusUpdate { object: route.clone(), change: StatusChange::Tokens(wanted.clone()) };
        let mut snapshots = self.snapshots.clone();
        let stored = async {
            self.updates.send(update).await.map_err(|_| LedgerError::NotStored)?;
            let seen = |snapshot: &Arc<Snapshot>| {
                status_of(snapshot, route).is_none_or(|status| status.token_status == wanted)
            };
            let snapshot = snapshots.wait_for(seen).await.map_err(|_| LedgerError::NotStored)?;
            if status_of(&snapshot, route).is_none() { Err(LedgerError::RouteGone) } else { Ok(()) }
        };
        timeout(STORE_TIMEOUT, stored).await.unwrap_or(Err(LedgerError::NotStored))?;
        Ok(wanted)
    }

    /// Sends a change that no decision depends on, such as a condition.
    pub(crate) async fn note(&self, route: &ObjectRef, change: StatusChange) {
        // A closed channel means that the mesh is shutting down: nobody is left to tell.
        let _ = self.updates.send(StatusUpdate { object: route.clone(), change }).await;
    }
}

fn status_of<'a>(snapshot: &'a Snapshot, route: &ObjectRef) -> Option<&'a DomainRouteStatus> {
    let outbound = snapshot.outbound.values().map(|route| (&route.object, &route.status));
    let inbound = snapshot.inbound.values().map(|route| (&route.object, &route.status));
    outbound.chain(inbound).find(|(object, _)| *object == route).map(|(_, status)| status)
}
