//! `networkmesh crds`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{CommandError, Verdict};
use crate::output::{self, DataFormat};

const EXAMPLES: &str = "\
Examples:
  networkmesh crds | kubectl apply --server-side -f -
  networkmesh crds --out deploy/crds";

/// Print the CustomResourceDefinitions for Kubernetes
///
/// They describe every field of Domain, DomainRoute, ClusterDomainRoute and Gateway; manifests in a folder have the
/// same fields.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Write them into this folder, each to a file of its own, instead of printing them
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn execute(args: &Args, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    let Some(folder) = &args.out else {
        for definition in model::api::custom_resource_definitions() {
            writeln!(out, "---")?;
            DataFormat::Yaml.write(out, &definition)?;
        }
        return Ok(Verdict::Fine);
    };
    write_files(folder)
        .map_err(|error| CommandError::file(folder, &error, "choose a folder that this user can write to"))?;
    output::print_note(&format!(
        "wrote {}: apply it with `kubectl apply --server-side -f`",
        folder.display()
    ));
    Ok(Verdict::Fine)
}

/// Files have the names that Kuscia gives them: group, `_`, plural.
fn write_files(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for definition in model::api::custom_resource_definitions() {
        let mut text = b"# Made by `networkmesh crds`: a change here is lost.\n".to_vec();
        DataFormat::Yaml.write(&mut text, &definition)?;
        let file = format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural);
        fs::write(folder.join(file), text)?;
    }
    Ok(())
}
