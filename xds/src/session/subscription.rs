//! What a client wants, holds and still has to be sent, for one type.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tracing::{debug, warn};

use super::{
    Protocol,
    nack::{self, Blame, Nack, Rejections},
    wire::Interest,
};
use crate::{
    cache::State,
    resource::{Resource, ResourceType, Version},
};

/// How many unanswered responses of a type are kept in mind.
const UNANSWERED: usize = 8;

/// Stands for all names in a request.
const WILDCARD: &str = "*";

/// What the client holds of one name, as far as it has acknowledged or claimed.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// It has been told that there is nothing for it under this name.
    Nothing,
    /// It said so when the stream began. `None` if it is no version of this server.
    Claimed(Option<Version>),
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
                    self.held = claims.map(|(name, version)| (name, Held::Claimed(version))).collect();
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
            (Target::Nothing, Some(Held::Nothing)) if !again => {}
            (Target::Nothing, Some(Held::Claimed(_) | Held::Acknowledged(_))) if !again => {
                self.withdraw(name);
            }
            (Target::Nothing, None) if !again && self.is_on_its_way(name) => self.withdraw(name),
            (Target::Nothing, None) if !again && !self.names.contains(name) => {}
            (Target::Nothing, _) => self.deny(name),
        }
    }

    /// Notes that a resource has to be taken from the client.
    fn withdraw(&mut self, name: &Arc<str>) {
        match self.protocol {
            Protocol::StateOfTheWorld if !self.ty.is_listed_whole() => {
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

    /// A client that claims the version of the state holds the state's resource.
    fn settle_claim(&mut self, state: &State, name: &Arc<str>) {
        let Some(Held::Claimed(Some(claimed))) = self.held.get(name) else { return };
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
            Some(Held::Claimed(_)) => Target::Unchanged,
            Some(Held::Nothing) | None => Target::Nothing,
        }
    }

    /// Whether an unanswered response carries a resource of this name.
    fn is_on_its_way(&self, name: &Arc<str>) -> bool {
        self.outstanding.iter().any(|response| {
            let position = response.batch.binary_search_by(|(sent, _)| sent.cmp(name));
            position.is_ok_and(|position| response.batch[position].1.is_some())
        })
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

    pub(super) fn has_unanswered(&self) -> bool {
        !self.outstanding.is_empty()
    }

    pub(super) fn unanswered(&self) -> impl Iterator<Item = &Outstanding> {
        self.outstanding.iter()
    }

    /// Whether a request was sent before its client had the last response.
    pub(super) fn is_stale(&self, nonce: &str) -> bool {
        self.last_nonce.as_ref().is_some_and(|last| last != nonce)
    }

    /// Until when the answer to the last response is awaited.
    pub(super) fn waits_until(&self, patience: Duration) -> Option<Instant> {
        self.outstanding.back().map(|last| last.sent + patience)
    }

    /// Notes that a response has been sent.
    pub(super) fn sent(&mut self, state: &State, response: Outstanding) {
        self.last_nonce = Some(response.nonce.clone());
        self.outstanding.push_back(response);
        if self.outstanding.len() > UNANSWERED
            && let Some(forgotten) = self.outstanding.pop_front()
        {
            self.doubt(state, forgotten.batch);
        }
    }

    /// Takes what the next response has to add, up to a size of `max_bytes` unless a single resource is larger.
    pub(super) fn take_additions(&mut self, state: &State, max_bytes: usize) -> Batch {
        self.must_answer = false;
        let mut group = BTreeSet::new();
        while group.is_empty() {
            let Some(suspects) = self.suspects.pop() else { break };
            group = &suspects & &self.additions;
        }
        if group.is_empty() {
            group.clone_from(&self.additions);
        }
        let mut batch = Batch::new();
        let mut bytes = 0;
        for name in group {
            let content = match self.target(state, &name) {
                Target::Resource(resource) => Some(resource),
                Target::Nothing | Target::Unchanged => None,
            };
            bytes += name.len() + content.as_ref().map_or(0, |resource| resource.body().len());
            let is_full = bytes > max_bytes || self.ty.is_sent_alone();
            if is_full && !batch.is_empty() {
                break;
            }
            self.additions.remove(&name);
            self.again.remove(&name);
            batch.push((name, content));
        }
        batch
    }

    /// Takes what the next response has to remove.
    pub(super) fn take_removals(&mut self) -> Batch {
        std::mem::take(&mut self.removals).into_iter().map(|name| (name, None)).collect()
    }

    /// All resources the client holds once it has accepted the batch and all that was sent before.
    pub(super) fn listing(&self, batch: &Batch) -> Vec<Arc<Resource>> {
        let held = self.held.iter().filter_map(|(name, held)| match held {
            Held::Acknowledged(resource) => Some((name, resource)),
            Held::Nothing | Held::Claimed(_) => None,
        });
        let mut listing: BTreeMap<_, _> = held.collect();
        for (name, content) in self.outstanding.iter().flat_map(|response| &response.batch).chain(batch) {
            match content {
                Some(resource) => listing.insert(name, resource),
                None => listing.remove(name),
            };
        }
        listing.into_values().cloned().collect()
    }

    /// Takes the client's answer to a response. Ignores an answer to any but an outstanding one.
    pub(super) fn answer(&mut self, state: &State, nonce: &str, error: Option<&str>, at: Timestamp) {
        let Some(position) = self.outstanding.iter().position(|response| response.nonce == nonce) else {
            debug!(ty = %self.ty, nonce, "ignored an answer to no outstanding response");
            return;
        };
        let later = self.outstanding.split_off(position + 1);
        let mut answered = std::mem::replace(&mut self.outstanding, later);
        let response = answered.pop_back();
        for skipped in answered {
            self.doubt(state, skipped.batch);
        }
        let Some(Outstanding { batch, .. }) = response else { return };
        match error {
            None => self.accept(state, batch),
            Some(message) => self.reject(state, batch, message, at),
        }
    }

    /// Sends again what the client may or may not have taken.
    fn doubt(&mut self, state: &State, batch: Batch) {
        for (name, _) in batch {
            self.again.insert(Arc::clone(&name));
            self.review(state, &name);
        }
    }

    fn accept(&mut self, state: &State, batch: Batch) {
        for (name, content) in batch {
            match content {
                Some(resource) => {
                    let newest = state.resource(self.ty, &name);
                    if newest.is_some_and(|newest| newest.version() == resource.version()) {
                        self.rejections.remove(self.ty, &name);
                    }
                    self.held.insert(Arc::clone(&name), Held::Acknowledged(resource));
                }
                None if self.names.contains(&name) => {
                    self.held.insert(Arc::clone(&name), Held::Nothing);
                }
                None => {
                    self.held.remove(&name);
                }
            }
            self.review(state, &name);
        }
    }

    fn reject(&mut self, state: &State, batch: Batch, message: &str, at: Timestamp) {
        let (resources, absences): (Batch, Batch) =
            batch.into_iter().partition(|(_, content)| content.is_some());
        // There is no other way to say that something is gone, so saying it again would not help.
        self.accept(state, absences);

        let culprits = if resources.len() == 1 {
            resources.iter().map(|(name, _)| Arc::clone(name)).collect()
        } else {
            self.suspect(message, resources.iter().map(|(name, _)| name))
        };
        let message = nack::reason(message);
        if resources.is_empty() {
            warn!(ty = %self.ty, error = %message, "a response without resources was rejected");
        }
        // Envoy applies the good resources of some rejected responses but not of others. Sending them again is right
        // in both cases.
        let (bad, others): (Batch, Batch) =
            resources.into_iter().partition(|(name, _)| culprits.contains(name));
        self.doubt(state, others);
        for (name, version) in bad.into_iter().filter_map(|(name, content)| Some((name, content?.version())))
        {
            warn!(ty = %self.ty, %name, %version, error = %message, "a resource was rejected");
            let keeps_another = self.held_version(&name).is_some_and(|held| held != version);
            if !keeps_another && !matches!(self.held.get(&name), Some(Held::Claimed(_))) {
                self.held.insert(Arc::clone(&name), Held::Nothing);
            }
            self.rejections.insert(self.ty, &name, Nack { version, message: message.clone(), at });
            self.review(state, &name);
        }
    }

    /// Finds the culprits among several resources, or else queues parts of them to be tried.
    fn suspect<'a>(
        &mut self,
        message: &str,
        names: impl ExactSizeIterator<Item = &'a Arc<str>> + Clone,
    ) -> BTreeSet<Arc<str>> {
        match nack::blame(message, names.clone()) {
            Blame::Certain(culprits) => return culprits,
            Blame::Mentioned(mentioned) => {
                self.suspects.push(names.filter(|name| !mentioned.contains(*name)).cloned().collect());
                self.suspects.push(mentioned);
            }
            Blame::Nobody => {
                let half = names.len().div_ceil(2);
                self.suspects.push(names.clone().skip(half).cloned().collect());
                self.suspects.push(names.take(half).cloned().collect());
            }
        }
        BTreeSet::new()
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
            Self::Claimed(version) => *version,
            Self::Acknowledged(resource) => Some(resource.version()),
        }
    }
}
