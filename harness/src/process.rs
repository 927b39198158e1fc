//! Child processes that log to a file and end with their owner.

use std::{
    fmt::Display,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    num::NonZeroU16,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{self, Command},
    time::{Instant, sleep, timeout, timeout_at},
};

/// Pause between two questions whether a process is ready.
const POLL: Duration = Duration::from_millis(50);

/// Lines of a log that an error shows.
const SHOWN_LINES: usize = 20;

/// Most bytes read from the end of a log.
const TAIL_BYTES: u64 = 64 * 1024;

/// A command line that runs Envoy with a bootstrap file, whose path is absolute or relative to the command's working
/// directory. `concurrency` is the number of worker threads, by default one per core.
///
/// Hot restart is off: Envoys side by side then need no base IDs, and leave no shared memory behind.
pub fn envoy_command(binary: &Path, bootstrap: &Path, concurrency: Option<NonZeroU16>) -> Command {
    let mut command = Command::new(binary);
    command.arg("--config-path").arg(bootstrap).args(["--log-level", "warn", "--disable-hot-restart"]);
    if let Some(threads) = concurrency {
        command.args(["--concurrency", &threads.to_string()]);
    }
    command
}

/// A running child process. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Child {
    name: String,
    log: PathBuf,
    process: process::Child,
}

/// A child process that did not do as it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log cannot be opened.
    #[error("{name}: cannot write its log {}: {error}", log.display())]
    Log {
        /// The child's name.
        name: String,
        /// The log.
        log: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The program cannot be started.
    #[error("{name}: cannot start {program}: {error}")]
    Spawn {
        /// The child's name.
        name: String,
        /// The program.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// The kernel cannot say how the child does, or cannot signal it.
    #[error("{name}: {error}")]
    Control {
        /// The child's name.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// The child ended before it was ready.
    #[error("{name} ended with {status}; the end of its log:\n{tail}")]
    Exited {
        /// The child's name.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        tail: String,
    },
    /// The child runs, but is not ready in time.
    #[error("{name} is not ready after {within:?} ({last}); the end of its log:\n{tail}")]
    NotReady {
        /// The child's name.
        name: String,
        /// The time it had.
        within: Duration,
        /// What the last probe said.
        last: String,
        /// The last lines of its log.
        tail: String,
    },
}

impl Child {
    /// Starts a process without input, whose output and errors are appended to `log`. The name is for error messages.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn(name: impl Into<String>, command: Command, log: &Path) -> Result<Self, Error> {
        Self::spawn_with(Stdio::null(), name.into(), command, log)
    }

    /// The same, but the process gets an input, which stays empty and ends with this value, or with the process that
    /// owns it: a program that heeds it never outlives its owner, however that one ends.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn_tethered(name: impl Into<String>, command: Command, log: &Path) -> Result<Self, Error> {
        Self::spawn_with(Stdio::piped(), name.into(), command, log)
    }

    fn spawn_with(input: Stdio, name: String, mut command: Command, log: &Path) -> Result<Self, Error> {
        let output = || File::options().create(true).append(true).open(log);
        let (stdout, stderr) = match (output(), output()) {
            (Ok(stdout), Ok(stderr)) => (stdout, stderr),
            (Err(error), _) | (_, Err(error)) => return Err(Error::Log { name, log: log.into(), error }),
        };
        command.stdin(input).stdout(stdout).stderr(stderr).kill_on_drop(true);
        match command.spawn() {
            Ok(process) => Ok(Self { name, log: log.into(), process }),
            Err(error) => {
                let program = command.as_std().get_program().to_string_lossy().into_owned();
                Err(Error::Spawn { name, program, error })
            }
        }
    }

    /// The process ID, unless the process has ended and that was noticed.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// How the process ended, or `None` while it runs.
    ///
    /// # Errors
    /// When the kernel cannot say.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.process.try_wait().map_err(|error| self.control(error))
    }

    /// Runs `probe` until it finds the process ready.
    ///
    /// # Errors
    /// As soon as the process ends, or when it is not ready `within` the time given; both show the end of its log.
    pub async fn wait_ready<E: Display, F: Future<Output = Result<(), E>>>(
        &mut self,
        within: Duration,
        mut probe: impl FnMut() -> F,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.exited()? {
                return Err(Error::Exited {
                    name: self.name.clone(),
                    status,
                    tail: self.log_tail(SHOWN_LINES),
                });
            }
            let last = match timeout_at(deadline, probe()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() + POLL >= deadline {
                let (name, tail) = (self.name.clone(), self.log_tail(SHOWN_LINES));
                return Err(Error::NotReady { name, within, last, tail });
            }
            sleep(POLL).await;
        }
    }

    /// Ends the process by SIGTERM, and by SIGKILL if it still runs after `grace`.
    ///
    /// # Errors
    /// When the process cannot be signalled or waited for.
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus, Error> {
        self.signal(Signal::TERM)?;
        match timeout(grace, self.process.wait()).await {
            Ok(status) => status.map_err(|error| self.control(error)),
            Err(_) => self.kill9().await,
        }
    }

    /// Ends the process by SIGKILL, which it cannot notice.
    ///
    /// # Errors
    /// When the process cannot be signalled or waited for.
    pub async fn kill9(&mut self) -> Result<ExitStatus, Error> {
        self.process.start_kill().map_err(|error| self.control(error))?;
        self.process.wait().await.map_err(|error| self.control(error))
    }

    /// Halts the process by SIGSTOP: it stays, and does nothing.
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub fn pause(&self) -> Result<(), Error> {
        self.signal(Signal::STOP)
    }

    /// Lets the process go on after [`pause`](Self::pause).
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub fn resume(&self) -> Result<(), Error> {
        self.signal(Signal::CONT)
    }

    /// The last lines of the log, at most 64 KiB of them; empty where the log cannot be read.
    pub fn log_tail(&self, lines: usize) -> String {
        // A log that cannot be read must not hide the error that wants to show it.
        last_lines(&end_of(&self.log).unwrap_or_default(), lines)
    }

    /// Signals the process, unless it has ended.
    fn signal(&self, signal: Signal) -> Result<(), Error> {
        match self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            Some(pid) => kill_process(pid, signal).map_err(|error| self.control(error.into())),
            None => Ok(()),
        }
    }

    fn control(&self, error: io::Error) -> Error {
        Error::Control { name: self.name.clone(), error }
    }
}

fn end_of(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut end = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}

fn last_lines(text: &str, count: usize) -> String {
    let mut lines: Vec<_> = text.lines().rev().take(count).collect();
    lines.reverse();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        future::{pending, ready},
        os::unix::process::ExitStatusExt,
    };

    use tempfile::TempDir;
    use tokio::net::TcpStream;

    use super::*;
    use crate::{envoy_binary::Locator, free_address};

    /// Long enough for a busy machine: reached only by a test that fails.
    const LONG: Duration = Duration::from_secs(60);

    fn shell(folder: &TempDir, script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Child::spawn("a script", command, &folder.path().join("log")).expect("starts")
    }

    async fn until(mut done: impl FnMut() -> bool) {
        timeout(LONG, async {
            while !done() {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("happens in time");
    }

    #[tokio::test]
    async fn stop_ends_a_process_by_sigterm() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = shell(&folder, "exec sleep 1000");
        assert_eq!(child.exited().expect("can be asked"), None);

        let status = child.stop(LONG).await.expect("stops");
        assert_eq!(status.signal(), Some(15));
        assert_eq!(child.exited().expect("can be asked"), Some(status));
        assert_eq!(child.pid(), None);
        assert_eq!(child.stop(LONG).await.expect("stopping twice is fine"), status);
    }

    #[tokio::test]
    async fn stop_kills_a_process_that_ignores_sigterm() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = shell(&folder, "trap '' TERM; echo deaf; exec sleep 1000");
        until(|| child.log_tail(1) == "deaf").await;

        let status = child.stop(Duration::from_millis(50)).await.expect("stops");
        assert_eq!(status.signal(), Some(9));
    }

    #[tokio::test]
    async fn dropping_a_child_kills_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let child = shell(&folder, "exec sleep 1000");
        let pid = Pid::from_raw(child.pid().expect("runs").cast_signed()).expect("is no zero");
        drop(child);
        until(|| rustix::process::test_kill_process(pid).is_err()).await;
    }

    #[tokio::test]
    async fn a_paused_process_stands_still_and_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let child = shell(&folder, "while :; do echo on; sleep 0.01; done");
        let lines = || child.log_tail(usize::MAX).lines().count();
        until(|| lines() > 2).await;
        child.pause().expect("is signalled");
        sleep(Duration::from_millis(50)).await;
        let paused = lines();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(lines(), paused);
        child.resume().expect("is signalled");
        until(|| lines() > paused + 2).await;
    }

    #[tokio::test]
    async fn the_input_of_a_tethered_child_lasts_until_its_owner_lets_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("sh");
        command.args(["-c", "echo reads; cat; echo ended"]);
        let mut child =
            Child::spawn_tethered("a script", command, &folder.path().join("log")).expect("starts");
        until(|| child.log_tail(1) == "reads").await;
        assert_eq!(child.exited().expect("can be asked"), None);

        drop(child.process.stdin.take().expect("has an input"));
        assert!(timeout(LONG, child.process.wait()).await.expect("ends").expect("ends well").success());
        assert_eq!(child.log_tail(1), "ended");
    }

    #[tokio::test]
    async fn output_and_errors_are_appended_to_the_log() {
        let folder = tempfile::tempdir().expect("a folder");
        for word in ["one", "two"] {
            let mut child = shell(&folder, &format!("echo {word}; echo {word} bad >&2"));
            timeout(LONG, child.process.wait()).await.expect("ends").expect("ends well");
            assert_eq!(child.log_tail(2), format!("{word}\n{word} bad"));
        }
        let log = fs::read_to_string(folder.path().join("log")).expect("reads");
        assert_eq!(log, "one\none bad\ntwo\ntwo bad\n");
    }

    #[tokio::test]
    async fn a_program_that_does_not_exist_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let command = Command::new("/no/such/program");
        let error = Child::spawn("the mesh", command, &folder.path().join("log")).expect_err("fails");
        assert!(error.to_string().starts_with("the mesh: cannot start /no/such/program: "), "{error}");
    }

    #[tokio::test]
    async fn a_child_is_ready_once_its_probe_succeeds() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = shell(&folder, "exec sleep 1000");
        let mut probes = 0;
        let probe = || {
            probes += 1;
            ready(if probes < 3 { Err("not yet") } else { Ok(()) })
        };
        child.wait_ready(LONG, probe).await.expect("is ready");
        assert_eq!(probes, 3);
    }

    #[tokio::test]
    async fn a_child_that_stays_unready_is_an_error_with_its_last_answer() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = shell(&folder, "exec sleep 1000");
        let within = Duration::from_millis(300);
        let error = child.wait_ready(within, || ready(Err("answers 503"))).await.expect_err("is not ready");
        assert!(error.to_string().contains("(answers 503)"), "{error}");
        let error = child.wait_ready(within, pending::<Result<(), &str>>).await.expect_err("is not ready");
        assert!(error.to_string().contains("(no answer)"), "{error}");
    }

    #[tokio::test]
    async fn a_child_that_ends_is_an_error_with_its_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = shell(&folder, "echo no such file; exit 3");
        let error = child.wait_ready(LONG, || ready(Err("nobody there"))).await.expect_err("has ended");
        assert!(matches!(&error, Error::Exited { status, .. } if status.code() == Some(3)), "{error}");
        assert!(error.to_string().contains("no such file"), "{error}");
    }

    #[tokio::test]
    async fn envoy_runs_becomes_ready_and_stops() {
        let folder = tempfile::tempdir().expect("a folder");
        let binary = Locator::from_env().locate(&|_| ()).await.expect("Envoy");
        let admin = free_address().expect("an address");
        let bootstrap = folder.path().join("bootstrap.json");
        let address = serde_json::json!({"address": admin.ip(), "port_value": admin.port()});
        let content = serde_json::json!({
            "node": {"id": "test", "cluster": "test"},
            "admin": {"address": {"socket_address": address}},
        });
        fs::write(&bootstrap, content.to_string()).expect("writes");

        let command = envoy_command(&binary, &bootstrap, NonZeroU16::new(1));
        let mut envoy = Child::spawn("Envoy", command, &folder.path().join("envoy.log")).expect("starts");
        let listens = || async { TcpStream::connect(admin).await.map(drop) };
        envoy.wait_ready(LONG, listens).await.expect("is ready");
        assert!(envoy.stop(LONG).await.expect("stops").success());
    }

    #[test]
    fn last_lines_are_whole_and_in_order() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a\n", 5), "a");
        assert_eq!(last_lines("", 5), "");
    }
}
