//! Keeps the conditions of routes without tokens.

use std::time::Duration;

use model::{DomainId, OutboundAuth};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::contact::Contact;
use super::findings::{DataPath, of_data_path_alone};
use super::negotiate::{Memory, Negotiation};

/// Time between two requests where all is well: as that between the probes of a token.
const PERIOD: Duration = Duration::from_secs(15);

/// Time until the second request after the first one that failed. It doubles with each one more, up to the period.
const FIRST_RETRY: Duration = Duration::from_secs(1);

impl Negotiation {
    /// Sends a request the way of applications' requests now and then, and tells what comes of it. Returns once the route
    /// is gone, or has tokens. `changed` tells that it is to be looked at.
    pub(super) async fn watch(&self, destination: &DomainId, changed: &Notify) {
        let mut memory = Memory::default();
        let mut replicas = self.replicas.clone();
        let mut retry = FIRST_RETRY;
        let mut due = Instant::now();
        let mut tried = None;
        loop {
            let route = self.ledger.snapshot().outbound.get(destination).cloned();
            let Some(route) = route else { return };
            if matches!(route.auth, OutboundAuth::Token { .. }) {
                return;
            }
            // What it was tried with, without statuses, which this changes itself.
            let (first_hop, direct) = route.first_hop();
            let link = Some((direct.clone(), first_hop.auth.clone(), route.auth.clone()));
            if !self.replicas.is_chosen(&route.status.token_status.revision_initializer) {
                // Another gateway does it.
                tried = None;
            } else if tried != link || due <= Instant::now() {
                if tried != link {
                    retry = FIRST_RETRY;
                }
                tried = link;
                let answer = self.client.try_data_path(destination).await;
                let shown = of_data_path_alone(answer, &route).await;
                self.note(&route, &Contact::without_token(&shown, &route.auth), &mut memory).await;
                let (pause, next_retry) = match shown {
                    DataPath::Open { .. } => (PERIOD, FIRST_RETRY),
                    DataPath::Closed(_) => (retry, PERIOD.min(retry * 2)),
                };
                retry = next_retry;
                due = Instant::now() + pause;
            }
            tokio::select! {
                () = changed.notified() => {}
                () = replicas.changed() => {}
                () = sleep_until(due), if tried.is_some() => {}
            }
        }
    }
}
