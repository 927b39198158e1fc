//! What a process costs, as Linux counts it.

use std::{fs, io, process::Stdio, time::Duration};

use tokio::process::Command;

use crate::Failure;

/// Clock ticks a second in `/proc/PID/stat`: the same on all architectures of Linux.
const TICKS: u32 = 100;

/// Processor time of all threads (`/proc/PID/task/TID/schedstat`): the same as `utime` and `stime` of proc(5), but
/// in nanoseconds instead of hundredths of a second. Threads that have ended are not in it.
pub(crate) fn cpu(pid: u32) -> Result<Duration, Failure> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(task?.path().join("schedstat")) {
            Ok(text) => nanoseconds += text.split_whitespace().next().unwrap_or("0").parse::<u64>()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Processor time of all threads, of those that have ended too, in hundredths of a second (`utime` and `stime` of proc(5)).
pub(crate) fn cpu_with_ended(pid: u32) -> Result<Duration, Failure> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program may hold spaces. `utime` is the 12th field after it.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name")?;
    let ticks: Vec<u32> =
        fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(Duration::from_secs(1) * ticks.iter().sum() / TICKS)
}

/// Resident memory in megabytes (`VmRSS` of proc(5)).
pub(crate) fn resident_megabytes(pid: u32) -> Result<f64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1024.0)
}

/// Keeps all threads of a process on one processor, and those that they start.
pub(crate) async fn pin(pid: u32, processor: usize) -> Result<(), Failure> {
    let mut command = Command::new("taskset");
    command.args(["--all-tasks", "--cpu-list", "--pid", &processor.to_string(), &pid.to_string()]);
    let output = command.stdin(Stdio::null()).output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("taskset: {}", String::from_utf8_lossy(&output.stderr)).into())
}
