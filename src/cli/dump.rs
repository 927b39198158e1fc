//! `networkmesh dump`.

use std::io::Write;

use clap::ValueEnum as _;
use model::Problem;
use serde_json::Value;

use super::ask::{Question, ask, misunderstood};
use super::{AdminArgs, CommandError, Verdict};
use crate::dump::Selection;
use crate::output::{Format, Table};

const EXAMPLE: &str = "\
Examples:
  networkmesh dump clusters -o yaml
  networkmesh dump names > svc.zone";

/// Print the configuration that Envoys are given, or the names
///
/// Each resource comes with its version, in the form of Envoy's own documentation. Tokens and private keys are
/// blanked; to see them, let listen.admin be a Unix socket and add --show-secrets.
///
/// Names are printed as a master file (RFC 1035), which other DNS servers load.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// What to print
    #[arg(value_name = "KIND", default_value = "all")]
    kind: Selection,
    #[command(flatten)]
    admin: AdminArgs,
    /// Form of the output, json unless given; the table lists names and versions only
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
    /// Print tokens and private keys too
    #[arg(long)]
    show_secrets: bool,
}

pub(super) fn execute(args: &Args, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    if args.kind == Selection::Names && args.output.is_some() {
        let problem = Problem::new("names are printed as a master file only", "leave it out");
        return Err(CommandError::Argument { what: "--output".to_owned(), problem });
    }
    let kind = args.kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let secrets = args.show_secrets.to_string();
    let answer = ask(&args.admin, &Question::new("/dump").with("kind", &kind).with("secrets", &secrets))?;
    if args.kind == Selection::Names {
        out.write_all(&answer)?;
        return Ok(Verdict::Fine);
    }
    let dump: Value = serde_json::from_slice(&answer).map_err(|error| misunderstood(&args.admin, &error))?;
    match args.output.unwrap_or(Format::Json).data() {
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
