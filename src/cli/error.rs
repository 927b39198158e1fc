//! Why a command could not be done.

use std::io;
use std::path::PathBuf;

use certs::{CertError, KeyError};
use model::Problem;

use crate::app::{RunError, StartError};
use crate::config::ConfigErrors;

/// Why a command could not be done, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A file or an option of the command line cannot be used.
    #[error("{what}: {}; {}", problem.problem, problem.remedy)]
    Argument {
        /// The file or option.
        what: String,
        /// What is wrong with it, and the remedy.
        problem: Problem,
    },
    /// The mesh cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The mesh ran, and failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A running mesh gives no answer, or not the one asked for.
    #[error("{}; {}", .0.problem, .0.remedy)]
    Mesh(Problem),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No certificate or signing request could be made.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// The output cannot be written.
    #[error("cannot write the output: {0}; check the place that it goes to")]
    Output(#[from] io::Error),
}

impl CommandError {
    /// A file that is named on the command line and cannot be used.
    pub(super) fn file(file: &std::path::Path, error: &io::Error, remedy: &str) -> Self {
        let problem = Problem::new(error.to_string(), remedy);
        Self::Argument { what: PathBuf::from(file).display().to_string(), problem }
    }

    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Argument { .. } | Self::Certificate(_) | Self::Start(_) => 2,
            Self::Run(_) | Self::Key(_) | Self::Mesh(_) | Self::Output(_) => 1,
        }
    }
}
