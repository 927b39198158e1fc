//! The state to serve: immutable, cheap to copy, published only when it differs.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use rpds::RedBlackTreeMapSync;
use tokio::sync::watch;

use crate::resource::{Resource, ResourceType};

/// How many generations a state remembers the changes of. A reader further behind compares everything.
const REMEMBERED_GENERATIONS: usize = 64;

/// Holds the newest [`State`] and hands it to readers. Copies share it.
///
/// Clients get no answer before the first state is set, so that a server which has not yet learned its
/// configuration never looks like one with an empty configuration.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    state: watch::Sender<Arc<State>>,
}

impl Cache {
    /// A cache without a state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes these resources, each an encoded message, the whole state: what is not among them is removed.
    ///
    /// Where a type and name come twice the last one counts. Publishes nothing if nothing differs, and says
    /// whether it published.
    pub fn replace(&self, resources: impl IntoIterator<Item = (ResourceType, String, Bytes)>) -> bool {
        let mut all: [BTreeMap<String, Bytes>; ResourceType::ALL.len()] = Default::default();
        for (ty, name, body) in resources {
            all[ty as usize].insert(name, body);
        }
        self.publish(|state| {
            let mut changes = Vec::new();
            for (ty, resources) in ResourceType::ALL.into_iter().zip(all) {
                for name in state.names(ty).filter(|name| !resources.contains_key(name.as_ref())) {
                    changes.push(Change::Remove(ty, name.to_string()));
                }
                changes.extend(resources.into_iter().map(|(name, body)| Change::Set(ty, name, body)));
            }
            changes
        })
    }

    /// Makes these changes, in order, in one step: readers see all of them or none.
    ///
    /// Costs as much as there are changes, not as there are resources. Publishes nothing if nothing differs,
    /// and says whether it published.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) -> bool {
        self.publish(|_| changes)
    }

    /// The newest state.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// A reader that wakes on each new state. A slow one sees only the newest.
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.state.subscribe()
    }

    fn publish<C: IntoIterator<Item = Change>>(&self, changes: impl FnOnce(&State) -> C) -> bool {
        self.state.send_if_modified(|current| {
            let mut next = State::clone(current);
            let changed: Changed =
                changes(current).into_iter().filter_map(|change| next.make(change)).collect();
            if changed.is_empty() && current.is_loaded() {
                return false;
            }
            next.generation += 1;
            next.recent.push_back(changed);
            if next.recent.len() > REMEMBERED_GENERATIONS {
                next.recent.pop_front();
            }
            *current = Arc::new(next);
            true
        })
    }
}

/// A change of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The resource of this type and name now has this content, an encoded message.
    Set(ResourceType, String, Bytes),
    /// There is no resource of this type and name any more.
    Remove(ResourceType, String),
}

type Table = RedBlackTreeMapSync<Arc<str>, Arc<Resource>>;
type Changed = Arc<[(ResourceType, Arc<str>)]>;

/// All resources at one moment. Copies share what they have in common.
#[derive(Clone, Debug, Default)]
pub struct State {
    generation: u64,
    tables: [Table; ResourceType::ALL.len()],
    /// What changed in each of the last generations, the newest last.
    recent: VecDeque<Changed>,
}

impl State {
    /// Counts the published states. 0 is the state before the first was set.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether this is a state somebody has set.
    pub fn is_loaded(&self) -> bool {
        self.generation > 0
    }

    /// The resource of a type and name.
    pub fn resource(&self, ty: ResourceType, name: &str) -> Option<&Arc<Resource>> {
        self.tables[ty as usize].get(name)
    }

    /// All resources of a type, ordered by name.
    pub fn resources(&self, ty: ResourceType) -> impl Iterator<Item = &Arc<Resource>> {
        self.tables[ty as usize].values()
    }

    /// The names of all resources of a type, in order.
    pub fn names(&self, ty: ResourceType) -> impl Iterator<Item = &Arc<str>> {
        self.tables[ty as usize].keys()
    }

    /// How many resources of a type there are.
    pub fn count(&self, ty: ResourceType) -> usize {
        self.tables[ty as usize].size()
    }

    /// What changed after an older generation, or `None` if that is too long ago to tell.
    pub(crate) fn changes_since(
        &self,
        generation: u64,
    ) -> Option<impl Iterator<Item = &(ResourceType, Arc<str>)>> {
        let behind = usize::try_from(self.generation.checked_sub(generation)?).ok()?;
        let first = self.recent.len().checked_sub(behind)?;
        Some(self.recent.range(first..).flat_map(|changed| changed.iter()))
    }

    /// Makes a change and says what it changed, if anything.
    fn make(&mut self, change: Change) -> Option<(ResourceType, Arc<str>)> {
        match change {
            Change::Set(ty, name, body) => {
                let table = &mut self.tables[ty as usize];
                let old = table.get(name.as_str());
                if old.is_some_and(|old| old.body() == &body) {
                    return None;
                }
                let name = old.map_or_else(|| Arc::from(name), |old| Arc::clone(old.name()));
                table.insert_mut(Arc::clone(&name), Arc::new(Resource::new(Arc::clone(&name), body)));
                Some((ty, name))
            }
            Change::Remove(ty, name) => {
                self.tables[ty as usize].remove_mut(name.as_str()).then(|| (ty, Arc::from(name)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ResourceType::{Cluster, Listener};

    fn set(ty: ResourceType, name: &str, body: &'static str) -> Change {
        Change::Set(ty, name.to_owned(), Bytes::from_static(body.as_bytes()))
    }

    fn whole(resources: &[(ResourceType, &str, &'static str)]) -> Vec<(ResourceType, String, Bytes)> {
        resources.iter().map(|(ty, name, body)| (*ty, (*name).to_owned(), Bytes::from(*body))).collect()
    }

    fn changes(state: &State, since: u64) -> Option<Vec<(ResourceType, &str)>> {
        Some(state.changes_since(since)?.map(|(ty, name)| (*ty, name.as_ref())).collect())
    }

    #[test]
    fn the_same_content_is_published_once() {
        let cache = Cache::new();
        let reader = cache.watch();
        assert!(!cache.state().is_loaded());
        assert!(cache.replace(whole(&[(Cluster, "a", "1")])));
        assert_eq!(cache.state().generation(), 1);
        assert!(reader.has_changed().expect("the cache lives"));

        assert!(!cache.replace(whole(&[(Cluster, "a", "1")])));
        assert!(!cache.apply([set(Cluster, "a", "1"), Change::Remove(Cluster, "b".to_owned())]));
        assert_eq!(cache.state().generation(), 1);
    }

    #[test]
    fn an_empty_first_state_is_a_state() {
        let cache = Cache::new();
        assert!(cache.replace([]));
        assert!(cache.state().is_loaded());
        assert!(!cache.replace([]));
    }

    #[test]
    fn replacing_removes_what_is_left_out_and_keeps_what_is_equal() {
        let cache = Cache::new();
        cache.replace(whole(&[(Cluster, "a", "1"), (Cluster, "b", "1"), (Listener, "a", "1")]));
        let before = cache.state();
        cache.replace(whole(&[(Cluster, "b", "2"), (Cluster, "c", "1"), (Listener, "a", "1")]));
        let after = cache.state();

        assert_eq!(changes(&after, 1), Some(vec![(Cluster, "a"), (Cluster, "b"), (Cluster, "c")]));
        assert_eq!(after.names(Cluster).map(AsRef::as_ref).collect::<Vec<&str>>(), ["b", "c"]);
        let (old, new) = (before.resource(Listener, "a"), after.resource(Listener, "a"));
        assert!(Arc::ptr_eq(old.expect("set before"), new.expect("set after")));
        assert_eq!(before.count(Cluster), 2, "an older state stays as it was");
    }

    #[test]
    fn changes_are_told_since_any_remembered_generation() {
        let cache = Cache::new();
        for name in ["a", "b", "c"] {
            cache.apply([set(Cluster, name, "1")]);
        }
        let state = cache.state();
        assert_eq!(changes(&state, 3), Some(vec![]));
        assert_eq!(changes(&state, 1), Some(vec![(Cluster, "b"), (Cluster, "c")]));
        assert_eq!(changes(&state, 4), None, "a generation of the future is no generation of ours");

        for body in (0..REMEMBERED_GENERATIONS).map(|n| n.to_string()) {
            cache.apply([Change::Set(Cluster, "d".to_owned(), body.into())]);
        }
        assert_eq!(changes(&cache.state(), 2), None);
        assert_eq!(changes(&cache.state(), 3).map(|names| names.len()), Some(REMEMBERED_GENERATIONS));
    }

    #[test]
    fn a_slow_reader_sees_only_the_newest_state() {
        let cache = Cache::new();
        let mut reader = cache.watch();
        for body in ["1", "2", "3"] {
            cache.apply([set(Cluster, "a", body)]);
        }
        let newest =
            reader.borrow_and_update().resource(Cluster, "a").map(|resource| resource.body().clone());
        assert_eq!(newest, Some(Bytes::from_static(b"3")));
        assert!(!reader.has_changed().expect("the cache lives"));
    }
}
