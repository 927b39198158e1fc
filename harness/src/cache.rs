//! The folder that keeps what was fetched.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

/// The cache folder: `$NETWORKMESH_CACHE`, else `$XDG_CACHE_HOME/networkmesh`, else `$HOME/.cache/networkmesh`.
pub(crate) fn folder(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let var = |name| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    var("NETWORKMESH_CACHE").or_else(|| {
        // The XDG Base Directory Specification wants relative paths to be ignored.
        let xdg = var("XDG_CACHE_HOME").filter(|folder| folder.is_absolute());
        Some(xdg.or_else(|| Some(var("HOME")?.join(".cache")))?.join("networkmesh"))
    })
}

/// Makes the cache folder if need be, and keeps all others that make `what` out until the returned file is dropped or
/// its process ends.
pub(crate) async fn lock(cache: &Path, what: &str) -> io::Result<File> {
    fs::create_dir_all(cache)?;
    let lock = File::create(cache.join(format!(".{what}.lock")))?;
    spawn_blocking(move || lock.lock().map(|()| lock)).await.map_err(io::Error::other)?
}

/// Names what is made from this content: 16 hexadecimal digits of its SHA-256.
pub(crate) fn key(content: impl AsRef<[u8]>) -> String {
    Sha256::digest(content).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: &[(&str, &str)]) -> Option<PathBuf> {
        folder(|name| Some(set.iter().find(|(known, _)| *known == name)?.1.into()))
    }

    #[test]
    fn the_cache_is_the_first_folder_that_is_set() {
        let own = ("NETWORKMESH_CACHE", "own");
        let (xdg, home) = (("XDG_CACHE_HOME", "/xdg"), ("HOME", "/home/me"));
        assert_eq!(of(&[own, xdg, home]), Some("own".into()));
        assert_eq!(of(&[("NETWORKMESH_CACHE", ""), xdg, home]), Some("/xdg/networkmesh".into()));
        assert_eq!(of(&[home]), Some("/home/me/.cache/networkmesh".into()));
        assert_eq!(of(&[("XDG_CACHE_HOME", "xdg"), home]), Some("/home/me/.cache/networkmesh".into()));
        assert_eq!(of(&[]), None);
    }

    #[tokio::test]
    async fn one_holds_the_lock_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = folder.path().join("made");
        let held = lock(&cache, "a").await.expect("locks");
        let file = File::open(cache.join(".a.lock")).expect("is there");
        assert!(file.try_lock().is_err());
        lock(&cache, "b").await.expect("is another");
        drop(held);
        assert!(file.try_lock().is_ok());
    }
}
