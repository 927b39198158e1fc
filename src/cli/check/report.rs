//! What a check found.

use std::fmt;
use std::path::{Path, PathBuf};

use model::Problem;
use serde::Serialize;

/// Everything that a check found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// How many files were read.
    pub(super) files: usize,
    /// How many objects of a known kind could be read.
    pub(super) objects: usize,
    pub(super) errors: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
}

impl Report {
    pub(super) fn summary(&self) -> String {
        let count =
            |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        format!(
            "{} in {}: {}, {}",
            count(self.objects, "object"),
            count(self.files, "file"),
            count(self.errors.len(), "error"),
            count(self.warnings.len(), "warning"),
        )
    }
}

/// Something that is wrong, or likely so.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    file: PathBuf,
    /// Kind, namespace and name of the object; none where the whole file is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    /// Path of the field; none where the whole object is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    problem: String,
    remedy: String,
}

impl Finding {
    pub(super) fn of_file(file: &Path, Problem { problem, remedy }: Problem) -> Self {
        Self { file: file.to_owned(), object: None, field: None, problem, remedy }
    }

    pub(super) fn of_object(file: &Path, object: impl fmt::Display, problem: Problem) -> Self {
        Self { object: Some(object.to_string()), ..Self::of_file(file, problem) }
    }

    pub(super) fn of_field(file: &Path, object: impl fmt::Display, field: String, problem: Problem) -> Self {
        Self { field: Some(field), ..Self::of_object(file, object, problem) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        for place in [&self.object, &self.field].into_iter().flatten() {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}
