//! `networkmesh demo`, from the outside.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::world::{DEADLINE, PROGRAM, envoy, eventually, run};

/// The demo, with a folder of its own for temporary files.
async fn demo(folder: &TempDir) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("demo").env("TMPDIR", folder.path()).env("ENVOY", envoy().await);
    command
}

/// Neither a file nor a process is left.
async fn assert_nothing_left(folder: &TempDir) {
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
    // The system may take a moment to end killed processes.
    eventually("all processes have ended", async || {
        let left = processes_of(folder.path());
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

/// The command lines that name the folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(folder.to_str().unwrap())).collect()
}

#[tokio::test]
async fn the_demo_succeeds_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(&mut demo(&folder).await, "build the program").await;
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.out, ran.err);
    for words in [
        "HTTP from alice to echo.bob.svc",
        "HTTP from bob to echo.alice.svc",
        "gRPC from alice to echo.bob.svc",
        "gRPC from bob to echo.alice.svc",
        "401",
        "404",
        "steps are as they should be",
        "dig @",
    ] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
    assert_nothing_left(&folder).await;
}

#[tokio::test]
async fn a_kept_demo_runs_until_it_is_interrupted() {
    for signal in [Signal::INT, Signal::TERM] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = demo(&folder).await;
        let mut child = command
            .arg("--keep")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let keeps = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains("until Ctrl-C") {
                    return;
                }
            }
            panic!("the demo ended by itself");
        };
        timeout(DEADLINE, keeps).await.expect("the demo is up in time");
        assert!(processes_of(folder.path()).len() >= 4, "two meshes and two Envoys run");

        kill_process(Pid::from_raw(child.id().unwrap().cast_signed()).unwrap(), signal).unwrap();
        let status = timeout(DEADLINE, child.wait()).await.expect("the demo ends in time").unwrap();
        assert_eq!(status.code(), Some(0), "{status}");
        assert_nothing_left(&folder).await;
    }
}

#[tokio::test]
async fn a_demo_without_a_working_envoy_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(demo(&folder).await.env("ENVOY", "/bin/false"), "build the program").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("ENVOY=/bin/false") && ran.err.contains("install Envoy"), "{ran:?}");
    assert_nothing_left(&folder).await;
}
