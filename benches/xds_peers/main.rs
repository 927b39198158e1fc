//! The xDS server beside go-control-plane: what one change costs either of them, at any number of services.
//!
//! `cargo bench --bench xds_peers` starts each contestant in a process of its own, loaded with the same resources,
//! and gives each a client of its own: one in this process that acknowledges at once, and then a real Envoy. The
//! same changes are made at all of them in turn, so whatever else the machine does meets all of them.
//!
//! ```text
//!  world ── translate ──► files of resources ──► ours │ xds-peer (Go) ◄── xDS ──► client │ Envoy
//!                                                 ▲ commands, │ times
//!  rounds ────────────────────────────────────────┴───────────┘
//! ```
//!
//! Parts, sizes and the number of changes can be chosen: `cargo bench --bench xds_peers -- --help`. It needs Go, see
//! [`go`].

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is run by hand and reports to people")]

mod client;
#[path = "../common/mod.rs"]
mod common;
mod contestants;
mod file;
#[path = "../common/go.rs"]
mod go;
mod kuscia;
mod material;
mod meter;
mod ours;
mod parts;
mod peer;
mod pipeline;
mod table;
mod world;

use std::path::Path;

use clap::{Parser, ValueEnum};
use tokio::runtime::Runtime;

use crate::parts::{Side, bursts, memory, one_at_a_time};

/// The largest number of services that Envoy is given in [`Part::Pipeline`]: with more, it takes minutes to start.
const PIPELINE_WITH_ENVOY: usize = 10_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Compares the xDS server with go-control-plane.
#[derive(Debug, Parser)]
struct Arguments {
    /// Passed by Cargo.
    #[arg(long, hide = true)]
    bench: bool,
    /// What to measure; everything unless told otherwise.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Numbers of services at which changes are made. There is one other domain for ten services.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
    sizes: Vec<usize>,
    /// Numbers of services at which memory is measured, beside none.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000])]
    memory: Vec<usize>,
    /// Numbers of services at which the whole way is measured; beyond 10,000 without Envoy.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000, 100_000])]
    pipeline: Vec<usize>,
    /// How often each kind of change is made.
    #[arg(long, default_value_t = 100)]
    changes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// One change at a time, with a client that acknowledges at once.
    Client,
    /// One change at a time, with Envoy.
    Envoy,
    /// 10,000 changes as fast as they can be made.
    Burst,
    /// Resident memory.
    Memory,
    /// The whole way of ours, from the event to Envoy's ACK.
    Pipeline,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, command, socket, resources] = arguments.as_slice()
        && command == ours::COMMAND
    {
        return ours::run(Path::new(socket), Path::new(resources));
    }
    // `cargo test --benches` runs this too, without asking for figures.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    Runtime::new()?.block_on(measure(&Arguments::parse()))
}

async fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let wants = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    if wants(Part::Pipeline) {
        pipeline::pipeline(&arguments.pipeline, PIPELINE_WITH_ENVOY, arguments.changes).await?;
    }
    if arguments.parts == [Part::Pipeline] {
        return Ok(());
    }
    let programs = contestants::Programs::locate().await?;
    let mut medians = Vec::new();
    for &services in &arguments.sizes {
        let folder = tempfile::tempdir()?;
        let materials = material::Materials::write(folder.path(), services)?;
        if wants(Part::Burst) {
            bursts(&programs, &materials).await?;
        }
        for (part, side) in [(Part::Client, Side::Here), (Part::Envoy, Side::Envoy)] {
            if wants(part) {
                medians.extend(one_at_a_time(side, &programs, &materials, arguments.changes).await?);
            }
        }
    }
    table::print_growth(&medians);
    if wants(Part::Memory) {
        memory(&programs, &arguments.memory).await?;
    }
    Ok(())
}
