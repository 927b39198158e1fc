//! Where the files of a scene lie.

use std::fs;
use std::path::{Path, PathBuf};

use networkmesh::harness::domain::{Domain, Home};
use serde_json::Value;
use tempfile::TempDir;

use super::Source;
use crate::cluster;

/// Lines of each log that a failed test shows.
const SHOWN_LINES: usize = 40;

/// The folder of a test. When the test fails, the ends of all logs in it are shown.
pub(crate) struct Folder {
    on: Source,
    folder: TempDir,
}

impl Folder {
    /// A folder for domains whose objects live there, or in namespaces of their own.
    pub(crate) fn new(on: Source) -> Self {
        Self { on, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A domain whose mesh answers commands on a Unix socket, which shows secrets too.
    pub(crate) async fn domain(&self, name: &str, config: &Value) -> Domain {
        let home = match self.on {
            Source::Directory => Home::Folder,
            Source::Kubernetes => Home::Namespace(cluster::namespace(name).await),
        };
        let mut config = config.clone();
        if config["listen"]["admin"].is_null() {
            config["listen"]["admin"] = "unix:admin.sock".into();
        }
        Domain::lay_out(self.path(), name, home, &config).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The logs of all domains.
    pub(crate) fn logs(&self) -> Vec<PathBuf> {
        let entries =
            |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        entries(self.path().to_owned()).flat_map(|domain| entries(domain.join("logs"))).collect()
    }
}

impl Drop for Folder {
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in self.logs() {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let end = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
                eprintln!("--- the end of {}:\n{end}", log.display());
            }
        }
    }
}
