//! What two gateways cost a request.
//!
//! `cargo bench --bench datapath` calls a service of bob through alice's Envoy and bob's, as alice's applications do: once
//! through Envoys that have their configuration from meshes, with tokens and everything else, and once through Envoys of
//! the same kind with a few static routes. Both are there all the time, and take turns. Other domains are added at bob
//! meanwhile, and call nothing.
//!
//! ```text
//!            ┌─► Envoy of alice ──► Envoy of bob ─┐
//!  h2load ───┤      meshes, tokens                ├─► service (an Envoy that answers by itself)
//!            └─► Envoy          ──► Envoy ────────┘
//!                   static routes
//!  processor 1               processor 0            processor 1
//! ```
//!
//! `cargo bench --bench datapath -- --costs` tells what makes the difference: it takes the configuration of alice's and
//! bob's Envoys, and leaves out one part after the other. `-- --instructions` counts instructions instead of time, which are
//! the same in every run. Times, rates and numbers can be chosen: `-- --help`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is run by hand and reports to people")]

mod frozen;
mod gateways;
mod instructions;
mod load;
mod plain;
#[path = "../common/process.rs"]
#[allow(dead_code, reason = "shared with other benches")]
mod process;
mod report;
#[path = "../common/statistics.rs"]
mod statistics;
#[path = "../common/table.rs"]
mod table;
mod world;

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;

use clap::Parser;
use harness::envoy_binary::Locator;
use tokio::runtime::Runtime;

use crate::frozen::{Part, frozen};
use crate::gateways::{Gateways, Places};
use crate::instructions::Callgrind;
use crate::load::{Body, Load, Protocol, WARM_UP};
use crate::report::{Series, Trial};
use crate::world::World;

/// Makes static configurations of two Envoys that listen there.
type Configs = fn(&Places) -> Result<[serde_json::Value; 2], Failure>;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The processor of all gateways.
const GATEWAYS: usize = 0;

/// The processor of clients and of the service, so that the gateways are what limits the rate.
const OTHERS: usize = 1;

/// Measures what two gateways cost a request.
#[derive(Debug, Parser)]
struct Arguments {
    /// Passed by Cargo.
    #[arg(long, hide = true)]
    bench: bool,
    /// How long each trial takes.
    #[arg(long, default_value = "4")]
    seconds: NonZeroU32,
    /// Trials of each kind.
    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,
    /// Sources that bob lets in, alice among them: ascending.
    #[arg(long, default_value = "10,1000,10000", value_delimiter = ',')]
    sources: Vec<usize>,
    /// Requests a second where times are taken at a fixed rate.
    #[arg(long, default_value = "2000")]
    rate: NonZeroU32,
    /// Measures what each part of the configuration costs instead.
    #[arg(long)]
    costs: bool,
    /// Counts the instructions of a request instead.
    #[arg(long, conflicts_with = "costs")]
    instructions: bool,
}

fn main() -> Result<(), Failure> {
    // `cargo test --benches` runs this too, without asking for figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let arguments = Arguments::parse();
    Runtime::new()?.block_on(async {
        load::find().await?;
        let envoy = Locator::from_env().locate(&|line| eprintln!("{line}")).await?;
        let mut world = World::start(&envoy).await?;
        let done = if arguments.costs {
            costs(&arguments, &mut world).await
        } else if arguments.instructions {
            count(&arguments, &mut world, &envoy).await
        } else {
            compare(&arguments, &mut world).await
        };
        world.stop().await?;
        done
    })
}

/// Meshes beside static routes, and beside those that do no more than the wire asks for, for each number of sources.
async fn compare(arguments: &Arguments, world: &mut World) -> Result<(), Failure> {
    let plain = world.start_gateways(None, "plain", plain::configs).await?;
    let wire = world.start_gateways(None, "wire", plain::configs_of_wire).await?;
    let contestants = [plain, wire, world.meshes().await?];
    let loads = loads(arguments);
    let mut series = Vec::new();
    for &sources in &arguments.sources {
        eprintln!("{sources} sources");
        world.let_in(sources).await?;
        for &load in &loads {
            let mut trials = trials(arguments, load, &contestants).await?.into_iter();
            let [plain, wire, mesh] =
                [trials.next(), trials.next(), trials.next()].map(Option::unwrap_or_default);
            series.push(Series { sources, load, plain, wire, mesh });
        }
    }
    report::compared(&series);
    Ok(())
}

fn loads(arguments: &Arguments) -> Vec<Load> {
    let small = Protocol::ALL.map(|protocol| Load { protocol, body: Body::Small, rate: None });
    let large = Protocol::ALL.map(|protocol| Load { protocol, body: Body::Large, rate: None });
    let paced = small.map(|load| Load { rate: Some(arguments.rate), ..load });
    [small, large, paced].concat()
}

/// The configuration that the meshes have given, without one part after the other, down to static routes.
async fn costs(arguments: &Arguments, world: &mut World) -> Result<(), Failure> {
    world.let_in(arguments.sources.first().copied().unwrap_or_default()).await?;
    let dumps = world.dumps().await?;
    let mut contestants = vec![world.meshes().await?];
    for left_out in 0..=Part::ALL.len() {
        let parts = &Part::ALL[..left_out];
        let name =
            parts.last().map_or_else(|| "the same, static".to_owned(), |part| format!("− {}", part.name()));
        contestants.push(world.start_gateways(None, &name, |at| frozen(&dumps, at, parts)).await?);
    }
    contestants.push(world.start_gateways(None, "plain", plain::configs).await?);
    for protocol in Protocol::ALL {
        let load = Load { protocol, body: Body::Small, rate: None };
        let trials = trials(arguments, load, &contestants).await?;
        let names = contestants.iter().map(|gateways| gateways.name.as_str());
        report::ladder(load, &names.zip(trials).collect::<Vec<_>>());
    }
    Ok(())
}

/// Instructions of the meshes' configuration, as a whole and without each part, beside static routes.
async fn count(arguments: &Arguments, world: &mut World, envoy: &Path) -> Result<(), Failure> {
    instructions::find().await?;
    world.let_in(arguments.sources.first().copied().unwrap_or_default()).await?;
    let dumps = world.dumps().await?;
    let folder = tempfile::tempdir()?;
    let callgrind = Callgrind::new(envoy, folder.path())?;
    let program = Some(callgrind.program.as_path());
    let mut rows = Vec::new();
    let names = Part::ALL.map(|part| format!("mesh without {}", part.name()));
    let without = Part::ALL.iter().map(std::slice::from_ref);
    let parts = [("mesh", &[][..])].into_iter().chain(names.iter().map(String::as_str).zip(without));
    for (name, parts) in parts {
        // Without scopes and what goes with them there is no mesh to count.
        if !matches!(parts, [Part::Scopes | Part::RequestHeaders]) {
            let gateways = world.start_gateways(program, name, |at| frozen(&dumps, at, parts)).await?;
            rows.push((gateways.name.clone(), callgrind.count_all(&gateways).await?));
        }
    }
    for (name, configs) in [("wire", plain::configs_of_wire as Configs), ("plain", plain::configs)] {
        let gateways = world.start_gateways(program, name, configs).await?;
        rows.push((gateways.name.clone(), callgrind.count_all(&gateways).await?));
    }
    report::instructions(&rows);
    Ok(())
}

/// Trials of each contestant, one a round. They take turns.
async fn trials(
    arguments: &Arguments,
    load: Load,
    contestants: &[Gateways],
) -> Result<Vec<Vec<Trial>>, Failure> {
    for gateways in contestants {
        load.run(gateways.entry, WARM_UP).await?;
    }
    let mut trials: Vec<_> = contestants.iter().map(|_| Vec::new()).collect();
    for _ in 0..arguments.rounds.get() {
        for (gateways, trials) in contestants.iter().zip(&mut trials) {
            let before = gateways.cpu()?;
            let outcome = load.run(gateways.entry, arguments.seconds).await?;
            trials.push(Trial::new(&outcome, before, gateways.cpu()?));
        }
    }
    Ok(trials)
}
