//! `networkmesh keygen`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use certs::DomainKey;

use super::{CommandError, Verdict};
use crate::output;

const EXAMPLES: &str = "\
Examples:
  echo \"domainKeyData: $(networkmesh keygen)\" >> networkmesh.yaml
  networkmesh keygen --out alice.key";

/// Make the private key of a domain
///
/// Prints it as one line of base64, the form of domainKeyData; with --out it goes to a file as PEM, the form of
/// domainKeyFile. Keep it: partners know the domain by it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Write PEM to this new file, readable by its owner alone
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn execute(args: &Args, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    let key = DomainKey::generate()?;
    match &args.out {
        Some(file) => {
            write_new(file, key.to_pkcs1_pem().as_bytes()).map_err(|error| {
                let remedy = match error.kind() {
                    io::ErrorKind::AlreadyExists => "keys are never overwritten: choose another name",
                    _ => "choose a folder that this user can write to",
                };
                CommandError::file(file, &error, remedy)
            })?;
            output::print_note(&format!("wrote {}: name it in domainKeyFile", file.display()));
        }
        None => writeln!(out, "{}", *key.to_domain_key_data())?,
    }
    let file = args.out.as_deref().map_or_else(|| "FILE".to_owned(), |file| file.display().to_string());
    output::print_note(&format!(
        "the key is {}; `networkmesh cert --key {file} --public-key` prints what partners need of it",
        key.public_key().fingerprint(),
    ));
    Ok(Verdict::Fine)
}

fn write_new(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    file.write_all(content)?;
    file.sync_all()
}
