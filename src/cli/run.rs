//! `networkmesh run`.

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::signals::shut_down_on_signal;
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
        shut_down_on_signal(&shutdown)?;
        app.run(shutdown).await?;
        Ok(Verdict::Fine)
    })
}
