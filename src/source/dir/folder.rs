//! The folder of manifests, and what of it is in force.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use model::DomainId;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendError;

use super::content::{Content, read_text};
use super::files::{Files, ManifestFile, Plan};
use super::fingerprint::Fingerprint;
use super::objects::{Change, ObjectsInForce};
use super::walk::FileId;
use super::watch::{Touched, Watcher};
use crate::source::SourceProblem;

/// About how many changes are told at once, so that all objects of a large folder never are in memory together.
const PART: usize = 256;

/// The folder of manifests.
#[derive(Debug)]
pub(super) struct Folder {
    domain: DomainId,
    files: Files,
    in_force: ObjectsInForce,
    watcher: Watcher,
}

/// What a reading of the folder found, or a part of it.
#[derive(Debug)]
pub(super) struct Reading {
    /// What is new, different or gone.
    pub(super) changes: Vec<Change>,
    /// How things stand at the end of the reading.
    pub(super) end: Option<End>,
}

/// How things stand.
#[derive(Debug)]
pub(super) struct End {
    /// When the reading began.
    pub(super) at: Timestamp,
    /// Number of files.
    pub(super) files: usize,
    /// Number of objects in force.
    pub(super) objects: usize,
    /// What is wrong, in order.
    pub(super) problems: Vec<SourceProblem>,
}

impl Folder {
    /// The folder at `root`, not read yet. Objects without a namespace belong to `domain`; the folder `left_out` is not
    /// looked into.
    pub(super) fn new(root: PathBuf, domain: DomainId, left_out: FileId, watcher: Watcher) -> Self {
        let files = Files::new(root, left_out);
        Self { files, in_force: ObjectsInForce::new(domain.clone()), domain, watcher }
    }

    /// Reads what was touched, and tells what that changed.
    ///
    /// # Errors
    /// Nobody listens.
    pub(super) fn read(
        &mut self,
        touched: &Touched,
        readings: &mpsc::Sender<Reading>,
    ) -> Result<(), SendError<Reading>> {
        let at = Timestamp::now();
        let Plan { gone, changed } = self.files.look(touched, &mut self.watcher);
        // These come first: what was moved to another file then has no other when that is read.
        for path in gone {
            self.forget(&path);
        }
        for (path, stamp) in changed {
            self.update(&path, stamp);
            if self.in_force.changes() >= PART {
                readings.blocking_send(Reading { changes: self.in_force.take_changes(), end: None })?;
            }
        }
        while let Some(path) = self.in_force.next_in_line() {
            self.files.forget_text(&path);
            self.update(&path, None);
        }
        self.in_force.settle();
        let changes = self.in_force.take_changes();
        let end =
            End { at, files: self.files.len(), objects: self.in_force.len(), problems: self.problems() };
        readings.blocking_send(Reading { changes, end: Some(end) })
    }

    /// True if every change in the folder is noticed.
    pub(super) fn misses_nothing(&self) -> bool {
        self.watcher.misses_nothing()
    }

    /// Reads the file at `path`, which looks like `stamp`, and parses it if its text is new.
    fn update(&mut self, path: &Path, stamp: Option<Fingerprint>) {
        let text = read_text(path);
        let version = text.as_ref().ok().map(|text| Fingerprint::of(text.as_bytes()));
        if version.is_some() && self.files.known_text(path) == version {
            return self.files.set_stamp(path, stamp);
        }
        if matches!(&text, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            return self.forget(path);
        }
        let (path, before) = self.files.take(path);
        let content = match text {
            // Writers empty a file before they fill it.
            Ok(text) if text.trim().is_empty() && !before.objects.is_empty() => {
                Content::broken("is empty; delete the file to delete its objects".to_owned())
            }
            Ok(text) => Content::parse(&text, &path, self.domain.as_str()),
            Err(error) => Content::broken(format!("cannot be read: {error}")),
        };
        let Content { objects, problems, is_broken } = content;
        let objects = self.in_force.replace(&path, &before.objects, objects, is_broken);
        // What could not be read is read again, whatever it looks like.
        let stamp = stamp.filter(|_| version.is_some());
        self.files.keep(path, ManifestFile { stamp, text: version, objects }, problems);
    }

    fn forget(&mut self, path: &Path) {
        let (path, file) = self.files.take(path);
        self.in_force.replace(&path, &file.objects, Vec::new(), false);
    }

    fn problems(&self) -> Vec<SourceProblem> {
        let of_watcher = self.watcher.problem(self.files.root());
        let mut problems: Vec<SourceProblem> =
            self.files.problems().chain(self.in_force.duplicates()).chain(of_watcher).collect();
        problems.sort();
        problems
    }
}
