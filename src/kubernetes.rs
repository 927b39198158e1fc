//! What a gateway tells a Kubernetes API server beside the statuses of routes: that it is alive, and which services it
//! serves.

mod heartbeat;
mod ready_time;

pub(crate) use heartbeat::{Heart, beat};
pub(crate) use ready_time::note_ready_times;

use controller::in_words;
use model::quoted;
use tokio::sync::watch;
use tracing::warn;

/// The field manager of everything that a gateway writes.
const FIELD_MANAGER: &str = "networkmesh";

/// Why something cannot be written.
fn words(error: &kube::Error, right: &str) -> String {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => {
            let message = quoted(&status.message);
            format!("{message}; apply deploy/rbac/sidecar.yaml, which gives the right to {right}")
        }
        kube::Error::Api(status) => quoted(&status.message),
        other => in_words(other),
    }
}

/// Tells a new problem to the log too.
fn tell(problem: &watch::Sender<Option<String>>, now: Option<String>) {
    problem.send_if_modified(|known| {
        let is_news = *known != now;
        if let (true, Some(text)) = (is_news, &now) {
            warn!("{text}");
        }
        *known = now;
        is_news
    });
}
