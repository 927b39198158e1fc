//! What the client asks for.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{Held, Subscription};
use crate::{
    cache::State,
    resource::{Resource, Version},
    session::wire::Interest,
};

/// Stands for all names in a request.
const WILDCARD: &str = "*";

impl Subscription {
    /// Takes over what a request says about the client's interest. Returns how many names it now asks for.
    pub(in crate::session) fn subscribe(&mut self, state: &State, interest: Interest) -> usize {
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
        let absent = self.names.iter().filter(|name| state.resource(self.ty, name).is_none()).cloned();
        let absent: BTreeSet<_> = absent.collect();
        self.present = self.names.len() - absent.len();
        open.extend(absent);
        let wanted: Vec<&Resource> = if self.wildcard {
            state.resources(self.ty).collect()
        } else {
            self.names.iter().filter_map(|name| state.resource(self.ty, name)).collect()
        };
        for resource in wanted {
            let held = claims.remove(resource.name()).map_or(Held::Unseen, Held::Unknown);
            if held.version() != Some(resource.version()) {
                let name = Arc::from(resource.name());
                self.hold(Some(resource), &name, held);
                open.insert(name);
            }
        }
        for (name, version) in claims.into_iter().filter(|(name, _)| self.wants(name)).collect::<Vec<_>>() {
            let name = Arc::from(name);
            self.hold(None, &name, Held::Unknown(version));
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
                self.hold(state.resource(self.ty, &name), &name, Held::Unseen);
            }
            // A client that asks for what it has may have dropped it meanwhile, so it gets it again. What it says
            // to hold in the request that opens the stream, it does hold.
            self.again.insert(Arc::clone(&name));
            if self.names.insert(Arc::clone(&name)) {
                self.present += self.count_present(state, [&name]);
            }
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
            self.present -= self.count_present(state, [&name]);
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
                self.hold(state.resource(self.ty, name), name, Held::Unseen);
            }
        }
        self.names = names;
        self.present += self.count_present(state, &added);
        self.present -= self.count_present(state, &dropped);
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
    pub(in crate::session) fn note_dropped(&mut self, state: &State, interest: &Interest) {
        let wanted: BTreeSet<&str> = interest.names().map(String::as_str).collect();
        let dropped: Vec<_> = self.names.iter().filter(|name| !wanted.contains(&***name)).cloned().collect();
        for name in dropped {
            self.again.insert(Arc::clone(&name));
            self.review(state, &name);
        }
    }

    /// How many of these names the state has.
    fn count_present<'a>(&self, state: &State, names: impl IntoIterator<Item = &'a Arc<str>>) -> usize {
        names.into_iter().filter(|name| state.resource(self.ty, name).is_some()).count()
    }

    /// Subscribes to all names.
    fn widen(&mut self, state: &State) {
        if std::mem::replace(&mut self.wildcard, true) {
            return;
        }
        let names = &self.names;
        let new: Vec<_> =
            state.resources(self.ty).filter(|resource| !names.contains(resource.name())).collect();
        for resource in new {
            let name = Arc::from(resource.name());
            self.hold(Some(resource), &name, Held::Unseen);
            self.review(state, &name);
        }
    }

    /// Subscribes to the names that were given, and no more to the others.
    fn narrow(&mut self, state: &State) {
        self.wildcard = false;
        self.review_open(state);
    }
}
