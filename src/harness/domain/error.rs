//! What can go wrong with a domain.

use std::io;

use certs::KeyError;
use harness::process;

use crate::harness::cluster;
use crate::http;

/// What went wrong with a domain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or socket.
    #[error("{what}: {error}")]
    Io {
        /// The file or socket.
        what: String,
        /// The system's answer.
        error: io::Error,
    },
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A process does not do as it should.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// `networkmesh bootstrap` failed.
    #[error("networkmesh bootstrap: {0}")]
    Bootstrap(String),
    /// A call failed.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// A request cannot be made.
    #[error(transparent)]
    Request(#[from] ::http::Error),
    /// The API server does not do as it should.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// An answer is not the JSON that was expected.
    #[error("an answer is not the JSON that was expected: {0}")]
    Json(#[from] serde_json::Error),
}

/// An error of the file or socket `what`.
pub(super) fn io_error(what: &str) -> impl FnOnce(io::Error) -> Error {
    let what = what.to_owned();
    move |error| Error::Io { what, error }
}
