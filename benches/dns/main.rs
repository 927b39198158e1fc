//! The DNS server beside others that answer for the same ten thousand names.
//!
//! `cargo bench --bench dns` starts each contestant in a process of its own on one processor, and dnsperf on another:
//!
//! ```text
//!  dnsperf ──UDP──► networkmesh │ a responder that knows one answer │ NSD │ Knot │ unbound │ CoreDNS
//!  processor 1      processor 0
//! ```
//!
//! First as fast as they can, then at a fixed rate, and at last at that rate while the table changes. Contestants take
//! turns, round by round, and each is started anew: so whatever else the machine does meets all of them. With `--free`
//! the system chooses the processors, as in practice where a server has several threads.
//!
//! It needs dnsperf, NSD, Knot and unbound (on Debian: `apt-get install dnsperf nsd knot unbound`), and Go for CoreDNS.
//! Times, rates and contestants can be chosen: `-- --help`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is run by hand and reports to people")]

mod contestants;
#[path = "../common/go.rs"]
mod go;
mod load;
mod names;
#[path = "../common/process.rs"]
#[allow(dead_code, reason = "shared with other benches")]
mod process;
mod report;
mod serve;
#[path = "../common/statistics.rs"]
mod statistics;
#[path = "../common/table.rs"]
#[allow(dead_code, reason = "shared with other benches")]
mod table;

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;

use clap::Parser;
use tokio::runtime::Runtime;

use crate::contestants::{Contestant, Programs, Running};
use crate::load::{Load, Trial};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The processor of the contestants.
const SERVERS: usize = 0;

/// The processor of dnsperf.
const CLIENT: usize = 1;

/// Measures DNS servers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Passed by Cargo.
    #[arg(long, hide = true)]
    bench: bool,
    /// Who takes part; all unless told otherwise.
    #[arg(value_enum)]
    contestants: Vec<Contestant>,
    /// How long each trial takes.
    #[arg(long, default_value = "5")]
    seconds: NonZeroU32,
    /// Trials of each kind.
    #[arg(long, default_value = "3")]
    rounds: NonZeroUsize,
    /// Names that there are.
    #[arg(long, default_value = "10000")]
    names: NonZeroU32,
    /// Queries a second where times are taken.
    #[arg(long, default_value = "20000")]
    rate: NonZeroU32,
    /// Lets the system choose the processors.
    #[arg(long)]
    free: bool,
}

/// Where servers and dnsperf run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On a processor each.
    Pinned,
    /// Wherever the system lets them.
    Free,
}

impl Arguments {
    fn place(&self) -> Place {
        if self.free { Place::Free } else { Place::Pinned }
    }
}

fn main() -> Result<(), Failure> {
    if let Some(result) = serve::as_asked() {
        return result;
    }
    // `cargo test --benches` runs this too, without asking for figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let arguments = Arguments::parse();
    Runtime::new()?.block_on(compare(&arguments))
}

async fn compare(arguments: &Arguments) -> Result<(), Failure> {
    let chosen = if arguments.contestants.is_empty() { Contestant::ALL } else { &arguments.contestants };
    let folder = tempfile::tempdir()?;
    names::write(folder.path(), arguments.names.get())?;
    let programs = Programs::find(chosen).await?;
    let mut trials = Vec::new();
    for round in 1..=arguments.rounds.get() {
        for &contestant in chosen {
            eprintln!("round {round}: {}", contestant.name());
            trials.push((contestant, measure(arguments, contestant, &programs, folder.path()).await?));
        }
    }
    let place = match arguments.place() {
        Place::Pinned => "server and dnsperf on a processor each",
        Place::Free => "the system chooses the processors",
    };
    report::print(chosen, &trials, place);
    Ok(())
}

/// What one round shows of a contestant.
struct Round {
    /// Resident megabytes after the start.
    memory_at_rest: f64,
    full: Trial,
    /// Resident megabytes after [`Self::full`].
    memory: f64,
    paced: Trial,
    /// The same while the table changes, where the contestant can do that.
    changing: Option<Trial>,
}

async fn measure(
    arguments: &Arguments,
    contestant: Contestant,
    programs: &Programs,
    folder: &Path,
) -> Result<Round, Failure> {
    let server = Running::start(contestant, programs, folder, arguments.place()).await?;
    let load = Load { seconds: arguments.seconds, rate: None, folder, place: arguments.place() };
    let paced = Load { rate: Some(arguments.rate), ..load };
    let memory_at_rest = server.megabytes()?;
    let full = load.put_on(&server).await?;
    let memory = server.megabytes()?;
    let still = paced.put_on(&server).await?;
    let changing = if server.change().await? { Some(paced.put_on(&server).await?) } else { None };
    server.stop().await?;
    Ok(Round { memory_at_rest, full, memory, paced: still, changing })
}
