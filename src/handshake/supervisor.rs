//! A task for each route out of this domain, and for each one into it that has tokens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Changed, Direction, DomainId, InboundAuth, Snapshot};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::error;

/// Time before a task that panicked starts anew.
pub(super) const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(5);

/// Runs a task for each route out of this domain, and for each one into it that has tokens, until the route goes or
/// `shutdown`. A task that ends before is started anew.
///
/// A task is woken when its own route changes, so that a change costs no other route anything. It then reads its
/// route from the newest snapshot, not from here: it must find there what it has written itself.
pub(super) async fn supervise<T>(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    run: impl Fn(Direction, DomainId, Arc<Notify>) -> T,
    shutdown: CancellationToken,
) where
    T: Future<Output = ()> + Send + 'static,
{
    let mut routes = Routes { run, tasks: JoinSet::new(), running: BTreeMap::new() };
    let mut followed = Arc::new(Snapshot::empty(snapshots.borrow().domain.clone()));
    loop {
        let newest = Arc::clone(&snapshots.borrow_and_update());
        for change in newest.changes_since(&followed) {
            routes.follow(change);
        }
        followed = newest;
        tokio::select! {
            // A task whose route is gone may notice before it is ended here; it must not start anew then.
            biased;
            () = shutdown.cancelled() => break,
            changed = snapshots.changed() => if changed.is_err() { break },
            Some(ended) = routes.tasks.join_next_with_id() => routes.restart(ended),
        }
    }
    routes.tasks.shutdown().await;
}

/// The tasks, exactly one for each route that needs one.
struct Routes<F> {
    run: F,
    tasks: JoinSet<()>,
    running: BTreeMap<(Direction, DomainId), Running>,
}

struct Running {
    task: AbortHandle,
    changed: Arc<Notify>,
}

impl<F, T> Routes<F>
where
    F: Fn(Direction, DomainId, Arc<Notify>) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    fn follow(&mut self, change: Changed<'_>) {
        let (direction, peer, is_needed) = match change {
            Changed::Outbound(destination, route) => (Direction::Outbound, destination, route.is_some()),
            Changed::Inbound(source, route) => {
                let has_tokens = route.is_some_and(|route| matches!(route.auth, InboundAuth::Token { .. }));
                (Direction::Inbound, source, has_tokens)
            }
            Changed::Service(..) => return,
        };
        let route = (direction, peer.clone());
        match self.running.get(&route) {
            Some(running) if is_needed => running.changed.notify_one(),
            Some(running) => {
                running.task.abort();
                self.running.remove(&route);
            }
            None if is_needed => self.start(route),
            None => {}
        }
    }

    fn start(&mut self, route: (Direction, DomainId)) {
        let (direction, peer) = route.clone();
        let changed = Arc::new(Notify::new());
        let task = self.tasks.spawn((self.run)(direction, peer, Arc::clone(&changed)));
        self.running.insert(route, Running { task, changed });
    }

    fn restart(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        // A task that was ended because its route went is in the list no more.
        let mut running = self.running.iter_mut();
        let Some((route, running)) = running.find(|(_, running)| running.task.id() == id) else { return };
        match ended {
            Ok(_) => {
                let route = route.clone();
                self.start(route);
            }
            Err(panic) => {
                error!(%panic, "a negotiation starts anew");
                running.task = self.tasks.spawn(tokio::time::sleep(PAUSE_AFTER_PANIC));
            }
        }
    }
}
