//! The program of the API server, which Go builds.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;

use crate::{
    cache,
    command::{Failed, run},
};

/// Folder of the Go module.
const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/apiserver");

/// The files that decide what is built.
const SOURCES: [&str; 3] = ["go.mod", "go.sum", "main.go"];

/// How the program is linked: without debug information, but with the release of Kubernetes, which clients ask for and
/// a module does not know by itself.
const LINK: &str = "-ldflags=-s -w -X=k8s.io/component-base/version.gitVersion=v1.35.4";

/// What to do where the program cannot be built.
const REMEDY: &str =
    "install Go 1.25 or newer (from go.dev, or Debian's backports), and let it reach the Go module proxy";

/// How long the build may take on a busy machine.
const BUILD: Duration = Duration::from_secs(40 * 60);

/// The API server cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither `$NETWORKMESH_CACHE` nor `$XDG_CACHE_HOME` nor `$HOME` is set.
    #[error("nowhere to keep the API server: set NETWORKMESH_CACHE to a folder")]
    NoCache,
    /// The cache cannot be written.
    #[error("cannot keep the API server in {}: {error}; set NETWORKMESH_CACHE to another folder", folder.display())]
    Cache {
        /// Folder of the cache.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file of the Go module cannot be read.
    #[error("cannot read {}: {error}; the API server is built from a checkout of the project", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no Go, it is too old, or it cannot fetch the modules.
    #[error("cannot build the API server: {0}; {remedy}", remedy = REMEDY)]
    Go(Failed),
}

/// Returns the path of the program, after Go has built it if need be; `report` is told so.
pub(super) async fn locate(report: &(dyn Fn(&str) + Sync)) -> Result<PathBuf, Error> {
    let cache = cache::folder(|name| env::var_os(name)).ok_or(Error::NoCache)?;
    let path = cache.join(file_name(Path::new(MODULE))?);
    if !path.exists() {
        build(&cache, &path, report).await?;
    }
    Ok(path)
}

async fn build(cache: &Path, path: &Path, report: &(dyn Fn(&str) + Sync)) -> Result<(), Error> {
    let failed = |error| Error::Cache { folder: cache.into(), error };

    let _lock = cache::lock(cache, "apiserver").await.map_err(failed)?;
    if path.exists() {
        return Ok(());
    }
    report(&format!(
        "building the Kubernetes API server with Go into {} (once; five minutes or more, 200 MB to download)",
        path.display()
    ));
    let work = tempfile::Builder::new().prefix(".fetch-").tempdir_in(cache).map_err(failed)?;
    let unfinished = work.path().join("apiserver");
    // Tests that need no API server go on meanwhile, and some of them within bounds of time.
    let mut go = Command::new("nice");
    go.args(["-n", "19", "go", "build", "-trimpath", "-buildvcs=false", LINK, "-o"])
        .arg(&unfinished)
        .current_dir(MODULE);
    run(&mut go, BUILD).await.map_err(Error::Go)?;
    // Within one folder a rename is atomic: nobody ever sees half a binary.
    fs::rename(&unfinished, path).map_err(failed)
}

/// Other sources get a file of their own.
fn file_name(module: &Path) -> Result<String, Error> {
    let mut content = LINK.as_bytes().to_vec();
    for name in SOURCES {
        let path = module.join(name);
        content.extend(fs::read(&path).map_err(|error| Error::Source { path, error })?);
    }
    Ok(format!("apiserver-{}", cache::key(&content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_the_sources_has_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in SOURCES {
            fs::copy(Path::new(MODULE).join(name), folder.path().join(name)).expect("copies");
        }
        let name = file_name(folder.path()).expect("reads");
        assert_eq!(name, file_name(Path::new(MODULE)).expect("reads"));
        fs::write(folder.path().join("main.go"), "package main\n").expect("writes");
        assert_ne!(name, file_name(folder.path()).expect("reads"));
    }

    #[test]
    fn the_release_is_that_of_the_module() {
        let (_, release) = LINK.rsplit_once('=').expect("is set");
        let module = fs::read_to_string(Path::new(MODULE).join("go.mod")).expect("reads");
        assert!(module.contains(&format!("\tk8s.io/kubernetes {release}\n")), "{release}");
    }

    #[test]
    fn errors_say_what_to_do() {
        let old = "go: go.mod requires go >= 1.25.0 (running go 1.24.4; GOTOOLCHAIN=local)";
        let error = Error::Go(Failed::Says("go".to_owned(), old.to_owned())).to_string();
        assert!(error.contains(old) && error.ends_with(REMEDY), "{error}");
        let absent = file_name(Path::new("/no/such/module")).expect_err("fails").to_string();
        assert!(absent.starts_with("cannot read /no/such/module/go.mod: "), "{absent}");
    }
}
