//! What a watch says about the objects of one kind → events for the index.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::runtime::watcher;
use kube::{Resource as _, ResourceExt as _};
use model::{DomainId, Event, Kind, Object, ObjectRef};
use tokio::sync::mpsc;

use super::board::{Board, Defect};
use super::gateways::Gateways;
use super::raw::Raw;
use super::routes::{KnownRoute, News};

/// What is wrong where two meshes of a domain have one name.
const SHARED: &str = "several meshes write it, so a token may count as ready that one of them does not accept yet; \
                      give each its own name as `instance`, or leave that out: then it is the host name";

/// Nobody listens to events any more.
#[derive(Debug)]
pub(super) struct NobodyListens;

impl<T> From<mpsc::error::SendError<T>> for NobodyListens {
    fn from(_: mpsc::error::SendError<T>) -> Self {
        Self
    }
}

/// Takes in the objects of one kind.
pub(super) struct Intake {
    kind: Kind,
    /// As the API server calls it.
    namespace: String,
    domain: DomainId,
    follower: Follower,
    events: mpsc::Sender<Event>,
    board: Arc<Board>,
    /// The names of all objects.
    known: BTreeSet<String>,
    /// The same, of a reading that is under way.
    listed: BTreeSet<String>,
    /// The names of those whose newest version cannot be read.
    unreadable: BTreeSet<String>,
    state: State,
}

/// Who, beside the index, follows the objects.
pub(super) enum Follower {
    /// Nobody.
    None,
    /// The writer of statuses.
    Routes(mpsc::Sender<News>),
    /// Whoever counts the live gateways. These are nothing for the index.
    Gateways(Gateways),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Never read.
    Unknown,
    /// A reading is under way.
    Reading { is_first: bool },
    /// Read.
    Known,
}

impl Intake {
    /// The intake of the objects of `kind` in `namespace`, which are this `domain`'s whatever it is called.
    pub(super) fn new(
        kind: Kind,
        namespace: &str,
        domain: DomainId,
        follower: Follower,
        events: mpsc::Sender<Event>,
        board: Arc<Board>,
    ) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            domain,
            follower,
            events,
            board,
            known: BTreeSet::new(),
            listed: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            state: State::Unknown,
        }
    }

    /// The kind.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether all objects were read, and no reading is under way.
    pub(super) fn is_complete(&self) -> bool {
        self.state == State::Known
    }

    fn is_new(&self) -> bool {
        matches!(self.state, State::Unknown | State::Reading { is_first: true })
    }

    /// The objects may not be read. Where they never were, nothing is there to wait for.
    pub(super) async fn go_without(&mut self) -> Result<(), NobodyListens> {
        if self.is_new() {
            self.take(watcher::Event::Init).await?;
            self.take(watcher::Event::InitDone).await?;
        }
        Ok(())
    }

    /// Takes in what the watch says.
    pub(super) async fn take(&mut self, event: watcher::Event<Raw>) -> Result<(), NobodyListens> {
        match event {
            watcher::Event::Init => {
                self.state = State::Reading { is_first: self.is_new() };
                self.listed.clear();
                self.events.send(Event::Init(self.kind)).await?;
            }
            watcher::Event::InitApply(raw) => {
                self.listed.insert(raw.name().to_owned());
                self.put(raw, true).await?;
            }
            watcher::Event::InitDone => {
                self.known = std::mem::take(&mut self.listed);
                self.unreadable.retain(|name| self.known.contains(name));
                match &mut self.follower {
                    Follower::None => {}
                    Follower::Routes(news) => news.send(News::KeepOnly(self.known.clone())).await?,
                    Follower::Gateways(gateways) => {
                        gateways.keep_only(&self.known);
                        gateways.publish();
                    }
                }
                self.state = State::Known;
                self.events.send(Event::InitDone(self.kind)).await?;
                self.board.read(self.kind, &self.known);
            }
            watcher::Event::Apply(raw) => {
                if self.known.insert(raw.name().to_owned()) {
                    self.board.count(self.kind, self.known.len());
                }
                self.put(raw, false).await?;
            }
            watcher::Event::Delete(raw) => {
                self.known.remove(raw.name());
                self.board.count(self.kind, self.known.len());
                self.remove(raw.name()).await?;
            }
        }
        Ok(())
    }

    /// Says what stands in `raw`; where it cannot be read, that the version before stays.
    async fn put(&mut self, raw: Raw, is_listing: bool) -> Result<(), NobodyListens> {
        let reference = self.reference(raw.name(), self.domain.as_str());
        let place = self.reference(raw.name(), &self.namespace);
        let (uid, version, generation) = (raw.uid(), raw.resource_version(), raw.meta().generation);
        let object = match raw.read(self.kind, self.domain.as_str()) {
            Ok(object) => object,
            Err(errors) => {
                let errors = errors.to_string().replace('\n', "; ");
                let message = format!("{errors}; the version before stays in force, if there was one");
                self.unreadable.insert(reference.name.clone());
                self.board.broken(place, Defect::Unreadable, message);
                if is_listing {
                    self.events.send(Event::InitKeep(reference)).await?;
                }
                return Ok(());
            }
        };
        if self.unreadable.remove(&reference.name) {
            self.board.mended(&place, Defect::Unreadable);
        }
        match (&mut self.follower, &object) {
            (Follower::Gateways(gateways), Object::Gateway(gateway)) => {
                match gateways.heard(&reference.name, gateway) {
                    Some(true) => self.board.broken(place, Defect::Shared, SHARED.to_owned()),
                    Some(false) => self.board.mended(&place, Defect::Shared),
                    None => {}
                }
                if !is_listing {
                    gateways.publish();
                }
                return Ok(());
            }
            (Follower::Routes(news), Object::DomainRoute(route)) => {
                let status = route.status.clone().unwrap_or_default();
                let (uid, version) = (uid.unwrap_or_default(), version.unwrap_or_default());
                let known = Box::new(KnownRoute { name: reference.name, uid, version, generation, status });
                // First: what the index makes of it comes back to the writer.
                news.send(if is_listing { News::Listed(known) } else { News::Seen(known) }).await?;
            }
            _ => {}
        }
        let event = if is_listing { Event::InitApply(object) } else { Event::Apply(object) };
        Ok(self.events.send(event).await?)
    }

    async fn remove(&mut self, name: &str) -> Result<(), NobodyListens> {
        let place = self.reference(name, &self.namespace);
        self.unreadable.remove(name);
        self.board.mended(&place, Defect::Unreadable);
        match &mut self.follower {
            Follower::None => {}
            Follower::Routes(news) => {
                self.board.mended(&place, Defect::Unwritable);
                news.send(News::Gone(name.to_owned())).await?;
            }
            Follower::Gateways(gateways) => {
                gateways.gone(name);
                gateways.publish();
                return Ok(());
            }
        }
        Ok(self.events.send(Event::Delete(self.reference(name, self.domain.as_str()))).await?)
    }

    fn reference(&self, name: &str, namespace: &str) -> ObjectRef {
        let namespace = if self.kind.is_namespaced() { namespace } else { "" };
        ObjectRef { kind: self.kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}
