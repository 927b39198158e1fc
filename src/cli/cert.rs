//! `networkmesh cert`.

use std::io::Write;
use std::time::SystemTime;

use certs::DomainAuthority;

use super::{CommandError, KeyArgs, Verdict};

const EXAMPLES: &str = "\
Examples:
  networkmesh cert --config networkmesh.yaml --base64     for Domain.spec.cert
  networkmesh cert --public-key                           for tokenConfig of a DomainRoute
  networkmesh cert --key alice.key --domain alice > alice.pem";

/// Print the domain's certificate or public key, for partners
///
/// The certificate is made anew from the domain's key each time, valid for ten years; any of them verifies what the
/// domain signs.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    form: Form,
}

/// PEM of the certificate, unless told otherwise.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Form {
    /// Print base64 of the certificate's PEM: the form of Domain.spec.cert
    #[arg(long)]
    base64: bool,
    /// Print base64 of the public key's PEM: the form of sourcePublicKey and destinationPublicKey
    #[arg(long)]
    public_key: bool,
    /// Print the SHA-256 of the public key, by which people compare keys
    #[arg(long)]
    fingerprint: bool,
}

pub(super) fn execute(args: &Args, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    if args.form.fingerprint {
        writeln!(out, "{}", args.key.key()?.public_key().fingerprint())?;
        return Ok(Verdict::Fine);
    }
    if args.form.public_key {
        writeln!(out, "{}", args.key.key()?.public_key().to_base64_pem())?;
        return Ok(Verdict::Fine);
    }
    let (domain, key) = args.key.identity()?;
    let authority = DomainAuthority::new(domain.as_str(), &key, SystemTime::now())?;
    if args.form.base64 {
        writeln!(out, "{}", authority.certificate_base64_pem())?;
    } else {
        write!(out, "{}", authority.certificate_pem())?;
    }
    Ok(Verdict::Fine)
}
