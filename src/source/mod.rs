//! Where the objects of a domain come from.
//!
//! A source turns what it reads into [`model::Event`]s, writes [`model::StatusUpdate`]s back, and tells in a
//! [`SourceReport`] how it fares.

mod dir;
mod error;
mod kubernetes;

use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use dir::{DEEPEST, is_hidden, is_manifest};
pub use dir::{DirectorySettings, DirectorySource};
pub use error::SourceError;
pub use kubernetes::{KubernetesSettings, KubernetesSource};

/// How a source fares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceReport {
    /// What the source reads.
    pub kind: SourceKind,
    /// Where that is: the folder, or the API server and the namespace. Empty before the source runs.
    #[serde(default)]
    pub location: String,
    /// Everything was read at least once.
    pub synced: bool,
    /// Number of manifest files, where there are files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<usize>,
    /// Number of objects in force.
    pub objects: usize,
    /// What is wrong at present.
    pub problems: Vec<SourceProblem>,
    /// When all of the source was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_read: Option<Timestamp>,
}

impl SourceReport {
    /// The report of a source that has read nothing yet.
    #[must_use]
    pub fn new(kind: SourceKind) -> Self {
        Self {
            kind,
            location: String::new(),
            synced: false,
            files: None,
            objects: 0,
            problems: Vec::new(),
            last_read: None,
        }
    }
}

/// What a source reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A directory of manifests.
    Directory,
    /// A namespace of a Kubernetes API server.
    Kubernetes,
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "directory",
            Self::Kubernetes => "kubernetes",
        })
    }
}

/// Something wrong with one file or object, or with the source itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceProblem {
    /// Where: the file or folder, the object, or the API server.
    pub place: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, and what to do about it.
    pub message: String,
}

impl SourceProblem {
    /// A problem of the file or folder at `path`, which need not be UTF-8.
    fn of_file(path: &Path, severity: Severity, message: String) -> Self {
        Self { place: path.to_string_lossy().into_owned(), severity, message }
    }
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something that was written is not in force, or could not be kept.
    Error,
    /// Everything is in force, but likely not what was meant.
    Warning,
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_report_can_name_files_that_are_not_utf_8() {
        let mut report = SourceReport::new(SourceKind::Directory);
        let file = Path::new(OsStr::from_bytes(b"a\xff.yaml"));
        report.problems.push(SourceProblem::of_file(file, Severity::Error, "broken".to_owned()));
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["kind"], "directory");
        assert_eq!(json["problems"][0]["place"], "a\u{fffd}.yaml");
        assert_eq!(json["problems"][0]["severity"], "error");
    }
}
