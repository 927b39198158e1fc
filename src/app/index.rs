//! The index between the source and all that follows the domain.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use model::{Event, Index, Snapshot, StatusUpdate};
use tokio::sync::{mpsc, watch};
use tokio::task::block_in_place;

/// Owns the index: takes all events at hand in, then publishes once.
///
/// The source sends events here and takes updates from here. Updates wait in a queue of their own, so that neither
/// side ever waits for the other.
pub(super) async fn keep_index(
    mut index: Index,
    mut events: mpsc::Receiver<Event>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    updates: mpsc::Sender<StatusUpdate>,
) {
    let mut waiting = VecDeque::new();
    loop {
        tokio::select! {
            event = events.recv() => {
                let Some(event) = event else { return };
                index.apply(event);
                while let Ok(event) = events.try_recv() {
                    index.apply(event);
                }
                // Opening a token takes a millisecond, and after a start there may be thousands.
                let (snapshot, status_updates) = block_in_place(|| index.commit(Timestamp::now()));
                if let Some(snapshot) = snapshot {
                    snapshots.send_replace(snapshot);
                }
                waiting.extend(status_updates);
            }
            Ok(permit) = updates.reserve(), if !waiting.is_empty() => {
                if let Some(update) = waiting.pop_front() {
                    permit.send(update);
                }
            }
        }
    }
}
