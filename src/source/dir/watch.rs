//! Notices which files and folders changed.
//!
//! Each folder is watched by itself, from before it is listed: no change can fall between the two, hidden folders
//! cost nothing, and links never lead the watcher astray. A notification says only where to look, and what it means is
//! found there: one that comes late or twice costs time, never correctness. Where some may be lost, everything is
//! looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::walk::FileId;
use crate::source::{Severity, SourceProblem};

/// How long nothing must change before the folder is read, while a file is being written.
const QUIET: Duration = Duration::from_millis(20);

/// The same once a file is complete, because it was closed, renamed or removed: copies come as bursts of files.
const QUIET_WHEN_COMPLETE: Duration = Duration::from_millis(2);

/// How long a burst may hold up the reading.
const LONGEST_BURST: Duration = Duration::from_millis(200);

/// Beyond this number of paths, looking at everything takes no longer.
const MOST_PATHS: usize = 1_000;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Touched {
    /// Something may have changed anywhere.
    Everything,
    /// These files and folders changed, were made, or are gone.
    Paths(BTreeSet<PathBuf>),
}

/// What changed since it was last taken.
#[derive(Debug)]
struct Noticed {
    touched: Touched,
    /// The last change left a file as its writer wants it.
    is_complete: bool,
}

/// Says what has changed.
#[derive(Debug)]
pub(super) struct Changes {
    noticed: watch::Receiver<Noticed>,
    taken_from: watch::Sender<Noticed>,
}

impl Changes {
    /// Waits for a change, and for the burst of changes that it begins to end. Answers what changed since the last
    /// call that returned, and maybe some of what changed before.
    pub(super) async fn settled(&mut self) -> Touched {
        if self.noticed.changed().await.is_err() {
            // Cannot be: this holds a sender.
            return Touched::Everything;
        }
        let latest = Instant::now() + LONGEST_BURST;
        while Instant::now() < latest {
            let quiet =
                if self.noticed.borrow_and_update().is_complete { QUIET_WHEN_COMPLETE } else { QUIET };
            let end = (Instant::now() + quiet).min(latest);
            let Ok(Ok(())) = timeout_at(end, self.noticed.changed()).await else { break };
        }
        let mut touched = Touched::Paths(BTreeSet::new());
        self.taken_from.send_if_modified(|noticed| {
            std::mem::swap(&mut touched, &mut noticed.touched);
            false
        });
        touched
    }
}

impl Touched {
    fn add(&mut self, event: notify::Event) {
        let Self::Paths(paths) = self else { return };
        // Without a path, the system has lost notifications.
        let names_all = !event.need_rescan() && !event.paths.is_empty();
        paths.extend(event.paths);
        if !names_all || paths.len() > MOST_PATHS {
            *self = Self::Everything;
        }
    }
}

/// Watches folders.
#[derive(Debug)]
pub(super) struct Watcher {
    notify: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, Option<FileId>>,
    wanted: BTreeMap<PathBuf, Option<FileId>>,
    failed: bool,
    problem: Option<String>,
}

impl Watcher {
    /// Begins to watch, no folder yet. Where the system cannot watch, [`Self::misses_nothing`] says so.
    pub(super) fn start() -> (Self, Changes) {
        let nothing = Noticed { touched: Touched::Paths(BTreeSet::new()), is_complete: false };
        let (changed, noticed) = watch::channel(nothing);
        let changes = Changes { noticed, taken_from: changed.clone() };
        let notify = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            Ok(event) if is_mere_reading(event.kind) => {}
            Ok(event) => changed.send_modify(|noticed| {
                noticed.is_complete = completes(event.kind);
                noticed.touched.add(event);
            }),
            Err(error) => {
                tracing::warn!(%error, "watching the manifests failed; looking at all of them");
                changed.send_modify(|noticed| {
                    *noticed = Noticed { touched: Touched::Everything, is_complete: true };
                });
            }
        });
        let problem = notify.as_ref().err().map(ToString::to_string);
        let notify = notify.ok();
        let (watched, wanted) = (BTreeMap::new(), BTreeMap::new());
        (Self { failed: notify.is_none(), notify, watched, wanted, problem }, changes)
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
    /// deleted and made anew. `id` is missing if the folder is.
    pub(super) fn watch(&mut self, folder: &Path, id: Option<FileId>) {
        let Some(notify) = &mut self.notify else { return };
        match notify.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.wanted.insert(folder.to_owned(), id);
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
        let wanted = std::mem::take(&mut self.wanted);
        if let Some(notify) = &mut self.notify {
            // The system knows a folder by what it is: it must not forget one that is reached by another path now.
            let ids: BTreeSet<FileId> = wanted.values().copied().flatten().collect();
            let is_gone = |(path, id): &(&PathBuf, &Option<FileId>)| {
                !wanted.contains_key(*path) && id.is_none_or(|id| !ids.contains(&id))
            };
            for (gone, _) in self.watched.iter().filter(is_gone) {
                // The system may have forgotten it already.
                let _ = notify.unwatch(gone);
            }
        }
        self.watched = wanted;
    }

    /// True if `folder` is watched since the last round.
    pub(super) fn watches(&self, folder: &Path) -> bool {
        self.watched.contains_key(folder)
    }

    /// True if every folder of the last round is watched.
    pub(super) fn misses_nothing(&self) -> bool {
        !self.failed
    }

    /// Why folders below `root` cannot be watched.
    pub(super) fn problem(&self, root: &Path) -> Option<SourceProblem> {
        let problem = self.problem.as_ref()?;
        let message = format!(
            "cannot be watched ({problem}), so it is read every second instead; raise the system's limits of inotify \
             (fs.inotify.max_user_watches, fs.inotify.max_user_instances)"
        );
        Some(SourceProblem::of_file(root, Severity::Warning, message))
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

#[cfg(test)]
mod tests {
    use notify::event::Flag;

    use super::*;

    fn nothing() -> Touched {
        Touched::Paths(BTreeSet::new())
    }

    #[test]
    fn a_notification_touches_its_paths_alone() {
        let mut touched = nothing();
        for path in ["a", "b", "a"] {
            touched.add(notify::Event::new(EventKind::Any).add_path(path.into()));
        }
        assert_eq!(touched, Touched::Paths(["a", "b"].map(PathBuf::from).into()));
    }

    #[test]
    fn lost_and_too_many_notifications_touch_everything() {
        let overflow = notify::Event::new(EventKind::Other).set_flag(Flag::Rescan);
        let nameless = notify::Event::new(EventKind::Any);
        let flood = (0..=MOST_PATHS).fold(nameless.clone(), |event, n| event.add_path(n.to_string().into()));
        for event in [overflow, nameless, flood] {
            let mut touched = nothing();
            touched.add(event);
            assert_eq!(touched, Touched::Everything);
            touched.add(notify::Event::new(EventKind::Any).add_path("a".into()));
            assert_eq!(touched, Touched::Everything);
        }
    }
}
