//! What a domain in Kubernetes costs, at any number of services and routes.
//!
//! `cargo bench --bench kubernetes` starts a real API server, fills it, and lets the program run from it with a real
//! Envoy; then it puts the parts of the mesh together in this process, so that the way of one change can be followed.
//!
//! ```text
//!  filler ──► API server ◄── counter of bytes ◄── networkmesh run ──► Envoy ──► partners (they know every token)
//!                  ▲    └──► plain watch
//!                  └── source ─► index ─► translator ─► cache ─► xDS server ──► Envoy
//! ```
//!
//! Parts, sizes and the number of changes can be chosen: `cargo bench --bench kubernetes -- --help`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is run by hand and reports to people")]

mod changes;
#[path = "../common/mod.rs"]
mod common;
mod counter;
mod line;
mod mesh;
mod partners;
mod program;
mod reflect;
mod updates;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use harness::api_server::ApiServer;
use harness::envoy_binary::Locator;
use tokio::runtime::Runtime;

use crate::world::World;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures a domain in Kubernetes.
#[derive(Debug, Parser)]
struct Arguments {
    /// Passed by Cargo.
    #[arg(long, hide = true)]
    bench: bool,
    /// What to measure; everything unless told otherwise.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Numbers of services at which the program is measured, without routes; rising.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1_000, 10_000])]
    services: Vec<usize>,
    /// Number of routes that join the largest number of services, half of them in each direction.
    #[arg(long, default_value_t = 1_000)]
    routes: usize,
    /// How often each kind of change is made.
    #[arg(long, default_value_t = 200)]
    changes: usize,
    /// How long the program is watched while nothing changes, in seconds.
    #[arg(long, default_value_t = 30)]
    rest: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The program: its start, memory, processor time at rest.
    Program,
    /// The program: bytes between it and the API server.
    Bytes,
    /// From an object's change to Envoy's ACK.
    Changes,
}

/// What every part needs.
struct Setting {
    envoy: PathBuf,
    folder: tempfile::TempDir,
    server: ApiServer,
    world: World,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, command, kubeconfig] = arguments.as_slice()
        && command == reflect::COMMAND
    {
        return Runtime::new()?.block_on(reflect::run(kubeconfig.as_ref()));
    }
    // `cargo test --benches` runs this too, without asking for figures.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    Runtime::new()?.block_on(measure(&Arguments::parse()))
}

async fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let wants = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    let envoy = Locator::from_env().locate(&|line| eprintln!("{line}")).await?;
    let folder = tempfile::tempdir()?;
    let server = ApiServer::start(folder.path(), &|line| eprintln!("{line}")).await?;
    let world = World::new(server.kubeconfig()).await?;
    let mut setting = Setting { envoy, folder, server, world };
    let mut levels: Vec<_> = arguments.services.iter().map(|services| (*services, 0)).collect();
    if arguments.routes > 0 {
        levels.push((arguments.services.last().copied().unwrap_or_default(), arguments.routes));
    }
    let largest = levels.last().copied().unwrap_or_default();
    if wants(Part::Program) {
        program::measure(&mut setting, &levels, Duration::from_secs(arguments.rest)).await?;
    }
    setting.world.grow(largest).await?;
    if wants(Part::Bytes) {
        updates::measure(&setting, arguments.changes).await?;
    }
    if wants(Part::Changes) {
        changes::measure(&setting, arguments.changes).await?;
    }
    setting.server.stop().await?;
    Ok(())
}
