//! Programs that Go builds.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use crate::Failure;

/// Builds the Go module in a folder of this repository, and answers the path of its program. It is built anew in each
/// run, which Go's own cache makes a matter of a second.
///
/// Go is looked for at `$GO`, or else in `$PATH` and in `/usr/local/go`.
pub(crate) async fn build(module: &str, program: &str) -> Result<PathBuf, Failure> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join(module);
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(program);
    let chosen = std::env::var_os("GO");
    let candidates = match &chosen {
        Some(go) => vec![go.as_os_str()],
        None => vec!["go".as_ref(), "/usr/local/go/bin/go".as_ref()],
    };
    for go in candidates {
        let mut command = Command::new(go);
        command.args(["build", "-o"]).arg(&program).arg(".").current_dir(&sources);
        match command.status().await {
            Ok(status) if status.success() => return Ok(program),
            Ok(status) => return Err(format!("go build in {module} ended with {status}; see above").into()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", go.display()).into()),
        }
    }
    Err(format!(
        "Go is not found, which builds {module}: install Go 1.26 or later (https://go.dev/doc/install), or say where it \
         is: GO=/path/to/go"
    )
    .into())
}
