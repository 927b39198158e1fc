//! `networkmesh run`.

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{CommandError, ConfigArgs, Verdict};
use crate::app::App;

const EXAMPLE: &str = "\
Example:
  networkmesh run --config networkmesh.yaml";

/// Run the mesh of one domain beside its Envoy
///
/// The mesh reads the domain's manifests and follows their changes, configures every Envoy that connects to
/// listen.xds, answers DNS, and negotiates tokens with other domains. SIGTERM and Ctrl-C end it; Envoy then keeps its
/// configuration, and traffic goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn execute(args: &Args) -> Result<Verdict, CommandError> {
    let config = args.config.load()?;
    Runtime::new()?.block_on(async {
        let shutdown = CancellationToken::new();
        let app = App::build(config).await?;
        let signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(stop_on(signals, shutdown.clone()));
        app.run(shutdown).await?;
        Ok(Verdict::Fine)
    })
}

/// The first signal begins the shutdown, the second one ends the process at once.
async fn stop_on((mut terminate, mut interrupt): (Signal, Signal), shutdown: CancellationToken) {
    for first in [true, false] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if first {
            info!("signal received");
            shutdown.cancel();
        }
    }
    std::process::exit(1)
}
