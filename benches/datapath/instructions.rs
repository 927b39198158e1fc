//! Instructions that gateways take for a request, which Callgrind counts: they are the same in every run.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::Failure;
use crate::gateways::Gateways;
use crate::load::{Load, Protocol};

/// Requests that are counted, and those before them, which see that everything is there that is made once.
const REQUESTS: u32 = 300;
const BEFORE: u32 = 30;

const REMEDY: &str = "install it (Debian: apt-get install valgrind)";

/// What runs Envoys under Callgrind.
pub(crate) struct Callgrind {
    /// Takes Envoy's place.
    pub(crate) program: PathBuf,
    folder: PathBuf,
}

impl Callgrind {
    /// Callgrind, writing into `folder`, which counts nothing until it is told to.
    pub(crate) fn new(envoy: &Path, folder: &Path) -> Result<Self, Failure> {
        let (program, out) = (folder.join("counted-envoy"), folder.join("callgrind"));
        let script = format!(
            "#!/bin/sh\nexec valgrind --quiet --tool=callgrind --instr-atstart=no --callgrind-out-file={}.%p {} \"$@\"\n",
            out.display(),
            envoy.display()
        );
        fs::write(&program, script)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700))?;
        Ok(Self { program, folder: folder.to_owned() })
    }

    /// By both protocols, [`Self::count`].
    pub(crate) async fn count_all(&self, gateways: &Gateways) -> Result<[[f64; 2]; 2], Failure> {
        let [first, second] = Protocol::ALL;
        Ok([self.count(gateways, first).await?, self.count(gateways, second).await?])
    }

    /// Instructions of each of the `gateways`, started by [`Self::program`], for one request.
    async fn count(&self, gateways: &Gateways, protocol: Protocol) -> Result<[f64; 2], Failure> {
        Load::one_by_one(gateways.entry, protocol, BEFORE).await?;
        control(gateways, &["--instr=on"]).await?;
        Load::one_by_one(gateways.entry, protocol, BEFORE).await?;
        control(gateways, &["--zero"]).await?;
        Load::one_by_one(gateways.entry, protocol, REQUESTS).await?;
        control(gateways, &["--dump"]).await?;
        control(gateways, &["--instr=off"]).await?;
        let [alice, bob] = gateways.pids;
        Ok([self.counted(alice)?, self.counted(bob)?].map(|all| all / f64::from(REQUESTS)))
    }

    /// Instructions in the newest dump of a process.
    fn counted(&self, pid: u32) -> Result<f64, Failure> {
        let prefix = format!("callgrind.{pid}.");
        let files = fs::read_dir(&self.folder)?.collect::<Result<Vec<_>, _>>()?;
        let numbers = files
            .iter()
            .filter_map(|file| file.file_name().to_str()?.strip_prefix(&prefix)?.parse::<u32>().ok());
        let newest = numbers.max().ok_or("Callgrind has written nothing")?;
        let dump = fs::read(self.folder.join(format!("{prefix}{newest}")))?;
        let text = String::from_utf8_lossy(&dump);
        let total = text.lines().find_map(|line| line.strip_prefix("summary: "));
        Ok(total.ok_or("a dump of Callgrind without a sum")?.trim().parse()?)
    }
}

async fn control(gateways: &Gateways, arguments: &[&str]) -> Result<(), Failure> {
    for pid in gateways.pids {
        let mut command = Command::new("callgrind_control");
        let output = command.args(arguments).arg(pid.to_string()).stdin(Stdio::null()).output().await?;
        if !output.status.success() {
            return Err(format!("callgrind_control: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
    }
    Ok(())
}

/// Callgrind is there.
pub(crate) async fn find() -> Result<(), Failure> {
    match Command::new("valgrind").arg("--version").stdin(Stdio::null()).output().await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(format!("valgrind: {error}; {REMEDY}").into())
        }
        result => Ok(result.map(drop)?),
    }
}
