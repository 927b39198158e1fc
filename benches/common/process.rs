//! What a process costs, as Linux counts it.

use std::{fs, io, time::Duration};

use crate::Failure;

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

/// Resident memory in megabytes (`VmRSS` of proc(5)).
pub(crate) fn resident_megabytes(pid: u32) -> Result<f64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1024.0)
}
