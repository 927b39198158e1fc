//! Readings of the folder and status updates in, events out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::api::{DomainRoute, DomainRouteStatus};
use model::{DomainId, Event, Kind, Object, StatusUpdate};
use tokio::sync::{mpsc, watch as latest};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::blocking;
use super::folder::{End, Reading};
use super::objects::Change;
use super::state::StateFolder;
use crate::source::{Severity, SourceKind, SourceProblem, SourceReport};

/// When statuses that could not be written are tried again, if no update comes sooner.
const RETRY: Duration = Duration::from_secs(10);

/// Most updates that are taken in at once.
const BATCH: usize = 1024;

/// Knows what was sent, and the status of each route.
#[derive(Debug)]
pub(super) struct Delivery {
    domain: DomainId,
    state: Arc<StateFolder>,
    /// By the names of the routes; also those of routes that are gone, for when they come back.
    statuses: BTreeMap<String, DomainRouteStatus>,
    /// The routes of this domain, as they were sent.
    routes: BTreeMap<String, DomainRoute>,
    outbox: VecDeque<Event>,
    /// A part of the first reading was sent, or all of it.
    has_begun: bool,
    report: SourceReport,
    /// In their order.
    folder_problems: Vec<SourceProblem>,
    /// Why the status of a route is not in the state folder.
    unwritten: BTreeMap<String, SourceProblem>,
}

impl Delivery {
    /// The delivery of the objects of `domain` in the folder `location`, whose routes have `statuses`.
    pub(super) fn new(
        domain: DomainId,
        location: String,
        state: Arc<StateFolder>,
        statuses: BTreeMap<String, DomainRouteStatus>,
    ) -> Self {
        Self {
            domain,
            state,
            statuses,
            routes: BTreeMap::new(),
            outbox: VecDeque::new(),
            has_begun: false,
            report: SourceReport { location, ..SourceReport::new(SourceKind::Directory) },
            folder_problems: Vec::new(),
            unwritten: BTreeMap::new(),
        }
    }

    /// Delivers until `shutdown` or until nobody listens to `events`.
    pub(super) async fn run(
        mut self,
        mut readings: mpsc::Receiver<Reading>,
        mut updates: mpsc::Receiver<StatusUpdate>,
        events: mpsc::Sender<Event>,
        report: latest::Sender<SourceReport>,
        shutdown: CancellationToken,
    ) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                // Updates are taken in even while nobody takes an event: whoever does may be waiting to send one.
                permit = events.reserve(), if !self.outbox.is_empty() => {
                    let Ok(permit) = permit else { break };
                    if let Some(event) = self.outbox.pop_front() {
                        permit.send(event);
                    }
                    continue;
                }
                Some(reading) = readings.recv(), if self.outbox.is_empty() => self.take_reading(reading).await,
                // Nobody knows a route before all are read.
                1.. = updates.recv_many(&mut batch, BATCH), if self.report.synced => {
                    self.take_updates(batch.drain(..)).await;
                }
                () = sleep(RETRY), if !self.unwritten.is_empty() => self.write(BTreeSet::new()).await,
            }
            self.publish(&report);
        }
        while let Ok(update) = updates.try_recv() {
            batch.push(update);
        }
        self.take_updates(batch.drain(..)).await;
    }

    async fn take_reading(&mut self, Reading { changes, end }: Reading) {
        let is_first = !self.report.synced;
        if !std::mem::replace(&mut self.has_begun, true) {
            self.outbox.extend(Kind::ALL.map(Event::Init));
        }
        for change in changes {
            let event = match self.event(change) {
                Some(Event::Apply(object)) if is_first => Some(Event::InitApply(object)),
                event => event,
            };
            self.outbox.extend(event);
        }
        let Some(End { at, files, objects, problems }) = end else { return };
        for problem in problems.iter().filter(|problem| self.folder_problems.binary_search(problem).is_err())
        {
            tracing::warn!(file = problem.place, "{}", problem.message);
        }
        let is_whole = problems.iter().all(|problem| problem.severity == Severity::Warning);
        self.folder_problems = problems;
        self.report.synced = true;
        self.report.files = Some(files);
        self.report.objects = objects;
        self.report.last_read = Some(at);
        if !is_first {
            return;
        }
        self.outbox.extend(Kind::ALL.map(Event::InitDone));
        tracing::info!(files, objects, "manifests read");
        if is_whole {
            self.prune().await;
        }
    }

    /// What is to be said about `change`; `None` where it makes no difference to what was said.
    fn event(&mut self, change: Change) -> Option<Event> {
        match change {
            Change::Remove(reference) => {
                if reference.kind == Kind::DomainRoute && reference.namespace == self.domain.as_str() {
                    self.routes.remove(&reference.name);
                }
                Some(Event::Delete(reference))
            }
            Change::Put(mut object) => {
                let reference = object.reference();
                if let Object::DomainRoute(route) = &mut object
                    && reference.namespace == self.domain.as_str()
                {
                    if let Some(status) = self.statuses.get(&reference.name) {
                        route.status = Some(status.clone());
                    }
                    if self.routes.get(&reference.name) == Some(route.as_ref()) {
                        return None;
                    }
                    self.routes.insert(reference.name, route.as_ref().clone());
                }
                Some(Event::Apply(object))
            }
        }
    }

    async fn take_updates(&mut self, updates: impl Iterator<Item = StatusUpdate>) {
        let mut changed = BTreeSet::new();
        for StatusUpdate { object, change } in updates {
            let own = object.kind == Kind::DomainRoute && object.namespace == self.domain.as_str();
            let Some(route) = self.routes.get_mut(&object.name).filter(|_| own) else {
                tracing::debug!(%object, "ignoring a status of an object that is gone");
                continue;
            };
            let mut status = route.status.clone().unwrap_or_default();
            if change.apply(&mut status) {
                route.status = Some(status.clone());
                self.statuses.insert(object.name.clone(), status);
                changed.insert(object.name);
            }
        }
        if !changed.is_empty() {
            self.write(changed).await;
        }
    }

    /// Writes the statuses of the routes named in `changed`, and those that could not be written before; then says
    /// what changed, even where it could not be written: a full disk must not stop the domain.
    async fn write(&mut self, changed: BTreeSet<String>) {
        let names: BTreeSet<&String> = changed.iter().chain(self.unwritten.keys()).collect();
        let statuses: Vec<(String, DomainRouteStatus)> = names
            .into_iter()
            .filter_map(|name| Some((name.clone(), self.statuses.get(name)?.clone())))
            .collect();
        let state = Arc::clone(&self.state);
        let errors = blocking(move || state.write(&statuses)).await;
        let before = std::mem::take(&mut self.unwritten);
        for error in errors {
            let message = format!(
                "the status of the route cannot be written ({}) and would be lost if the mesh ended; free or mend the disk",
                error.cause
            );
            let problem = SourceProblem::of_file(&error.file, Severity::Error, message);
            if before.get(&error.name) != Some(&problem) {
                tracing::error!(file = problem.place, "{}", problem.message);
            }
            self.unwritten.insert(error.name, problem);
        }
        let routes = changed.iter().filter_map(|name| self.routes.get(name));
        self.outbox.extend(routes.map(|route| Event::Apply(Object::DomainRoute(Box::new(route.clone())))));
    }

    async fn prune(&mut self) {
        let present = self.routes.keys().cloned().collect();
        let state = Arc::clone(&self.state);
        match blocking(move || state.prune(&present)).await {
            Ok(pruned) => pruned.iter().for_each(|name| {
                tracing::info!(name, "removed the status of a route that is gone for long");
                self.statuses.remove(name);
            }),
            Err(error) => tracing::warn!(%error, "cannot remove old statuses from the state folder"),
        }
    }

    fn publish(&mut self, report: &latest::Sender<SourceReport>) {
        self.report.problems = self.folder_problems.iter().chain(self.unwritten.values()).cloned().collect();
        report.send_if_modified(|published| {
            let changed = *published != self.report;
            if changed {
                published.clone_from(&self.report);
            }
            changed
        });
    }
}
