//! Programs that run to their end.

use std::{env, io, process::Output, time::Duration};

use tokio::{process::Command, time::timeout};

/// A command line of a program that is in `$PATH` or in `/usr/sbin`, where Debian has servers and which is not in the path
/// of users.
#[must_use]
pub fn system_command(program: &str) -> Command {
    let mut path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin".into());
    path.push(":/usr/sbin");
    let mut command = Command::new(program);
    command.env("PATH", path);
    command
}

/// A program that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It could not be started.
    #[error("cannot start {0}: {1}")]
    Start(String, io::Error),
    /// It did not end in time.
    #[error("{0} did not end within {1:?}")]
    Slow(String, Duration),
    /// It failed, or its output made no sense.
    #[error("{0} says: {1}")]
    Says(String, String),
}

/// Runs a program to its end, which must be a good one.
pub(crate) async fn run(command: &mut Command, within: Duration) -> Result<Output, Failed> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    match timeout(within, command.kill_on_drop(true).output()).await {
        Err(_) => Err(Failed::Slow(name, within)),
        Ok(Err(error)) => Err(Failed::Start(name, error)),
        Ok(Ok(output)) if output.status.success() => Ok(output),
        Ok(Ok(output)) => Err(Failed::Says(name, last_line(&output.stderr))),
    }
}

/// The last line that says anything.
pub(crate) fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_failed_program_said_last_is_shown() {
        let brief = Duration::from_secs(60);
        let mut offline = Command::new("sh");
        offline.args(["-c", "echo a >&2; echo 'no network' >&2; exit 1"]);
        let offline = run(&mut offline, brief).await.expect_err("fails");
        assert_eq!(offline.to_string(), "sh says: no network");
        let absent = run(&mut Command::new("/no/python3"), brief).await.expect_err("fails");
        assert!(absent.to_string().starts_with("cannot start /no/python3: "), "{absent}");
        let slow =
            run(Command::new("sleep").arg("1000"), Duration::from_millis(20)).await.expect_err("fails");
        assert!(matches!(slow, Failed::Slow(..)), "{slow}");
    }
}
