//! Notices that something in the folders changed.
//!
//! Each folder is watched by itself, from before it is listed: no change can fall between the two, hidden folders
//! cost nothing, and links never lead the watcher astray. What changed does not matter, because the folders are
//! compared as a whole: a lost or late notification costs time, never correctness.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::source::{Severity, SourceProblem};

/// How long nothing must change before the folder is read, while a file is being written.
const QUIET: Duration = Duration::from_millis(20);

/// The same once a file is complete, because it was closed, renamed or removed: copies come as bursts of files.
const QUIET_WHEN_COMPLETE: Duration = Duration::from_millis(2);

/// How long a burst may hold up the reading.
const LONGEST_BURST: Duration = Duration::from_millis(200);

/// Says when folders have changed; the value is whether the last change completed a file.
#[derive(Debug)]
pub(super) struct Changes(watch::Receiver<bool>);

impl Changes {
    /// Waits for a change, and for the burst of changes that it begins to end. Not noticed is what came before the
    /// last call returned.
    pub(super) async fn settled(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody watches; the caller reads from time to time.
            return std::future::pending().await;
        }
        let latest = Instant::now() + LONGEST_BURST;
        while Instant::now() < latest {
            let quiet = if *self.0.borrow_and_update() { QUIET_WHEN_COMPLETE } else { QUIET };
            let end = (Instant::now() + quiet).min(latest);
            let Ok(Ok(())) = timeout_at(end, self.0.changed()).await else { return };
        }
    }
}

/// Watches folders.
#[derive(Debug)]
pub(super) struct Watcher {
    notify: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    wanted: BTreeSet<PathBuf>,
    failed: bool,
    problem: Option<String>,
}

impl Watcher {
    /// Begins to watch, no folder yet. Where the system cannot watch, [`Self::misses_nothing`] says so.
    pub(super) fn start() -> (Self, Changes) {
        let (changed, changes) = watch::channel(false);
        let notify = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            Ok(event) if is_mere_reading(event.kind) => {}
            Ok(event) => {
                changed.send_replace(completes(event.kind));
            }
            Err(error) => {
                tracing::warn!(%error, "watching the manifests failed; reading all of them");
                changed.send_replace(true);
            }
        });
        let problem = notify.as_ref().err().map(ToString::to_string);
        let notify = notify.ok();
        let (watched, wanted) = (BTreeSet::new(), BTreeSet::new());
        (Self { failed: notify.is_none(), notify, watched, wanted, problem }, Changes(changes))
    }

    /// Begins a round: folders that are not named before it ends will be forgotten.
    pub(super) fn begin(&mut self) {
        self.wanted.clear();
        if self.notify.is_some() {
            self.failed = false;
            self.problem = None;
        }
    }

    /// Watches what is directly in `folder`. Done again in every round, because the system forgets a folder that is
    /// deleted and made anew.
    pub(super) fn watch(&mut self, folder: &Path) {
        let Some(notify) = &mut self.notify else { return };
        match notify.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.wanted.insert(folder.to_owned());
            }
            Err(error) => {
                self.failed = true;
                if !matches!(error.kind, notify::ErrorKind::PathNotFound) {
                    self.problem = Some(error.to_string());
                }
            }
        }
    }

    /// Ends a round.
    pub(super) fn end(&mut self) {
        if let Some(notify) = &mut self.notify {
            for gone in self.watched.difference(&self.wanted) {
                // The system may have forgotten it already.
                let _ = notify.unwatch(gone);
            }
        }
        self.watched.clone_from(&self.wanted);
    }

    /// True if every folder of the last round is watched.
    pub(super) fn misses_nothing(&self) -> bool {
        !self.failed
    }

    /// Why folders below `root` cannot be watched.
    pub(super) fn problem(&self, root: &Path) -> Option<SourceProblem> {
        let problem = self.problem.as_ref()?;
        Some(SourceProblem {
            file: root.to_owned(),
            severity: Severity::Warning,
            message: format!(
                "cannot be watched ({problem}), so it is read every second instead; raise the system's limits of \
                 inotify (fs.inotify.max_user_watches, fs.inotify.max_user_instances)"
            ),
        })
    }
}

/// Whether a change leaves a file as its writer wants it.
fn completes(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_))
}

/// Reading the folders must not lead to reading them again.
fn is_mere_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}
