//! What stands in a manifest file.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use model::{Document, Object, ObjectRef, read_manifests};

use crate::source::Severity;

/// Most bytes that a manifest file may have.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// The objects of a file, each reference once.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// In their order.
    pub(super) objects: Vec<Object>,
    /// What is wrong.
    pub(super) problems: Vec<(Severity, String)>,
    /// Something cannot be read. What seems to be missing may be just that, so nothing counts as deleted.
    pub(super) is_broken: bool,
}

/// The text of the file at `path`.
///
/// # Errors
/// It cannot be read, is no UTF-8, or is too large.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        let problem = format!("it has more than {} MiB; split it", LARGEST_FILE / 1024 / 1024);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(text)
}

impl Content {
    /// Parses the text of the file at `path`. Objects without a namespace belong to `namespace`.
    pub(super) fn parse(text: &str, path: &Path, namespace: &str) -> Self {
        let documents = match read_manifests(text, namespace) {
            Ok(documents) => documents,
            Err(error) => return Self::broken(error.to_string()),
        };
        let mut content = Self::default();
        let mut written = BTreeSet::new();
        for document in documents {
            content.add(document, path, &mut written);
        }
        content
    }

    /// What stands in a file of which nothing can be used.
    pub(super) fn broken(problem: String) -> Self {
        Self { objects: Vec::new(), problems: vec![(Severity::Error, problem)], is_broken: true }
    }

    fn add(&mut self, document: Document, path: &Path, written: &mut BTreeSet<ObjectRef>) {
        match document {
            Document::Read { object, unknown_fields } => {
                let reference = object.reference();
                if !is_object_name(&reference.name) {
                    let problem =
                        "is no name of a Kubernetes object; use lower-case letters, digits, \"-\" and \".\"";
                    self.problems.push((Severity::Error, format!("{reference}: metadata.name: {problem}")));
                    self.is_broken = true;
                    return;
                }
                self.problems.extend(unknown_fields.iter().map(|field| {
                    (
                        Severity::Warning,
                        format!("{reference}: {field}: is unknown and ignored; check its spelling"),
                    )
                }));
                if written.contains(&reference) {
                    let problem = format!(
                        "{reference} is written twice in this file, the first counts; remove or rename one of them"
                    );
                    self.problems.push((Severity::Error, problem));
                    return;
                }
                written.insert(reference);
                self.objects.push(object);
            }
            Document::Broken { object, errors } => {
                self.is_broken = true;
                self.problems
                    .extend(errors.iter().map(|error| (Severity::Error, format!("{object}: {error}"))));
            }
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
