//! Keeps the names of the domain in step with what its gateways hold.
//!
//! ```text
//!  programmed Snapshot ─► book: what is new waits ──ACK──► dns::Names
//!                               what is gone ────────────► dns::Names, and later from the gateways (Lingering)
//! ```
//!
//! A name that leads to the gateway is there once every connected gateway, and at least one, can serve it. One that leads
//! to applications themselves waits for connected gateways too, as they refuse what is wrong with a service, but not for
//! one to connect; where gateways are told nothing of a service (port scope `Local`), it waits for none. What is there
//! stays when gateways go away. Names of services that wait are known to be this domain's (`Pending`).

mod book;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dns::{NameChange, Names};
use envoy::{Owner, Translator};
use jiff::Timestamp;
use model::Snapshot;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use xds::Rejection;

use self::book::{Book, Lead, Waiting};
use crate::program::{Gateways, Lingering};

/// After a look at names that wait nothing is looked at for this many times as long as it took. So thousands that wait
/// cost a fifth of a processor at most, and a few are looked at right after each answer of a gateway.
const REST: u32 = 4;

/// What became of the names. Clones are the same.
#[derive(Clone)]
pub(crate) struct States {
    book: Arc<Mutex<Book>>,
    gateways: Gateways,
    lingering: Lingering,
}

/// What became of a name of a service, or of the names of another domain's services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is answered as the domain's configuration says.
    Shown,
    /// It waits until gateways can serve it.
    Waiting {
        /// Since when.
        since: Timestamp,
        /// The node IDs of the Envoys that have not acknowledged it yet; none where none is connected.
        envoys: BTreeSet<String>,
        /// It is answered meanwhile, with where it led before.
        is_shown_as_before: bool,
    },
    /// It waits, and Envoys reject what they were told of it.
    Rejected {
        /// Since when it waits.
        since: Timestamp,
        /// What they reject, and their words.
        rejections: Vec<Rejection>,
        /// It is answered meanwhile, with where it led before.
        is_shown_as_before: bool,
    },
    /// It is gone, but the gateways still serve those who have resolved it before.
    Lingering {
        /// How long they do.
        until: Timestamp,
    },
}

impl States {
    /// No names yet.
    pub(crate) fn new(translator: Translator, gateways: Gateways, lingering: Lingering) -> Self {
        let domain = gateways.programmed.borrow().domain.clone();
        let book = Book::new(translator, Snapshot::empty(domain));
        Self { book: Arc::new(Mutex::new(book)), gateways, lingering }
    }

    /// What became of the name of a service, or of the names of the services of the domain that a route leads to. `None`
    /// where there is neither.
    pub(crate) fn of(&self, owner: &Owner) -> Option<State> {
        if let Some(end) = self.lingering.end_of(owner) {
            let until = Timestamp::now() + end.saturating_duration_since(Instant::now());
            return Some(State::Lingering { until });
        }
        let waiting = {
            let book = self.lock();
            let Some(waiting) = book.waiting(owner) else { return book.knows(owner).then_some(State::Shown) };
            waiting.clone()
        };
        let Waiting { since, ref resources, shown, .. } = waiting;
        let is_shown_as_before = shown.is_some();
        let is_of_it = |rejection: &Rejection| {
            resources.iter().any(|(ty, name)| (*ty, name) == (rejection.ty, &rejection.name))
        };
        let rejections = self.gateways.clients.rejections().into_iter().filter(is_of_it);
        let rejections: Vec<Rejection> = rejections.collect();
        Some(if rejections.is_empty() {
            let envoys = self.gateways.behind(resources);
            State::Waiting { since, envoys, is_shown_as_before }
        } else {
            State::Rejected { since, rejections, is_shown_as_before }
        })
    }

    fn is_served(&self, waiting: &Waiting) -> bool {
        match waiting.lead {
            Lead::Direct => self.gateways.behind(&waiting.resources).is_empty(),
            Lead::Gateway => self.gateways.is_held(&waiting.resources),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one writer of the names.
pub(crate) struct Keeper {
    names: Names,
    states: States,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl Keeper {
    /// Puts those of the names that can be there into `names`.
    pub(crate) fn begin(names: Names, states: States) -> Self {
        let snapshots = states.gateways.programmed.clone();
        let mut keeper = Self { names, states, snapshots };
        keeper.look();
        keeper
    }

    /// Follows what the gateways are told and what they say, until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut answers = self.states.gateways.clients.changes();
        loop {
            answers.borrow_and_update();
            let begun = Instant::now();
            let is_any_waiting = self.look();
            let rest = sleep(begun.elapsed() * REST);
            tokio::pin!(rest);
            let (mut has_rested, mut is_any_new) = (false, false);
            while !(has_rested && is_any_new) {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    changed = self.snapshots.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        // What is gone is hidden before the gateways lose it, however long the rest is.
                        self.follow();
                        is_any_new = true;
                    }
                    () = &mut rest, if !has_rested => has_rested = true,
                    _ = answers.changed(), if has_rested && is_any_waiting => break,
                }
            }
        }
    }

    /// Shows and hides what can be now, and says whether names wait.
    fn look(&mut self) -> bool {
        self.follow();
        let mut book = self.states.lock();
        self.apply(book.take_served(|waiting| self.states.is_served(waiting)));
        book.is_any_waiting()
    }

    /// Hides what is gone, and takes down what is new.
    fn follow(&mut self) {
        let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
        self.apply(self.states.lock().follow(snapshot, Timestamp::now()));
    }

    fn apply(&self, changes: Vec<NameChange>) {
        if !changes.is_empty() {
            self.names.apply(changes);
        }
    }
}
