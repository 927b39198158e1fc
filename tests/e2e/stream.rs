//! Requests that go on and on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use networkmesh::harness::domain::Domain;
use networkmesh::http::{Limits, Target, send};
use proto::echo::echo_client::EchoClient;
use proto::echo::{EchoRequest, EchoResponse};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::world::eventually;

/// Applications that call a service without a pause: one over new connections, one over a kept one.
pub(crate) struct Traffic {
    stop: CancellationToken,
    calls: Arc<[AtomicUsize; 2]>,
    tasks: JoinSet<Vec<String>>,
}

impl Traffic {
    pub(crate) async fn start(domain: &Domain, host: &str) -> Self {
        let stop = CancellationToken::new();
        let calls = Arc::<[AtomicUsize; 2]>::default();
        let mut tasks = JoinSet::new();
        let gateway = domain.addresses.internal;
        for kept in [false, true] {
            let (stop, calls, host) = (stop.clone(), Arc::clone(&calls), host.to_owned());
            tasks.spawn(async move {
                let client: Client<HttpConnector, Empty<Bytes>> =
                    Client::builder(TokioExecutor::new()).build_http();
                let mut failures = Vec::new();
                while !stop.is_cancelled() {
                    let outcome = if kept {
                        call_kept(&client, gateway, &host).await
                    } else {
                        call_anew(gateway, &host).await
                    };
                    failures.extend(outcome.err());
                    calls[usize::from(kept)].fetch_add(1, Ordering::Relaxed);
                }
                failures
            });
        }
        let traffic = Self { stop, calls, tasks };
        traffic.more(10).await;
        traffic
    }

    /// Waits for that many more calls of each application.
    pub(crate) async fn more(&self, count: usize) {
        for calls in &*self.calls {
            let goal = calls.load(Ordering::Relaxed) + count;
            eventually("more calls", async || {
                let calls = calls.load(Ordering::Relaxed);
                if calls >= goal { Ok(()) } else { Err(format!("{calls} of {goal}")) }
            })
            .await;
        }
    }

    /// Ends it, and answers what failed.
    pub(crate) async fn failures(mut self) -> Vec<String> {
        self.stop.cancel();
        let mut failures = Vec::new();
        while let Some(task) = self.tasks.join_next().await {
            failures.extend(task.unwrap());
        }
        failures
    }
}

async fn call_anew(gateway: std::net::SocketAddr, host: &str) -> Result<(), String> {
    let request = Request::get(format!("http://{host}/")).body(Bytes::new()).unwrap();
    let response = send(&Target::Tcp(gateway), request, Limits::default()).await;
    let response = response.map_err(|error| format!("new connection: {error}"))?;
    if response.status() == StatusCode::OK { Ok(()) } else { Err(format!("new connection: {response:?}")) }
}

async fn call_kept(
    client: &Client<HttpConnector, Empty<Bytes>>,
    gateway: std::net::SocketAddr,
    host: &str,
) -> Result<(), String> {
    let request = Request::get(format!("http://{gateway}/")).header("host", host).body(Empty::new()).unwrap();
    let response = client.request(request).await.map_err(|error| format!("kept connection: {error:?}"))?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| format!("kept connection: {error:?}"))?.to_bytes();
    if head.status == StatusCode::OK { Ok(()) } else { Err(format!("kept connection: {head:?} {body:?}")) }
}

/// A gRPC client of `echo` of `destination` within `source`.
pub(crate) async fn grpc(source: &Domain, destination: &Domain) -> EchoClient<Channel> {
    let gateway = Endpoint::try_from(format!("http://{}", source.addresses.internal)).unwrap();
    let origin = format!("http://echo.{}.svc", destination.name).parse().unwrap();
    EchoClient::new(gateway.origin(origin).connect().await.unwrap())
}

/// A conversation over gRPC in which each side waits for the other.
pub(crate) struct Chat {
    questions: mpsc::Sender<EchoRequest>,
    answers: Streaming<EchoResponse>,
}

impl Chat {
    pub(crate) async fn open(source: &Domain, destination: &Domain) -> Self {
        let (questions, stream) = mpsc::channel(1);
        // Headers of the answer come with its first message, so that must not be waited for.
        questions.send(EchoRequest { message: "open".to_owned() }).await.unwrap();
        let chat = grpc(source, destination).await.chat(ReceiverStream::new(stream)).await.unwrap();
        let mut chat = Self { questions, answers: chat.into_inner() };
        assert_eq!(chat.answer().await.message, "open");
        chat
    }

    /// Says something, and hears it back.
    pub(crate) async fn say(&mut self, message: &str) -> EchoResponse {
        self.questions.send(EchoRequest { message: message.to_owned() }).await.unwrap();
        let answer = self.answer().await;
        assert_eq!(answer.message, message);
        answer
    }

    async fn answer(&mut self) -> EchoResponse {
        let answer = tokio::time::timeout(super::world::DEADLINE, self.answers.message()).await;
        answer.expect("an answer in time").expect("the stream lives").expect("the stream is open")
    }
}
