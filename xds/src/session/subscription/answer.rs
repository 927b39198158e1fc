//! What was sent and how the client answers it.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tracing::{debug, warn};

use super::{Batch, Held, Outstanding, Subscription};
use crate::{
    cache::State,
    resource::{Resource, Version},
    session::{
        Protocol,
        nack::{self, Blame, Nack},
    },
};

/// How many unanswered responses of a type are kept in mind.
const UNANSWERED: usize = 8;

impl Subscription {
    pub(in crate::session) fn has_unanswered(&self) -> bool {
        !self.outstanding.is_empty()
    }

    pub(in crate::session) fn unanswered(&self) -> impl Iterator<Item = &Outstanding> {
        self.outstanding.iter()
    }

    /// Whether a request was sent before its client had the last response.
    pub(in crate::session) fn is_stale(&self, nonce: &str) -> bool {
        self.last_nonce.as_ref().is_some_and(|last| last != nonce)
    }

    /// Until when the answer to the last response is awaited.
    pub(in crate::session) fn waits_until(&self, patience: Duration) -> Option<Instant> {
        self.outstanding.back().map(|last| last.sent + patience)
    }

    /// Gives up waiting for an answer, in order to send something else.
    ///
    /// In the state of the world the answer to a response makes those to all before it stale, so whatever these
    /// brought has to go into the next one, to be answered with it.
    pub(in crate::session) fn expire(&mut self, state: &State) {
        if self.protocol == Protocol::StateOfTheWorld && (self.has_additions() || self.has_removals()) {
            for response in std::mem::take(&mut self.outstanding) {
                self.has_given_up = true;
                self.doubt(state, response.batch);
            }
        }
    }

    /// Notes that a response has been sent.
    pub(in crate::session) fn sent(&mut self, state: &State, nonce: String, batch: Batch, at: Instant) {
        self.last_nonce = Some(nonce.clone());
        let follows_unanswered = self.has_given_up;
        self.outstanding.push_back(Outstanding { nonce, batch, sent: at, follows_unanswered });
        if self.outstanding.len() > UNANSWERED
            && let Some(forgotten) = self.outstanding.pop_front()
        {
            self.doubt(state, forgotten.batch);
        }
    }

    /// Whether an unanswered response carries a resource of this name.
    pub(super) fn is_on_its_way(&self, name: &Arc<str>) -> bool {
        self.outstanding.iter().any(|response| {
            let position = response.batch.binary_search_by(|(sent, _)| sent.cmp(name));
            position.is_ok_and(|position| response.batch[position].1.is_some())
        })
    }

    /// Whether an unanswered response takes this version of a name away, or brings another one.
    pub(in crate::session) fn may_lose(&self, name: &str, held: Version) -> bool {
        self.outstanding.iter().any(|response| {
            let position = response.batch.binary_search_by(|(sent, _)| sent.as_ref().cmp(name));
            position.is_ok_and(|position| {
                response.batch[position].1.as_ref().map(Resource::version) != Some(held)
            })
        })
    }

    /// Takes the client's answer to a response. Ignores an answer to any but an outstanding one.
    pub(in crate::session) fn answer(
        &mut self,
        state: &State,
        nonce: &str,
        error: Option<&str>,
        at: Timestamp,
    ) {
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
        self.has_given_up = false;
        let Some(response) = response else { return };
        match error {
            None => self.accept(state, response.batch),
            Some(message) => self.reject(state, response, message, at),
        }
    }

    /// Sends again what the client may or may not have taken.
    fn doubt(&mut self, state: &State, batch: Batch) {
        for (name, content) in batch {
            if !self.wants(&name) {
                continue;
            }
            let newest = state.resource(self.ty, &name);
            if content.is_some() && !matches!(self.held(newest, &name), Held::Acknowledged(_)) {
                self.hold(newest, &name, Held::Unknown(None));
            }
            self.again.insert(Arc::clone(&name));
            self.review(state, &name);
        }
    }

    fn accept(&mut self, state: &State, batch: Batch) {
        for (name, content) in batch {
            let newest = state.resource(self.ty, &name);
            if let Some(resource) = &content
                && newest.map(Resource::version) == Some(resource.version())
            {
                self.rejections.remove(self.ty, &name);
            }
            if !self.wants(&name) {
                continue;
            }
            let held = match content {
                Some(resource) => Held::Acknowledged(resource),
                None if self.names.contains(&name) => Held::Nothing,
                None => Held::Unseen,
            };
            self.hold(newest, &name, held);
            self.review(state, &name);
        }
    }

    fn reject(&mut self, state: &State, response: Outstanding, message: &str, at: Timestamp) {
        let (resources, absences): (Batch, Batch) =
            response.batch.into_iter().partition(|(_, content)| content.is_some());
        // There is no other way to say that something is gone, so saying it again would not help.
        self.accept(state, absences);

        // Envoy keeps its answers to itself while clusters warm, and then gives one, with the error of whichever response
        // it rejected meanwhile. What it does not blame by name is sent once more, to be answered on its own.
        let may_mean_another = response.follows_unanswered && !self.ty.is_sent_alone();
        let culprits = match nack::blame(message, resources.iter().map(|(name, _)| name)) {
            Blame::Certain(culprits) => culprits,
            Blame::Mentioned(_) | Blame::Nobody if may_mean_another => BTreeSet::new(),
            Blame::Mentioned(_) | Blame::Nobody if resources.len() == 1 => {
                resources.iter().map(|(name, _)| Arc::clone(name)).collect()
            }
            Blame::Mentioned(mentioned) => {
                let names = resources.iter().map(|(name, _)| name);
                self.suspects.push(names.filter(|name| !mentioned.contains(*name)).cloned().collect());
                self.suspects.push(mentioned);
                BTreeSet::new()
            }
            Blame::Nobody => {
                let (first, second) = resources.split_at(resources.len().div_ceil(2));
                let names =
                    |part: &[_]| part.iter().map(|(name, _): &(Arc<str>, _)| Arc::clone(name)).collect();
                self.suspects.extend([names(second), names(first)]);
                BTreeSet::new()
            }
        };
        // Absence means removal in a whole listing, so the client gets one that it accepts.
        self.must_answer |= self.protocol.lists_all(self.ty) && !resources.is_empty();
        let message = nack::reason(message);
        if resources.is_empty() {
            warn!(ty = %self.ty, error = &*message, "a response without resources was rejected");
        }
        // Envoy applies the good resources of some rejected responses but not of others. Sending them again is right
        // in both cases.
        let (bad, others): (Batch, Batch) =
            resources.into_iter().partition(|(name, _)| culprits.contains(name));
        self.doubt(state, others);
        for (name, version) in bad.into_iter().filter_map(|(name, content)| Some((name, content?.version())))
        {
            warn!(ty = %self.ty, %name, %version, error = &*message, "a resource was rejected");
            let newest = state.resource(self.ty, &name);
            let (keeps_another, kept) = match self.held(newest, &name) {
                Held::Acknowledged(held) if held.version() != version => (true, Some(held)),
                Held::Unknown(_) => (true, None),
                Held::Acknowledged(_) | Held::Nothing | Held::Unseen => (false, None),
            };
            if self.wants(&name) && !keeps_another {
                self.hold(newest, &name, Held::Nothing);
            }
            let nack = Nack { version, message: Arc::clone(&message), at };
            self.rejections.insert(self.ty, &name, nack, kept);
            self.review(state, &name);
        }
    }
}
