//! Which gateways of the domain are alive.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use model::Heartbeats;
use model::api::Gateway;
use tokio::sync::watch;

/// Listens to the heartbeats of gateways.
///
/// This gateway's own heartbeat is the clock: where it is heard, those of the others would be, too. So while the API
/// server is away nobody grows old.
#[derive(Debug)]
pub(super) struct Gateways {
    own: String,
    heartbeats: Heartbeats,
    /// Whether the clock goes: what is left of this gateway's time before says nothing of the others.
    is_ticking: bool,
    live: watch::Sender<Arc<BTreeSet<String>>>,
}

impl Gateways {
    /// The gateways beside `own`, none of which was heard yet. Those that are alive are told to `live`.
    pub(super) fn new(own: String, live: watch::Sender<Arc<BTreeSet<String>>>) -> Self {
        Self { own, heartbeats: Heartbeats::new(), is_ticking: false, live }
    }

    /// The object of a gateway was read.
    pub(super) fn heard(&mut self, name: &str, gateway: &Gateway) {
        let heartbeat = gateway.status.as_ref().and_then(|status| status.heartbeat_time.as_ref());
        let is_news = self.heartbeats.heard(name, heartbeat.map(|time| time.0), Timestamp::now());
        if is_news && name == self.own && std::mem::replace(&mut self.is_ticking, true) {
            self.heartbeats.tick();
        }
    }

    /// The object of a gateway was deleted.
    pub(super) fn gone(&mut self, name: &str) {
        self.heartbeats.gone(name);
    }

    /// No others have objects.
    pub(super) fn keep_only(&mut self, names: &BTreeSet<String>) {
        self.heartbeats.keep_only(names);
    }

    /// Tells who is alive, if that has changed.
    pub(super) fn publish(&self) {
        let mut live = self.heartbeats.live();
        live.insert(self.own.clone());
        self.live.send_if_modified(|published| {
            let changed = **published != live;
            if changed {
                tracing::info!(gateways = ?live, "other gateways of this domain are alive than before");
                *published = Arc::new(live);
            }
            changed
        });
    }
}
