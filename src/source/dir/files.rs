//! The manifest files of a folder, each with its last good objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use model::{Document, Object, ObjectRef, read_manifests};

use super::walk::{FolderId, Walk};
use super::watch::Watcher;
use crate::source::{Severity, SourceProblem};

/// Most bytes that a manifest file may have.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// A file that changed so recently may change again without its times telling: they are as coarse as 2 s on some
/// file systems.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);

/// The manifest files below a folder.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    namespace: String,
    left_out: FolderId,
    files: BTreeMap<PathBuf, ManifestFile>,
    problems: Vec<SourceProblem>,
}

#[derive(Debug)]
struct ManifestFile {
    /// `None`: read it again even if it looks the same.
    stamp: Option<Stamp>,
    /// Of the text that `content` was made from. Parsing costs ten times as much as reading; `None`: it was not read.
    digest: Option<TextDigest>,
    content: Content,
}

/// SHA-256 of a file's text.
type TextDigest = [u8; digest::SHA256_OUTPUT_LEN];

/// What differs once a file was changed or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Debug, Default)]
struct Content {
    objects: Vec<Arc<Object>>,
    problems: Vec<(Severity, String)>,
}

impl Files {
    /// The files below `root`, none read yet. Objects without a namespace belong to `namespace`; the folder
    /// `left_out` is not looked into.
    pub(super) fn new(root: PathBuf, namespace: String, left_out: FolderId) -> Self {
        Self { root, namespace, left_out, files: BTreeMap::new(), problems: Vec::new() }
    }

    /// Reads files that are new or changed, forgets those that are gone, and has all folders watched.
    pub(super) fn refresh(&mut self, watcher: &mut Watcher) {
        watcher.begin();
        let Walk { found, unreadable, problems, .. } = Walk::through(&self.root, self.left_out, watcher);
        watcher.end();
        self.problems = problems;

        let mut before = std::mem::take(&mut self.files);
        for (path, metadata) in found {
            let old = before.remove(&path);
            if let Some(file) = self.read_if_changed(&path, &metadata, old) {
                self.files.insert(path, file);
            }
        }
        before.retain(|path, _| unreadable.iter().any(|unreadable| path.starts_with(unreadable)));
        self.files.append(&mut before);
    }

    /// The folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The number of files.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// All objects and their files, in order of the paths, then of the documents.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&Path, &Arc<Object>)> {
        self.files
            .iter()
            .flat_map(|(path, file)| file.content.objects.iter().map(|object| (path.as_path(), object)))
    }

    /// What is wrong with the files and folders.
    pub(super) fn problems(&self) -> impl Iterator<Item = SourceProblem> {
        let of_files = self.files.iter().flat_map(|(path, file)| {
            file.content.problems.iter().map(|(severity, message)| SourceProblem {
                file: path.clone(),
                severity: *severity,
                message: message.clone(),
            })
        });
        self.problems.iter().cloned().chain(of_files)
    }

    /// `None`: the file is gone.
    fn read_if_changed(
        &self,
        path: &Path,
        metadata: &Metadata,
        old: Option<ManifestFile>,
    ) -> Option<ManifestFile> {
        let stamp = Stamp::of(metadata);
        let (old_digest, old) = match old {
            Some(old) if old.stamp.as_ref() == Some(&stamp) => return Some(old),
            Some(old) => (old.digest, old.content),
            None => (None, Content::default()),
        };
        let (digest, content) = match read_text(path) {
            Ok(text) => {
                let digest = Some(digest_of(&text));
                let same = digest == old_digest;
                (digest, if same { old } else { Content::parse(&text, path, &self.namespace, old.objects) })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => (None, Content::broken(format!("cannot be read: {error}"), old.objects)),
        };
        Some(ManifestFile { stamp: stamp.is_telling().then_some(stamp), digest, content })
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// True if any later change will show in the stamp.
    fn is_telling(&self) -> bool {
        let changed = UNIX_EPOCH + Duration::from_secs(self.changed.0.try_into().unwrap_or(0));
        SystemTime::now().duration_since(changed).is_ok_and(|age| age > COARSEST_CLOCK)
    }
}

fn digest_of(text: &str) -> TextDigest {
    let mut bytes = TextDigest::default();
    bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    bytes
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        let problem = format!("it has more than {} MiB; split it", LARGEST_FILE / 1024 / 1024);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(text)
}

impl Content {
    /// Parses the text of the file at `path`, which had the objects `old`.
    ///
    /// As long as anything in a file is broken, it deletes nothing: what it no longer has may be what is broken.
    fn parse(text: &str, path: &Path, namespace: &str, old: Vec<Arc<Object>>) -> Self {
        if text.trim().is_empty() && !old.is_empty() {
            // Writers empty a file before they fill it.
            return Self::broken("is empty; delete the file to delete its objects".to_owned(), old);
        }
        let documents = match read_manifests(text, namespace) {
            Ok(documents) => documents,
            Err(error) => return Self::broken(error.to_string(), old),
        };
        let mut content = Self::default();
        for document in documents {
            content.add(document, path);
        }
        if content.problems.iter().any(|(severity, _)| *severity == Severity::Error) {
            let has: BTreeSet<ObjectRef> = content.objects.iter().map(|object| object.reference()).collect();
            content.objects.extend(old.into_iter().filter(|object| !has.contains(&object.reference())));
        }
        content
    }

    fn broken(problem: String, old: Vec<Arc<Object>>) -> Self {
        Self { objects: old, problems: vec![(Severity::Error, problem)] }
    }

    fn add(&mut self, document: Document, path: &Path) {
        match document {
            Document::Read { object, unknown_fields } => {
                let reference = object.reference();
                if !is_object_name(&reference.name) {
                    let problem =
                        "is no name of a Kubernetes object; use lower-case letters, digits, \"-\" and \".\"";
                    self.problems.push((Severity::Error, format!("{reference}: metadata.name: {problem}")));
                    return;
                }
                self.problems.extend(unknown_fields.iter().map(|field| {
                    (
                        Severity::Warning,
                        format!("{reference}: {field}: is unknown and ignored; check its spelling"),
                    )
                }));
                self.objects.push(Arc::new(object));
            }
            Document::Broken { object, errors } => self
                .problems
                .extend(errors.iter().map(|error| (Severity::Error, format!("{object}: {error}")))),
            Document::Ignored { api_version, kind } => {
                tracing::debug!(file = %path.display(), api_version, kind, "ignoring a kind that the mesh does not read");
            }
        }
    }
}

/// True for the names that Kubernetes allows: RFC 1123 subdomains. They are safe as file names, too.
fn is_object_name(name: &str) -> bool {
    let ends = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_part = |part: &[u8]| {
        part.first().is_some_and(ends)
            && part.last().is_some_and(ends)
            && part.iter().all(|c| ends(c) || *c == b'-')
    };
    name.len() <= 253 && name.split('.').map(str::as_bytes).all(is_part)
}
