//! Writes the statuses of routes.
//!
//! What is written is computed from the newest version that the watch has brought, and names that version: where
//! another gateway has written meanwhile, the API server refuses, and it is computed again once the watch brings what
//! the other one wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use kube::{Api, Client};
use model::{DomainId, Kind, ObjectRef, StatusUpdate};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::announcer::Announcements;
use super::apply::{WriteError, Written, apply};
use super::backoff::{Backoff, until};
use super::board::{Board, Defect};
use super::decide::{Role, status_to_write};
use super::raw::{self, Raw};
use super::routes::{KnownRoute, News, Wishes};
use super::trouble::{Part, Scope, Trouble};

/// Most statuses that are written at the same time.
const IN_FLIGHT: usize = 8;

/// When a status that the API server finds wrong is written again, if nothing changes before.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// When a status is written again that was computed from an old version, if the watch does not bring a newer one.
const OUTDATED_PAUSE: Duration = Duration::from_secs(15);

/// How long updates are still written after the shutdown began.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Most updates that are taken in at once.
const BATCH: usize = 1024;

/// Writes the statuses of the routes of a namespace.
pub(super) struct StatusWriter {
    api: Api<Raw>,
    namespace: String,
    own: String,
    live: watch::Receiver<Arc<BTreeSet<String>>>,
    announcements: Announcements,
    board: Arc<Board>,
    routes: BTreeMap<String, Route>,
    /// The routes to look at now.
    due: BTreeSet<String>,
    /// Those to look at later.
    later: BTreeSet<(Instant, String)>,
    in_flight: FuturesUnordered<BoxFuture<'static, Written>>,
    backoff: Backoff,
    /// Until when nothing is written, because the API server does not take anything.
    paused: Option<Instant>,
}

struct Route {
    known: KnownRoute,
    wishes: Wishes,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Writing,
    /// Somebody has written another version, which the watch will bring.
    Outdated,
}

impl StatusWriter {
    /// A writer for the gateway `own` among those that are `live`.
    pub(super) fn new(
        client: Client,
        namespace: String,
        own: String,
        live: watch::Receiver<Arc<BTreeSet<String>>>,
        announcements: Announcements,
        board: Arc<Board>,
    ) -> Self {
        Self {
            api: raw::api(Kind::DomainRoute, client, &namespace),
            namespace,
            own,
            live,
            announcements,
            board,
            routes: BTreeMap::new(),
            due: BTreeSet::new(),
            later: BTreeSet::new(),
            in_flight: FuturesUnordered::new(),
            backoff: Backoff::default(),
            paused: None,
        }
    }

    /// Writes the `updates` of the routes of `domain`, of which `news` tells, until `shutdown`.
    pub(super) async fn run(
        mut self,
        domain: DomainId,
        mut news: mpsc::Receiver<News>,
        mut updates: mpsc::Receiver<StatusUpdate>,
        shutdown: CancellationToken,
    ) {
        let mut batch = Vec::new();
        let mut end = None;
        loop {
            self.launch();
            if end.is_some() && self.in_flight.is_empty() {
                return;
            }
            let next = self.paused.or_else(|| self.later.first().map(|(time, _)| *time));
            tokio::select! {
                () = shutdown.cancelled(), if end.is_none() => {
                    end = Some(Instant::now() + LAST_WORDS);
                    self.catch_up(&mut news);
                    while let Ok(update) = updates.try_recv() {
                        self.wish(&domain, update);
                    }
                }
                () = until(end), if end.is_some() => return,
                Some(news) = news.recv() => self.learn(news),
                1.. = updates.recv_many(&mut batch, BATCH) => {
                    self.catch_up(&mut news);
                    batch.drain(..).for_each(|update| self.wish(&domain, update));
                }
                Some(written) = self.in_flight.next() => self.conclude(written),
                // Another turn may have come.
                Ok(()) = self.live.changed() => self.due.extend(self.routes.keys().cloned()),
                () = until(next) => self.resume(),
            }
        }
    }

    /// Begins to write what is due, as far as there is room.
    fn launch(&mut self) {
        let live = Arc::clone(&self.live.borrow());
        let role = Role { own: &self.own, live: &live };
        while self.paused.is_none() && self.in_flight.len() < IN_FLIGHT {
            let Some(name) = self.due.pop_first() else { return };
            let Some(route) = self.routes.get_mut(&name) else { continue };
            if route.state != State::Idle {
                continue;
            }
            let status = status_to_write(&route.known, &mut route.wishes, role, Instant::now());
            if let Some(status) = status {
                route.state = State::Writing;
                self.in_flight.push(Box::pin(apply(self.api.clone(), route.known.clone(), status)));
            }
        }
    }

    /// Takes in the news that updates were concluded from. They were sent before those, into another queue.
    fn catch_up(&mut self, news: &mut mpsc::Receiver<News>) {
        while let Ok(news) = news.try_recv() {
            self.learn(news);
        }
    }

    fn wish(&mut self, domain: &DomainId, StatusUpdate { object, change }: StatusUpdate) {
        let own = object.kind == Kind::DomainRoute && object.namespace == domain.as_str();
        let Some(route) = self.routes.get_mut(&object.name).filter(|_| own) else {
            tracing::debug!(%object, "ignoring a status of an object that is gone");
            return;
        };
        route.wishes.add(change, &route.known, Instant::now());
        self.due.insert(object.name);
    }

    fn learn(&mut self, news: News) {
        match news {
            News::Seen(known) => self.see(*known),
            News::Listed(known) => self.replace(*known),
            News::Gone(name) => {
                self.routes.remove(&name);
            }
            News::KeepOnly(names) => self.routes.retain(|name, _| names.contains(name)),
        }
    }

    /// Takes in what the watch has brought, or what a write has made, whichever comes first.
    fn see(&mut self, known: KnownRoute) {
        let is_newer = |route: &Route| route.known.uid == known.uid && known.is_older_than(&route.known);
        if !self.routes.get(&known.name).is_some_and(is_newer) {
            self.replace(known);
        }
    }

    fn replace(&mut self, known: KnownRoute) {
        self.due.insert(known.name.clone());
        match self.routes.get_mut(&known.name) {
            Some(route) if route.known.uid == known.uid => {
                if route.state == State::Outdated && known.version != route.known.version {
                    route.state = State::Idle;
                }
                route.known = known;
            }
            // What was wanted of a route that had this name before is not wanted of this one.
            _ => {
                let name = known.name.clone();
                let route = Route { known, wishes: Wishes::default(), state: State::Idle };
                self.routes.insert(name, route);
            }
        }
    }

    fn conclude(&mut self, Written { from, result }: Written) {
        let name = from.name.clone();
        let place =
            ObjectRef { kind: Kind::DomainRoute, namespace: self.namespace.clone(), name: name.clone() };
        if let Some(route) = self.routes.get_mut(&name) {
            route.state = State::Idle;
        }
        self.due.insert(name.clone());
        match result {
            Ok(written) => {
                self.works();
                self.board.mended(&place, Defect::Unwritable);
                self.announcements.announce(&from, &written);
                if self.routes.get(&name).is_some_and(|route| route.known.uid == written.uid) {
                    self.see(written);
                }
            }
            Err(WriteError::Refused(kube::Error::Api(status))) if status.code == 409 => {
                self.works();
                if let Some(route) = self.routes.get_mut(&name).filter(|route| route.known == from) {
                    route.state = State::Outdated;
                    self.later.insert((Instant::now() + OUTDATED_PAUSE, name));
                }
            }
            Err(WriteError::Refused(kube::Error::Api(status))) if status.code == 404 => {
                self.works();
                if let Some(route) = self.routes.get_mut(&name).filter(|route| route.known.uid == from.uid) {
                    route.wishes = Wishes::default();
                }
            }
            Err(WriteError::Refused(error)) => {
                let trouble = Trouble::of(&error, Part::Statuses);
                match (trouble.scope, &error) {
                    (Scope::Part, kube::Error::Api(status)) if status.code != 403 => {
                        self.works();
                        let message =
                            format!("its status cannot be written: {}; {}", trouble.what, trouble.remedy);
                        self.board.broken(place, Defect::Unwritable, message);
                        self.due.remove(&name);
                        self.later.insert((Instant::now() + REFUSED_PAUSE, name));
                    }
                    _ => self.pause(trouble),
                }
            }
            Err(WriteError::Silence) => self.pause(Trouble::silence()),
        }
    }

    fn works(&mut self) {
        if self.backoff.failures() > 0 {
            self.backoff.succeed();
            self.board.works(Part::Statuses);
        }
    }

    fn pause(&mut self, trouble: Trouble) {
        self.paused = Some(Instant::now() + self.backoff.fail());
        // A server that restarts is not worth a word.
        if trouble.scope == Scope::Part || self.backoff.failures() > 1 {
            self.board.troubled(Part::Statuses, trouble);
        }
    }

    /// Goes on after a pause, or with what was put off.
    fn resume(&mut self) {
        let now = Instant::now();
        self.paused = self.paused.filter(|paused| *paused > now);
        while self.later.first().is_some_and(|(time, _)| *time <= now)
            && let Some((_, name)) = self.later.pop_first()
        {
            if let Some(route) = self.routes.get_mut(&name).filter(|route| route.state == State::Outdated) {
                route.state = State::Idle;
            }
            self.due.insert(name);
        }
    }
}
