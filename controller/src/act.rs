//! The leader's work: watch, and make things follow.

use std::convert::Infallible;
use std::future;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use kube::Client;
use model::HEARTBEAT_PERIOD;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use crate::action::{Failure, Hands};
use crate::board::Board;
use crate::problem::{describe, describe_watch};
use crate::queue::Queue;
use crate::reconcile::reconcile;
use crate::watch::{Change, Kind, watch_all};
use crate::world::World;

/// Keys that are worked on at once.
const MAX_AT_ONCE: usize = 8;

/// How long the watch of gateways counts as broken after an error, unless it is heard of sooner: it is tried again at
/// least so often, and says nothing when that succeeds and nothing has happened.
const DEAFNESS: Duration = Duration::from_secs(90);

/// How often the same object may have changed before its write came, until that is told.
const MAX_CONFLICTS: u32 = 8;

/// Acts until it is dropped; whatever is under way is dropped with it.
pub(crate) async fn act(client: Client, identity: String, board: Board) -> Infallible {
    let hands = Hands::new(client.clone(), identity);
    let mut changes = watch_all(&client);
    let (mut world, mut queue, mut running) = (World::default(), Queue::new(), FuturesUnordered::new());
    let mut ticks = interval_at(Instant::now() + HEARTBEAT_PERIOD, HEARTBEAT_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut deaf_until = Instant::now();
    loop {
        while world.is_complete()
            && running.len() < MAX_AT_ONCE
            && let Some(key) = queue.next(Instant::now())
        {
            let actions = reconcile(&world, &key, Timestamp::now());
            if actions.is_empty() {
                board.solved(&key.to_string());
                queue.done(&key);
                continue;
            }
            let hands = hands.clone();
            running.push(async move { (key, hands.perform(actions).await) });
        }
        let has_room = world.is_complete() && running.len() < MAX_AT_ONCE;
        let pause_over = queue.next_pause_over().filter(|_| has_room);
        tokio::select! {
            Some(seen) = changes.next() => match seen {
                Ok(change) => {
                    if let Some(kind) = heard(&change) {
                        board.solved(&kind.to_string());
                        if kind == Kind::Gateway {
                            deaf_until = Instant::now();
                        }
                    }
                    let cannot_be_read = matches!(change, Change::Unreadable { .. });
                    for key in world.apply(change, Timestamp::now()) {
                        queue.add(key);
                    }
                    if cannot_be_read {
                        tell_unreadable(&world, &board);
                    }
                }
                Err((kind, error)) => {
                    if kind == Kind::Gateway {
                        deaf_until = Instant::now() + DEAFNESS;
                    }
                    if let Some(text) = describe_watch(&kind.to_string(), &error) {
                        board.problem(&kind.to_string(), text);
                    }
                }
            },
            Some((key, outcome)) = running.next() => {
                let failure = match outcome {
                    Ok(()) => {
                        board.solved(&key.to_string());
                        queue.done(&key);
                        continue;
                    }
                    Err(failure) => failure,
                };
                let subject = key.to_string();
                let failures = queue.failed(key, Instant::now());
                match failure {
                    Failure::Refused { what, error } => board.problem(&subject, describe(&what, &error)),
                    Failure::Late { what } => {
                        board.problem(&subject, format!("cannot {what}: the API server does not answer; check it"));
                    }
                    Failure::Conflict if failures >= MAX_CONFLICTS => {
                        let text = format!("{subject} is changed by others all the time; find out by whom");
                        board.problem(&subject, text);
                    }
                    Failure::Conflict => {}
                }
            }
            // Whom nobody can hear does not grow old.
            _ = ticks.tick(), if world.is_complete() => {
                tell_unreadable(&world, &board);
                if deaf_until <= Instant::now() {
                    for key in world.tick(Timestamp::now()) {
                        queue.add(key);
                    }
                }
            }
            () = async {
                match pause_over {
                    Some(time) => sleep_until(time).await,
                    None => future::pending().await,
                }
            } => {}
        }
    }
}

fn tell_unreadable(world: &World, board: &Board) {
    for ((kind, place), error) in &world.unreadable {
        let text = format!("cannot read {kind} {place}: {error}; mend it, or delete it");
        board.problem(&format!("read {kind} {place}"), text);
    }
}

/// The kind that a change is heard of. That a listing begins says nothing yet.
fn heard(change: &Change) -> Option<Kind> {
    match change {
        Change::Listing(_) => None,
        Change::AllListed(kind) | Change::Gone(kind, _) | Change::Unreadable { kind, .. } => Some(*kind),
        Change::Listed(object) | Change::Put(object) => Some(object.kind()),
    }
}
