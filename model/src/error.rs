//! Errors that name the field, what is wrong with it and how to mend it.

use std::fmt;

/// What is wrong with a value, and the remedy; the field is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, such as `must start with "/"`.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    /// A problem and its remedy.
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }
}

/// A problem of one field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, such as `spec.endpoint.ports[0].pathPrefix`.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path, self.problem, self.remedy)
    }
}

/// All problems of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.joined())]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// The errors, in the order of the object's fields.
    pub fn iter(&self) -> impl Iterator<Item = &FieldError> {
        self.0.iter()
    }

    /// True if nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A problem of the field at `path`, and no other.
    pub(crate) fn one(path: impl Into<String>, problem: Problem) -> Self {
        let mut errors = Self::default();
        errors.add(path, problem);
        errors
    }

    /// Notes a problem of the field at `path`.
    pub fn add(&mut self, path: impl Into<String>, problem: Problem) {
        self.0.push(FieldError { path: path.into(), problem: problem.problem, remedy: problem.remedy });
    }

    /// Takes the value out of `result`, or notes its problem at `path`.
    pub fn check<T, P: Into<Problem>>(&mut self, path: &str, result: Result<T, P>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(problem) => {
                self.add(path, problem.into());
                None
            }
        }
    }

    fn joined(&self) -> String {
        self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}
