//! Arguments that several commands share.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use certs::DomainKey;
use model::{DomainId, Problem};
use xds::ListenAddress;
use zeroize::Zeroizing;

use super::CommandError;
use crate::config::{self, Config, ConfigErrors};
use crate::http::Target;

/// Most bytes that are read of a secret.
const MAX_SECRET: u64 = 1 << 16;

/// Which domain it is about.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigArgs {
    /// The domain's configuration [default: networkmesh.yaml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A kuscia.yaml, for mode, domainID, domainKeyData and protocol; its other sections are ignored
    ///
    /// Everything else comes from --config where that is given too, and from defaults where it is not.
    #[arg(long, value_name = "FILE")]
    kuscia_config: Option<PathBuf>,
}

impl ConfigArgs {
    /// Reads the configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<Config, ConfigErrors> {
        match &self.kuscia_config {
            Some(kuscia) => Config::load_with_kuscia(kuscia, self.config.as_deref()),
            None => Config::load(self.config.as_deref().unwrap_or_else(|| Path::new("networkmesh.yaml"))),
        }
    }
}

/// Whose key it is about.
#[derive(Clone, Debug, clap::Args)]
pub struct KeyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The domain's private key (PEM, or base64 as in domainKeyData), instead of a configuration
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "kuscia_config"])]
    key: Option<PathBuf>,
    /// The domain's ID, with --key
    #[arg(long, value_name = "ID", requires = "key")]
    domain: Option<DomainId>,
}

impl KeyArgs {
    /// The key alone, for which `--key` needs no `--domain`.
    ///
    /// # Errors
    /// The configuration or the key file is wrong.
    pub fn key(&self) -> Result<DomainKey, CommandError> {
        match &self.key {
            Some(file) => config::read_key_file(file)
                .map_err(|problem| CommandError::Argument { what: "--key".to_owned(), problem }),
            None => Ok(self.config.load()?.key),
        }
    }

    /// The key and the domain that it belongs to.
    ///
    /// # Errors
    /// The configuration or the key file is wrong, or `--key` is given without `--domain`.
    pub fn identity(&self) -> Result<(DomainId, DomainKey), CommandError> {
        match (&self.key, &self.domain) {
            (Some(_), Some(domain)) => Ok((domain.clone(), self.key()?)),
            (Some(_), None) => Err(CommandError::Argument {
                what: "--key".to_owned(),
                problem: Problem::new("a key alone does not say whose it is", "give --domain ID too"),
            }),
            (None, _) => {
                let config = self.config.load()?;
                Ok((config.domain, config.key))
            }
        }
    }
}

/// Which running mesh to ask.
#[derive(Clone, Debug, clap::Args)]
pub struct AdminArgs {
    /// Where the running mesh listens for commands: its listen.admin, as http://IP:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS", default_value = "http://127.0.0.1:9091", value_parser = parse_admin)]
    pub admin: Target,
}

fn parse_admin(text: &str) -> Result<Target, String> {
    let address = text.strip_prefix("http://").map_or(text, |rest| rest.trim_end_matches('/'));
    match address.parse() {
        Ok(ListenAddress::Tcp(address)) => Ok(Target::Tcp(address)),
        Ok(ListenAddress::Unix(path)) => Ok(Target::Unix(path)),
        Err(_) => Err("write it as http://127.0.0.1:9091 or unix:/path/to/admin.sock".to_owned()),
    }
}

/// Reads a secret from a file, or from standard input where that is `-`, without the white space around it.
pub(super) fn read_secret(file: &Path) -> Result<Zeroizing<String>, CommandError> {
    let mut text = Zeroizing::new(String::new());
    let read = if file == Path::new("-") {
        io::stdin().take(MAX_SECRET).read_to_string(&mut text)
    } else {
        File::open(file).and_then(|open| open.take(MAX_SECRET).read_to_string(&mut text))
    };
    read.map_err(|error| CommandError::file(file, &error, "name a file that this user can read"))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}
