//! Faults of an API server, without a network: a client whose requests the test answers.

mod connecting;
mod deciding;
mod reporting;
mod watching;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use model::api::{Condition, ConditionStatus, DomainRouteStatus, Time};
use model::{DomainId, Event, Kind};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::service_fn;

use super::board::Board;
use super::routes::KnownRoute;
use crate::source::{SourceKind, SourceReport};

/// Longer than anything takes, in a clock that runs ahead where nothing else happens.
const DEADLINE: Duration = Duration::from_secs(600);

type Chunk = Result<Frame<Bytes>, io::Error>;

/// What is asked of the API server, in order.
struct FakeServer {
    asked: mpsc::UnboundedReceiver<Asked>,
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Asked {
    method: Method,
    path: String,
    query: BTreeMap<String, String>,
    body: Value,
    answer: oneshot::Sender<Result<Response<StreamBody<UnboundedReceiverStream<Chunk>>>, io::Error>>,
}

/// An answer that goes on.
struct Stream(mpsc::UnboundedSender<Chunk>);

impl FakeServer {
    fn new() -> (Client, Self) {
        let (asked_in, asked) = mpsc::unbounded_channel();
        let service = service_fn(move |request: Request<Body>| {
            let asked_in = asked_in.clone();
            async move {
                let (answer, answered) = oneshot::channel();
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
                let query = parts.uri.query().unwrap_or_default().split('&');
                let query = query.filter_map(|pair| pair.split_once('='));
                let asked = Asked {
                    method: parts.method,
                    path: parts.uri.path().to_owned(),
                    query: query.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
                    body: serde_json::from_slice(&body).unwrap_or_default(),
                    answer,
                };
                asked_in.send(asked).map_err(io::Error::other)?;
                answered.await.map_err(io::Error::other)?
            }
        });
        (Client::new(service, "default"), Self { asked })
    }

    async fn asked(&mut self) -> Asked {
        timeout(DEADLINE, self.asked.recv()).await.expect("a request in time").expect("a client")
    }

    /// Shows that nothing is asked for a long while.
    async fn is_left_alone(&mut self) {
        let asked = timeout(DEADLINE, self.asked.recv()).await;
        assert!(asked.is_err(), "{asked:?}");
    }
}

impl Asked {
    fn is_streaming_list(&self) -> bool {
        self.query.get("sendInitialEvents").is_some_and(|value| value == "true")
    }

    /// Begins an answer.
    fn stream(self) -> Stream {
        self.begin(200)
    }

    fn begin(self, code: u16) -> Stream {
        let (chunks_in, chunks) = mpsc::unbounded_channel();
        let response = Response::builder().status(code);
        let response =
            response.body(StreamBody::new(UnboundedReceiverStream::new(chunks))).expect("a response");
        self.answer.send(Ok(response)).expect("a client that waits");
        Stream(chunks_in)
    }

    fn json(self, code: u16, body: &Value) {
        self.begin(code).line(body);
    }

    /// Answers as an API server that refuses.
    fn refuse(self, code: u16) {
        self.json(code, &status(code));
    }

    /// The connection fails.
    fn fail(self, kind: io::ErrorKind) {
        self.answer.send(Err(kind.into())).expect("a client that waits");
    }
}

impl Stream {
    fn line(&self, value: &Value) {
        let chunk = Frame::data(Bytes::from(format!("{value}\n")));
        self.0.send(Ok(chunk)).expect("a client that reads");
    }

    fn event(&self, kind: &str, object: &Value) {
        self.line(&json!({"type": kind, "object": object}));
    }

    /// The list is complete.
    fn end_of_list(&self) {
        let annotations = json!({"k8s.io/initial-events-end": "true"});
        let metadata = json!({"resourceVersion": "10", "annotations": annotations});
        self.event("BOOKMARK", &json!({"apiVersion": "v1", "kind": "X", "metadata": metadata}));
    }

    fn break_off(self) {
        self.0.send(Err(io::ErrorKind::ConnectionReset.into())).expect("a client that reads");
    }
}

fn status(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "so it is"})
}

/// A route as the API server has it.
fn route(name: &str, version: u64, status: &DomainRouteStatus) -> Value {
    json!({
        "apiVersion": "kuscia.secretflow/v1alpha1",
        "kind": "DomainRoute",
        "metadata": {
            "name": name,
            "namespace": "its-namespace",
            "uid": format!("uid-{name}"),
            "resourceVersion": version.to_string(),
            "generation": 1,
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": {"source": "alice", "destination": "bob", "authenticationType": "None"},
        "status": status,
    })
}

fn service(name: &str, version: u64) -> Value {
    let metadata =
        json!({"name": name, "namespace": "its-namespace", "resourceVersion": version.to_string()});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {}})
}

fn known(status: DomainRouteStatus) -> KnownRoute {
    KnownRoute {
        name: "a".to_owned(),
        uid: "uid-a".to_owned(),
        version: "1".to_owned(),
        generation: Some(1),
        status,
    }
}

fn condition(type_: &str, status: ConditionStatus, gateway: Option<&str>) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status,
        reason: "Test".to_owned(),
        message: "as tested".to_owned(),
        gateway: gateway.map(ToOwned::to_owned),
        last_transition_time: Some(Time(jiff::Timestamp::from_second(1000).expect("a time"))),
    }
}

fn showing(conditions: Vec<Condition>) -> DomainRouteStatus {
    DomainRouteStatus { conditions, ..DomainRouteStatus::default() }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn alice() -> DomainId {
    "alice".parse().expect("an ID")
}

fn board() -> (Arc<Board>, watch::Receiver<SourceReport>) {
    let (report_in, report) = watch::channel(SourceReport::new(SourceKind::Kubernetes));
    (Arc::new(Board::new("https://server:6443".to_owned(), "its-namespace", report_in)), report)
}

/// What an event says, in short.
fn describe(event: &Event) -> String {
    match event {
        Event::Init(kind) => format!("Init {kind}"),
        Event::InitApply(object) => format!("InitApply {}", object.reference()),
        Event::InitKeep(reference) => format!("InitKeep {reference}"),
        Event::InitDone(kind) => format!("InitDone {kind}"),
        Event::Apply(object) => format!("Apply {}", object.reference()),
        Event::Delete(reference) => format!("Delete {reference}"),
    }
}
