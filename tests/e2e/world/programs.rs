//! Programs of a scene.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;

use harness::envoy_binary::Locator;
use networkmesh::harness::domain::Domain;
use tokio::process::Command;
use tokio::time::timeout;

use super::DEADLINE;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_networkmesh");

/// An Envoy, fetched if need be.
pub(crate) async fn envoy() -> PathBuf {
    Locator::from_env().locate(&|_| ()).await.unwrap_or_else(|error| panic!("{error}"))
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `networkmesh` to its end.
pub(crate) async fn networkmesh(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
    run(Command::new(PROGRAM).args(arguments), "build the program").await
}

/// Runs a program to its end; `remedy` is for where it is missing.
pub(crate) async fn run(command: &mut Command, remedy: &str) -> Ran {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let name = format!("{:?}", command.as_std());
    let output = timeout(DEADLINE, command.output()).await.unwrap_or_else(|_| panic!("{name} does not end"));
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}; {remedy}"));
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The value of `--admin` for `domain`.
pub(crate) fn admin(domain: &Domain) -> String {
    domain.admin.to_string()
}
