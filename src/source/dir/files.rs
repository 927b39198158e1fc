//! The manifest files of a folder, and which of them must be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::fingerprint::Fingerprint;
use super::objects::Key;
use super::walk::{FileId, MOST_FILES, Tree, Walk, is_hidden, is_manifest};
use super::watch::{Touched, Watcher};
use crate::source::{Severity, SourceProblem};

/// A file that changed so recently may change again without its times telling: they are as coarse as 2 s on some
/// file systems.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);

/// The manifest files below a folder.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    left_out: FileId,
    files: BTreeMap<Arc<Path>, ManifestFile>,
    /// Only of files with which something is wrong.
    problems: BTreeMap<Arc<Path>, Vec<(Severity, String)>>,
    /// What the last walk found beside the files.
    tree: Tree,
}

/// What is kept of a file.
#[derive(Debug, Default)]
pub(super) struct ManifestFile {
    /// How it looked. `None`: read it again even if it looks the same.
    pub(super) stamp: Option<Fingerprint>,
    /// The text that its objects were made from: parsing costs ten times as much as reading. `None`: it was not read.
    pub(super) text: Option<Fingerprint>,
    /// The objects that it has, in order, and those that stay in force from it while it is broken.
    pub(super) objects: Box<[Key]>,
}

/// What there is to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Files that are gone.
    pub(super) gone: BTreeSet<Arc<Path>>,
    /// Files that are new or look changed, and their stamps.
    pub(super) changed: BTreeMap<PathBuf, Option<Fingerprint>>,
}

impl Files {
    /// The files below `root`, none known yet. The folder `left_out` is not looked into.
    pub(super) fn new(root: PathBuf, left_out: FileId) -> Self {
        Self { root, left_out, files: BTreeMap::new(), problems: BTreeMap::new(), tree: Tree::default() }
    }

    /// Looks at what was touched; at everything where that may have touched other files, too.
    pub(super) fn look(&mut self, touched: &Touched, watcher: &mut Watcher) -> Plan {
        let plan = match touched {
            Touched::Paths(paths) => self.look_at(paths, watcher),
            Touched::Everything => None,
        };
        plan.unwrap_or_else(|| self.walk(watcher))
    }

    /// The folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The number of files.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// What is wrong with the files and folders.
    pub(super) fn problems(&self) -> impl Iterator<Item = SourceProblem> {
        let of_files = self
            .problems
            .iter()
            .flat_map(|(path, problems)| problems.iter().map(move |problem| (path.as_ref(), problem)));
        let of_tree = self.tree.problems.iter().map(|(path, problem)| (path.as_path(), problem));
        of_files
            .chain(of_tree)
            .map(|(file, (severity, message))| SourceProblem::of_file(file, *severity, message.clone()))
    }

    /// The text that the objects of the file at `path` were made from.
    pub(super) fn known_text(&self, path: &Path) -> Option<Fingerprint> {
        self.files.get(path)?.text
    }

    /// Has the file at `path` parsed the next time it is read, whatever its text is.
    pub(super) fn forget_text(&mut self, path: &Path) {
        if let Some(file) = self.files.get_mut(path) {
            file.text = None;
        }
    }

    /// Notes that the file at `path` is the same under a new stamp.
    pub(super) fn set_stamp(&mut self, path: &Path, stamp: Option<Fingerprint>) {
        if let Some(file) = self.files.get_mut(path) {
            file.stamp = stamp;
        }
    }

    /// Takes out what is known of the file at `path`: nothing, if it is new.
    pub(super) fn take(&mut self, path: &Path) -> (Arc<Path>, ManifestFile) {
        self.problems.remove(path);
        self.files.remove_entry(path).unwrap_or_else(|| (path.into(), ManifestFile::default()))
    }

    /// Keeps what is known of the file at `path`, and what is wrong with it.
    pub(super) fn keep(&mut self, path: Arc<Path>, file: ManifestFile, problems: Vec<(Severity, String)>) {
        if !problems.is_empty() {
            self.problems.insert(Arc::clone(&path), problems);
        }
        self.files.insert(path, file);
    }

    fn walk(&mut self, watcher: &mut Watcher) -> Plan {
        watcher.begin();
        let Walk { mut found, tree, .. } = Walk::through(&self.root, self.left_out, watcher);
        watcher.end();
        self.tree = tree;
        let stays = |path: &Path| self.tree.unreadable.iter().any(|unreadable| path.starts_with(unreadable));
        let gone = self.files.keys().filter(|path| !found.contains_key(&***path) && !stays(path));
        let gone = gone.cloned().collect();
        found.retain(|path, stamp| self.looks_changed(path, *stamp));
        Plan { gone, changed: found }
    }

    /// What there is to do about these paths alone. `None`: a folder or link is among them, and may hide or show other
    /// files.
    fn look_at(&self, paths: &BTreeSet<PathBuf>, watcher: &Watcher) -> Option<Plan> {
        // What a link leads to can change without a word.
        let leads_elsewhere = |(link, target): (&PathBuf, &Result<FileId, io::ErrorKind>)| {
            FileId::of(link).map_err(|error| error.kind()) != *target
        };
        if self.tree.links.iter().any(leads_elsewhere) {
            return None;
        }
        let linked = self.tree.links.keys().filter(|link| self.files.contains_key(link.as_path()));
        let mut plan = Plan::default();
        for path in paths.iter().chain(linked) {
            if self.tree.problems.contains_key(path) || watcher.watches(path) {
                return None;
            }
            let folder = path.parent()?;
            if !self.tree.folders.contains(folder) {
                // Links lead there, or nobody knows why it is watched.
                if watcher.watches(folder) {
                    continue;
                }
                return None;
            }
            if !is_hidden(path.file_name()?) {
                self.look_at_file(path, &mut plan)?;
            }
        }
        Some(plan)
    }

    fn look_at_file(&self, path: &Path, plan: &mut Plan) -> Option<()> {
        let known = self.files.get_key_value(path).map(|(path, _)| path);
        let entry = match fs::symlink_metadata(path) {
            Ok(entry) => entry,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.tree.is_full => {
                plan.gone.extend(known.cloned());
                return Some(());
            }
            Err(_) => return None,
        };
        if entry.is_dir() || entry.is_symlink() && !self.tree.links.contains_key(path) {
            return None;
        }
        let metadata = if entry.is_symlink() { fs::metadata(path).ok()? } else { entry };
        if !metadata.is_file() || !is_manifest(path) {
            return known.is_none().then_some(());
        }
        if known.is_none() && self.files.len() + plan.changed.len() >= MOST_FILES {
            return None;
        }
        let stamp = stamp(&metadata);
        if self.looks_changed(path, stamp) {
            plan.changed.insert(path.to_owned(), stamp);
        }
        Some(())
    }

    fn looks_changed(&self, path: &Path, stamp: Option<Fingerprint>) -> bool {
        stamp.is_none() || self.files.get(path).is_none_or(|file| file.stamp != stamp)
    }
}

/// What differs once a file was changed or replaced; `None` if that will not show.
pub(super) fn stamp(metadata: &Metadata) -> Option<Fingerprint> {
    let changed = UNIX_EPOCH + Duration::from_secs(metadata.ctime().try_into().unwrap_or(0));
    if SystemTime::now().duration_since(changed).map_or(true, |age| age <= COARSEST_CLOCK) {
        return None;
    }
    let numbers = [
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime().cast_unsigned(),
        metadata.mtime_nsec().cast_unsigned(),
        metadata.ctime().cast_unsigned(),
        metadata.ctime_nsec().cast_unsigned(),
    ];
    Some(Fingerprint::of(numbers.map(u64::to_ne_bytes).as_flattened()))
}
