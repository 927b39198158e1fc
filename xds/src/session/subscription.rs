//! What a client wants, holds and still has to be sent, for one type.

mod answer;
mod batch;
mod interest;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use super::{Protocol, Rejections};
use crate::{
    cache::{Difference, State},
    resource::{Resource, ResourceType, Version},
};

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
    /// How many of the names the state has.
    present: usize,
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
            present: 0,
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
        for Difference { name, old, new: newest } in new.differences(old, self.ty) {
            let is_gone = newest.is_none() && new.is_loaded();
            if is_gone {
                self.rejections.remove(self.ty, name);
            }
            if self.names.contains(name) {
                self.present -= usize::from(old.is_some());
                self.present += usize::from(newest.is_some());
            }
            if self.wants(name) {
                let name = Arc::from(name);
                let held = self.held(old, &name);
                self.hold(newest, &name, held);
                self.compare(newest, &name);
            } else if is_gone {
                self.again.remove(name);
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

    /// Compares what the client holds of a name with the state.
    pub(super) fn review(&mut self, state: &State, name: &Arc<str>) {
        let newest = state.resource(self.ty, name);
        if newest.is_none() && state.is_loaded() {
            self.rejections.remove(self.ty, name);
        }
        self.compare(newest, name);
    }

    /// Compares what the client holds of a name with what it should hold, and notes what has to be sent.
    fn compare(&mut self, newest: Option<&Resource>, name: &Arc<str>) {
        self.additions.remove(name);
        self.removals.remove(name);
        if !self.wants(name) {
            self.differs.remove(name);
            self.again.remove(name);
            return;
        }
        let again = self.again.contains(name);
        match (self.target(newest, name), self.held(newest, name)) {
            (Target::Unchanged, _) => {}
            (Target::Resource(new), Held::Acknowledged(old)) if old.version() == new.version() && !again => {
                if newest.map(Resource::version) == Some(new.version()) {
                    self.rejections.remove(self.ty, name);
                }
            }
            (Target::Resource(_), _) => {
                self.additions.insert(Arc::clone(name));
            }
            (Target::Nothing, Held::Unknown(_) | Held::Acknowledged(_)) => self.withdraw(newest, name),
            (Target::Nothing, Held::Unseen) if self.is_on_its_way(name) => self.withdraw(newest, name),
            (Target::Nothing, Held::Nothing) if !again => {}
            (Target::Nothing, Held::Unseen) if !again && !self.names.contains(name) => {}
            (Target::Nothing, _) => self.deny(newest, name),
        }
    }

    /// Notes that a resource has to be taken from the client.
    fn withdraw(&mut self, newest: Option<&Resource>, name: &Arc<str>) {
        if self.protocol == Protocol::Delta || self.protocol.lists_all(self.ty) {
            self.removals.insert(Arc::clone(name));
            return;
        }
        self.again.remove(name);
        self.hold(newest, name, Held::Nothing);
    }

    /// Notes that the client has to be told that there is no such resource.
    fn deny(&mut self, newest: Option<&Resource>, name: &Arc<str>) {
        if self.protocol == Protocol::Delta {
            self.additions.insert(Arc::clone(name));
            return;
        }
        self.again.remove(name);
        self.hold(newest, name, Held::Nothing);
        self.must_answer |= self.ty.is_listed_whole();
    }

    /// What the client should hold of a name, of which this is the newest.
    fn target(&self, newest: Option<&Resource>, name: &str) -> Target {
        let Some(newest) = newest else { return Target::Nothing };
        if !self.rejections.rejects(self.ty, name, newest.version()) {
            return Target::Resource(newest.clone());
        }
        match self.held(Some(newest), name) {
            Held::Acknowledged(last) => Target::Resource(last),
            Held::Unknown(_) => Target::Unchanged,
            // It may hold that from an earlier stream, in which it rejected the newest.
            Held::Nothing | Held::Unseen => {
                self.rejections.kept(self.ty, name).map_or(Target::Nothing, Target::Resource)
            }
        }
    }

    /// What the client holds of a name that it wants, and of which this is the newest.
    fn held(&self, newest: Option<&Resource>, name: &str) -> Held {
        let in_step = || newest.cloned().map_or(Held::Unseen, Held::Acknowledged);
        self.differs.get(name).cloned().unwrap_or_else(in_step)
    }

    /// Notes what the client holds of a name that it wants, and of which this is the newest.
    fn hold(&mut self, newest: Option<&Resource>, name: &Arc<str>, held: Held) {
        let is_in_step = match newest {
            Some(newest) => held.version() == Some(newest.version()),
            None => matches!(held, Held::Unseen),
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

    /// How many resources of the state the client asks for; names without a resource count too.
    pub(super) fn subscribed(&self, state: &State) -> usize {
        if self.wildcard { state.count(self.ty) } else { self.names.len() }
    }

    /// How many names the client has been told of or is being told of, at most.
    pub(super) fn entries(&self, state: &State) -> usize {
        let on_their_way: usize = self.outstanding.iter().map(|response| response.batch.len()).sum();
        // What differs is one of the names, if only names are wanted.
        let differs = if self.wildcard { self.differs.len() } else { 0 };
        self.subscribed(state) + differs.max(on_their_way)
    }

    /// How many names the client holds a version of that it has acknowledged or claimed. Costs as much as is not in step
    /// with the state.
    pub(super) fn held_count(&self, state: &State) -> usize {
        let wanted = if self.wildcard { state.count(self.ty) } else { self.present };
        let out_of_step = self.differs.keys().filter(|name| state.resource(self.ty, name).is_some()).count();
        let other_versions = self.differs.values().filter(|held| held.version().is_some()).count();
        wanted - out_of_step + other_versions
    }

    /// Whether the client has been told of any name. Costs as much as is not in step with the state.
    pub(super) fn is_used(&self, state: &State) -> bool {
        self.subscribed(state) > 0 || self.differs.values().any(|held| !matches!(held, Held::Unseen))
    }

    /// The version of this name, which it wants, that the client has acknowledged or claimed.
    pub(super) fn held_version(&self, state: &State, name: &str) -> Option<Version> {
        self.held(state.resource(self.ty, name), name).version()
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
