//! What a client wants, holds and still has to be sent, for one type.

mod answer;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
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

/// What the client holds of one name, as far as it has acknowledged or claimed.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// It has been told that there is nothing for it under this name.
    Nothing,
    /// Perhaps something: it said so when the stream began, with the version if it is one of this server; or it was
    /// sent something and the answer left open whether it took it.
    Unknown(Option<Version>),
    /// It has acknowledged this.
    Acknowledged(Arc<Resource>),
}

/// What the client should hold of one name.
enum Target {
    Nothing,
    /// What it has: its own version is older, but it rejects the newest.
    Unchanged,
    Resource(Arc<Resource>),
}

/// Names, in order, and what a response says of them; `None` says that there is nothing.
pub(super) type Batch = Vec<(Arc<str>, Option<Arc<Resource>>)>;

/// A response that the client has not answered yet.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) nonce: String,
    pub(super) batch: Batch,
    pub(super) sent: Instant,
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
    held: BTreeMap<Arc<str>, Held>,
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
            held: BTreeMap::new(),
            again: BTreeSet::new(),
            additions: BTreeSet::new(),
            removals: BTreeSet::new(),
            must_answer: false,
            suspects: Vec::new(),
            outstanding: VecDeque::new(),
            last_nonce: None,
        }
    }

    /// Takes over what a request says about the client's interest. Returns how many names it now asks for.
    pub(super) fn subscribe(&mut self, state: &State, interest: Interest) -> usize {
        let is_first = !std::mem::replace(&mut self.started, true);
        match interest {
            Interest::Change { subscribe, unsubscribe, held } => {
                let claims_nothing = held.is_empty();
                if is_first {
                    self.wildcard = subscribe.is_empty() && self.ty.is_listed_whole();
                    let claims = held.into_iter().map(|(name, version)| (name.into(), version.parse().ok()));
                    self.held = claims.map(|(name, version)| (name, Held::Unknown(version))).collect();
                }
                self.unsubscribe_from(state, unsubscribe);
                self.subscribe_to(state, subscribe, is_first);
                if is_first {
                    self.must_answer = self.wildcard && claims_nothing;
                    self.again = self.again.iter().filter(|name| self.wants(name)).cloned().collect();
                    self.review_all(state);
                }
            }
            Interest::Exactly(names) => self.subscribe_exactly(state, names, is_first),
        }
        self.names.len()
    }

    fn subscribe_to(&mut self, state: &State, names: Vec<String>, is_first: bool) {
        for name in names {
            if name == WILDCARD {
                self.wildcard = true;
                self.must_answer = true;
                self.review_all(state);
                continue;
            }
            let name = Arc::from(name);
            // A client that asks for what it has may have dropped it meanwhile, so it gets it again. What it says
            // to hold in the request that opens the stream, it does hold.
            if !is_first {
                self.again.insert(Arc::clone(&name));
            }
            self.names.insert(Arc::clone(&name));
            self.review(state, &name);
        }
    }

    fn unsubscribe_from(&mut self, state: &State, names: Vec<String>) {
        for name in names {
            if name == WILDCARD {
                self.wildcard = false;
                self.review_all(state);
                continue;
            }
            let name = Arc::from(name);
            if !self.names.remove(&name) {
                continue;
            }
            // The client drops the resource, unless the wildcard still covers it: it waits to be told.
            if self.wildcard {
                self.again.insert(Arc::clone(&name));
            } else {
                self.again.remove(&name);
            }
            self.review(state, &name);
        }
    }

    fn subscribe_exactly(&mut self, state: &State, names: Vec<String>, is_first: bool) {
        self.has_named |= !names.is_empty();
        let mut names: BTreeSet<Arc<str>> = names.into_iter().map(Arc::from).collect();
        let wildcard = names.remove(WILDCARD) || (self.ty.is_listed_whole() && !self.has_named);
        let widened = wildcard && !self.wildcard;
        let narrowed = self.wildcard && !wildcard;
        self.wildcard = wildcard;
        let old = std::mem::replace(&mut self.names, names);
        let changed: Vec<_> = self.names.symmetric_difference(&old).cloned().collect();
        let added = self.names.iter().any(|name| !old.contains(name));
        for name in &changed {
            if !self.wants(name) {
                self.again.remove(name);
            }
            self.review(state, name);
        }
        if widened || narrowed {
            self.review_all(state);
        }
        self.must_answer |= self.ty.is_listed_whole() && (is_first || widened || added);
    }

    /// Sends the resource of this name even if the client holds it; also if it says so in its first request,
    /// which may be yet to come.
    pub(super) fn send_again(&mut self, state: &State, name: &Arc<str>) {
        if self.wants(name) || !self.started {
            self.again.insert(Arc::clone(name));
            self.review(state, name);
        }
    }

    /// Compares everything the client holds or could hold with the state.
    pub(super) fn review_all(&mut self, state: &State) {
        let known = self.held.keys().chain(&self.names).chain(&self.additions).chain(&self.removals);
        let mut names: BTreeSet<Arc<str>> = known.cloned().collect();
        if self.wildcard {
            names.extend(state.names(self.ty).cloned());
        }
        for name in &names {
            self.review(state, name);
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
            self.held.remove(name);
            return;
        }
        self.settle_claim(state, name);
        let again = self.again.contains(name);
        match (self.target(state, name), self.held.get(name)) {
            (Target::Unchanged, _) => {}
            (Target::Resource(new), Some(Held::Acknowledged(old)))
                if old.version() == new.version() && !again => {}
            (Target::Resource(_), _) => {
                self.additions.insert(Arc::clone(name));
            }
            (Target::Nothing, Some(Held::Unknown(_) | Held::Acknowledged(_))) => self.withdraw(name),
            (Target::Nothing, None) if self.is_on_its_way(name) => self.withdraw(name),
            (Target::Nothing, Some(Held::Nothing)) if !again => {}
            (Target::Nothing, None) if !again && !self.names.contains(name) => {}
            (Target::Nothing, _) => self.deny(name),
        }
    }

    /// Notes that a resource has to be taken from the client.
    fn withdraw(&mut self, name: &Arc<str>) {
        match self.protocol {
            Protocol::StateOfTheWorld if !self.ty.is_listed_whole() => {
                self.again.remove(name);
                self.held.insert(Arc::clone(name), Held::Nothing);
            }
            Protocol::Delta | Protocol::StateOfTheWorld => {
                self.removals.insert(Arc::clone(name));
            }
        }
    }

    /// Notes that the client has to be told that there is no such resource.
    fn deny(&mut self, name: &Arc<str>) {
        if self.protocol == Protocol::Delta {
            self.additions.insert(Arc::clone(name));
            return;
        }
        self.again.remove(name);
        self.held.insert(Arc::clone(name), Held::Nothing);
        self.must_answer |= self.ty.is_listed_whole();
    }

    /// A client that says to hold the version of the state holds the state's resource.
    fn settle_claim(&mut self, state: &State, name: &Arc<str>) {
        let Some(Held::Unknown(Some(claimed))) = self.held.get(name) else { return };
        if let Some(resource) =
            state.resource(self.ty, name).filter(|resource| resource.version() == *claimed)
        {
            self.held.insert(Arc::clone(name), Held::Acknowledged(Arc::clone(resource)));
        }
    }

    fn target(&self, state: &State, name: &Arc<str>) -> Target {
        let Some(newest) = state.resource(self.ty, name) else { return Target::Nothing };
        if !self.rejections.rejects(self.ty, name, newest.version()) {
            return Target::Resource(Arc::clone(newest));
        }
        match self.held.get(name) {
            Some(Held::Acknowledged(last)) => Target::Resource(Arc::clone(last)),
            Some(Held::Unknown(_)) => Target::Unchanged,
            Some(Held::Nothing) | None => Target::Nothing,
        }
    }

    pub(super) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
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
            bytes += name.len() + content.as_ref().map_or(0, |resource| resource.body().len());
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

    /// All resources the client holds once it has accepted the batch.
    pub(super) fn listing(&self, batch: &Batch) -> Vec<Arc<Resource>> {
        let held = self.held.iter().filter_map(|(name, held)| match held {
            Held::Acknowledged(resource) => Some((name, resource)),
            Held::Nothing | Held::Unknown(_) => None,
        });
        let mut listing: BTreeMap<_, _> = held.collect();
        for (name, content) in batch {
            match content {
                Some(resource) => listing.insert(name, resource),
                None => listing.remove(name),
            };
        }
        listing.into_values().cloned().collect()
    }

    /// How many resources of the state the client asks for; names without a resource count too.
    pub(super) fn subscribed(&self, state: &State) -> usize {
        if self.wildcard { state.count(self.ty) } else { self.names.len() }
    }

    /// The version of this name that the client has acknowledged or claimed.
    pub(super) fn held_version(&self, name: &str) -> Option<Version> {
        self.held.get(name).and_then(Held::version)
    }

    pub(super) fn held(&self) -> &BTreeMap<Arc<str>, Held> {
        &self.held
    }
}

impl Held {
    pub(super) fn version(&self) -> Option<Version> {
        match self {
            Self::Nothing => None,
            Self::Unknown(version) => *version,
            Self::Acknowledged(resource) => Some(resource.version()),
        }
    }
}
