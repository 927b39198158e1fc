//! `networkmesh bootstrap`.

use std::io::Write;

use envoy::{AdminAddress, BootstrapSettings, XdsAddress};
use xds::ListenAddress;

use super::{CommandError, ConfigArgs, Verdict};
use crate::config::{Config, reachable};
use crate::output::DataFormat;

const EXAMPLES: &str = "\
Examples:
  networkmesh bootstrap --config networkmesh.yaml > envoy.yaml && envoy -c envoy.yaml
  networkmesh bootstrap -o json > envoy.json";

/// Print the bootstrap with which Envoy finds the mesh
///
/// Envoy needs nothing else: listeners, clusters, tokens and certificates come from the mesh, now and whenever they
/// change. The bootstrap holds no secret.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Form of the output; Envoy tells them apart by the ending of the file's name
    #[arg(short, long, value_name = "FORMAT", default_value = "yaml")]
    output: DataFormat,
}

pub(super) fn execute(args: &Args, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    let Config { domain, listen, envoy, instance, .. } = args.config.load()?;
    let bootstrap = envoy::bootstrap(&BootstrapSettings {
        node_id: instance,
        cluster: domain.to_string(),
        xds: match listen.xds {
            ListenAddress::Unix(path) => XdsAddress::Unix(path),
            ListenAddress::Tcp(address) => XdsAddress::Tcp(reachable(address), envoy.xds_tls),
        },
        admin: match envoy.admin {
            ListenAddress::Unix(path) => AdminAddress::Unix(path),
            ListenAddress::Tcp(address) => AdminAddress::Tcp(address),
        },
        max_connections: BootstrapSettings::DEFAULT_MAX_CONNECTIONS,
        max_heap_bytes: BootstrapSettings::DEFAULT_MAX_HEAP_BYTES,
    });
    args.output.write(out, &bootstrap)?;
    Ok(Verdict::Fine)
}
