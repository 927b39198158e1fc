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
    /// then. Nothing is written where `change` answers `None`. If another gateway of this domain changes the tokens at
    /// the same time, `change` is asked again about what they are then.
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
        change: impl Fn(&DomainRouteTokenStatus) -> Option<DomainRouteTokenStatus>,
    ) -> Result<DomainRouteTokenStatus, LedgerError> {
        let turn = self.turns.of(&(direction, peer.clone()));
        let _turn = turn.lock().await;
        let changed = async {
            let mut snapshot = self.snapshot();
            loop {
                let (object, status) = route_in(&snapshot, direction, peer).ok_or(LedgerError::RouteGone)?;
                let before = &status.token_status;
                let Some(after) = change(before).map(in_seconds).filter(|after| after != before) else {
                    return Ok(before.clone());
                };
                let next = self.store(object, direction, peer, before, &after).await?;
                if route_in(&next, direction, peer).is_some_and(|(_, status)| status.token_status == after) {
                    return Ok(after);
                }
                snapshot = next;
            }
        };
        timeout(STORE_TIMEOUT, changed).await.unwrap_or(Err(LedgerError::NotStored))
    }

    /// Sends a change of the tokens of the route `object`, and answers the snapshot in which they are not what they
    /// were `before`: that change was stored then, or another writer was faster.
    async fn store(
        &self,
        object: &ObjectRef,
        direction: Direction,
        peer: &DomainId,
        before: &DomainRouteTokenStatus,
        after: &DomainRouteTokenStatus,
    ) -> Result<Arc<Snapshot>, LedgerError> {
        let change =
            StatusChange::Tokens { before: Box::new(before.clone()), after: Box::new(after.clone()) };
        let update = StatusUpdate { object: object.clone(), change };
        let mut snapshots = self.snapshots();
        let is_other = |snapshot: &Arc<Snapshot>| {
            route_in(snapshot, direction, peer).is_none_or(|(_, status)| status.token_status != *before)
        };
        self.updates.send(update).await.map_err(|_| LedgerError::NotStored)?;
        let snapshot = snapshots.wait_for(is_other).await.map_err(|_| LedgerError::NotStored)?;
        Ok(Arc::clone(&snapshot))
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
