//! `networkmesh controller`.

use std::path::PathBuf;

use controller::{Settings, State};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::signals::shut_down_on_signal;
use super::{CommandError, Verdict};
use crate::app::StartError;
use crate::source::KubernetesSettings;

const EXAMPLE: &str = "\
Example:
  networkmesh controller --kubeconfig admin.conf";

/// Run the controller of a Kubernetes cluster
///
/// It makes a DomainRoute on each side of every ClusterDomainRoute, with the public keys of the Domains, a namespace
/// for each Domain, and does the gateways' common work. Of several controllers, one acts: the one that holds the
/// Lease. SIGTERM and Ctrl-C end it, and the next one takes over.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// How to reach the API server [default: the pod's service account, $KUBECONFIG, ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig, if not its current one
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace of the Lease
    #[arg(long, value_name = "NAMESPACE", default_value = controller::LEASE_NAMESPACE)]
    lease_namespace: String,
}

pub(super) fn execute(args: Args) -> Result<Verdict, CommandError> {
    let Args { kubeconfig, context, lease_namespace } = args;
    Runtime::new()?.block_on(async {
        let shutdown = CancellationToken::new();
        shut_down_on_signal(&shutdown)?;
        let server = KubernetesSettings { kubeconfig, context, namespace: String::new() };
        let client = server.client().await.map_err(StartError::from)?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let settings = Settings::new(&host, lease_namespace);
        controller::run(client, settings, watch::Sender::new(State::default()), shutdown).await;
        Ok(Verdict::Fine)
    })
}
