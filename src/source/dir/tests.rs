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

    /// The objects of the first reading, which must have the right form.
    async fn first_reading(&mut self) -> Vec<Object> {
        let mut objects = Vec::new();
        for kind in Kind::ALL {
            assert_eq!(self.event().await, Event::Init(kind));
            loop {
                match self.event().await {
                    Event::InitApply(object) => {
                        assert_eq!(object.kind(), kind);
                        objects.push(object);
                    }
                    event => {
                        assert_eq!(event, Event::InitDone(kind));
                        break;
                    }
                }
            }
        }
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
                .find(|problem| problem.file == file && problem.message.contains(words))
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

#[tokio::test]
async fn the_first_reading_has_the_objects_of_all_files_in_nested_folders() {
    let service = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {}}"#;
    let folders = Folders::with(&[
        ("routes/deep/er/a.yaml", &(route("a", "one") + &route("b", "two"))),
        ("domains.yml", &domain("bob")),
        ("service.json", service),
        ("notes.txt", &route("not-in-a-manifest", "x")),
        (".hidden.yaml", &route("hidden", "x")),
        (".git/x.yaml", &route("hidden", "x")),
    ]);
    let (mut running, objects) = folders.start().await;
    assert_eq!(
        names(&objects),
        ["Domain bob", "DomainRoute alice/a", "DomainRoute alice/b", "Service alice/s"]
    );
    let report = running.report(|report| report.synced).await;
    assert_eq!((report.kind, report.files, report.objects), (SourceKind::Directory, 3, 4));
    assert_eq!(report.problems, []);
    assert!(report.last_read.is_some());
}

#[tokio::test]
async fn changes_of_files_become_the_changes_of_their_objects() {
    let folders = Folders::with(&[("ab.yaml", &(route("a", "one") + &route("b", "one")))]);
    let (mut running, _) = folders.start().await;
    folders.write("ab.yaml", &(route("a", "one") + &route("b", "two")));
    assert_eq!(running.change().await, "Apply DomainRoute alice/b to=two");
    folders.write("ab.yaml", &route("b", "two"));
    assert_eq!(running.change().await, "Delete DomainRoute alice/a");
    folders.write("new/folder/c.yaml", &route("c", "one"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/c to=one");
    folders.write("new/folder/c.yaml", &route("c", "two"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/c to=two");
    folders.remove("ab.yaml");
    assert_eq!(running.change().await, "Delete DomainRoute alice/b");
    fs::remove_dir_all(folders.manifests().join("new")).expect("a removed folder");
    assert_eq!(running.change().await, "Delete DomainRoute alice/c");
}

#[tokio::test]
async fn a_file_that_only_looks_changed_says_nothing() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let (mut running, _) = folders.start().await;
    folders.write("a.yaml", &format!("# A comment\n{}", route("a", "one")));
    let moved = folders.manifests().join("elsewhere.yaml");
    fs::rename(folders.manifests().join("a.yaml"), moved).expect("a renamed file");
    running.expect_nothing_but_a_marker(&folders).await;
}

#[tokio::test]
async fn a_file_that_is_renamed_over_another_replaces_it() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let (mut running, _) = folders.start().await;
    folders.write(".a.yaml.new", &route("a", "two"));
    let manifests = folders.manifests();
    fs::rename(manifests.join(".a.yaml.new"), manifests.join("a.yaml")).expect("a renamed file");
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=two");
}

#[tokio::test]
async fn the_swap_of_a_mounted_config_map_is_noticed() {
    let folders = Folders::with(&[
        ("..2026_1/a.yaml", &route("a", "one")),
        ("..2026_1/b.yaml", &route("b", "one")),
        ("..2026_2/a.yaml", &route("a", "two")),
    ]);
    let manifests = folders.manifests();
    symlink("..2026_1", manifests.join("..data")).expect("a link");
    symlink("..data/a.yaml", manifests.join("a.yaml")).expect("a link");
    symlink("..data/b.yaml", manifests.join("b.yaml")).expect("a link");
    let (mut running, objects) = folders.start().await;
    assert_eq!(names(&objects), ["DomainRoute alice/a", "DomainRoute alice/b"]);

    symlink("..2026_2", manifests.join("..data_tmp")).expect("a link");
    fs::rename(manifests.join("..data_tmp"), manifests.join("..data")).expect("a renamed link");
    fs::remove_file(manifests.join("b.yaml")).expect("a removed link");
    fs::remove_dir_all(manifests.join("..2026_1")).expect("a removed folder");
    let mut changes = [running.change().await, running.change().await];
    changes.sort();
    assert_eq!(changes, ["Apply DomainRoute alice/a to=two", "Delete DomainRoute alice/b"]);
    assert_eq!(running.report(|report| report.files == 1).await.problems, []);
}

#[tokio::test]
async fn links_are_followed_and_their_loops_end() {
    let folders = Folders::with(&[("sub/a.yaml", &route("a", "one"))]);
    let manifests = folders.manifests();
    let outside = folders.root.path().join("outside");
    fs::create_dir_all(outside.join("folder")).expect("a folder");
    fs::write(outside.join("b.yaml"), route("b", "one")).expect("a written file");
    fs::write(outside.join("folder/c.yaml"), route("c", "one")).expect("a written file");
    symlink(&manifests, manifests.join("sub/loop")).expect("a link");
    symlink("self.yaml", manifests.join("self.yaml")).expect("a link");
    symlink("nowhere", manifests.join("dangling.yaml")).expect("a link");
    symlink(outside.join("b.yaml"), manifests.join("b.yaml")).expect("a link");
    symlink(outside.join("folder"), manifests.join("linked")).expect("a link");

    let (mut running, objects) = folders.start().await;
    assert_eq!(names(&objects), ["DomainRoute alice/a", "DomainRoute alice/b", "DomainRoute alice/c"]);
    running.problem(&manifests.join("self.yaml"), "cannot be read").await;
    let dangling = running.problem(&manifests.join("dangling.yaml"), "link to nothing").await;
    assert_eq!(dangling.severity, Severity::Warning);

    fs::write(outside.join("b.yaml"), route("b", "two")).expect("a written file");
    assert_eq!(running.change().await, "Apply DomainRoute alice/b to=two");
    fs::write(outside.join("folder/c.yaml"), route("c", "two")).expect("a written file");
    assert_eq!(running.change().await, "Apply DomainRoute alice/c to=two");
}

#[tokio::test]
async fn a_broken_file_keeps_its_objects_and_hurts_no_other() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one")), ("b.yaml", &route("b", "one"))]);
    let (mut running, _) = folders.start().await;
    let file = folders.manifests().join("a.yaml");
    folders.write("a.yaml", "kind: [unclosed\n\t: :");
    assert_eq!(running.problem(&file, "").await.severity, Severity::Error);
    folders.write("b.yaml", &route("b", "two"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/b to=two");
    folders.write("a.yaml", "");
    running.problem(&file, "is empty").await;
    fs::write(&file, [0xff, 0xfe, 0x00]).expect("a written file");
    running.problem(&file, "cannot be read").await;
    folders.write("a.yaml", &route("a", "two"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=two");
    assert_eq!(running.report(|report| report.problems.is_empty()).await.objects, 2);
}

#[tokio::test]
async fn a_broken_document_keeps_its_object_while_the_others_of_its_file_change() {
    let folders = Folders::with(&[("ab.yaml", &(route("a", "one") + &route("b", "one")))]);
    let (mut running, _) = folders.start().await;
    let broken = route("a", "one").replace("port: 80", "port: eighty");
    folders.write("ab.yaml", &(broken + &route("b", "two")));
    assert_eq!(running.change().await, "Apply DomainRoute alice/b to=two");
    let file = folders.manifests().join("ab.yaml");
    let problem = running.problem(&file, "DomainRoute alice/a: spec.endpoint.ports[0].port").await;
    assert_eq!(problem.severity, Severity::Error);
    assert_eq!(running.report(|_| true).await.objects, 2);
    folders.write("ab.yaml", &route("b", "two"));
    assert_eq!(running.change().await, "Delete DomainRoute alice/a");
}

#[tokio::test]
async fn names_that_kubernetes_refuses_are_refused() {
    let folders = Folders::with(&[(
        "a.yaml",
        &(route("../../lock", "one") + &route("ok.1", "one") + &route("Up", "x")),
    )]);
    let (mut running, objects) = folders.start().await;
    assert_eq!(names(&objects), ["DomainRoute alice/ok.1"]);
    let file = folders.manifests().join("a.yaml");
    running.problem(&file, "DomainRoute alice/../../lock: metadata.name").await;
    running.problem(&file, "DomainRoute alice/Up: metadata.name").await;
}

#[tokio::test]
async fn unknown_fields_are_warnings_and_other_kinds_are_nothing() {
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\n";
    let folders = Folders::with(&[("a.yaml", &(route("a", "one") + "  endpiont: {}\n" + pod))]);
    let (mut running, objects) = folders.start().await;
    assert_eq!(names(&objects), ["DomainRoute alice/a"]);
    let report = running.report(|report| report.synced).await;
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].severity, Severity::Warning);
    assert!(report.problems[0].message.contains("spec.endpiont"), "{}", report.problems[0].message);
}

#[tokio::test]
async fn a_file_of_more_than_4_mib_is_refused() {
    let large = route("a", "one") + &"# padding\n".repeat(450_000);
    let folders = Folders::with(&[("a.yaml", &large), ("b.yaml", &route("b", "one"))]);
    let (mut running, objects) = folders.start().await;
    assert_eq!(names(&objects), ["DomainRoute alice/b"]);
    running.problem(&folders.manifests().join("a.yaml"), "more than 4 MiB").await;
}

#[tokio::test]
async fn of_two_objects_of_one_name_the_one_in_force_stays() {
    let folders = Folders::with(&[("b.yaml", &route("a", "b")), ("c.yaml", &route("a", "c"))]);
    let (b, c) = (folders.manifests().join("b.yaml"), folders.manifests().join("c.yaml"));
    let (mut running, objects) = folders.start().await;
    assert_eq!(describe(&Event::Apply(objects[0].clone())), "Apply DomainRoute alice/a to=b");
    running.problem(&c, &b.display().to_string()).await;

    folders.write("a.yaml", &route("a", "a"));
    running.problem(&folders.manifests().join("a.yaml"), &b.display().to_string()).await;
    folders.remove("a.yaml");
    folders.remove("b.yaml");
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=c");
    running.report(|report| report.problems.is_empty()).await;

    folders.write("c.yaml", &(route("a", "first") + &route("a", "second")));
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=first");
    running.problem(&c, "written twice in this file").await;
}

#[tokio::test]
async fn a_cluster_route_stands_for_a_route_unless_that_is_written() {
    let others = route_of("ClusterDomainRoute", "b-c", "one").replace("alice", "carol");
    let folders = Folders::with(&[("a.yaml", &(route_of("ClusterDomainRoute", "a-b", "cluster") + &others))]);
    let (mut running, objects) = folders.start().await;
    assert_eq!(
        names(&objects),
        ["DomainRoute alice/a-b", "ClusterDomainRoute a-b", "ClusterDomainRoute b-c"]
    );
    folders.write("b.yaml", &route("a-b", "own"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/a-b to=own");
    folders.remove("b.yaml");
    assert_eq!(running.change().await, "Apply DomainRoute alice/a-b to=cluster");
    folders.remove("a.yaml");
    let changes = [running.change().await, running.change().await, running.change().await];
    assert_eq!(
        changes,
        ["Delete DomainRoute alice/a-b", "Delete ClusterDomainRoute a-b", "Delete ClusterDomainRoute b-c"]
    );
}

#[tokio::test]
async fn a_folder_that_goes_away_deletes_nothing_and_is_noticed_when_it_is_back() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one")), ("b.yaml", &route("b", "one"))]);
    let (mut running, _) = folders.start().await;
    let aside = folders.root.path().join("aside");
    fs::rename(folders.manifests(), &aside).expect("a renamed folder");
    running.problem(&folders.manifests(), "its objects stay").await;
    fs::write(aside.join("a.yaml"), route("a", "two")).expect("a written file");
    fs::rename(&aside, folders.manifests()).expect("a renamed folder");
    running.report(|report| report.problems.is_empty()).await;
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=two");
    folders.write("b.yaml", &route("b", "two"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/b to=two");
}

#[tokio::test]
async fn a_status_is_on_disk_before_it_is_said_and_survives_a_restart() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let (mut running, _) = folders.start().await;
    running.update("a", StatusChange::Tokens(tokens("sealed"))).await;
    let said = status_of(&running.event().await);
    assert_eq!(said.token_status, tokens("sealed"));
    assert_eq!(folders.read_status("a"), said);
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&folders.status_file("a")), 0o600);
    assert_eq!(mode(&folders.state()), 0o700);

    // The same again changes nothing; a status of no route is nobody's.
    running.update("a", StatusChange::Tokens(tokens("sealed"))).await;
    running.update("gone", StatusChange::Tokens(tokens("sealed"))).await;
    running.update("a", StatusChange::Destination { authorized: true, unreachable: false }).await;
    assert!(status_of(&running.event().await).is_destination_authorized);
    assert!(!folders.status_file("gone").exists());

    // The end of the process is no chance to tidy up.
    running.task.abort();
    let ended = timeout(DEADLINE, &mut running.task).await.expect("an end in time");
    assert!(ended.expect_err("an aborted task").is_cancelled());
    let (_running, objects) = folders.start().await;
    let [Object::DomainRoute(route)] = objects.as_slice() else { panic!("{objects:?}") };
    assert_eq!(route.status.as_ref(), Some(&folders.read_status("a")));
}

#[tokio::test]
async fn a_status_outlives_the_replacement_of_its_manifest() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let (mut running, _) = folders.start().await;
    running.update("a", StatusChange::Tokens(tokens("sealed"))).await;
    running.event().await;
    folders.remove("a.yaml");
    assert_eq!(running.change().await, "Delete DomainRoute alice/a");
    folders.write("a.yaml", &route("a", "two"));
    assert_eq!(status_of(&running.event().await).token_status, tokens("sealed"));
}

#[tokio::test]
async fn a_status_in_a_manifest_counts_only_where_the_state_folder_has_none() {
    let written = |token: &str| {
        let status = serde_json::json!({"tokenStatus": tokens(token)});
        route("a", "one") + &format!("status: {status}\n")
    };
    let folders = Folders::with(&[("a.yaml", &written("written"))]);
    let (mut running, objects) = folders.start().await;
    assert_eq!(status_of(&Event::Apply(objects[0].clone())).token_status, tokens("written"));
    let status = StatusChange::Destination { authorized: true, unreachable: false };
    running.update("a", status).await;
    let kept = status_of(&running.event().await);
    assert_eq!((kept.token_status, kept.is_destination_authorized), (tokens("written"), true));
    folders.write("a.yaml", &written("other"));
    running.expect_nothing_but_a_marker(&folders).await;
}

#[tokio::test]
async fn updates_that_wait_are_kept_even_when_no_event_is_taken_and_the_source_is_stopped() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let mut running = Running::start(folders.open().expect("an open source"));
    // The queue of events is full from here on, and the route was read.
    running.report(|report| report.synced).await;
    for second in 0..500 {
        let condition = Condition {
            type_: "Reachable".to_owned(),
            status: ConditionStatus::True,
            reason: "Test".to_owned(),
            message: second.to_string(),
            last_transition_time: None,
        };
        timeout(DEADLINE, running.update("a", StatusChange::Condition(condition)))
            .await
            .expect("room in time");
    }
    running.stop().await;
    assert_eq!(folders.read_status("a").conditions[0].message, "499");
}

#[tokio::test]
async fn a_status_that_cannot_be_written_is_said_reported_and_written_later() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one")), ("b.yaml", &route("b", "one"))]);
    let (mut running, _) = folders.start().await;
    let statuses = folders.state().join("domainroutes");
    fs::remove_dir(&statuses).expect("a removed folder");
    running.update("a", StatusChange::Tokens(tokens("a"))).await;
    assert_eq!(status_of(&running.event().await).token_status, tokens("a"));
    running.problem(&folders.status_file("a"), "cannot be written").await;
    fs::create_dir(&statuses).expect("a folder");
    running.update("b", StatusChange::Tokens(tokens("b"))).await;
    assert_eq!(running.change().await, "Apply DomainRoute alice/b to=one");
    assert_eq!(folders.read_status("a").token_status, tokens("a"));
    running.report(|report| report.problems.is_empty()).await;
}

#[tokio::test]
async fn what_a_killed_mesh_left_behind_is_ignored_and_what_is_corrupt_is_set_aside() {
    let folders = Folders::with(&[("ab.yaml", &(route("a", "one") + &route("b", "one")))]);
    folders.write_status("a", "{\"tokenStatus\": {\"tok");
    let status = DomainRouteStatus { token_status: tokens("good"), ..Default::default() };
    folders.write_status("b", &serde_json::to_string(&status).expect("JSON"));
    let leftover = folders.state().join("domainroutes/.abcdef.tmp");
    fs::write(&leftover, "half").expect("a written file");

    let (_running, objects) = folders.start().await;
    assert!(!leftover.exists());
    let corrupt = folders.state().join("domainroutes/a.json.corrupt");
    assert_eq!(fs::read_to_string(corrupt).expect("a file"), "{\"tokenStatus\": {\"tok");
    assert!(!folders.status_file("a").exists());
    let [Object::DomainRoute(a), Object::DomainRoute(b)] = objects.as_slice() else { panic!("{objects:?}") };
    assert_eq!((&a.status, &b.status), (&None, &Some(status)));
}

#[tokio::test]
async fn the_status_of_a_route_that_is_gone_for_a_week_is_removed() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let day = Duration::from_secs(24 * 60 * 60);
    for (name, days) in [("a", 30), ("old", 8), ("young", 6)] {
        folders.write_status(name, "{}");
        let file = fs::File::options().append(true).open(folders.status_file(name)).expect("a file");
        file.set_modified(SystemTime::now() - days * day).expect("a changed time");
    }
    let (mut running, _) = folders.start().await;
    // Statuses are pruned before anything is delivered.
    running.expect_nothing_but_a_marker(&folders).await;
    let left = ["a", "old", "young"].map(|name| folders.status_file(name).exists());
    assert_eq!(left, [true, false, true]);
}

#[tokio::test]
async fn a_state_folder_inside_the_manifests_is_not_read_as_manifests() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let settings = DirectorySettings { path: folders.manifests(), state: folders.manifests() };
    let source = DirectorySource::open(settings, "alice".parse().expect("an ID")).expect("an open source");
    let mut running = Running::start(source);
    running.first_reading().await;
    running.update("a", StatusChange::Tokens(tokens("sealed"))).await;
    running.event().await;
    running.expect_nothing_but_a_marker(&folders).await;
    assert_eq!(running.report(|report| report.files == 2).await.problems, []);
}

#[test]
fn two_meshes_cannot_share_a_state_folder() {
    let folders = Folders::new();
    let first = folders.open().expect("an open source");
    let error = folders.open().expect_err("the folder is in use");
    assert!(matches!(error, SourceError::Locked(_)), "{error}");
    assert!(error.to_string().contains(&folders.state().display().to_string()), "{error}");
    drop(first);
    folders.open().expect("the folder is free again");
}

#[test]
fn folders_that_cannot_be_used_are_named_with_the_remedy() {
    let folders = Folders::new();
    fs::remove_dir(folders.manifests()).expect("a removed folder");
    let error = folders.open().expect_err("no folder").to_string();
    assert!(
        error.contains(&folders.manifests().display().to_string()) && error.contains("create it"),
        "{error}"
    );
    fs::write(folders.manifests(), "").expect("a written file");
    assert!(matches!(folders.open(), Err(SourceError::Manifests { .. })));

    let folders = Folders::new();
    fs::write(folders.state(), "").expect("a written file");
    let error = folders.open().expect_err("no folder").to_string();
    assert!(error.contains("source.directory.state"), "{error}");
}
