//! `networkmesh csr`.

use std::io::Write;
use std::path::PathBuf;

use certs::certificate_signing_request;
use zeroize::Zeroizing;

use super::args::read_secret;
use super::{CommandError, KeyArgs, Verdict};
use crate::output;

/// The environment variable that holds a deploy token.
const TOKEN_VARIABLE: &str = "NETWORKMESH_DEPLOY_TOKEN";

const EXAMPLES: &str = "\
Examples:
  networkmesh csr --config networkmesh.yaml --deploy-token-file token > alice.csr
  pass alice/deploy-token | networkmesh csr --deploy-token-file -";

/// Print a certificate signing request, to join a master
///
/// The deploy token that the master gave out comes from a file, from standard input, or from the variable
/// NETWORKMESH_DEPLOY_TOKEN: never from an argument, which every user of the machine can see. The request carries
/// it, so keep the request secret until the token is used.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    key: KeyArgs,
    /// Read the deploy token from this file, or from standard input: -
    #[arg(long, value_name = "FILE")]
    deploy_token_file: Option<PathBuf>,
}

pub(super) fn execute(args: &Args, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    let (domain, key) = args.key.identity()?;
    let token = match &args.deploy_token_file {
        Some(file) => Some(read_secret(file)?),
        None => std::env::var(TOKEN_VARIABLE).ok().map(Zeroizing::new),
    };
    let request =
        certificate_signing_request(domain.as_str(), &key, token.as_ref().map(|token| token.as_str()))?;
    if token.is_none() {
        let remedy =
            format!("a master signs only with one: give --deploy-token-file FILE or ${TOKEN_VARIABLE}");
        output::print_warning(&format!("the request carries no deploy token; {remedy}"));
    }
    write!(out, "{request}")?;
    Ok(Verdict::Fine)
}
