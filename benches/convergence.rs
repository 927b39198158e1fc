//! How fast a real Envoy follows the manifests, and what the mesh costs.
//!
//! `cargo bench --bench convergence` starts one domain with an Envoy, moves a service between two backends by
//! rewriting its manifest, and takes the time from the rename of the file to the first request that the other backend
//! answers. Requests are sent one after the other, so each figure includes up to one request (below half a
//! millisecond).

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is run by hand and reports to people")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::envoy_binary::Locator;
use harness::process::Child;
use networkmesh::harness::domain::{Domain, Home, service_manifest};
use networkmesh::harness::echo::{self, Echoed};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const CHANGES: usize = 100;

/// Services beside the one that moves.
const SIZES: [usize; 3] = [0, 100, 1000];

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // `cargo test --benches` runs this too, without asking for figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let program = Path::new(env!("CARGO_BIN_EXE_networkmesh"));
    let envoy = Locator::from_env().locate(&|line| eprintln!("{line}")).await?;
    let backends = [backend("a").await?, backend("b").await?];
    println!("services   ready ms   change → served ms: median   p99      mesh RSS MB");
    for size in SIZES {
        let folder = tempfile::tempdir()?;
        let mut domain = Domain::lay_out(folder.path(), "alice", Home::Folder, &json!({}))?;
        for number in 0..size {
            let name = format!("service-{number}");
            domain.apply(&format!("{name}.json"), &service_manifest(&name, &backends[..1])).await?;
        }
        domain.apply("web.json", &service_manifest("web", &backends[..1])).await?;
        let started = Instant::now();
        domain.start_mesh(program).await?;
        let ready = started.elapsed();
        domain.start_envoy(program, &envoy).await?;
        until_served_by(&domain, "a").await?;
        let mut times = Vec::new();
        for change in 0..CHANGES {
            let (address, name) = if change % 2 == 0 { (backends[1], "b") } else { (backends[0], "a") };
            let manifest = service_manifest("web", &[address]);
            let started = Instant::now();
            domain.apply("web.json", &manifest).await?;
            until_served_by(&domain, name).await?;
            times.push(started.elapsed());
        }
        times.sort_unstable();
        let rss = domain.mesh.as_ref().and_then(Child::pid).and_then(resident_megabytes).unwrap_or_default();
        println!(
            "{size:8}   {:8.1}   {:26.2}   {:6.2}   {rss:8.1}",
            milliseconds(ready),
            milliseconds(times[CHANGES / 2]),
            milliseconds(times[CHANGES * 99 / 100]),
        );
        domain.stop().await?;
    }
    Ok(())
}

async fn backend(name: &'static str) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(echo::serve(listener, name, CancellationToken::new()));
    Ok(address)
}

async fn until_served_by(domain: &Domain, backend: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let response = domain.call("http://web.alice.svc/").await?;
        let echoed = serde_json::from_slice::<Echoed>(response.body());
        if echoed.is_ok_and(|echoed| echoed.service == backend) {
            return Ok(());
        }
    }
    Err(format!("backend {backend} did not answer in time").into())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Resident memory of a process (`VmRSS` of proc(5)).
fn resident_megabytes(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1024.0)
}
