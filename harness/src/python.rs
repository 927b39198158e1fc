//! Python with packages of PyPI, for clients and servers of other people's making.

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

/// Prints what decides which builds of a package fit. Fails where pip is missing.
const PROBE: &str =
    "import pip, sys, sysconfig; print(sys.implementation.cache_tag, sysconfig.get_platform())";

/// How long the packages may take to come.
const INSTALL: Duration = Duration::from_secs(300);

/// How long other programs may take.
const BRIEF: Duration = Duration::from_secs(60);

/// The machine's Python 3 with packages that are nobody else's.
#[derive(Clone, Debug)]
pub struct Python {
    packages: PathBuf,
}

/// The packages cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no Python, or it has no pip.
    #[error("{0}; install Python 3 with pip (on Debian: apt-get install python3-pip)")]
    Interpreter(Failed),
    /// Neither `$NETWORKMESH_CACHE` nor `$XDG_CACHE_HOME` nor `$HOME` is set.
    #[error("nowhere to keep Python packages: set NETWORKMESH_CACHE to a folder")]
    NoCache,
    /// The cache cannot be written.
    #[error("cannot keep Python packages in {}: {error}; set NETWORKMESH_CACHE to another folder", folder.display())]
    Cache {
        /// Folder of the cache.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// pip did not install the packages.
    #[error("cannot install {requirements}: {failed}; let pip reach its package index")]
    Install {
        /// The packages.
        requirements: String,
        /// What pip said.
        failed: Failed,
    },
}

impl Python {
    /// Python with these packages, each pinned as in `grpcio==1.85.1`.
    ///
    /// They are all it has: what they depend on must be listed too. pip installs them once, into the cache folder that
    /// [`Locator`](crate::envoy_binary::Locator) uses; `report` is told so. Processes that do so at the same time wait
    /// for the first.
    ///
    /// # Errors
    /// When there is no Python with pip, or the packages can neither be had nor kept; the message says what to do
    /// about it.
    pub async fn with(requirements: &[&str], report: &(dyn Fn(&str) + Sync)) -> Result<Self, Error> {
        let probe = run(Command::new("python3").args(["-c", PROBE]), BRIEF).await;
        let build = String::from_utf8_lossy(&probe.map_err(Error::Interpreter)?.stdout).into_owned();
        let cache = cache::folder(|name| env::var_os(name)).ok_or(Error::NoCache)?;
        let packages = cache.join(folder_name(requirements, &build));
        if !packages.exists() {
            install(requirements, &cache, &packages, report).await?;
        }
        Ok(Self { packages })
    }

    /// A command line that runs Python, without arguments yet.
    pub fn command(&self) -> Command {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", &self.packages).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

async fn install(
    requirements: &[&str],
    cache: &Path,
    packages: &Path,
    report: &(dyn Fn(&str) + Sync),
) -> Result<(), Error> {
    let failed = |error| Error::Cache { folder: cache.into(), error };

    let _lock = cache::lock(cache, "python").await.map_err(failed)?;
    if packages.exists() {
        return Ok(());
    }
    let listed = requirements.join(", ");
    report(&format!("installing {listed} with pip into {} (once)", packages.display()));
    let work = tempfile::Builder::new().prefix(".fetch-").tempdir_in(cache).map_err(failed)?;
    let unfinished = work.path().join("packages");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--only-binary", ":all:"])
        .arg("--target")
        .arg(&unfinished)
        .args(requirements);
    run(&mut pip, INSTALL).await.map_err(|failed| Error::Install { requirements: listed, failed })?;
    // Within one folder a rename is atomic: nobody ever sees half of the packages.
    fs::rename(&unfinished, packages).map_err(failed)
}

/// Other packages, or the same for another Python, get a folder of their own.
fn folder_name(requirements: &[&str], build: &str) -> String {
    format!("python-{}", cache::key(format!("{build}\n{}", requirements.join("\n"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_list_of_packages_and_each_python_has_its_folder() {
        let name = folder_name(&["a==1", "b==2"], "cpython-311 linux-x86_64");
        assert_eq!(name, folder_name(&["a==1", "b==2"], "cpython-311 linux-x86_64"));
        assert_eq!(name.len(), "python-".len() + 16);
        assert_ne!(name, folder_name(&["a==1"], "cpython-311 linux-x86_64"));
        assert_ne!(name, folder_name(&["a==1", "b==2"], "cpython-312 linux-x86_64"));
    }

    #[test]
    fn errors_say_what_to_do() {
        let pip = Failed::Says("python3".to_owned(), "ModuleNotFoundError: No module named 'pip'".to_owned());
        let error = Error::Interpreter(pip).to_string();
        assert!(error.contains("No module named 'pip'; install Python 3 with pip"), "{error}");
        let offline = Failed::Says("python3".to_owned(), "no network".to_owned());
        let error = Error::Install { requirements: "a==1".to_owned(), failed: offline }.to_string();
        assert_eq!(error, "cannot install a==1: python3 says: no network; let pip reach its package index");
    }

    #[tokio::test]
    async fn packages_are_installed_once_for_all_who_ask_at_once() {
        let list = ["typing-extensions==4.16.0"];
        let (one, two) = tokio::join!(Python::with(&list, &|_| ()), Python::with(&list, &|_| ()));
        let (one, two) = (one.expect("installs"), two.expect("installs"));
        assert_eq!(one.packages, two.packages);

        let mut python = one.command();
        python.args(["-c", "import typing_extensions; print(typing_extensions.__file__)"]);
        let output = run(&mut python, BRIEF).await.expect("imports");
        let file = String::from_utf8_lossy(&output.stdout);
        assert!(Path::new(file.trim()).starts_with(&one.packages), "{file}");
    }
}
