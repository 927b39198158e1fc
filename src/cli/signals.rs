//! How a command that runs until it is stopped learns that it is.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Cancels `shutdown` at SIGTERM or Ctrl-C; a second one ends the process at once.
///
/// # Errors
/// The signals cannot be listened to.
pub(super) fn shut_down_on_signal(shutdown: &CancellationToken) -> io::Result<()> {
    let signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(stop_on(signals, shutdown.clone()));
    Ok(())
}

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
