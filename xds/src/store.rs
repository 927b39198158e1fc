//! A state on disk, for the next run to begin with.
//!
//! ```text
//! "xDSstate" │ format, 4 bytes │ resources, each with its length before it │ SHA-256 of all before, 32 bytes
//! ```
//!
//! A resource is an `envoy.service.discovery.v3.Resource` with its name and content.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufWriter, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, Bytes};
use envoy_types::pb::{envoy::service::discovery::v3 as discovery, google::protobuf::Any};
use prost::Message;
use rustix::{fs::OFlags, process::geteuid};
use sha2::{Digest, Sha256};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    cache::{Cache, State},
    resource::{Resource, ResourceType},
};

const MAGIC: &[u8; 8] = b"xDSstate";
const FORMAT: u32 = 1;
/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 30;
/// How long nothing may have changed before a state is written.
const QUIET: Duration = Duration::from_secs(1);
/// How long a state may wait to be written while others follow it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A file with the last state, for [`Cache::restore`] to begin with when the sources of a new one do not answer.
///
/// It holds what the resources hold, keys and tokens too, so only the file's owner may read it. The folder is the
/// embedder's, which should let nobody else write to it.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
}

/// Types, names and encoded messages, as [`Cache::restore`] takes them.
type Stored = Vec<(ResourceType, String, Bytes)>;

/// The file holds no state to begin with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It cannot be read, or is no file.
    #[error("cannot read the last state from {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It belongs to another user, or others may read or write it.
    #[error("{0} belongs to or is open to other users, so the state in it is not trusted")]
    Exposed(PathBuf),
    /// It is larger than any state that is read, 1 GiB.
    #[error("{0} is larger than 1 GiB")]
    TooLarge(PathBuf),
    /// Something else has written it.
    #[error("{0} is no state of an xDS server")]
    Foreign(PathBuf),
    /// Another version of this software has written it.
    #[error("the state in {path} is written in format {format}, not {FORMAT}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The number of its format.
        format: u32,
    },
    /// It is cut short or changed: its content does not match its hash.
    #[error("the state in {0} is damaged")]
    Damaged(PathBuf),
}

impl Store {
    /// The store in this file, which need not exist.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Reads the last state, or returns `None` if there is no file. Blocks the thread.
    ///
    /// Resources of types that this version does not serve are left out.
    pub fn load(&self) -> Result<Option<Stored>, LoadError> {
        let path = || self.path.clone();
        let unread = |source| LoadError::Read { path: path(), source };
        // It is the file that is read which is looked at, not what may have been put there since. A pipe must not be
        // waited for.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&self.path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(unread)?,
        };
        let metadata = file.metadata().map_err(unread)?;
        if !metadata.is_file() {
            return Err(unread(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
        }
        if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
            return Err(LoadError::Exposed(path()));
        }
        let mut content = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(unread)?;
        if content.len() as u64 > MAX_BYTES {
            return Err(LoadError::TooLarge(path()));
        }
        let Some(rest) = content.strip_prefix(MAGIC) else { return Err(LoadError::Foreign(path())) };
        let Some((format, _)) = rest.split_first_chunk() else { return Err(LoadError::Damaged(path())) };
        let format = u32::from_be_bytes(*format);
        if format != FORMAT {
            return Err(LoadError::Format { path: path(), format });
        }
        resources(&content).map(Some).ok_or_else(|| LoadError::Damaged(path()))
    }

    /// Keeps the newest state of the cache in the file until the shutdown, and then once more.
    ///
    /// Writes after a second without a change, or 30 seconds after the first one that is not written yet. Writes no
    /// state twice, and no restored one. A file is replaced in one step, so it is whole at
    /// all times. If it cannot be written the log says so, and the next change is another try.
    pub async fn keep(self, cache: Cache, shutdown: CancellationToken) {
        let mut states = cache.watch();
        drop(cache);
        states.mark_changed();
        let mut kept = Arc::default();
        loop {
            let ends = tokio::select! {
                () = shutdown.cancelled() => true,
                changed = states.changed() => changed.is_err(),
            };
            if !ends {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = settled(&mut states) => {}
                }
            }
            let state = states.borrow_and_update().clone();
            if is_news(&state, &kept) && self.write(Arc::clone(&state)).await {
                kept = state;
            }
            if ends {
                return;
            }
        }
    }

    /// Writes without blocking the runtime, and says whether it did.
    async fn write(&self, state: Arc<State>) -> bool {
        let path = self.path.clone();
        let written = spawn_blocking(move || save(&path, &state)).await;
        match written.map_err(io::Error::other).flatten() {
            Ok(()) => debug!(path = %self.path.display(), "stored the state"),
            Err(error) => {
                warn!(path = %self.path.display(), %error, "cannot store the state");
                return false;
            }
        }
        true
    }
}

/// Whether a state is to be written after this one.
fn is_news(state: &State, kept: &State) -> bool {
    let differs = |ty| state.differences(kept, ty).next().is_some();
    state.is_loaded()
        && !state.is_restored()
        && (!kept.is_loaded() || ResourceType::ALL.into_iter().any(differs))
}

/// Returns once nothing has changed for a while, or things have changed for long enough.
async fn settled(states: &mut watch::Receiver<Arc<State>>) {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let quiet = (Instant::now() + QUIET).min(end);
        if !matches!(timeout_at(quiet, states.changed()).await, Ok(Ok(()))) {
            return;
        }
    }
}

fn save(path: &Path, state: &State) -> io::Result<()> {
    let mut unfinished = path.to_owned();
    unfinished.as_mut_os_string().push(".unfinished");
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    // It may be left over from a run that ended in the middle.
    file.set_permissions(Permissions::from_mode(0o600))?;

    let mut writer = Hashing { hash: Sha256::new(), inner: BufWriter::new(&file) };
    writer.write_all(MAGIC)?;
    writer.write_all(&FORMAT.to_be_bytes())?;
    for ty in ResourceType::ALL {
        for resource in state.resources(ty) {
            writer.write_all(&record(ty, resource))?;
        }
    }
    let hash = writer.hash.finalize();
    writer.inner.write_all(&hash)?;
    writer.inner.flush()?;
    drop(writer.inner);
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    match path.parent() {
        Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn record(ty: ResourceType, resource: &Resource) -> Vec<u8> {
    let any = Any { type_url: ty.type_url().to_owned(), value: resource.body().to_vec() };
    let name = resource.name().to_owned();
    discovery::Resource { name, resource: Some(any), ..discovery::Resource::default() }
        .encode_length_delimited_to_vec()
}

/// The resources in a file's content, or `None` if it is damaged.
fn resources(content: &[u8]) -> Option<Stored> {
    let (hashed, hash) = content.split_last_chunk::<32>()?;
    if Sha256::digest(hashed)[..] != hash[..] {
        return None;
    }
    let mut records = hashed.get(MAGIC.len() + size_of_val(&FORMAT)..)?;
    let mut resources = Vec::new();
    while records.has_remaining() {
        let record = discovery::Resource::decode_length_delimited(&mut records).ok()?;
        let any = record.resource?;
        if let Some(ty) = ResourceType::from_type_url(&any.type_url) {
            resources.push((ty, record.name, any.value.into()));
        }
    }
    Some(resources)
}

/// A writer that hashes what it writes.
struct Hashing<W> {
    hash: Sha256,
    inner: W,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use ResourceType::{Cluster, Secret};
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tempfile::TempDir;
    use tokio::task::{JoinHandle, yield_now};

    use super::*;
    use crate::cache::Change;

    fn store() -> (TempDir, Store) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path().join("state"));
        (folder, store)
    }

    fn some() -> Stored {
        let resource = |ty, name: &str, body: &'static str| (ty, name.to_owned(), Bytes::from(body));
        vec![resource(Cluster, "a", "1"), resource(Cluster, "b", ""), resource(Secret, "a", "hunter2")]
    }

    fn set(body: &str) -> Change {
        Change::Set(Cluster, "a".to_owned(), body.to_owned().into())
    }

    fn loaded(resources: Stored) -> Arc<State> {
        let cache = Cache::new();
        cache.replace(resources);
        cache.state()
    }

    /// The file of a state, to be spoiled.
    fn written() -> (TempDir, Store, Vec<u8>) {
        let (folder, store) = store();
        save(&store.path, &loaded(some())).expect("the folder is there");
        let content = fs::read(&store.path).expect("it was written");
        (folder, store, content)
    }

    struct Kept {
        cache: Cache,
        shutdown: CancellationToken,
        task: JoinHandle<()>,
    }

    fn keep(store: &Store) -> Kept {
        let (cache, shutdown) = (Cache::new(), CancellationToken::new());
        let task = tokio::spawn(store.clone().keep(cache.clone(), shutdown.clone()));
        Kept { cache, shutdown, task }
    }

    impl Kept {
        async fn end(self) {
            self.shutdown.cancel();
            self.task.await.expect("it ends");
        }
    }

    /// The content of the cluster that [`set`] sets, as it is stored.
    fn stored(store: &Store) -> Option<String> {
        let (.., body) = store.load().expect("readable")?.remove(0);
        Some(String::from_utf8_lossy(&body).into_owned())
    }

    #[test]
    fn a_state_is_read_as_it_was_written_by_its_owner_only() {
        let (folder, store, _) = written();
        assert_eq!(store.load().expect("it is whole"), Some(some()));
        let mode = fs::metadata(&store.path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing else is left");

        save(&store.path, &loaded(vec![])).expect("the folder is there");
        assert_eq!(store.load().expect("it is whole"), Some(vec![]));
    }

    #[test]
    fn no_file_is_no_state() {
        assert_eq!(store().1.load().expect("that is no error"), None);
    }

    #[test]
    fn every_torn_or_changed_file_is_refused() {
        let (_folder, store, content) = written();
        for bytes in 0..content.len() {
            fs::write(&store.path, &content[..bytes]).expect("writable");
            let error = store.load().expect_err("it is torn");
            assert!(matches!(error, LoadError::Foreign(_) | LoadError::Damaged(_)), "{bytes} bytes: {error}");

            let mut changed = content.clone();
            changed[bytes] ^= 1;
            fs::write(&store.path, changed).expect("writable");
            store.load().expect_err("it is changed");
        }
        fs::write(&store.path, [&content[..], b"x"].concat()).expect("writable");
        assert!(matches!(store.load(), Err(LoadError::Damaged(_))));
    }

    #[test]
    fn what_is_no_state_of_ours_is_refused() {
        let (folder, store, content) = written();
        fs::write(&store.path, "{}").expect("writable");
        assert!(matches!(store.load(), Err(LoadError::Foreign(_))));
        fs::write(&store.path, [&content[..8], &[0, 0, 0, 2], &content[12..]].concat()).expect("writable");
        assert!(matches!(store.load(), Err(LoadError::Format { format: 2, .. })));
        File::options()
            .write(true)
            .open(&store.path)
            .and_then(|file| file.set_len(MAX_BYTES + 1))
            .expect("sparse");
        assert!(matches!(store.load(), Err(LoadError::TooLarge(_))));
        fs::set_permissions(&store.path, Permissions::from_mode(0o640)).expect("it is ours");
        assert!(matches!(store.load(), Err(LoadError::Exposed(_))));
        let link = folder.path().join("link");
        symlink(&store.path, &link).expect("the name is free");
        assert!(matches!(Store::open(link).load(), Err(LoadError::Read { .. })));
        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("the name is free");
        assert!(matches!(Store::open(pipe).load(), Err(LoadError::Read { .. })), "nobody writes to it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_is_written_when_it_has_settled_or_waited_long_enough() {
        let (_folder, store) = store();
        let kept = keep(&store);
        kept.cache.apply([set("0")]);
        tokio::time::sleep(QUIET / 2).await;
        assert_eq!(stored(&store), None);
        tokio::time::sleep(QUIET).await;
        // The write is a blocking task of its own.
        while stored(&store).is_none() {
            yield_now().await;
        }
        assert_eq!(stored(&store).as_deref(), Some("0"));

        let steps = PATIENCE.as_millis() / (QUIET / 2).as_millis();
        for step in 1..=steps + 2 {
            kept.cache.apply([set(&step.to_string())]);
            tokio::time::sleep(QUIET / 2).await;
        }
        while stored(&store).as_deref() == Some("0") {
            yield_now().await;
        }
        kept.cache.apply([set("last")]);
        kept.end().await;
        assert_eq!(stored(&store).as_deref(), Some("last"), "the shutdown does not wait");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_stored_already_or_restored_is_not_written() {
        let (_folder, store) = store();
        let kept = keep(&store);
        kept.cache.restore(some());
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(store.load().expect("readable"), None, "a restored state is not");

        kept.cache.replace(some());
        tokio::time::sleep(PATIENCE).await;
        while store.load().expect("readable").is_none() {
            yield_now().await;
        }
        fs::remove_file(&store.path).expect("it was written");
        kept.cache.apply([set("2")]);
        kept.cache.apply([set("1")]);
        kept.end().await;
        assert_eq!(store.load().expect("readable"), None, "nothing has changed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_that_cannot_be_written_is_tried_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path().join("missing/state"));
        let kept = keep(&store);
        kept.cache.replace(some());
        tokio::time::sleep(PATIENCE).await;
        fs::create_dir(folder.path().join("missing")).expect("the name is free");
        kept.end().await;
        assert_eq!(store.load().expect("readable"), Some(some()));
    }
}
