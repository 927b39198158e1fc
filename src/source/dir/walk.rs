//! Finds the manifest files below a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::files::stamp;
use super::fingerprint::Fingerprint;
use super::watch::Watcher;
use crate::source::Severity;

/// Most manifest files of a source.
pub(super) const MOST_FILES: usize = 100_000;

/// How deep folders may be nested, links included.
pub(crate) const DEEPEST: usize = 32;

/// A file or folder, by whatever path it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

/// What there is beside manifest files.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The folders, each by one path.
    pub(super) folders: BTreeSet<PathBuf>,
    /// The symbolic links, and what they lead to, or why to nothing.
    pub(super) links: BTreeMap<PathBuf, Result<FileId, io::ErrorKind>>,
    /// Files and folders of which nothing can be told.
    pub(super) unreadable: Vec<PathBuf>,
    /// What is wrong with files and folders that were not looked into.
    pub(super) problems: BTreeMap<PathBuf, (Severity, String)>,
    /// There are more manifest files than are read.
    pub(super) is_full: bool,
}

/// A walk through the folders.
pub(super) struct Walk<'a> {
    /// The manifest files, none of them looked into, and their stamps.
    pub(super) found: BTreeMap<PathBuf, Option<Fingerprint>>,
    /// All else.
    pub(super) tree: Tree,
    watcher: &'a mut Watcher,
    visited: BTreeSet<FileId>,
    link_targets: BTreeMap<FileId, PathBuf>,
}

impl<'a> Walk<'a> {
    /// Walks through `root` and the folders in it, except `left_out`, and has each watched.
    pub(super) fn through(root: &Path, left_out: FileId, watcher: &'a mut Watcher) -> Self {
        let mut walk = Self {
            found: BTreeMap::new(),
            tree: Tree::default(),
            watcher,
            visited: BTreeSet::from([left_out]),
            link_targets: BTreeMap::new(),
        };
        walk.folder(root, 0);
        walk.watch_link_targets();
        walk
    }

    /// Notes the manifest files below `path`, each folder once, whatever links lead to it.
    fn folder(&mut self, path: &Path, depth: usize) {
        let id = FileId::of(path).ok();
        if id.is_some_and(|id| !self.visited.insert(id)) {
            return;
        }
        self.watcher.watch(path, id);
        self.tree.folders.insert(path.to_owned());
        let mut entries = match fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<DirEntry>>>) {
            Ok(entries) => entries,
            // It went after it was seen. The topmost folder does not go unless by accident.
            Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => return,
            Err(error) => return self.cannot_read(path, &error),
        };
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            if !is_hidden(&entry.file_name()) {
                self.entry(&entry, depth);
            }
        }
    }

    fn entry(&mut self, entry: &DirEntry, depth: usize) {
        let path = entry.path();
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        let metadata = fs::metadata(&path);
        if is_link {
            self.tree
                .links
                .insert(path.clone(), metadata.as_ref().map(FileId::from).map_err(io::Error::kind));
        }
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if is_link && is_manifest(&path) {
                    self.note(&path, Severity::Warning, "is a link to nothing; mend or remove it".to_owned());
                }
                return;
            }
            Err(error) => return self.cannot_read(&path, &error),
        };
        if metadata.is_dir() {
            if depth == DEEPEST {
                let problem = format!("is nested deeper than {DEEPEST} folders and not read; move it up");
                return self.note(&path, Severity::Error, problem);
            }
            return self.folder(&path, depth + 1);
        }
        if !metadata.is_file() || !is_manifest(&path) {
            return;
        }
        if self.found.len() == MOST_FILES {
            if !std::mem::replace(&mut self.tree.is_full, true) {
                let problem = format!(
                    "comes after {MOST_FILES} others and no more are read; put more objects into a file"
                );
                self.note(&path, Severity::Error, problem);
            }
            return;
        }
        if is_link {
            self.note_link_target(&path);
        }
        self.found.insert(path, stamp(&metadata));
    }

    /// A file that a link leads to changes where it is.
    fn note_link_target(&mut self, link: &Path) {
        let Ok(target) = fs::canonicalize(link) else { return };
        if let Some(folder) = target.parent()
            && let Ok(id) = FileId::of(folder)
        {
            self.link_targets.insert(id, folder.to_owned());
        }
    }

    fn watch_link_targets(&mut self) {
        // One folder must not be watched by two paths: the watcher confuses them.
        for (id, folder) in std::mem::take(&mut self.link_targets) {
            if !self.visited.contains(&id) {
                self.watcher.watch(&folder, Some(id));
            }
        }
    }

    fn cannot_read(&mut self, path: &Path, error: &io::Error) {
        self.tree.unreadable.push(path.to_owned());
        self.note(
            path,
            Severity::Error,
            format!("cannot be read ({error}), its objects stay; restore or remove it"),
        );
    }

    fn note(&mut self, path: &Path, severity: Severity, message: String) {
        self.tree.problems.insert(path.to_owned(), (severity, message));
    }
}

/// True for names that are passed over, such as the folders through which Kubernetes mounts a ConfigMap.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// True for the endings of manifests.
pub(crate) fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

impl FileId {
    /// What is at `path`, or what a link there leads to.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}
