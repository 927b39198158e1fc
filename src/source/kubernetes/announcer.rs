//! Kubernetes Events: what an operator sees of a route in `kubectl describe`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use model::Kind;
use model::api::{Condition, ConditionStatus};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::board::Board;
use super::raw::resource;
use super::routes::KnownRoute;
use super::trouble::{Part, Trouble};

/// How often it may be announced that a condition of a route does not hold, or holds again.
const PAUSE: Duration = Duration::from_secs(10);

/// Most Events that may wait. What comes beyond is not announced: the conditions tell it all.
const QUEUE: usize = 64;

/// How long an Event may take to be stored.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most bytes of a message: the API server takes 1024.
const LONGEST_NOTE: usize = 1000;

/// Stores Events.
pub(super) struct Announcer {
    recorder: Recorder,
    queue: mpsc::Receiver<(ObjectReference, Event)>,
    board: Arc<Board>,
}

/// Turns written conditions into Events.
pub(super) struct Announcements {
    namespace: String,
    queue: mpsc::Sender<(ObjectReference, Event)>,
    /// When it was announced of a route that this condition does not hold, or holds.
    announced: BTreeMap<(String, String, bool), Instant>,
}

impl Announcer {
    /// An announcer for the gateway `own` about the routes of `namespace`, and what feeds it.
    pub(super) fn new(
        client: Client,
        own: String,
        namespace: &str,
        board: Arc<Board>,
    ) -> (Self, Announcements) {
        let (queue_in, queue) = mpsc::channel(QUEUE);
        let reporter = Reporter { controller: "networkmesh".to_owned(), instance: Some(own) };
        let announcements =
            Announcements { namespace: namespace.to_owned(), queue: queue_in, announced: BTreeMap::new() };
        (Self { recorder: Recorder::new(client, reporter), queue, board }, announcements)
    }

    /// Stores Events as long as there may be more. One that cannot be stored is given up.
    pub(super) async fn run(mut self) {
        while let Some((route, event)) = self.queue.recv().await {
            match timeout(PATIENCE, self.recorder.publish(&event, &route)).await {
                Ok(Ok(())) => self.board.works(Part::Events),
                Ok(Err(error @ kube::Error::Api(_))) => {
                    self.board.troubled(Part::Events, Trouble::of(&error, Part::Events));
                }
                // Whoever watches says it, too.
                Ok(Err(error)) => tracing::debug!(%error, "an Event is lost"),
                Err(_elapsed) => tracing::debug!("an Event is lost"),
            }
        }
    }
}

impl Announcements {
    /// Announces the conditions that this gateway has turned by writing `after` in place of `before`.
    pub(super) fn announce(&mut self, before: &KnownRoute, after: &KnownRoute) {
        let now = Instant::now();
        self.announced.retain(|_, time| now.duration_since(*time) < PAUSE);
        for condition in &after.status.conditions {
            let shown = before.status.conditions.iter().find(|shown| shown.type_ == condition.type_);
            let Some(type_) = turned(shown, condition) else { continue };
            let holds = condition.status == ConditionStatus::True;
            let key = (after.name.clone(), condition.type_.clone(), holds);
            if self.announced.contains_key(&key) {
                continue;
            }
            let event = Event {
                type_,
                reason: condition.reason.clone(),
                note: Some(shortened(&condition.message)),
                action: condition.type_.clone(),
                secondary: None,
            };
            if self.queue.try_send((self.reference(after), event)).is_ok() {
                self.announced.insert(key, now);
            }
        }
    }

    fn reference(&self, route: &KnownRoute) -> ObjectReference {
        let resource = resource(Kind::DomainRoute);
        ObjectReference {
            api_version: Some(resource.api_version),
            kind: Some(resource.kind),
            namespace: Some(self.namespace.clone()),
            name: Some(route.name.clone()),
            uid: Some(route.uid.clone()),
            ..ObjectReference::default()
        }
    }
}

/// How a condition that became `new` is announced. That something is well from its start is not worth a word.
fn turned(old: Option<&Condition>, new: &Condition) -> Option<EventType> {
    let old = old.map(|old| old.status);
    match (old, new.status) {
        (Some(ConditionStatus::False), ConditionStatus::True) => Some(EventType::Normal),
        (old, ConditionStatus::False) if old != Some(ConditionStatus::False) => Some(EventType::Warning),
        _ => None,
    }
}

fn shortened(message: &str) -> String {
    if message.len() <= LONGEST_NOTE {
        return message.to_owned();
    }
    format!("{}…", &message[..message.floor_char_boundary(LONGEST_NOTE - '…'.len_utf8())])
}
