//! Which of the objects in all files are in force, and what changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{DomainId, Kind, Object, ObjectRef, expand_cluster_route};

use crate::source::{Severity, SourceProblem};

/// What changed in the objects in force.
#[derive(Debug)]
pub(super) enum Change {
    /// The object is new or different.
    Put(Arc<Object>),
    /// The object is gone.
    Remove(ObjectRef),
}

/// The objects in force, each from one file.
#[derive(Debug)]
pub(super) struct ObjectsInForce {
    domain: DomainId,
    objects: BTreeMap<ObjectRef, Placed>,
}

#[derive(Debug)]
struct Placed {
    file: PathBuf,
    object: Arc<Object>,
}

impl ObjectsInForce {
    /// No objects yet, of `domain`.
    pub(super) fn new(domain: DomainId) -> Self {
        Self { domain, objects: BTreeMap::new() }
    }

    /// The number of objects, routes made from `ClusterDomainRoute`s included.
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// Puts `written` in force instead of all before. Answers the changes, and the problem of each object that is
    /// written more than once. Of those, the file that had it in force keeps it, else the first file.
    pub(super) fn replace<'a>(
        &mut self,
        written: impl Iterator<Item = (&'a Path, &'a Arc<Object>)>,
    ) -> (Vec<Change>, Vec<SourceProblem>) {
        let mut candidates: BTreeMap<ObjectRef, Vec<(&Path, &Arc<Object>)>> = BTreeMap::new();
        for (file, object) in written {
            candidates.entry(object.reference()).or_default().push((file, object));
        }
        let mut problems = Vec::new();
        let mut objects = BTreeMap::new();
        for (reference, mut candidates) in candidates {
            let holder = self.objects.get(&reference).map(|placed| placed.file.as_path());
            let chosen = candidates.iter().position(|(file, _)| Some(*file) == holder).unwrap_or(0);
            let (file, object) = candidates.remove(chosen);
            problems.extend(candidates.into_iter().map(|(other, _)| duplicate(&reference, other, file)));
            objects.insert(reference, Placed { file: file.to_owned(), object: Arc::clone(object) });
        }
        self.expand_cluster_routes(&mut objects);
        let changes = differences(&self.objects, &objects);
        self.objects = objects;
        (changes, problems)
    }

    /// Adds the routes that each `ClusterDomainRoute` stands for in this domain, unless they are written themselves.
    fn expand_cluster_routes(&self, objects: &mut BTreeMap<ObjectRef, Placed>) {
        let mut expanded = Vec::new();
        for (reference, placed) in objects.iter() {
            let Object::ClusterDomainRoute(cluster_route) = placed.object.as_ref() else { continue };
            let route = &cluster_route.spec.route;
            if ![&route.source, &route.destination].contains(&&self.domain.to_string()) {
                continue;
            }
            let reference = ObjectRef {
                kind: Kind::DomainRoute,
                namespace: self.domain.to_string(),
                name: reference.name.clone(),
            };
            let route = expand_cluster_route(cluster_route, self.domain.as_str());
            let object = Arc::new(Object::DomainRoute(Box::new(route)));
            expanded.push((reference, Placed { file: placed.file.clone(), object }));
        }
        for (reference, placed) in expanded {
            objects.entry(reference).or_insert(placed);
        }
    }
}

fn duplicate(reference: &ObjectRef, file: &Path, holder: &Path) -> SourceProblem {
    let message = if file == holder {
        format!(
            "{reference} is written twice in this file, the first is in force; remove or rename one of them"
        )
    } else {
        let holder = holder.display();
        format!("{reference} is also in {holder}, which stays in force; remove or rename one of them")
    };
    SourceProblem { file: file.to_owned(), severity: Severity::Error, message }
}

/// New objects come first: where one takes over from another, nothing is missing in between.
fn differences(old: &BTreeMap<ObjectRef, Placed>, new: &BTreeMap<ObjectRef, Placed>) -> Vec<Change> {
    let is_new = |(reference, placed): &(&ObjectRef, &Placed)| {
        old.get(reference)
            .is_none_or(|old| !Arc::ptr_eq(&old.object, &placed.object) && old.object != placed.object)
    };
    let put = new.iter().filter(is_new).map(|(_, placed)| Change::Put(Arc::clone(&placed.object)));
    let gone = old.keys().filter(|reference| !new.contains_key(reference)).cloned().map(Change::Remove);
    put.chain(gone).collect()
}
