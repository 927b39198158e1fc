//! A source beside real folders.

mod broken;
mod changes;
mod duplicates;
mod links;
mod open;
mod property;
mod statuses;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use model::api::{Condition, ConditionStatus, DomainRouteStatus, DomainRouteToken, DomainRouteTokenStatus};
use model::{DomainId, Event, Kind, Object, ObjectRef, StatusChange, StatusUpdate};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{DirectorySettings, DirectorySource, SourceError};
use crate::source::{Severity, SourceKind, SourceProblem, SourceReport};

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(10);

/// A manifests folder and a state folder.
struct Folders {
    root: TempDir,
}

impl Folders {
    fn new() -> Self {
        let folders = Self { root: tempfile::tempdir().expect("a folder") };
        fs::create_dir(folders.manifests()).expect("a folder");
        folders
    }

    fn with(files: &[(&str, &str)]) -> Self {
        let folders = Self::new();
        for (name, text) in files {
            folders.write(name, text);
        }
        folders
    }

    fn manifests(&self) -> PathBuf {
        self.root.path().join("manifests")
    }

    fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    fn status_file(&self, route: &str) -> PathBuf {
        self.state().join("domainroutes").join(format!("{route}.json"))
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.manifests().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a written file");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.manifests().join(name)).expect("a removed file");
    }

    fn write_status(&self, route: &str, text: &str) {
        let file = self.status_file(route);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(file, text).expect("a written file");
    }

    fn read_status(&self, route: &str) -> DomainRouteStatus {
        let text = fs::read(self.status_file(route)).expect("a status file");
        serde_json::from_slice(&text).expect("a whole status")
    }

    fn open(&self) -> Result<DirectorySource, SourceError> {
        let settings = DirectorySettings { path: self.manifests(), state: self.state() };
        DirectorySource::open(settings, "alice".parse::<DomainId>().expect("an ID"))
    }

    /// A running source and the objects of its first reading.
    async fn start(&self) -> (Running, Vec<Object>) {
        let mut running = Running::start(self.open().expect("an open source"));
        let objects = running.first_reading().await;
        (running, objects)
    }
}

struct Running {
    task: JoinHandle<()>,
    events: mpsc::Receiver<Event>,
    updates: mpsc::Sender<StatusUpdate>,
    report: watch::Receiver<SourceReport>,
    shutdown: CancellationToken,
}

impl Running {
    fn start(source: DirectorySource) -> Self {
        let (events_in, events) = mpsc::channel(1);
        let (updates, updates_out) = mpsc::channel(64);
        let (report_in, report) = watch::channel(SourceReport::new(SourceKind::Directory));
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(source.run(events_in, updates_out, report_in, shutdown.clone()));
        Self { task, events, updates, report, shutdown }
    }

    async fn event(&mut self) -> Event {
        timeout(DEADLINE, self.events.recv()).await.expect("an event in time").expect("a source that runs")
    }

    /// The objects of the first reading, which must have the right form, in order of their references.
    async fn first_reading(&mut self) -> Vec<Object> {
        for kind in Kind::ALL {
            assert_eq!(self.event().await, Event::Init(kind));
        }
        let mut objects = Vec::new();
        let mut event = self.event().await;
        while let Event::InitApply(object) = event {
            objects.push(object);
            event = self.event().await;
        }
        for kind in Kind::ALL {
            assert_eq!(event, Event::InitDone(kind));
            if kind != Kind::EndpointSlice {
                event = self.event().await;
            }
        }
        objects.sort_by_key(Object::reference);
        objects
    }

    /// The next event, in short.
    async fn change(&mut self) -> String {
        describe(&self.event().await)
    }

    async fn report(&mut self, right: impl FnMut(&SourceReport) -> bool) -> SourceReport {
        let report = timeout(DEADLINE, self.report.wait_for(right)).await.expect("the report in time");
        report.expect("a source that runs").clone()
    }

    async fn problem(&mut self, file: &Path, words: &str) -> SourceProblem {
        let find = |report: &SourceReport| {
            report
                .problems
                .iter()
                .find(|problem| Path::new(&problem.place) == file && problem.message.contains(words))
                .cloned()
        };
        let report = self.report(|report| find(report).is_some()).await;
        find(&report).expect("the problem")
    }

    /// Shows that nothing else was said, by a change that must be said.
    async fn expect_nothing_but_a_marker(&mut self, folders: &Folders) {
        folders.write("zz-marker.yaml", &domain("marker"));
        assert_eq!(self.change().await, "Apply Domain marker");
    }

    async fn update(&self, route: &str, change: StatusChange) {
        let object =
            ObjectRef { kind: Kind::DomainRoute, namespace: "alice".to_owned(), name: route.to_owned() };
        self.updates.send(StatusUpdate { object, change }).await.expect("a source that runs");
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(DEADLINE, self.task).await.expect("an end in time").expect("no panic");
    }
}

/// `Apply DomainRoute alice/a to=host`.
fn describe(event: &Event) -> String {
    let (verb, object) = match event {
        Event::Apply(object) => ("Apply", object),
        Event::Delete(reference) => return format!("Delete {reference}"),
        other => panic!("{other:?} after the first reading"),
    };
    let host = match object {
        Object::DomainRoute(route) => format!(" to={}", route.spec.endpoint.host),
        _ => String::new(),
    };
    format!("{verb} {}{host}", object.reference())
}

fn names(objects: &[Object]) -> Vec<String> {
    objects.iter().map(|object| object.reference().to_string()).collect()
}

fn status_of(event: &Event) -> DomainRouteStatus {
    let Event::Apply(Object::DomainRoute(route)) = event else { panic!("{event:?} is no applied route") };
    route.status.clone().expect("a status")
}

fn tokens(token: &str) -> DomainRouteTokenStatus {
    let token =
        DomainRouteToken { is_ready: true, token: token.to_owned(), revision: 1, ..Default::default() };
    DomainRouteTokenStatus { tokens: vec![token], ..Default::default() }
}

/// The first tokens of a route.
fn first_tokens(token: &str) -> StatusChange {
    StatusChange::Tokens { before: Box::default(), after: Box::new(tokens(token)) }
}

fn domain(name: &str) -> String {
    format!(
        "{{apiVersion: kuscia.secretflow/v1alpha1, kind: Domain, metadata: {{name: {name}}}, spec: {{cert: ''}}}}\n"
    )
}

fn route(name: &str, host: &str) -> String {
    route_of("DomainRoute", name, host)
}

fn route_of(kind: &str, name: &str, host: &str) -> String {
    format!(
        "---
apiVersion: kuscia.secretflow/v1alpha1
kind: {kind}
metadata: {{name: {name}}}
spec:
  source: alice
  destination: bob
  authenticationType: None
  endpoint: {{host: {host}, ports: [{{name: http, protocol: HTTP, port: 80}}]}}
"
    )
}
