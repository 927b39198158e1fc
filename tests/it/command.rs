//! Running programs in a folder of their own.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A folder in which programs run.
pub(crate) struct Folder(TempDir);

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// What it printed, provided that it exited with 0.
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("is in the folder")).expect("the folder is writable");
        fs::write(path, content).expect("the folder is writable");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("the file is there")
    }

    /// Runs `networkmesh` with these arguments, separated by spaces.
    pub(crate) fn mesh(&self, arguments: &str) -> Outcome {
        self.run(env!("CARGO_BIN_EXE_networkmesh"), arguments, "")
    }

    /// Runs `networkmesh` with `input` on its standard input.
    pub(crate) fn mesh_with_input(&self, arguments: &str, input: &str) -> Outcome {
        self.run(env!("CARGO_BIN_EXE_networkmesh"), arguments, input)
    }

    /// Runs the `openssl` program, which these tests need (Debian: `apt-get install openssl`).
    pub(crate) fn openssl(&self, arguments: &str) -> Outcome {
        self.run("openssl", arguments, "")
    }

    fn run(&self, program: &str, arguments: &str, input: &str) -> Outcome {
        let mut child = Command::new(program)
            .args(arguments.split_ascii_whitespace())
            .current_dir(&self.0)
            .env_remove("RUST_LOG")
            .env_remove("NETWORKMESH_DEPLOY_TOKEN")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} starts: {error}"));
        // A program that does not read its input may have closed it.
        let _ = child.stdin.take().expect("is piped").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("the program ends");
        let text = |bytes| String::from_utf8(bytes).expect("the program prints text");
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}
