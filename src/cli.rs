//! The command line: arguments in, output and an exit code out.
//!
//! Exit codes: 0 fine; 1 what was asked about is not well; 2 wrong use, wrong configuration included.

mod args;
mod ask;
mod bootstrap;
mod cert;
mod check;
mod controller;
mod crds;
mod csr;
mod demo;
mod dump;
mod error;
mod explain;
mod help;
mod keygen;
mod logging;
mod queries;
mod run;
mod signals;
mod status;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use args::{AdminArgs, ConfigArgs, KeyArgs};
pub use error::CommandError;

use crate::output;

/// The network mesh of a privacy-computing domain, on a stock Envoy.
#[derive(Debug, Parser)]
#[command(name = "networkmesh", version, long_about = help::ABOUT)]
struct Cli {
    #[command(flatten)]
    logging: logging::Args,
    #[command(subcommand)]
    command: Command,
}

/// [`help`] names the group under which each command is shown.
#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Run(run::Args),
    Bootstrap(bootstrap::Args),
    Controller(controller::Args),
    Status(status::Args),
    Explain(explain::Args),
    Queries(queries::Args),
    Dump(dump::Args),
    Check(check::Args),
    Keygen(keygen::Args),
    Cert(cert::Args),
    Csr(csr::Args),
    Crds(crds::Args),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  networkmesh completions bash > /etc/bash_completion.d/networkmesh")]
    Completions {
        /// The shell that is to read it
        shell: clap_complete::Shell,
    },
}

/// What a command found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is fine.
    Fine,
    /// The thing asked about is not well; the command has said why.
    NotWell,
}

impl Command {
    fn execute(self, out: &mut dyn Write) -> Result<Verdict, CommandError> {
        match self {
            Self::Demo(args) => demo::execute(&args),
            Self::Bootstrap(args) => bootstrap::execute(&args, out),
            Self::Run(args) => run::execute(&args),
            Self::Controller(args) => controller::execute(args),
            Self::Status(args) => status::execute(&args, out),
            Self::Explain(args) => explain::execute(&args, out),
            Self::Queries(args) => queries::execute(&args, out),
            Self::Dump(args) => dump::execute(&args, out),
            Self::Check(args) => check::execute(&args, out),
            Self::Keygen(args) => keygen::execute(&args, out),
            Self::Cert(args) => cert::execute(&args, out),
            Self::Csr(args) => csr::execute(&args, out),
            Self::Crds(args) => crds::execute(&args, out),
            Self::Completions { shell } => print_completions(shell, out),
        }
    }
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let matches = help::grouped(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut out = io::stdout();
    let done = cli
        .logging
        .start()
        .and_then(|()| cli.command.execute(&mut out))
        .and_then(|verdict| out.flush().map(|()| verdict).map_err(CommandError::from));
    match done {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::NotWell) => ExitCode::from(1),
        // Who closed the pipe, as `head` does, has seen enough.
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn print_completions(shell: clap_complete::Shell, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    // The generator panics where it cannot write, as into a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "networkmesh", &mut script);
    out.write_all(&script)?;
    Ok(Verdict::Fine)
}
