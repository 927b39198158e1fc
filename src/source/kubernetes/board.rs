//! How the source fares: what its parts say, put together in one report.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use model::{Kind, ObjectRef};
use tokio::sync::watch;

use super::KINDS;
use super::trouble::{Part, Scope, Trouble};
use crate::source::{Severity, SourceKind, SourceProblem, SourceReport};

/// Takes down what the parts of a source say, and publishes it where it changes.
#[derive(Debug)]
pub(super) struct Board {
    /// The address of the API server.
    server: String,
    state: Mutex<State>,
    report: watch::Sender<SourceReport>,
}

#[derive(Debug)]
struct State {
    /// What is published, or about to be.
    report: SourceReport,
    /// The kinds that were never read.
    awaited: BTreeSet<Kind>,
    objects: BTreeMap<Kind, usize>,
    troubles: BTreeMap<Part, (Trouble, Timestamp)>,
    /// What is wrong with single objects.
    broken: BTreeMap<(ObjectRef, Defect), String>,
}

/// What can be wrong with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Defect {
    /// It cannot be read.
    Unreadable,
    /// Its status cannot be written.
    Unwritable,
    /// It stands for several gateways.
    Shared,
}

impl Board {
    /// The board of a source that reads `namespace` of `server`, and publishes to `report`.
    pub(super) fn new(server: String, namespace: &str, report: watch::Sender<SourceReport>) -> Self {
        let location = format!("{server} namespace {namespace}");
        let state = State {
            report: SourceReport { location, ..SourceReport::new(SourceKind::Kubernetes) },
            awaited: KINDS.into(),
            objects: BTreeMap::new(),
            troubles: BTreeMap::new(),
            broken: BTreeMap::new(),
        };
        let board = Self { server, state: Mutex::new(state), report };
        board.change(|_| {});
        board
    }

    /// Something does not work. Of the troubles of a part, the newest counts.
    pub(super) fn troubled(&self, part: Part, trouble: Trouble) {
        self.change(|state| {
            let since = state.troubles.get(&part).map_or_else(now, |(_, since)| *since);
            state.troubles.insert(part, (trouble, since));
        });
    }

    /// It works, again.
    pub(super) fn works(&self, part: Part) {
        self.change(|state| {
            state.troubles.remove(&part);
        });
    }

    /// All objects of `kind` were read, and these are there.
    pub(super) fn read(&self, kind: Kind, names: &BTreeSet<String>) {
        self.change(|state| {
            state.awaited.remove(&kind);
            state.broken.retain(|(object, _), _| object.kind != kind || names.contains(&object.name));
            state.objects.insert(kind, names.len());
            state.report.last_read = Some(now());
        });
    }

    /// There are so many objects of `kind`.
    pub(super) fn count(&self, kind: Kind, objects: usize) {
        self.change(|state| {
            state.objects.insert(kind, objects);
        });
    }

    /// Something is wrong with one object.
    pub(super) fn broken(&self, object: ObjectRef, defect: Defect, message: String) {
        self.change(|state| {
            state.broken.insert((object, defect), message);
        });
    }

    /// It is well, again.
    pub(super) fn mended(&self, object: &ObjectRef, defect: Defect) {
        self.change(|state| {
            state.broken.remove(&(object.clone(), defect));
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let mut report = state.report.clone();
        // Gateways concern the source alone.
        let others = state.objects.iter().filter(|(kind, _)| **kind != Kind::Gateway);
        report.objects = others.map(|(_, objects)| objects).sum();
        report.synced = state.awaited.is_empty();
        report.problems = self.problems(&state, report.synced);
        if !state.report.synced && report.synced {
            tracing::info!(objects = report.objects, "all objects read from {}", report.location);
        }
        log_difference(&state.report.problems, &report.problems);
        if *self.report.borrow() != report {
            self.report.send_replace(report.clone());
        }
        state.report = report;
    }

    fn problems(&self, state: &State, synced: bool) -> Vec<SourceProblem> {
        let of_server = state.troubles.values().filter(|(trouble, _)| trouble.scope == Scope::Server);
        // Whatever is wrong with the server, all its parts say it, each in its way.
        let of_server = of_server.min_by_key(|(_, since)| *since).map(|(trouble, since)| {
            let Trouble { what, remedy, .. } = trouble;
            let message = if synced {
                format!(
                    "{what}, since {since}; Envoy keeps its configuration, and changes arrive once this is over; \
                     {remedy}"
                )
            } else {
                format!("{what}; {remedy}")
            };
            SourceProblem { place: self.server.clone(), severity: trouble.severity, message }
        });
        let of_parts = state.troubles.iter().filter(|(_, (trouble, _))| trouble.scope == Scope::Part);
        let of_parts = of_parts.map(|(part, (trouble, _))| SourceProblem {
            place: format!("{} of {}", name(*part), self.server),
            severity: trouble.severity,
            message: format!("{}; {}", trouble.what, trouble.remedy),
        });
        let of_objects = state.broken.iter().map(|((object, _), message)| SourceProblem {
            place: object.to_string(),
            severity: Severity::Error,
            message: message.clone(),
        });
        of_server.into_iter().chain(of_parts).chain(of_objects).collect()
    }
}

/// There may be a problem for each of thousands of objects.
fn log_difference(before: &[SourceProblem], after: &[SourceProblem]) {
    let known: HashSet<(&str, &str)> = before.iter().map(place_and_message).collect();
    for (place, message) in after.iter().map(place_and_message).filter(|problem| !known.contains(problem)) {
        tracing::warn!(place, "{message}");
    }
    let places: HashSet<&str> = after.iter().map(|problem| problem.place.as_str()).collect();
    for SourceProblem { place, .. } in
        before.iter().filter(|problem| !places.contains(problem.place.as_str()))
    {
        tracing::info!(place, "well again");
    }
}

fn place_and_message(problem: &SourceProblem) -> (&str, &str) {
    (&problem.place, &problem.message)
}

/// In whole seconds: it is for people.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

fn name(part: Part) -> String {
    match part {
        Part::Objects(Kind::Endpoints) => "Endpoints".to_owned(),
        Part::Objects(kind) => format!("{kind}s"),
        Part::Statuses => "statuses of DomainRoutes".to_owned(),
        Part::Events => "Events".to_owned(),
    }
}
