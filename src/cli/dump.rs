//! `networkmesh dump`.

use std::io::Write;

use clap::ValueEnum as _;
use serde_json::Value;

use super::ask::{ask, misunderstood};
use super::{AdminArgs, CommandError, Verdict};
use crate::dump::Selection;
use crate::output::{Format, Table};

const EXAMPLE: &str = "\
Example:
  networkmesh dump clusters -o yaml";

/// Print the configuration that Envoys are given
///
/// Each resource comes with its version, in the form of Envoy's own documentation. Tokens and private keys are
/// blanked; to see them, let listen.admin be a Unix socket and add --show-secrets.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// What to print
    #[arg(value_name = "KIND", default_value = "all")]
    kind: Selection,
    #[command(flatten)]
    admin: AdminArgs,
    /// Form of the output; the table lists names and versions only
    #[arg(short, long, value_name = "FORMAT", default_value = "json")]
    output: Format,
    /// Print tokens and private keys too
    #[arg(long)]
    show_secrets: bool,
}

pub(super) fn execute(args: &Args, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    let kind = args.kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let answer = ask(&args.admin, &format!("/dump?kind={kind}&secrets={}", args.show_secrets))?;
    let dump: Value = serde_json::from_slice(&answer).map_err(|error| misunderstood(&args.admin, &error))?;
    match args.output.data() {
        Some(format) => format.write(out, &dump)?,
        None => write!(out, "{}", table(&dump))?,
    }
    Ok(Verdict::Fine)
}

fn table(dump: &Value) -> Table<3> {
    let mut table = Table::new(["KIND", "NAME", "VERSION"]);
    for (kind, resources) in dump.as_object().into_iter().flatten() {
        for resource in resources.as_array().into_iter().flatten() {
            let text = |field: &str| resource[field].as_str().unwrap_or_default().to_owned();
            table.row([kind.clone(), text("name"), text("version")]);
        }
    }
    table
}
