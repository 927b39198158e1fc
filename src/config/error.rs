//! What can be wrong with the configuration.

use std::io;
use std::path::{Path, PathBuf};

use model::FieldError;

use super::Fields;

/// Everything that is wrong with the configuration, one line each.
#[derive(Debug, Default, thiserror::Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The errors, file by file.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }

    /// The value, if there is one and nothing is wrong with it.
    pub(super) fn or<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self),
        }
    }

    pub(super) fn add(&mut self, error: ConfigError) {
        self.0.push(error);
    }

    /// Adds everything that is wrong with the fields of `file`.
    pub(super) fn add_fields(&mut self, file: &Path, fields: Fields) {
        let errors = fields.into_errors();
        self.0.extend(
            errors.iter().map(|error| ConfigError::Field { file: file.to_owned(), error: error.clone() }),
        );
    }
}

/// One thing that is wrong with the configuration. It never shows a value of the key fields.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {error}; name the configuration with --config FILE or --kuscia-config FILE", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// The file is no YAML mapping.
    #[error("{}: {error}; write lines such as `domainID: alice`", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What the parser says, with line and column.
        error: String,
    },
    /// A field is wrong.
    #[error("{}: {error}", file.display())]
    Field {
        /// The file.
        file: PathBuf,
        /// The field, what is wrong with it, and the remedy.
        error: FieldError,
    },
}
