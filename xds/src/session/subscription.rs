//! What a client wants, holds and still has to be sent, for one type.

mod answer;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use super::{Protocol, Rejections, wire::Interest};
use crate::{
    cache::State,
    resource::{Resource, ResourceType, Version},
};

/// Stands for all names in a request.
const WILDCARD: &str = "*";
/// What a resource takes in a response beside its name and body: a version, a type URL and the lengths of all of them.
const ENVELOPE_BYTES: usize = 128;

/// What the client holds of one name, as far as it has acknowledged or claimed.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// Nothing that this server knows of.
    Unseen,
    /// It has been told that there is nothing for it under this name.
    Nothing,
    /// Perhaps something: it said so when the stream began, with the version if it is one of this server; or it was
    /// sent something and the answer left open whether it took it.
    Unknown(Option<Version>),
    /// It has acknowledged this.
    Acknowledged(Resource),
}

/// What the client should hold of one name.
enum Target {
    Nothing,
    /// What it has: its own version is older, but it rejects the newest.
    Unchanged,
    Resource(Resource),
}

/// Names, in order, and what a response says of them; `None` says that there is nothing.
pub(super) type Batch = Vec<(Arc<str>, Option<Resource>)>;

/// A response that the client has not answered yet.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) nonce: String,
    pub(super) batch: Batch,
    pub(super) sent: Instant,
    /// Whether one before it was given up unanswered, so that the answer may speak of that one too.
    pub(super) follows_unanswered: bool,
}

#[derive(Debug)]
pub(super) struct Subscription {
    ty: ResourceType,
    protocol: Protocol,
    rejections: Rejections,
    /// Whether the client has asked for this type in this stream.
    started: bool,
    wildcard: bool,
    /// Whether it has ever given names. From then on an empty list means nothing, not everything.
    has_named: bool,
    names: BTreeSet<Arc<str>>,
    /// What the client holds of the names it wants, where that is not what the state has: a client in step with the
    /// state costs no memory but its names.
    differs: BTreeMap<Arc<str>, Held>,
    /// To be sent even if the client holds it.
    again: BTreeSet<Arc<str>>,
    /// To be sent: resources, and answers that there is nothing.
    additions: BTreeSet<Arc<str>>,
    /// To be taken from the client.
    removals: BTreeSet<Arc<str>>,
    /// To be answered even with nothing, because the client waits for a first response.
    must_answer: bool,
    /// Parts of a rejected response, to be sent one by one, the last first, until the culprit is found alone.
    suspects: Vec<BTreeSet<Arc<str>>>,
    /// Not answered yet, the oldest first: one, or more if the client has not answered in time.
    outstanding: VecDeque<Outstanding>,
    /// Whether responses were given up unanswered since the last answer.
    has_given_up: bool,
    last_nonce: Option<String>,
}

impl Subscription {
    pub(super) fn new(ty: ResourceType, protocol: Protocol, rejections: Rejections) -> Self {
        Self {
            ty,
            protocol,
            rejections,
            started: false,
            wildcard: false,
            has_named: false,
            names: BTreeSet::new(),
            differs: BTreeMap::new(),
            again: BTreeSet::new(),
            additions: BTreeSet::new(),
            removals: BTreeSet::new(),
            must_answer: false,
            suspects: Vec::new(),
            outstanding: VecDeque::new(),
            has_given_up: false,
            last_nonce: None,
        }
    }

    /// Takes over what a request says about the client's interest. Returns how many names it now asks for.
    pub(super) fn subscribe(&mut self, state: &State, interest: Interest) -> usize {
        let is_first = !std::mem::replace(&mut self.started, true);
        match interest {
            Interest::Change { subscribe, unsubscribe, held } if is_first => {
                self.begin(state, subscribe, held);
                self.unsubscribe_from(state, unsubscribe);
            }
            Interest::Change { subscribe, unsubscribe, .. } => {
                self.unsubscribe_from(state, unsubscribe);
                self.subscribe_to(state, subscribe);
            }
            Interest::Exactly(names) => self.subscribe_exactly(state, names, is_first),
        }
        self.names.len()
    }

    /// Takes over the first request in delta, in which the client tells what it holds from an earlier stream.
    fn begin(&mut self, state: &State, names: Vec<String>, held: HashMap<String, String>) {
        self.wildcard =
            names.iter().any(|name| name == WILDCARD) || (names.is_empty() && self.ty.is_listed_whole());
        self.must_answer = self.wildcard && held.is_empty();
        self.names = names.into_iter().filter(|name| name != WILDCARD).map(Arc::from).collect();
        self.again = self.again.iter().filter(|name| self.wants(name)).cloned().collect();

        let mut claims: HashMap<String, Option<Version>> =
            held.into_iter().map(|(name, version)| (name, version.parse().ok())).collect();
        let mut open: BTreeSet<Arc<str>> = self.again.clone();
        open.extend(self.names.iter().filter(|name| state.resource(self.ty, name).is_none()).cloned());
        let wanted: Vec<&Resource> = if self.wildcard {
            state.resources(self.ty).collect()
        } else {
            self.names.iter().filter_map(|name| state.resource(self.ty, name)).collect()
        };
        for resource in wanted {
            let held = claims.remove(resource.name()).map_or(Held::Unseen, Held::Unknown);
            if held.version() != Some(resource.version()) {
                let name = Arc::from(resource.name());
                self.hold(state, &name, held);
                open.insert(name);
            }
        }
        for (name, version) in claims.into_iter().filter(|(name, _)| self.wants(name)).collect::<Vec<_>>() {
            let name = Arc::from(name);
            self.hold(state, &name, Held::Unknown(version));
            open.insert(name);
        }
        for name in &open {
            self.review(state, name);
        }
    }

    fn subscribe_to(&mut self, state: &State, names: Vec<String>) {
        for name in names {
            if name == WILDCARD {
                self.must_answer = true;
                self.widen(state);
                continue;
            }
            let name = Arc::from(name);
            if !self.wants(&name) {
                self.hold(state, &name, Held::Unseen);
            }
            // A client that asks for what it has may have dropped it meanwhile, so it gets it again. What it says
            // to hold in the request that opens the stream, it does hold.
            self.again.insert(Arc::clone(&name));
            self.names.insert(Arc::clone(&name));
            self.review(state, &name);
        }
    }

    fn unsubscribe_from(&mut self, state: &State, names: Vec<String>) {
        for name in names {
            if name == WILDCARD {
                self.narrow(state);
                continue;
            }
            let name = Arc::from(name);
            if !self.names.remove(&name) {
                continue;
            }
            // The client drops the resource, unless the wildcard still covers it: it waits to be told.
            if self.wildcard {
                self.again.insert(Arc::clone(&name));
            }
            self.review(state, &name);
        }
    }

    fn subscribe_exactly(&mut self, state: &State, names: Vec<String>, is_first: bool) {
        self.has_named |= !names.is_empty();
        let mut names: BTreeSet<Arc<str>> = names.into_iter().map(Arc::from).collect();
        let wildcard = names.remove(WILDCARD) || (self.ty.is_listed_whole() && !self.has_named);
        let widens = wildcard && !self.wildcard;
        let narrows = self.wildcard && !wildcard;
        if widens {
            self.widen(state);
        }
        let added: Vec<_> = names.difference(&self.names).cloned().collect();
        let dropped: Vec<_> = self.names.difference(&names).cloned().collect();
        for name in &added {
            if !self.wants(name) {
                self.hold(state, name, Held::Unseen);
            }
        }
        self.names = names;
        for name in added.iter().chain(&dropped) {
            self.review(state, name);
        }
        if narrows {
            self.narrow(state);
        }
        self.must_answer |= self.ty.is_listed_whole() && (is_first || widens || !added.is_empty());
    }

    /// Takes from a request that is otherwise ignored what its client had given up by then: should it want that again
    /// by its next request, it no longer holds it.
    pub(super) fn note_dropped(&mut self, state: &State, interest: &Interest) {
        let wanted: BTreeSet<&str> = interest.names().map(String::as_str).collect();
        let dropped: Vec<_> = self.names.iter().filter(|name| !wanted.contains(&***name)).cloned().collect();
        for name in dropped {
            self.again.insert(Arc::clone(&name));
            self.review(state, &name);
        }
    }

    /// Subscribes to all names.
    fn widen(&mut self, state: &State) {
        if std::mem::replace(&mut self.wildcard, true) {
            return;
        }
        for name in
            state.names(self.ty).filter(|name| !self.names.contains(*name)).map(Arc::from).collect::<Vec<_>>()
        {
            self.hold(state, &name, Held::Unseen);
            self.review(state, &name);
        }
    }

    /// Subscribes to the names that were given, and no more to the others.
    fn narrow(&mut self, state: &State) {
        self.wildcard = false;
        self.review_open(state);
    }

    /// Sends the resource of this name even if the client holds it; also if it says so in its first request,
    /// which may be yet to come.
    pub(super) fn send_again(&mut self, state: &State, name: &Arc<str>) {
        if !self.started {
            self.again.insert(Arc::clone(name));
        } else if self.wants(name) {
            self.again.insert(Arc::clone(name));
            self.review(state, name);
        }
    }

    /// Takes a new state: compares what differs from the old one with what the client holds.
    pub(super) fn update(&mut self, old: &State, new: &State) {
        for name in new.changes_since(old, self.ty) {
            if self.wants(name) {
                let name = Arc::from(name);
                let held = self.held(old, &name);
                self.hold(new, &name, held);
                self.review(new, &name);
            } else if new.resource(self.ty, name).is_none() {
                self.rejections.remove(self.ty, name);
            }
        }
    }

    /// Compares with the state again what is not in step with it.
    pub(super) fn review_open(&mut self, state: &State) {
        let open = self.differs.keys().chain(&self.again).chain(&self.additions).chain(&self.removals);
        for name in open.cloned().collect::<BTreeSet<_>>() {
            self.review(state, &name);
        }
    }

    /// Compares what the client holds of a name with what it should hold, and notes what has to be sent.
    pub(super) fn review(&mut self, state: &State, name: &Arc<str>) {
        self.additions.remove(name);
        self.removals.remove(name);
        if state.is_loaded() && state.resource(self.ty, name).is_none() {
            self.rejections.remove(self.ty, name);
        }
        if !self.wants(name) {
            self.differs.remove(name);
            self.again.remove(name);
            return;
        }
        let again = self.again.contains(name);
        match (self.target(state, name), self.held(state, name)) {
            (Target::Unchanged, _) => {}
            (Target::Resource(new), Held::Acknowledged(old)) if old.version() == new.version() && !again => {
                if state.resource(self.ty, name).map(Resource::version) == Some(new.version()) {
                    self.rejections.remove(self.ty, name);
                }
            }
            (Target::Resource(_), _) => {
                self.additions.insert(Arc::clone(name));
            }
            (Target::Nothing, Held::Unknown(_) | Held::Acknowledged(_)) => self.withdraw(state, name),
            (Target::Nothing, Held::Unseen) if self.is_on_its_way(name) => self.withdraw(state, name),
            (Target::Nothing, Held::Nothing) if !again => {}
            (Target::Nothing, Held::Unseen) if !again && !self.names.contains(name) => {}
            (Target::Nothing, _) => self.deny(state, name),
        }
    }

    /// Notes that a resource has to be taken from the client.
    fn withdraw(&mut self, state: &State, name: &Arc<str>) {
        match self.protocol {
            Protocol::StateOfTheWorld if !self.ty.is_listed_whole() => {
                self.again.remove(name);
                self.hold(state, name, Held::Nothing);
            }
            Protocol::Delta | Protocol::StateOfTheWorld => {
                self.removals.insert(Arc::clone(name));
            }
        }
    }

    /// Notes that the client has to be told that there is no such resource.
    fn deny(&mut self, state: &State, name: &Arc<str>) {
        if self.protocol == Protocol::Delta {
            self.additions.insert(Arc::clone(name));
            return;
        }
        self.again.remove(name);
        self.hold(state, name, Held::Nothing);
        self.must_answer |= self.ty.is_listed_whole();
    }

    fn target(&self, state: &State, name: &str) -> Target {
        let Some(newest) = state.resource(self.ty, name) else { return Target::Nothing };
        if !self.rejections.rejects(self.ty, name, newest.version()) {
            return Target::Resource(newest.clone());
        }
        match self.held(state, name) {
            Held::Acknowledged(last) => Target::Resource(last),
            Held::Unknown(_) => Target::Unchanged,
            Held::Nothing | Held::Unseen => Target::Nothing,
        }
    }

    /// What the client holds of a name that it wants.
    fn held(&self, state: &State, name: &str) -> Held {
        let in_step = || state.resource(self.ty, name).cloned().map_or(Held::Unseen, Held::Acknowledged);
        self.differs.get(name).cloned().unwrap_or_else(in_step)
    }

    /// Notes what the client holds of a name that it wants.
    fn hold(&mut self, state: &State, name: &Arc<str>, held: Held) {
        let is_in_step = match (state.resource(self.ty, name), &held) {
            (Some(newest), held) => held.version() == Some(newest.version()),
            (None, held) => matches!(held, Held::Unseen),
        };
        if is_in_step {
            self.differs.remove(name);
        } else {
            self.differs.insert(Arc::clone(name), held);
        }
    }

    pub(super) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Whether the client has asked for this type in this stream.
    pub(super) fn has_started(&self) -> bool {
        self.started
    }

    pub(super) fn has_additions(&self) -> bool {
        self.must_answer || !self.additions.is_empty()
    }

    pub(super) fn has_removals(&self) -> bool {
        !self.removals.is_empty()
    }

    /// Takes what the next response has to add, up to a size of `max_bytes` unless a single resource is larger.
    pub(super) fn take_additions(&mut self, state: &State, max_bytes: usize) -> Batch {
        self.must_answer = false;
        let mut group = BTreeSet::new();
        while group.is_empty() {
            let Some(suspects) = self.suspects.pop() else { break };
            group = &suspects & &self.additions;
        }
        let tries_suspects = !group.is_empty();
        let mut batch = Batch::new();
        let mut bytes = 0;
        loop {
            let next = if tries_suspects { group.pop_first() } else { self.additions.first().cloned() };
            let Some(name) = next else { return batch };
            let content = match self.target(state, &name) {
                Target::Resource(resource) => Some(resource),
                Target::Nothing | Target::Unchanged => None,
            };
            bytes +=
                ENVELOPE_BYTES + name.len() + content.as_ref().map_or(0, |resource| resource.body().len());
            let is_full = bytes > max_bytes || self.ty.is_sent_alone();
            if is_full && !batch.is_empty() {
                return batch;
            }
            self.additions.remove(&name);
            self.again.remove(&name);
            batch.push((name, content));
        }
    }

    /// Takes what the next response has to remove.
    pub(super) fn take_removals(&mut self) -> Batch {
        let names = std::mem::take(&mut self.removals);
        for name in &names {
            self.again.remove(name);
        }
        names.into_iter().map(|name| (name, None)).collect()
    }

    /// All resources the client holds once it has accepted the batch, in order.
    pub(super) fn listing(&self, state: &State, batch: &Batch) -> Vec<Resource> {
        let is_in_batch = |name: &str| batch.binary_search_by(|(sent, _)| sent.as_ref().cmp(name)).is_ok();
        let kept = self.known(state).filter(|(name, _)| !is_in_batch(name));
        let kept =
            kept.filter_map(
                |(_, held)| if let Held::Acknowledged(resource) = held { Some(resource) } else { None },
            );
        let mut listing: Vec<Resource> = kept.collect();
        listing.extend(batch.iter().filter_map(|(_, content)| content.clone()));
        listing.sort_by(|a, b| a.name_bytes().cmp(b.name_bytes()));
        listing
    }

    /// How many resources of the state the client asks for; names without a resource count too.
    pub(super) fn subscribed(&self, state: &State) -> usize {
        if self.wildcard { state.count(self.ty) } else { self.names.len() }
    }

    /// The version of this name, which it wants, that the client has acknowledged or claimed.
    pub(super) fn held_version(&self, state: &State, name: &str) -> Option<Version> {
        self.held(state, name).version()
    }

    /// What the client holds of every name it has been told of, in no order.
    pub(super) fn known<'a>(&'a self, state: &'a State) -> impl Iterator<Item = (&'a str, Held)> {
        let differs = self.differs.iter().map(|(name, held)| (name.as_ref(), held.clone()));
        let wanted: Box<dyn Iterator<Item = &Resource>> = if self.wildcard {
            Box::new(state.resources(self.ty))
        } else {
            Box::new(self.names.iter().filter_map(|name| state.resource(self.ty, name)))
        };
        let in_step = wanted.filter(|resource| !self.differs.contains_key(resource.name()));
        let in_step = in_step.map(|resource| (resource.name(), Held::Acknowledged(resource.clone())));
        differs.filter(|(_, held)| !matches!(held, Held::Unseen)).chain(in_step)
    }
}

impl Held {
    pub(super) fn version(&self) -> Option<Version> {
        match self {
            Self::Unseen | Self::Nothing => None,
            Self::Unknown(version) => *version,
            Self::Acknowledged(resource) => Some(resource.version()),
        }
    }
}
