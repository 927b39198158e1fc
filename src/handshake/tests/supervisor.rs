use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::api::DomainRouteStatus;
use model::{DomainId, OutboundAuth, OutboundRoute, Service, Snapshot};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::world::{Source, route};
use crate::handshake::supervisor::{PAUSE_AFTER_PANIC, supervise};

/// What a task is to do when it is woken, but to say so.
#[derive(Clone, Copy)]
enum When {
    Waits,
    Ends,
    Panics,
}

/// A supervisor over tasks that tell what happens to them.
struct World {
    snapshots: watch::Sender<Arc<Snapshot>>,
    woken: Arc<Mutex<When>>,
    told: mpsc::UnboundedReceiver<String>,
    shutdown: CancellationToken,
    supervisor: JoinHandle<()>,
}

/// Tells that the task of `peer` ends, however it does.
struct TellEnd(DomainId, mpsc::UnboundedSender<String>);

impl Drop for TellEnd {
    fn drop(&mut self) {
        let _ = self.1.send(format!("{} ended", self.0));
    }
}

async fn tell(
    peer: DomainId,
    changed: Arc<Notify>,
    woken: Arc<Mutex<When>>,
    told: mpsc::UnboundedSender<String>,
) {
    let _end = TellEnd(peer.clone(), told.clone());
    told.send(format!("{peer} started")).unwrap();
    loop {
        changed.notified().await;
        told.send(format!("{peer} woken")).unwrap();
        let when = *woken.lock().unwrap();
        match when {
            When::Waits => {}
            When::Ends => return,
            When::Panics => panic!("as it was told to"),
        }
    }
}

impl World {
    /// Domain `alice` with routes to `bob` and `carol`, whose tasks have started.
    async fn new() -> Self {
        let (_, ledger) = Source::new("alice", &[route("alice", "bob"), route("alice", "carol")]);
        let (snapshots, newest) = watch::channel(ledger.snapshot());
        let woken = Arc::new(Mutex::new(When::Waits));
        let (tells, told) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let run = {
            let woken = Arc::clone(&woken);
            move |_, peer, changed| tell(peer, changed, Arc::clone(&woken), tells.clone())
        };
        let supervisor = tokio::spawn(supervise(newest, run, shutdown.clone()));
        let mut world = Self { snapshots, woken, told, shutdown, supervisor };
        assert_eq!(world.settle().await, ["bob started", "carol started"]);
        world
    }

    /// What was told until nothing more happens by itself.
    async fn settle(&mut self) -> Vec<String> {
        // The clock is paused: it goes on only once every task waits.
        sleep(Duration::from_millis(1)).await;
        std::iter::from_fn(|| self.told.try_recv().ok()).collect()
    }

    async fn change(&mut self, change: impl FnOnce(&mut Snapshot)) -> Vec<String> {
        let mut snapshot = Snapshot::clone(&self.snapshots.borrow());
        change(&mut snapshot);
        self.snapshots.send_replace(Arc::new(snapshot));
        self.settle().await
    }
}

/// Gives the route to `peer` another status.
fn touch(snapshot: &mut Snapshot, peer: &str) {
    let mut route = OutboundRoute::clone(&snapshot.outbound[peer]);
    let is_destination_authorized = !route.status.is_destination_authorized;
    route.status = Arc::new(DomainRouteStatus { is_destination_authorized, ..Default::default() });
    snapshot.outbound.insert(route.destination.clone(), Arc::new(route));
}

#[tokio::test(start_paused = true)]
async fn a_task_is_woken_by_changes_of_its_own_route_only() {
    let mut world = World::new().await;
    let web = Service::new("web".parse().unwrap(), [].into());
    let told = world.change(|snapshot| {
        snapshot.services.insert(web.name.clone(), Arc::new(web));
    });
    assert_eq!(told.await, [] as [&str; 0]);
    assert_eq!(world.change(|snapshot| touch(snapshot, "bob")).await, ["bob woken"]);
    assert_eq!(world.change(|snapshot| touch(snapshot, "carol")).await, ["carol woken"]);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_goes_ends_its_task_and_one_that_comes_back_has_a_new_one() {
    let mut world = World::new().await;
    let bob = Arc::clone(&world.snapshots.borrow().outbound["bob"]);
    let gone = world.change(|snapshot| {
        snapshot.outbound.remove("bob");
    });
    assert_eq!(gone.await, ["bob ended"]);
    let back = world.change(|snapshot| {
        snapshot.outbound.insert(bob.destination.clone(), Arc::clone(&bob));
    });
    assert_eq!(back.await, ["bob started"]);
    let without_tokens = world.change(|snapshot| {
        let bob = OutboundRoute { auth: OutboundAuth::None, ..OutboundRoute::clone(&bob) };
        snapshot.outbound.insert(bob.destination.clone(), Arc::new(bob));
    });
    assert_eq!(without_tokens.await, ["bob woken"], "its link is still looked at");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_by_itself_starts_anew() {
    let mut world = World::new().await;
    *world.woken.lock().unwrap() = When::Ends;
    let told = world.change(|snapshot| touch(snapshot, "bob")).await;
    assert_eq!(told, ["bob woken", "bob ended", "bob started"]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_starts_anew_after_a_pause_if_its_route_is_still_there() {
    let mut world = World::new().await;
    *world.woken.lock().unwrap() = When::Panics;
    for peer in ["bob", "carol"] {
        let told = world.change(|snapshot| touch(snapshot, peer)).await;
        assert_eq!(told, [format!("{peer} woken"), format!("{peer} ended")]);
    }
    let gone = world.change(|snapshot| {
        snapshot.outbound.remove("carol");
    });
    assert_eq!(gone.await, [] as [&str; 0]);
    sleep(PAUSE_AFTER_PANIC).await;
    assert_eq!(world.settle().await, ["bob started"]);
}

#[tokio::test(start_paused = true)]
async fn the_shutdown_ends_all_tasks() {
    let mut world = World::new().await;
    world.shutdown.cancel();
    (&mut world.supervisor).await.unwrap();
    let mut told = world.settle().await;
    told.sort();
    assert_eq!(told, ["bob ended", "carol ended"]);
}
