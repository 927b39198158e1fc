//! Which of the objects in all files are in force, and what changed.
//!
//! An object that several files have is in force once; the other files wait in line. Of no object more is kept than
//! its name, its file and a fingerprint: whoever is next in line is read again when its turn comes.

mod key;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use model::{DomainId, Kind, Object, ObjectRef, expand_cluster_route};

pub(super) use self::key::Key;
use super::fingerprint::Fingerprint;
use crate::source::{Severity, SourceProblem};

/// What changed in the objects in force.
#[derive(Debug)]
pub(super) enum Change {
    /// The object is new or different.
    Put(Object),
    /// The object is gone.
    Remove(ObjectRef),
}

/// The objects in force, each from one file.
#[derive(Debug)]
pub(super) struct ObjectsInForce {
    domain: DomainId,
    in_force: BTreeMap<Key, Placed>,
    /// The files that have an object which is in force from another one.
    waiting: BTreeMap<Key, BTreeSet<Arc<Path>>>,
    round: Round,
}

#[derive(Debug)]
struct Placed {
    /// `None`: it is the route of this domain for which the `ClusterDomainRoute` of its name stands.
    file: Option<Arc<Path>>,
    version: Option<Fingerprint>,
}

/// What is not settled yet.
#[derive(Debug, Default)]
struct Round {
    changes: Vec<Change>,
    /// Objects in force that their file no longer has.
    released: BTreeSet<Key>,
    /// Those of them for which files wait.
    contested: BTreeSet<Key>,
    /// Those of them for which a `ClusterDomainRoute` may stand.
    orphaned: BTreeSet<Key>,
    /// The routes that `ClusterDomainRoute`s stand for, or no longer do.
    expanded: BTreeMap<Key, Option<Object>>,
}

impl ObjectsInForce {
    /// No objects yet, of `domain`.
    pub(super) fn new(domain: DomainId) -> Self {
        Self { domain, in_force: BTreeMap::new(), waiting: BTreeMap::new(), round: Round::default() }
    }

    /// The number of objects, routes made from `ClusterDomainRoute`s included.
    pub(super) fn len(&self) -> usize {
        self.in_force.len()
    }

    /// Makes `objects` what `file` has, and answers their keys in order. Those of `before` that it no longer has lose
    /// it, unless it `keeps` what is in force.
    ///
    /// An object stays in force from the file from which it is; if that loses it, it comes from the first of the
    /// files that wait for it, by path.
    pub(super) fn replace(
        &mut self,
        file: &Arc<Path>,
        before: &[Key],
        objects: Vec<Object>,
        keeps: bool,
    ) -> Box<[Key]> {
        let mut now: Vec<Key> = objects.into_iter().map(|object| self.put(file, object)).collect();
        now.sort_unstable();
        let mut kept = Vec::new();
        for key in before.iter().filter(|key| now.binary_search(key).is_err()) {
            if self.in_force.get(key).is_none_or(|placed| placed.file.as_ref() != Some(file)) {
                self.leave_line(file, key);
            } else if keeps {
                kept.push(key.clone());
            } else {
                self.release(key);
            }
        }
        now.append(&mut kept);
        now.sort_unstable();
        now.into_boxed_slice()
    }

    /// The file to read next, because an object must come from it that has lost its own. `None`: all is known for
    /// [`Self::settle`].
    pub(super) fn next_in_line(&mut self) -> Option<Arc<Path>> {
        if let Some(files) = self.round.contested.first().and_then(|key| self.waiting.get(key)) {
            return files.first().cloned();
        }
        while let Some(route) = self.round.orphaned.pop_first() {
            let cluster_route = Key::new(Kind::ClusterDomainRoute, "", route.name());
            if self.round.released.contains(&route)
                && !self.round.released.contains(&cluster_route)
                && !self.round.expanded.contains_key(&route)
                && let Some(placed) = self.in_force.get(&cluster_route)
            {
                return placed.file.clone();
            }
        }
        None
    }

    /// Ends the round: what was released and not put again is gone.
    pub(super) fn settle(&mut self) {
        let gone = self.round.released.iter().filter(|key| key.kind() == Kind::ClusterDomainRoute);
        let no_longer = gone.map(|key| (self.own_route(key.name()), None)).collect::<Vec<_>>();
        self.round.expanded.extend(no_longer);
        for (route, object) in std::mem::take(&mut self.round.expanded) {
            let placed = self.in_force.get(&route);
            let is_written = placed.is_some_and(|placed| placed.file.is_some());
            if is_written && !self.round.released.contains(&route) {
                continue;
            }
            match object {
                Some(object) => self.place(route, None, object),
                None if placed.is_some() => self.release(&route),
                None => {}
            }
        }
        self.round.orphaned.clear();
        for key in std::mem::take(&mut self.round.released) {
            self.in_force.remove(&key);
            self.round.changes.push(Change::Remove(key.reference()));
        }
    }

    /// The changes since they were last taken. New objects come first: where one takes over from another, nothing is
    /// missing in between.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.round.changes)
    }

    /// The number of changes to take.
    pub(super) fn changes(&self) -> usize {
        self.round.changes.len()
    }

    /// The problem of each file that waits for an object of another.
    pub(super) fn duplicates(&self) -> impl Iterator<Item = SourceProblem> {
        self.waiting.iter().flat_map(|(key, files)| {
            let holder = self.in_force.get(key).and_then(|placed| placed.file.as_ref());
            files.iter().zip(std::iter::repeat(holder)).filter_map(|(file, holder)| {
                let message = format!(
                    "{} is also in {}, which stays in force; remove or rename one of them",
                    key.reference(),
                    holder?.display()
                );
                Some(SourceProblem::of_file(file, Severity::Error, message))
            })
        })
    }

    /// Puts an object of `file` in force, or in line. Answers its key.
    fn put(&mut self, file: &Arc<Path>, object: Object) -> Key {
        let key = Key::of(&object);
        // One text for all who know the object.
        let key = self.in_force.get_key_value(&key).map_or(key, |(known, _)| known.clone());
        let stays_with_another = self.in_force.get(&key).is_some_and(|placed| {
            let is_free = self.round.released.contains(&key)
                && self.waiting.get(&key).and_then(BTreeSet::first).is_none_or(|first| first >= file);
            placed.file.as_ref().is_some_and(|holder| holder != file) && !is_free
        });
        if stays_with_another {
            self.waiting.entry(key.clone()).or_default().insert(Arc::clone(file));
            return key;
        }
        self.leave_line(file, &key);
        if let Object::ClusterDomainRoute(cluster_route) = &object {
            let route = &cluster_route.spec.route;
            let named = [Some(route.source.as_str()), Some(&route.destination), route.forwarder()];
            let is_ours = named.contains(&Some(self.domain.as_str()));
            let expanded = is_ours.then(|| {
                Object::DomainRoute(Box::new(expand_cluster_route(cluster_route, self.domain.as_str())))
            });
            self.round.expanded.insert(self.own_route(key.name()), expanded);
        }
        self.place(key.clone(), Some(Arc::clone(file)), object);
        key
    }

    fn place(&mut self, key: Key, file: Option<Arc<Path>>, object: Object) {
        self.round.released.remove(&key);
        self.round.contested.remove(&key);
        let version = Fingerprint::of_object(&object);
        let old = self.in_force.insert(key, Placed { file, version });
        if version.is_none() || old.is_none_or(|old| old.version != version) {
            self.round.changes.push(Change::Put(object));
        }
    }

    fn release(&mut self, key: &Key) {
        self.round.released.insert(key.clone());
        if self.waiting.contains_key(key) {
            self.round.contested.insert(key.clone());
        }
        if key.kind() == Kind::DomainRoute && *key == self.own_route(key.name()) {
            self.round.orphaned.insert(key.clone());
        }
    }

    fn leave_line(&mut self, file: &Arc<Path>, key: &Key) {
        let Some(files) = self.waiting.get_mut(key) else { return };
        files.remove(file);
        if files.is_empty() {
            self.waiting.remove(key);
            self.round.contested.remove(key);
        }
    }

    fn own_route(&self, name: &str) -> Key {
        Key::new(Kind::DomainRoute, self.domain.as_str(), name)
    }
}
