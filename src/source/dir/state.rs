//! The state folder: one JSON file for the status of each route, replaced as a whole and never in part.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use model::api::DomainRouteStatus;

use super::SourceError;

/// How long the status of a route that is gone is kept, so that its tokens are still there when it comes back.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Most bytes that a status may have.
const LARGEST_STATUS: u64 = 4 * 1024 * 1024;

/// Ends the names of files that are not finished.
const UNFINISHED: &str = ".tmp";

/// A locked state folder.
#[derive(Debug)]
pub(super) struct StateFolder {
    statuses: PathBuf,
    /// Holds the lock; the system frees it however the process ends.
    _lock: File,
}

/// A status that could not be written.
#[derive(Debug)]
pub(super) struct WriteError {
    /// The name of the route.
    pub(super) name: String,
    /// The file.
    pub(super) file: PathBuf,
    /// What went wrong.
    pub(super) cause: io::Error,
}

impl StateFolder {
    /// Opens the folder at `path`, or creates it, and answers the statuses in it by the names of their routes.
    ///
    /// # Errors
    /// The folder cannot be used, or another mesh uses it. A file that is no status is no error: it is set aside.
    pub(super) fn open(path: &Path) -> Result<(Self, BTreeMap<String, DomainRouteStatus>), SourceError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| SourceError::State { path, cause }
        };
        let statuses = path.join("domainroutes");
        DirBuilder::new().recursive(true).mode(0o700).create(&statuses).map_err(failed(&statuses))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock_path);
        let lock = lock.map_err(failed(&lock_path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => SourceError::Locked(path.to_owned()),
            TryLockError::Error(cause) => failed(&lock_path)(cause),
        })?;
        let mut loaded = BTreeMap::new();
        for entry in fs::read_dir(&statuses).map_err(failed(&statuses))? {
            let file = entry.map_err(failed(&statuses))?.path();
            if file.to_string_lossy().ends_with(UNFINISHED) {
                fs::remove_file(&file).map_err(failed(&file))?;
            } else if let Some(name) = route_name(&file)
                && let Some(status) = load(&file).map_err(failed(&file))?
            {
                loaded.insert(name.to_owned(), status);
            }
        }
        Ok((Self { statuses, _lock: lock }, loaded))
    }

    /// The folder of the status files.
    pub(super) fn statuses_folder(&self) -> &Path {
        &self.statuses
    }

    /// Writes the statuses of the named routes. Those that are not among the errors answered survive from here on
    /// whatever happens.
    pub(super) fn write(&self, statuses: &[(String, DomainRouteStatus)]) -> Vec<WriteError> {
        let failed = |name: &String, cause| WriteError { name: name.clone(), file: self.file(name), cause };
        let mut errors: Vec<WriteError> = statuses
            .iter()
            .filter_map(|(name, status)| self.replace(name, status).err().map(|cause| failed(name, cause)))
            .collect();
        // A rename lasts once its folder is on disk.
        if errors.len() < statuses.len()
            && let Err(error) = File::open(&self.statuses).and_then(|folder| folder.sync_all())
        {
            errors = statuses
                .iter()
                .map(|(name, _)| failed(name, io::Error::new(error.kind(), error.to_string())))
                .collect();
        }
        errors
    }

    /// Removes statuses of routes that are not in `present` and have not changed for a week; answers their names.
    pub(super) fn prune(&self, present: &BTreeSet<String>) -> io::Result<Vec<String>> {
        let mut pruned = Vec::new();
        for entry in fs::read_dir(&self.statuses)? {
            let entry = entry?;
            let file = entry.path();
            let Some(name) = route_name(&file).filter(|name| !present.contains(*name)) else { continue };
            let modified = entry.metadata()?.modified()?;
            if SystemTime::now().duration_since(modified).is_ok_and(|age| age > KEPT) {
                fs::remove_file(&file)?;
                pruned.push(name.to_owned());
            }
        }
        Ok(pruned)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.statuses.join(format!("{name}.json"))
    }

    fn replace(&self, name: &str, status: &DomainRouteStatus) -> io::Result<()> {
        // Created with mode 0600, and removed when dropped without having got its name.
        let mut file = tempfile::Builder::new().prefix(".").suffix(UNFINISHED).tempfile_in(&self.statuses)?;
        file.write_all(&serde_json::to_vec_pretty(status)?)?;
        file.as_file().sync_all()?;
        file.persist(self.file(name))?;
        Ok(())
    }
}

fn route_name(file: &Path) -> Option<&str> {
    file.file_name()?.to_str()?.strip_suffix(".json")
}

fn load(path: &Path) -> io::Result<Option<DomainRouteStatus>> {
    let mut text = Vec::new();
    File::open(path)?.take(LARGEST_STATUS).read_to_end(&mut text)?;
    match serde_json::from_slice(&text) {
        Ok(status) => Ok(Some(status)),
        Err(error) => {
            let aside = path.with_extension("json.corrupt");
            fs::rename(path, &aside)?;
            tracing::warn!(
                file = %aside.display(), %error,
                "a status file was corrupt and is set aside; its route negotiates a new token"
            );
            Ok(None)
        }
    }
}
