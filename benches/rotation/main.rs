//! What it costs requests, meshes and Envoys when tokens roll.
//!
//! `cargo bench --bench rotation` starts two domains with real Envoys, which have tokens both ways, and calls bob's echo
//! service through both gateways over HTTP/1.1, HTTP/2 and one gRPC stream at the same time: first with tokens that do not
//! roll, then with tokens that do. Load and service run in the bench.
//!
//! ```text
//!  load ──► Envoy of alice ──► Envoy of bob ──► echo
//!               ▲                  ▲
//!         mesh of alice ◄─tokens─► mesh of bob
//! ```
//!
//! Rate, time and period can be chosen: `cargo bench --bench rotation -- --help`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is run by hand and reports to people")]

#[path = "../common/process.rs"]
#[allow(dead_code, reason = "shared with other benches")]
mod process;
#[path = "../common/table.rs"]
mod table;
mod world;

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Parser;
use harness::envoy_binary::Locator;
use networkmesh::harness::load::{Load, Outcome, Protocol};
use tokio::runtime::Runtime;
use tokio::time::sleep;

use crate::table::{Sorted, grouped, milliseconds, print};
use crate::world::{Counts, World};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Failures that are shown in full.
const SHOWN_FAILURES: usize = 10;

/// Measures how tokens roll under load.
#[derive(Debug, Parser)]
struct Arguments {
    /// Passed by Cargo.
    #[arg(long, hide = true)]
    bench: bool,
    /// Requests a second over each protocol, and messages a second of the stream.
    #[arg(long, default_value = "1000")]
    rate: NonZeroU32,
    /// How long requests are sent, in seconds.
    #[arg(long, default_value_t = 60)]
    time: u64,
    /// Time from one token to the next, in seconds.
    #[arg(long, default_value = "2")]
    period: NonZeroU32,
}

fn main() -> Result<(), Failure> {
    // `cargo test --benches` runs this too, without asking for figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    Runtime::new()?.block_on(measure(&Arguments::parse()))
}

async fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let envoy = Locator::from_env().locate(&|line| eprintln!("{line}")).await?;
    let time = Duration::from_secs(arguments.time);
    let (mut answers, mut costs) = (Vec::new(), Vec::new());
    for period in [0, arguments.period.get()] {
        let title = if period == 0 { "never".to_owned() } else { format!("every {period} s") };
        eprintln!("tokens roll {title}");
        let mut world = World::start(&envoy, period).await?;
        let before = world.counts().await?;
        let load = Protocol::ALL.map(|protocol| {
            let gateway = world.alice.addresses.internal;
            (protocol, Load::start(gateway, "echo.bob", protocol, arguments.rate))
        });
        sleep(time).await;
        for (protocol, load) in load {
            let outcome = load.finish().await;
            for failure in outcome.failures.iter().take(SHOWN_FAILURES) {
                eprintln!("{failure}");
            }
            answers.push(answered(&title, protocol, outcome));
        }
        costs.push(cost(&title, world.counts().await? - before));
        world.stop().await?;
    }
    let header =
        ["tokens roll", "protocol", "sent", "failed", "median ms", "p99 ms", "p99.9 ms", "longest ms"];
    print("Answers", &header, &answers);
    let header = [
        "tokens roll",
        "tokens",
        "mesh of alice CPU ms",
        "mesh of bob CPU ms",
        "Envoy of alice CPU ms",
        "Envoy of bob CPU ms",
        "xDS to alice KB",
        "xDS to bob KB",
    ];
    print("Costs", &header, &costs);
    Ok(())
}

fn answered(title: &str, protocol: Protocol, outcome: Outcome) -> Vec<String> {
    let Outcome { sent, failures, mut latencies } = outcome;
    latencies.sort_unstable();
    let Sorted { median, p99 } = Sorted::of(&latencies);
    let p999 = latencies.get(latencies.len() * 999 / 1000).copied().unwrap_or_default();
    let longest = latencies.last().copied().unwrap_or_default();
    let protocol = match protocol {
        Protocol::Http1 => "HTTP/1.1",
        Protocol::Http2 => "HTTP/2",
        Protocol::GrpcStream => "gRPC stream",
    };
    [
        vec![title.to_owned(), protocol.to_owned(), grouped(sent.into()), grouped(failures.len() as u64)],
        [median, p99, p999, longest].map(milliseconds).into(),
    ]
    .concat()
}

fn cost(title: &str, counts: Counts) -> Vec<String> {
    let cpu = counts.cpu.map(|spent| spent.as_millis().to_string());
    let bytes = counts.xds_bytes.map(|bytes| format!("{:.1}", bytes as f64 / 1000.0));
    [&[title.to_owned(), counts.tokens.to_string()], &cpu[..], &bytes].concat()
}
