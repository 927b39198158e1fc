//! The routes whose status is written: what is known of each, and what is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use model::StatusChange;
use model::api::DomainRouteStatus;
use tokio::time::Instant;

/// How long a change of tokens is tried: by then, whoever wants it has given up, and starts from what is.
pub(super) const TOKENS_PATIENCE: Duration = Duration::from_secs(10);

/// The newest version of a route that is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KnownRoute {
    /// Its name.
    pub(super) name: String,
    /// Its identity: a route that was deleted and made again is another one.
    pub(super) uid: String,
    /// Its resource version.
    pub(super) version: String,
    /// The number of its spec.
    pub(super) generation: Option<i64>,
    /// Its status.
    pub(super) status: DomainRouteStatus,
}

impl KnownRoute {
    /// Whether this version was made before `other`. Versions that are no numbers do not tell.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        let number = |version: &str| version.parse::<u64>().ok();
        number(&self.version).zip(number(&other.version)).is_some_and(|(own, other)| own < other)
    }
}

/// What the watch of routes says.
#[derive(Debug)]
pub(super) enum News {
    /// This is a route now.
    Seen(Box<KnownRoute>),
    /// So a route was found when all were read. A server that was restored from a backup goes back to older versions.
    Listed(Box<KnownRoute>),
    /// The route of this name is gone.
    Gone(String),
    /// No other routes than these are left.
    KeepOnly(BTreeSet<String>),
}

/// The part of a status that one wish is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    /// The tokens.
    Tokens,
    /// The flags of the destination.
    Destination,
    /// The condition of this type.
    Condition(String),
}

/// A change that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wish {
    /// The change.
    pub(super) change: StatusChange,
    /// When nobody waits for it any more.
    pub(super) until: Option<Instant>,
    /// The number of the spec that it is about.
    pub(super) generation: Option<i64>,
}

/// What is wanted of one route: of each slot, the newest wish.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wishes(pub(super) BTreeMap<Slot, Wish>);

impl Wishes {
    /// Takes in a wish about `known` at `now`. Times are cut to the whole seconds that Kubernetes keeps.
    pub(super) fn add(&mut self, mut change: StatusChange, known: &KnownRoute, now: Instant) {
        let (slot, until) = match &mut change {
            StatusChange::Tokens { .. } => (Slot::Tokens, Some(now + TOKENS_PATIENCE)),
            StatusChange::Destination { .. } => (Slot::Destination, None),
            StatusChange::Condition(condition) => {
                if let Some(time) = &mut condition.last_transition_time {
                    time.0 = Timestamp::from_second(time.0.as_second()).unwrap_or(time.0);
                }
                (Slot::Condition(condition.type_.clone()), None)
            }
        };
        self.0.insert(slot, Wish { change, until, generation: known.generation });
    }
}
