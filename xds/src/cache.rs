//! The state to serve: immutable, cheap to copy, published only when it differs.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use imbl::{OrdMap, ordmap::DiffItem};
use tokio::sync::watch;

use crate::resource::{Resource, ResourceType, Version};

/// How many changes a state remembers of the step that made it.
const FEW: usize = 64;

/// Holds the newest [`State`] and hands it to readers. Copies share it.
///
/// Clients get no answer before the first state is set, so that a server which has not yet learned its
/// configuration never looks like one with an empty configuration. Until then a state may be *restored* from an
/// earlier run: that one is for clients that hold nothing, and never takes anything from the others.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    state: watch::Sender<Arc<State>>,
    /// Held by whoever makes the next state. Readers do not wait meanwhile: all of a large state takes a while.
    turn: Arc<Mutex<()>>,
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
        let whole = Whole::from_iter(resources);
        self.publish(|state| whole.changes_from(state))
    }

    /// Makes these changes, in order, in one step: readers see all of them or none.
    ///
    /// Costs as much as there are changes, not as there are resources. Publishes nothing if nothing differs,
    /// and says whether it published. The first changes, also after a state was restored, are made to an empty
    /// state: they are all there is.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) -> bool {
        self.publish(|state| {
            if !state.is_restored {
                return changes.into_iter().collect();
            }
            let mut whole = Whole::default();
            for change in changes {
                match change {
                    Change::Set(ty, name, body) => whole.0[ty as usize].insert(name, body),
                    Change::Remove(ty, name) => whole.0[ty as usize].remove(&name),
                };
            }
            whole.changes_from(state)
        })
    }

    /// Makes resources of an earlier run the state until the first [`Cache::replace`] or [`Cache::apply`].
    ///
    /// They may be older than what clients hold. So only streams whose client says that it holds nothing are served
    /// from them; all others keep what they have, and hear nothing until a state is set. That state is not built on
    /// the restored one, but what both have in common is not sent again.
    ///
    /// Does nothing once there is a state, restored or set, and says whether it published.
    pub fn restore(&self, resources: impl IntoIterator<Item = (ResourceType, String, Bytes)>) -> bool {
        let whole = Whole::from_iter(resources);
        self.follow(|current| {
            if current.is_loaded() {
                return None;
            }
            let mut restored = State { generation: 1, is_restored: true, ..State::default() };
            for change in whole.changes_from(current) {
                restored.make(change);
            }
            Some(restored)
        })
    }

    /// The newest state.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// A reader that wakes on each new state. A slow one sees only the newest.
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.state.subscribe()
    }

    fn publish(&self, changes: impl FnOnce(&State) -> Vec<Change>) -> bool {
        self.follow(|current| {
            let mut next = State::clone(current);
            let changed: BTreeSet<_> =
                changes(current).into_iter().filter_map(|change| next.make(change)).collect();
            if changed.is_empty() && current.is_loaded() && !current.is_restored {
                return None;
            }
            next.generation += 1;
            next.is_restored = false;
            next.latest = (changed.len() <= FEW).then(|| changed.into());
            Some(next)
        })
    }

    /// Publishes the state that is made of the newest one, and says whether there is one.
    fn follow(&self, next: impl FnOnce(&State) -> Option<State>) -> bool {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(next) = next(&self.state()) else { return false };
        self.state.send_replace(Arc::new(next));
        true
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

/// All resources of a state to be, by type and name.
#[derive(Default)]
struct Whole([BTreeMap<String, Bytes>; ResourceType::ALL.len()]);

impl FromIterator<(ResourceType, String, Bytes)> for Whole {
    fn from_iter<I: IntoIterator<Item = (ResourceType, String, Bytes)>>(resources: I) -> Self {
        let mut whole = Self::default();
        for (ty, name, body) in resources {
            whole.0[ty as usize].insert(name, body);
        }
        whole
    }
}

impl Whole {
    /// What makes this of a state; resources that it has already are among them.
    fn changes_from(self, state: &State) -> Vec<Change> {
        let mut changes = Vec::new();
        for (ty, resources) in ResourceType::ALL.into_iter().zip(self.0) {
            let gone = state.names(ty).filter(|name| !resources.contains_key(*name));
            changes.extend(gone.map(|name| Change::Remove(ty, name.to_owned())));
            changes.extend(resources.into_iter().map(|(name, body)| Change::Set(ty, name, body)));
        }
        changes
    }
}

/// The resources of one type. A state shares all nodes of this tree but those on the way to what it changed.
type Table = OrdMap<ByName, Version>;

/// All resources at one moment. Copies share what they have in common.
#[derive(Clone, Debug, Default)]
pub struct State {
    generation: u64,
    is_restored: bool,
    tables: [Table; ResourceType::ALL.len()],
    /// What may differ from the state of the generation before, unless it is much. Finding that in the tables costs
    /// a walk through the neighbours of what changed, and most readers are only one generation behind.
    latest: Option<Arc<BTreeSet<(ResourceType, String)>>>,
}

impl State {
    /// Counts the published states. 0 is the state before the first was set.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether this is a state somebody has set or restored.
    pub fn is_loaded(&self) -> bool {
        self.generation > 0
    }

    /// Whether this is what an earlier run has left, see [`Cache::restore`].
    pub fn is_restored(&self) -> bool {
        self.is_restored
    }

    /// The resource of a type and name.
    pub fn resource(&self, ty: ResourceType, name: &str) -> Option<&Resource> {
        self.tables[ty as usize].get_key_value(name.as_bytes()).map(|(ByName(resource), _)| resource)
    }

    /// All resources of a type, ordered by name.
    pub fn resources(&self, ty: ResourceType) -> impl Iterator<Item = &Resource> {
        self.tables[ty as usize].keys().map(|ByName(resource)| resource)
    }

    /// The names of all resources of a type, in order.
    pub fn names(&self, ty: ResourceType) -> impl Iterator<Item = &str> {
        self.resources(ty).map(Resource::name)
    }

    /// How many resources of a type there are.
    pub fn count(&self, ty: ResourceType) -> usize {
        self.tables[ty as usize].len()
    }

    /// What of a type differs between another state of the same cache, or the empty one, and this, ordered by name.
    ///
    /// Costs as much as differs, not as there are resources, if one state was made from the other.
    pub(crate) fn differences<'a>(
        &'a self,
        old: &'a Self,
        ty: ResourceType,
    ) -> Box<dyn Iterator<Item = Difference<'a>> + 'a> {
        if let Some(latest) = self.latest.as_ref().filter(|_| old.generation + 1 == self.generation) {
            let of_type = latest.iter().filter(move |(of, _)| *of == ty);
            let difference = move |(_, name): &'a (ResourceType, String)| {
                let (old, new) = (old.resource(ty, name), self.resource(ty, name));
                let differs = old.map(Resource::version) != new.map(Resource::version);
                differs.then_some(Difference { name, old, new })
            };
            return Box::new(of_type.filter_map(difference));
        }
        let (old, new) = (&old.tables[ty as usize], &self.tables[ty as usize]);
        Box::new(old.diff(new).map(|item| match item {
            DiffItem::Add(ByName(new), _) => Difference { name: new.name(), old: None, new: Some(new) },
            DiffItem::Remove(ByName(old), _) => Difference { name: old.name(), old: Some(old), new: None },
            DiffItem::Update { old: (ByName(old), _), new: (ByName(new), _) } => {
                Difference { name: new.name(), old: Some(old), new: Some(new) }
            }
        }))
    }

    /// Makes a change, and says of what, unless nothing differs.
    fn make(&mut self, change: Change) -> Option<(ResourceType, String)> {
        match change {
            Change::Set(ty, name, body) => {
                if self.resource(ty, &name).is_some_and(|old| old.body() == body) {
                    return None;
                }
                let resource = Resource::new(&name, &body);
                let version = resource.version();
                self.tables[ty as usize].insert(ByName(resource), version);
                Some((ty, name))
            }
            Change::Remove(ty, name) => self.tables[ty as usize].remove(name.as_bytes()).map(|_| (ty, name)),
        }
    }
}

/// A resource that differs between two states.
pub(crate) struct Difference<'a> {
    pub(crate) name: &'a str,
    pub(crate) old: Option<&'a Resource>,
    pub(crate) new: Option<&'a Resource>,
}

/// A resource in a table, ordered by its name alone. The version beside it tells a change of its content.
#[derive(Clone, Debug)]
struct ByName(Resource);

impl Borrow<[u8]> for ByName {
    fn borrow(&self) -> &[u8] {
        self.0.name_bytes()
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.name_bytes().cmp(other.0.name_bytes())
    }
}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByName {}

#[cfg(test)]
mod tests {
    use ResourceType::{Cluster, Listener};
    use proptest::prelude::*;

    use super::*;

    fn set(ty: ResourceType, name: &str, body: &'static str) -> Change {
        Change::Set(ty, name.to_owned(), Bytes::from_static(body.as_bytes()))
    }

    fn whole(resources: &[(ResourceType, &str, &'static str)]) -> Vec<(ResourceType, String, Bytes)> {
        resources.iter().map(|(ty, name, body)| (*ty, (*name).to_owned(), Bytes::from(*body))).collect()
    }

    fn changes(old: &State, new: &State) -> Vec<(ResourceType, String)> {
        let of = |ty| new.differences(old, ty).map(move |difference| (ty, difference.name.to_owned()));
        ResourceType::ALL.into_iter().flat_map(of).collect()
    }

    fn body(state: &State, ty: ResourceType, name: &str) -> Option<String> {
        state.resource(ty, name).map(|resource| String::from_utf8_lossy(resource.body()).into_owned())
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

        let changed = [(Cluster, "a"), (Cluster, "b"), (Cluster, "c")];
        assert_eq!(changes(&before, &after), changed.map(|(ty, name)| (ty, name.to_owned())));
        assert_eq!(after.names(Cluster).collect::<Vec<&str>>(), ["b", "c"]);
        let bodies = [&before, &after].map(|state| state.resource(Listener, "a").map(Resource::body));
        assert_eq!(bodies[0].map(<[u8]>::as_ptr), bodies[1].map(<[u8]>::as_ptr), "it is shared");
        assert_eq!(before.count(Cluster), 2, "an older state stays as it was");
    }

    #[test]
    fn a_restored_state_lasts_until_one_is_set() {
        let old = [(Cluster, "a", "1"), (Cluster, "b", "1")];
        for set_by_changes in [false, true] {
            let cache = Cache::new();
            assert!(cache.restore(whole(&old)));
            let restored = cache.state();
            assert!(restored.is_loaded() && restored.is_restored());
            assert!(!cache.restore(whole(&[])), "there is a state");
            if set_by_changes {
                assert!(cache.apply([Change::Remove(Cluster, "b".to_owned()), set(Cluster, "a", "1")]));
            } else {
                assert!(cache.replace(whole(&old[..1])));
            }
            let state = cache.state();
            assert!(state.is_loaded() && !state.is_restored());
            assert_eq!(changes(&restored, &state), [(Cluster, "b".to_owned())]);
            assert!(!cache.restore(whole(&old)));
        }
    }

    #[test]
    fn a_state_equal_to_the_restored_one_is_set_without_changes() {
        let cache = Cache::new();
        cache.restore(whole(&[(Cluster, "a", "1")]));
        let restored = cache.state();
        assert!(cache.replace(whole(&[(Cluster, "a", "1")])));
        assert_eq!(changes(&restored, &cache.state()), []);
        assert!(!cache.state().is_restored());
    }

    proptest! {
        #[test]
        fn what_changed_is_told_between_any_two_states(
            rounds in prop::collection::vec(prop::collection::vec((0..200u8, 0..4u8), 0..40), 1..8),
        ) {
            let cache = Cache::new();
            let mut states = vec![cache.state()];
            for round in rounds {
                cache.apply(round.into_iter().map(|(name, body)| match body {
                    0 => Change::Remove(Cluster, name.to_string()),
                    body => Change::Set(Cluster, name.to_string(), body.to_string().into()),
                }));
                states.push(cache.state());
            }
            for (old, new) in states.iter().flat_map(|old| states.iter().map(move |new| (old, new))) {
                let mut names: Vec<String> = (0..200).map(|name| name.to_string()).collect();
                names.sort();
                let differs = |name: &String| body(old, Cluster, name) != body(new, Cluster, name);
                let expected: Vec<String> = names.into_iter().filter(differs).collect();
                let told: Vec<Difference> = new.differences(old, Cluster).collect();
                prop_assert_eq!(told.iter().map(|told| told.name).collect::<Vec<_>>(), expected);
                for told in told {
                    prop_assert_eq!(told.old, old.resource(Cluster, told.name));
                    prop_assert_eq!(told.new, new.resource(Cluster, told.name));
                }
            }
        }
    }

    #[test]
    fn a_state_is_read_while_the_next_one_is_made() {
        let cache = Cache::new();
        cache.apply([set(Cluster, "a", "1")]);
        let changes = std::iter::once_with(|| {
            assert_eq!(body(&cache.state(), Cluster, "a").as_deref(), Some("1"));
            set(Cluster, "a", "2")
        });
        assert!(cache.apply(changes));
        assert_eq!(body(&cache.state(), Cluster, "a").as_deref(), Some("2"));
    }

    #[test]
    fn a_slow_reader_sees_only_the_newest_state() {
        let cache = Cache::new();
        let mut reader = cache.watch();
        for body in ["1", "2", "3"] {
            cache.apply([set(Cluster, "a", body)]);
        }
        assert_eq!(body(&reader.borrow_and_update(), Cluster, "a").as_deref(), Some("3"));
        assert!(!reader.has_changed().expect("the cache lives"));
    }
}
