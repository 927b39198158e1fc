//! What one change costs among few and among many objects.
//!
//! `cargo bench -p networkmesh-model --bench commit` takes, for each kind of change, the time from the event to the
//! snapshot and the list of what is different in it.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark ends where it cannot go on")]

use std::hint::black_box;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use certs::DomainKey;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use networkmesh_model::{Event, Index, Object, Snapshot, TOKEN_BYTES};
use serde_json::{Value, json};

/// Numbers of services. There are a tenth as many routes.
const SIZES: [u32; 4] = [100, 1_000, 10_000, 100_000];

static KEY: LazyLock<DomainKey> = LazyLock::new(|| DomainKey::generate().unwrap());
static PEER_KEY: LazyLock<String> =
    LazyLock::new(|| DomainKey::generate().unwrap().public_key().to_base64_pem());

fn service(name: &str, protocol: &str) -> Event {
    let service = json!({
        "metadata": {
            "name": name, "namespace": "alice",
            "labels": {"kuscia.secretflow/port-scope": "Cluster", "kuscia.secretflow/port-name": "http"},
            "annotations": {"kuscia.secretflow/protocol": protocol},
        },
        "spec": {"ports": [{"name": "http", "port": 80}]},
    });
    Event::Apply(Object::Service(serde_json::from_value(service).unwrap()))
}

fn endpoints(name: &str, ips: [&str; 2]) -> Event {
    let endpoints = json!({
        "metadata": {"name": name, "namespace": "alice"},
        "subsets": [{
            "addresses": [{"ip": ips[0]}, {"ip": ips[1]}], "ports": [{"name": "http", "port": 8080}],
        }],
    });
    Event::Apply(Object::Endpoints(serde_json::from_value(endpoints).unwrap()))
}

fn route(destination: &str, status: &Value) -> Event {
    let route = json!({
        "apiVersion": "kuscia.secretflow/v1alpha1",
        "kind": "DomainRoute",
        "metadata": {"name": format!("alice-{destination}"), "namespace": "alice"},
        "spec": {
            "source": "alice",
            "destination": destination,
            "endpoint": {
                "host": format!("{destination}.example.com"),
                "ports": [{"name": "http", "port": 1080, "protocol": "HTTP"}],
            },
            "authenticationType": "Token",
            "tokenConfig": {"destinationPublicKey": *PEER_KEY, "tokenGenMethod": "RSA-GEN"},
        },
        "status": status,
    });
    Event::Apply(Object::DomainRoute(serde_json::from_value(route).unwrap()))
}

/// A status of two tokens, the newest first. A change of their order opens none anew.
fn status(newest: &str, older: &str) -> Value {
    let token = |sealed| json!({"token": sealed, "revision": 1, "isReady": true});
    json!({"tokenStatus": {"revisionToken": token(newest), "tokens": [token(older)]}})
}

/// An index of that many services and a tenth as many routes.
struct World {
    index: Index,
    snapshot: Arc<Snapshot>,
}

impl World {
    fn new(services: u32) -> Self {
        let mut index = Index::new("alice".parse().unwrap(), KEY.clone(), []);
        for number in 0..services {
            let name = format!("service-{number}");
            index.apply(service(&name, "HTTP"));
            index.apply(endpoints(&name, ["192.0.2.1", "192.0.2.2"]));
        }
        for number in 0..services / 10 {
            index.apply(route(&format!("domain-{number}"), &json!({})));
        }
        let (snapshot, _) = index.commit(Timestamp::UNIX_EPOCH);
        Self { index, snapshot: snapshot.unwrap() }
    }

    /// Makes one change.
    fn make(&mut self, event: Event) {
        self.index.apply(event);
        let (snapshot, _) = self.index.commit(Timestamp::UNIX_EPOCH);
        let snapshot = snapshot.expect("the event changes something");
        assert_eq!(black_box(snapshot.changes_since(&self.snapshot)).count(), 1);
        self.snapshot = snapshot;
    }

    /// Makes a change and takes it back, many times; answers how long the making took.
    fn time(&mut self, (change, back): &(Event, Event), times: u64) -> Duration {
        let mut taken = Duration::ZERO;
        for _ in 0..times {
            let event = change.clone();
            let start = Instant::now();
            self.make(event);
            taken += start.elapsed();
            self.make(back.clone());
        }
        taken
    }
}

fn deletion(added: &Event) -> Event {
    match added {
        Event::Apply(object) => Event::Delete(object.reference()),
        other => panic!("{other:?} adds nothing"),
    }
}

fn commit(criterion: &mut Criterion) {
    let [one, other] = [1, 2].map(|byte| KEY.public_key().seal(&[byte; TOKEN_BYTES]).unwrap());
    let new_service = service("new", "HTTP");
    let new_domain = route("new", &json!({}));
    let changes = [
        ("service changed", (service("service-55", "GRPC"), service("service-55", "HTTP"))),
        ("service added", (new_service.clone(), deletion(&new_service))),
        (
            "endpoint moved",
            (
                endpoints("service-55", ["192.0.2.1", "192.0.2.3"]),
                endpoints("service-55", ["192.0.2.1", "192.0.2.2"]),
            ),
        ),
        (
            "token rolled",
            (route("domain-5", &status(&one, &other)), route("domain-5", &status(&other, &one))),
        ),
        ("domain added", (new_domain.clone(), deletion(&new_domain))),
    ];
    let mut worlds = SIZES.map(|size| (size, World::new(size)));
    for (name, change) in &changes {
        let mut group = criterion.benchmark_group(*name);
        for (size, world) in &mut worlds {
            // Tokens that are new are opened here.
            world.make(change.0.clone());
            world.make(change.1.clone());
            group.bench_function(BenchmarkId::from_parameter(*size), |bencher| {
                bencher.iter_custom(|times| world.time(change, times));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, commit);
criterion_main!(benches);
