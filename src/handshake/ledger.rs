//! The one way to change a route's tokens.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::api::{DomainRouteStatus, DomainRouteTokenStatus};
use model::{Direction, DomainId, ObjectRef, Snapshot, StatusChange, StatusUpdate};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::turns::Turns;

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
    /// Another writer changed the tokens at the same time.
    #[error("another writer changed the tokens at the same time; it is tried again")]
    Overtaken,
}

/// Changes the status of routes, one change at a time for each route, and returns once a snapshot shows the change.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    updates: mpsc::Sender<StatusUpdate>,
    turns: Turns<(Direction, DomainId)>,
}

impl Ledger {
    /// A ledger that reads `snapshots` and sends changes to `updates`, which must find their way back there.
    pub(crate) fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        updates: mpsc::Sender<StatusUpdate>,
    ) -> Self {
        Self { snapshots, updates, turns: Turns::new() }
    }

    /// The newest snapshot.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// A reader of snapshots.
    pub(crate) fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Replaces the tokens of the route to or from `peer` by what `change` makes of them, and returns what they are
    /// then. Nothing is written where `change` answers `None`.
    ///
    /// Times are cut to whole seconds, the precision of Kubernetes and of the state folder: so the tokens come back
    /// as they were sent.
    ///
    /// # Errors
    /// The change cannot be seen in a snapshot. It may still be stored; whoever tries again starts from what is.
    pub(crate) async fn change_tokens(
        &self,
        direction: Direction,
        peer: &DomainId,
        change: impl FnOnce(&DomainRouteTokenStatus) -> Option<DomainRouteTokenStatus>,
    ) -> Result<DomainRouteTokenStatus, LedgerError> {
        let turn = self.turns.of(&(direction, peer.clone()));
        let _turn = turn.lock().await;
        let snapshot = self.snapshot();
        let (object, status) = route_in(&snapshot, direction, peer).ok_or(LedgerError::RouteGone)?;
        let current = &status.token_status;
        let Some(wanted) = change(current).map(in_seconds).filter(|wanted| wanted != current) else {
            return Ok(current.clone());
        };
        let update = StatusUpdate { object: object.clone(), change: StatusChange::Tokens(wanted.clone()) };
        let mut snapshots = self.snapshots();
        let is_other = |snapshot: &Arc<Snapshot>| {
            route_in(snapshot, direction, peer).is_none_or(|(_, status)| status.token_status != *current)
        };
        let stored = async {
            self.updates.send(update).await.map_err(|_| LedgerError::NotStored)?;
            let snapshot = snapshots.wait_for(is_other).await.map_err(|_| LedgerError::NotStored)?;
            match route_in(&snapshot, direction, peer) {
                None => Err(LedgerError::RouteGone),
                Some((_, status)) if status.token_status == wanted => Ok(()),
                Some(_) => Err(LedgerError::Overtaken),
            }
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

fn route_in<'a>(
    snapshot: &'a Snapshot,
    direction: Direction,
    peer: &DomainId,
) -> Option<(&'a ObjectRef, &'a DomainRouteStatus)> {
    match direction {
        Direction::Outbound => snapshot.outbound.get(peer).map(|route| (&route.object, &*route.status)),
        Direction::Inbound => snapshot.inbound.get(peer).map(|route| (&route.object, &*route.status)),
    }
}

fn in_seconds(mut status: DomainRouteTokenStatus) -> DomainRouteTokenStatus {
    for token in status.tokens.iter_mut().chain([&mut status.revision_token]) {
        let times = [&mut token.revision_time, &mut token.expiration_time, &mut token.heart_beat_time];
        for time in times.into_iter().flatten() {
            time.0 = Timestamp::from_second(time.0.as_second()).unwrap_or(time.0);
        }
    }
    status
}
