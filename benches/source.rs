//! What a folder of manifests costs: the time from a change to its event, and memory.
//!
//! `cargo bench --bench source` reads folders of several sizes with the source alone, throws its events away, and takes
//! the time from the rename of one manifest to the event that tells of it. Each size has a process of its own, so that
//! memory is what that size needs.

#![allow(clippy::print_stdout, reason = "it is run by hand and reports to people")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use model::{Event, Kind};
use networkmesh::harness::domain::service_manifest;
use networkmesh::source::{DirectorySettings, DirectorySource, SourceKind, SourceReport};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const CHANGES: u16 = 200;

/// Services beside the one that changes, each with its endpoints in a file of its own.
const SIZES: [usize; 4] = [0, 100, 1_000, 10_000];

/// Passes the size to the process that measures it.
const SIZE: &str = "NETWORKMESH_BENCH_SIZE";

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    // `cargo test --benches` runs this too, without asking for figures.
    if !env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    if let Ok(size) = env::var(SIZE) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(measure(size.parse()?));
    }
    println!(
        "   files   read ms   change → event ms: median    p99   RSS MB before   after reading   after changes"
    );
    for size in SIZES {
        let status = Command::new(env::current_exe()?).arg("--bench").env(SIZE, size.to_string()).status()?;
        if !status.success() {
            return Err(format!("{size} files could not be measured").into());
        }
    }
    Ok(())
}

async fn measure(size: usize) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let manifests = folder.path().join("manifests");
    fs::create_dir(&manifests)?;
    for number in 0..size {
        write(&manifests, &format!("service-{number}"), 1)?;
    }
    write(&manifests, "web", 1)?;
    // Files that have just been written are read again whenever they are looked at.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let before = resident_megabytes()?;
    let settings = DirectorySettings { path: manifests.clone(), state: folder.path().join("state") };
    let source = DirectorySource::open(settings, "alice".parse()?)?;
    let (events_in, mut events) = mpsc::channel(64);
    let (_updates, updates_out) = mpsc::channel(1);
    let (report_in, _report) = watch::channel(SourceReport::new(SourceKind::Directory));
    let stop = CancellationToken::new();
    let started = Instant::now();
    let running = tokio::spawn(source.run(events_in, updates_out, report_in, stop.clone()));
    let mut kinds_to_read = Kind::ALL.len();
    while kinds_to_read > 0 {
        let event = events.recv().await.ok_or("the source ended")?;
        kinds_to_read -= usize::from(matches!(event, Event::InitDone(_)));
    }
    let read = started.elapsed();
    let after_reading = resident_megabytes()?;

    let mut times = Vec::new();
    for change in 1..=CHANGES {
        let temporary = folder.path().join("web.json.new");
        fs::write(&temporary, manifest("web", change + 1))?;
        let started = Instant::now();
        fs::rename(&temporary, manifests.join("web.json"))?;
        // The service itself stays as it is: only the port of its endpoints changes.
        let event = timeout(Duration::from_secs(30), events.recv()).await?;
        let Some(Event::Apply(_)) = event else { return Err(format!("{event:?} is no change").into()) };
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let after_changes = resident_megabytes()?;
    stop.cancel();
    running.await?;
    println!(
        "{size:8}   {:7.1}   {:25.2}   {:5.2}   {before:13.1}   {after_reading:13.1}   {after_changes:13.1}",
        milliseconds(read),
        milliseconds(times[times.len() / 2]),
        milliseconds(times[times.len() * 99 / 100]),
    );
    Ok(())
}

fn write(manifests: &Path, service: &str, port: u16) -> Result<(), Failure> {
    Ok(fs::write(manifests.join(format!("{service}.json")), manifest(service, port))?)
}

fn manifest(service: &str, port: u16) -> String {
    service_manifest(service, &[([192, 0, 2, 1], port).into()]).to_string()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Resident memory of this process (`VmRSS` of proc(5)).
fn resident_megabytes() -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes / 1024.0)
}
