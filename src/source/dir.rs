//! A directory of manifests as source: the default that needs no Kubernetes.
//!
//! ```text
//!             Touched                     Reading                        Event
//! inotify ──────────────► Folder ──────────────────► Delivery ──────────────────► index
//!                         (files → objects in force)  │   ▲ StatusUpdate
//!                                                     ▼   │ (statuses)
//!                                                  state folder
//! ```
//!
//! A change costs what it touches: the files that inotify names are read, and the objects in them compared, however
//! many there are beside them. From time to time everything is looked at all the same.
//!
//! What is broken keeps its last good version: a file that is no YAML, or that has a broken document, takes nothing
//! out of force. A folder that cannot be read any more is no deletion either.

mod content;
mod delivery;
mod files;
mod fingerprint;
mod folder;
mod objects;
mod state;
#[cfg(test)]
mod tests;
mod walk;
mod watch;

use std::fs;
use std::path::{PathBuf, absolute};
use std::sync::Arc;
use std::time::Duration;

use model::{DomainId, Event, StatusUpdate};
use tokio::sync::{mpsc, watch as latest};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::delivery::Delivery;
use self::folder::{Folder, Reading};
use self::state::StateFolder;
use self::walk::FileId;
pub(crate) use self::walk::{DEEPEST, is_hidden, is_manifest};
use self::watch::{Changes, Touched, Watcher};
use super::{SourceError, SourceReport};

/// How often everything is looked at although no change was noticed: some file systems notify of nothing.
const RESCAN: Duration = Duration::from_secs(30);

/// The same, while changes cannot be noticed.
const RESCAN_UNWATCHED: Duration = Duration::from_secs(1);

/// Which folders a directory source uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorySettings {
    /// The folder of manifests: all `.yaml`, `.yml` and `.json` files in it and in its folders. Names that start
    /// with a dot are left out; symbolic links are followed.
    pub path: PathBuf,
    /// The folder that keeps the statuses of the routes. Each mesh needs its own.
    pub state: PathBuf,
}

/// The source that reads a directory of manifests.
#[derive(Debug)]
pub struct DirectorySource {
    folder: Folder,
    changes: Changes,
    delivery: Delivery,
}

impl DirectorySource {
    /// Opens the folders for `domain`, to which objects without a namespace belong, and begins to watch them. The
    /// state folder is created with mode 0700 where it is missing, and locked until the source is dropped.
    ///
    /// # Errors
    /// A folder cannot be used, or another mesh uses the same state folder.
    pub fn open(settings: DirectorySettings, domain: DomainId) -> Result<Self, SourceError> {
        let DirectorySettings { path, state } = settings;
        // Changes are noticed by absolute paths.
        let path = absolute(&path).map_err(|cause| SourceError::Manifests { path, cause })?;
        fs::read_dir(&path).map_err(|cause| SourceError::Manifests { path: path.clone(), cause })?;
        let (state, statuses) = StateFolder::open(&state)?;
        // The state folder may lie inside the folder of manifests, but its files are none.
        let left_out = FileId::of(state.statuses_folder())
            .map_err(|cause| SourceError::State { path: state.statuses_folder().to_owned(), cause })?;
        let (watcher, changes) = Watcher::start();
        let delivery =
            Delivery::new(domain.clone(), path.to_string_lossy().into_owned(), Arc::new(state), statuses);
        Ok(Self { folder: Folder::new(path, domain, left_out, watcher), changes, delivery })
    }

    /// Sends all objects to `events`, then every change of them, and keeps the statuses of `updates`, until
    /// `shutdown` or until nobody listens to `events`. Updates that are in the channel by then are still kept.
    pub async fn run(
        self,
        events: mpsc::Sender<Event>,
        updates: mpsc::Receiver<StatusUpdate>,
        report: latest::Sender<SourceReport>,
        shutdown: CancellationToken,
    ) {
        let (readings_in, readings_out) = mpsc::channel(1);
        tokio::select! {
            () = keep_reading(self.folder, self.changes, readings_in) => {}
            () = self.delivery.run(readings_out, updates, events, report, shutdown) => {}
        }
    }
}

/// Reads `folder` at once, what was touched in it whenever it changes, and all of it from time to time.
async fn keep_reading(mut folder: Folder, mut changes: Changes, readings: mpsc::Sender<Reading>) {
    let mut touched = Touched::Everything;
    let mut due = Instant::now();
    loop {
        let looks_at_everything = touched == Touched::Everything;
        let parts = readings.clone();
        let told;
        (folder, told) = blocking(move || {
            let told = folder.read(&touched, &parts);
            (folder, told)
        })
        .await;
        if told.is_err() {
            return;
        }
        let pause = if folder.misses_nothing() { RESCAN } else { RESCAN_UNWATCHED };
        let next = Instant::now() + pause;
        // Changes that are noticed do not put it off.
        due = if looks_at_everything { next } else { due.min(next) };
        touched = timeout_at(due, changes.settled()).await.unwrap_or(Touched::Everything);
    }
}

/// Runs file work where it holds up nobody. A panic of it goes on here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime is going down, and this task with it.
        Err(Err(_cancelled)) => std::future::pending().await,
    }
}
