//! Whatever happens to the files: the events add up to what a new source reads in the end.

use std::collections::BTreeMap;
use std::io::ErrorKind::NotFound;
use std::io::Write as _;

use model::{Document, expand_cluster_route, read_manifests};
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;

/// What can happen to the files; nothing, where there is no such file.
#[derive(Clone, Debug)]
enum Step {
    Write(&'static str, String),
    /// In two pieces, with something else in between.
    WritePiecewise(&'static str, String, Box<Self>),
    RenameOver(&'static str, String),
    Rename(&'static str, &'static str),
    Remove(&'static str),
    MakeFolder(&'static str),
    RemoveFolder(&'static str),
    Link(&'static str, &'static str),
    /// The source comes to rest.
    Wait,
}

const FOLDERS: [&str; 4] = ["d", "e", "d/f", ".h"];

fn file() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a.yaml",
        "b.yaml",
        "c.txt",
        "d/a.yaml",
        "d/b.yaml",
        "e/a.yaml",
        "d/f/a.yaml",
        ".h/a.yaml",
    ])
}

fn folder() -> impl Strategy<Value = &'static str> {
    prop::sample::select(FOLDERS.to_vec())
}

/// Up to three of a few objects, so that several files have the same, or something broken.
fn text() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec!["one", "two", "three"]);
    let object =
        (0..3, prop::sample::select(vec!["r1", "r2", "r3"]), host).prop_map(
            |(kind, name, host)| match kind {
                0 => route(name, host),
                1 => route_of("ClusterDomainRoute", name, host),
                _ => format!("---\n{}", domain(name)),
            },
        );
    prop_oneof![
        8 => prop::collection::vec(object, 1..4).prop_map(|objects| objects.concat()),
        1 => Just(String::new()),
        1 => Just("kind: [".to_owned()),
        1 => Just(route("r1", "one") + &route("r2", "one").replace("port: 80", "port: eighty")),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let leaf = prop_oneof![
        4 => (file(), text()).prop_map(|(file, text)| Step::Write(file, text)),
        2 => (file(), text()).prop_map(|(file, text)| Step::RenameOver(file, text)),
        2 => (file(), file()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => file().prop_map(Step::Remove),
        1 => folder().prop_map(Step::MakeFolder),
        1 => folder().prop_map(Step::RemoveFolder),
        1 => (folder(), folder()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (file(), file()).prop_map(|(link, to)| Step::Link(link, to)),
        1 => (folder(), folder()).prop_map(|(link, to)| Step::Link(link, to)),
        2 => Just(Step::Wait),
    ];
    let piecewise = (file(), text(), leaf.clone())
        .prop_map(|(file, text, between)| Step::WritePiecewise(file, text, Box::new(between)));
    prop_oneof![8 => leaf, 1 => piecewise]
}

/// A source and the sum of its events.
struct Followed {
    folders: Folders,
    running: Running,
    objects: BTreeMap<ObjectRef, Object>,
    waits: usize,
}

impl Followed {
    async fn start() -> Self {
        let folders = Folders::new();
        for folder in FOLDERS {
            fs::create_dir_all(folders.manifests().join(folder)).expect("a folder");
        }
        let (running, objects) = folders.start().await;
        assert_eq!(objects, []);
        Self { folders, running, objects: BTreeMap::new(), waits: 0 }
    }

    async fn take(&mut self, step: Step) {
        let path = |name: &str| self.folders.manifests().join(name);
        // Steps that cannot be taken change nothing.
        let _ = match step {
            Step::Write(file, text) => fs::write(path(file), text),
            Step::WritePiecewise(file, text, between) => {
                let Ok(mut open) = fs::File::create(path(file)) else { return };
                let (start, end) = text.as_bytes().split_at(text.len() / 2);
                open.write_all(start).expect("a written file");
                Box::pin(self.take(*between)).await;
                open.write_all(end)
            }
            Step::RenameOver(file, text) => {
                fs::write(path(".new"), text).and_then(|()| fs::rename(path(".new"), path(file)))
            }
            Step::Rename(from, to) => fs::rename(path(from), path(to)),
            Step::Remove(file) => fs::remove_file(path(file)),
            Step::MakeFolder(folder) => fs::create_dir(path(folder)),
            Step::RemoveFolder(folder) => fs::remove_dir_all(path(folder)),
            Step::Link(link, to) => symlink(path(to), path(link)),
            Step::Wait => {
                self.waits += 1;
                let marker = format!("marker-{}", self.waits);
                fs::write(path("zz.yaml"), domain(&marker)).expect("a written file");
                let marker = Event::Apply(read(&domain(&marker)).remove(0)).clone();
                while self.follow().await != marker {}
                Ok(())
            }
        };
    }

    async fn follow(&mut self) -> Event {
        let event = self.running.event().await;
        match event.clone() {
            Event::Apply(object) => drop(self.objects.insert(object.reference(), object)),
            Event::Delete(reference) => {
                assert!(self.objects.remove(&reference).is_some(), "{reference} is deleted twice");
            }
            other => panic!("{other:?} after the first reading"),
        }
        event
    }

    /// What is broken keeps what nobody else knows of, so it is mended: files get good objects, circles of links go.
    fn mend(&self, folder: &Path) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_symlink() && fs::metadata(&path).is_err_and(|error| error.kind() != NotFound) {
                fs::remove_file(&path).expect("a removed link");
            } else if path.is_dir() && !path.is_symlink() {
                self.mend(&path);
            } else if let Ok(text) = fs::read_to_string(&path)
                && (text.is_empty() || documents(&text).is_none())
            {
                fs::write(&path, route("mended", "one")).expect("a written file");
            }
        }
    }

    /// Follows until the sum of the events is what a new source reads.
    async fn expect_what_a_new_source_reads(mut self) {
        self.mend(&self.folders.manifests());
        // Nobody watches where a link to nothing leads, but every change has the links looked at.
        self.take(Step::Wait).await;
        let other_state = self.folders.root.path().join("other-state");
        let settings = DirectorySettings { path: self.folders.manifests(), state: other_state };
        let mut fresh = Running::start(
            DirectorySource::open(settings, "alice".parse().expect("an ID")).expect("an open source"),
        );
        let expected = fresh.first_reading().await;
        let report = fresh.report(|report| report.synced).await;
        fresh.stop().await;
        while let Err(difference) = self.is_like(&expected) {
            let event = timeout(DEADLINE / 2, self.follow()).await;
            assert!(event.is_ok(), "{difference}");
        }
        let sums = |report: &SourceReport| (report.files, report.objects, report.problems.len());
        let waiting = self.running.report.wait_for(|ours| sums(ours) == sums(&report));
        let is_like = timeout(DEADLINE, waiting).await.is_ok();
        assert!(is_like, "{:?} instead of {report:?}", *self.running.report.borrow());
        self.running.stop().await;
    }

    /// Of an object that several files have, any version is right.
    fn is_like(&self, expected: &[Object]) -> Result<(), String> {
        let ours: Vec<&ObjectRef> = self.objects.keys().collect();
        let theirs: Vec<ObjectRef> = expected.iter().map(Object::reference).collect();
        if ours != theirs.iter().collect::<Vec<_>>() {
            return Err(format!("{ours:?} instead of {theirs:?}"));
        }
        let mut versions: BTreeMap<ObjectRef, Vec<Object>> = BTreeMap::new();
        self.collect(&self.folders.manifests(), &mut versions);
        for (ours, theirs) in self.objects.values().zip(expected) {
            let reference = ours.reference();
            let is_another_version = versions
                .get(&reference)
                .is_some_and(|versions| versions.len() > 1 && versions.contains(ours));
            if ours != theirs && !is_another_version && self.expansion(&reference.name).as_ref() != Some(ours)
            {
                return Err(format!("{ours:?} instead of {theirs:?}"));
            }
        }
        Ok(())
    }

    fn collect(&self, folder: &Path, versions: &mut BTreeMap<ObjectRef, Vec<Object>>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.is_symlink() {
                self.collect(&path, versions);
            } else if let Ok(text) = fs::read_to_string(&path) {
                for object in documents(&text).into_iter().flatten() {
                    versions.entry(object.reference()).or_default().push(object);
                }
            }
        }
    }

    fn expansion(&self, name: &str) -> Option<Object> {
        let reference =
            ObjectRef { kind: Kind::ClusterDomainRoute, namespace: String::new(), name: name.to_owned() };
        let Object::ClusterDomainRoute(cluster_route) = self.objects.get(&reference)? else { return None };
        Some(Object::DomainRoute(Box::new(expand_cluster_route(cluster_route, "alice"))))
    }
}

/// `None`: something is broken.
fn documents(text: &str) -> Option<Vec<Object>> {
    let object = |document| match document {
        Document::Read { object, .. } => Some(object),
        _ => None,
    };
    read_manifests(text, "alice").ok()?.into_iter().map(object).collect()
}

fn read(text: &str) -> Vec<Object> {
    documents(text).expect("good objects")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_events_add_up_to_what_a_new_source_reads(steps in prop::collection::vec(step(), 1..40)) {
        Runtime::new().expect("a runtime").block_on(async {
            let mut followed = Followed::start().await;
            for step in steps {
                followed.take(step).await;
            }
            followed.expect_what_a_new_source_reads().await;
        });
    }
}
