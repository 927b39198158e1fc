//! Which gateways of the domain are alive.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use model::Heartbeats;
use model::api::{Gateway, GatewayStatus};
use tokio::sync::watch;

/// After how many heartbeats in a row from one mesh it is taken for the only one of its name.
const CALM: u32 = 4;

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
    writers: Writers,
    live: watch::Sender<Arc<BTreeSet<String>>>,
}

impl Gateways {
    /// The gateways beside `own`, none of which was heard yet. Those that are alive are told to `live`.
    pub(super) fn new(own: String, live: watch::Sender<Arc<BTreeSet<String>>>) -> Self {
        Self { own, heartbeats: Heartbeats::new(), is_ticking: false, writers: Writers::default(), live }
    }

    /// The object of a gateway was read. Where that shows it, answers whether another mesh uses this one's name.
    pub(super) fn heard(&mut self, name: &str, gateway: &Gateway) -> Option<bool> {
        let heartbeat = gateway.status.as_ref().and_then(|status| status.heartbeat_time.as_ref());
        let is_news = self.heartbeats.heard(name, heartbeat.map(|time| time.0), Timestamp::now());
        if !is_news || name != self.own {
            return None;
        }
        if std::mem::replace(&mut self.is_ticking, true) {
            self.heartbeats.tick();
        }
        gateway.status.as_ref().and_then(|status| self.writers.wrote(Writer::of(status)))
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

/// A mesh that writes heartbeats.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Writer {
    address: String,
    started: Option<Timestamp>,
}

impl Writer {
    fn of(status: &GatewayStatus) -> Self {
        Self { address: status.address.clone(), started: status.uptime.as_ref().map(|time| time.0) }
    }
}

/// Who has written the object of one gateway.
#[derive(Debug, Default)]
struct Writers {
    last: Option<Writer>,
    before: Option<Writer>,
    in_a_row: u32,
}

impl Writers {
    /// Answers whether several write in turns; `None` as long as that is not sure. A mesh that starts anew takes the
    /// place of the one before, which does not come back.
    fn wrote(&mut self, writer: Writer) -> Option<bool> {
        let writer = Some(writer);
        if self.last == writer {
            self.in_a_row += 1;
            return (self.in_a_row >= CALM).then_some(false);
        }
        let is_back = self.before == writer;
        self.before = std::mem::replace(&mut self.last, writer);
        self.in_a_row = 1;
        is_back.then_some(true)
    }
}
