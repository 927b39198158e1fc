//! What goes into the next response.

use std::collections::BTreeSet;

use super::{Batch, Held, Subscription, Target};
use crate::{cache::State, resource::Resource};

/// What a resource takes in a response beside its name and body: a version, a type URL and the lengths of all of them.
const ENVELOPE_BYTES: usize = 128;

impl Subscription {
    /// Takes what the next response has to add, up to a size of `max_bytes` unless a single resource is larger.
    pub(in crate::session) fn take_additions(&mut self, state: &State, max_bytes: usize) -> Batch {
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
            let content = match self.target(state.resource(self.ty, &name), &name) {
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
    pub(in crate::session) fn take_removals(&mut self) -> Batch {
        let names = std::mem::take(&mut self.removals);
        for name in &names {
            self.again.remove(name);
        }
        names.into_iter().map(|name| (name, None)).collect()
    }

    /// All resources the client holds once it has accepted the batch, in order.
    pub(in crate::session) fn listing(&self, state: &State, batch: &Batch) -> Vec<Resource> {
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
}
