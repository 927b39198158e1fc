//! Applications that call a service at a steady rate, whatever becomes of their requests.

use std::fmt::{Debug, Display};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ::http::{HeaderMap, Request, StatusCode, Uri, Version};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use proto::echo::EchoRequest;
use proto::echo::echo_client::EchoClient;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::transport::Endpoint;
use tower::util::BoxCloneSyncService;

use super::echo::Echoed;

/// Requests that may wait for their answers at the same time, fewer than a gateway takes on one connection. When that
/// many do, the next ones are late, but they are sent.
const AT_ONCE: usize = 64;

/// How long an answer is awaited.
const PATIENCE: Duration = Duration::from_secs(30);

/// The header in which gateways tell why they refuse a request.
const HOPS: &str = "kuscia-error-message";

/// How a service is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 over connections that are kept.
    Http1,
    /// HTTP/2 without TLS, over one connection.
    Http2,
    /// Messages of one gRPC stream, each of which is answered.
    GrpcStream,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::GrpcStream];
}

/// Calls of an [`echo`](super::echo) service at a steady rate. They end when this value is dropped.
///
/// The load is open: requests become due by the clock, not by the answers. When the machine is too slow, they are sent
/// later, but none is left out.
pub struct Load {
    sent: Arc<AtomicU32>,
    end: watch::Sender<Option<Instant>>,
    tasks: JoinSet<Outcome>,
}

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many were sent.
    pub sent: u32,
    /// Those that were not answered as they should be: which, when, and what came instead.
    pub failures: Vec<String>,
    /// The times until the whole answer of the others, in no order. A request that was sent late, because
    /// too many others waited for answers, counts from when it was due.
    pub latencies: Vec<Duration>,
}

impl Load {
    /// Calls `service` (`echo.bob`) through the gateway whose internal listener is given, so many times a second.
    #[must_use]
    pub fn start(gateway: SocketAddr, service: &str, protocol: Protocol, rate: NonZeroU32) -> Self {
        let (end, end_out) = watch::channel(None);
        let sent = Arc::default();
        let schedule = Schedule {
            begun: Instant::now(),
            interval: Duration::from_secs(1) / rate.get(),
            next: Arc::default(),
            sent: Arc::clone(&sent),
            end: end_out,
        };
        let caller = Caller { gateway, service: service.to_owned(), protocol, schedule };
        let mut tasks = JoinSet::new();
        match protocol {
            Protocol::Http1 | Protocol::Http2 => {
                let client = caller.client();
                for _ in 0..AT_ONCE {
                    tasks.spawn(caller.clone().call(client.clone()));
                }
            }
            Protocol::GrpcStream => drop(tasks.spawn(caller.talk())),
        }
        Self { sent, end, tasks }
    }

    /// How many requests were sent until now.
    #[must_use]
    pub fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends what is due by now, waits for all answers, and tells what became of them.
    ///
    /// # Panics
    /// A defect in this module: what it spawned has panicked.
    pub async fn finish(mut self) -> Outcome {
        self.end.send_replace(Some(Instant::now()));
        let mut all = Outcome::default();
        while let Some(part) = self.tasks.join_next().await {
            let part = part.expect("callers do not panic");
            all.failures.extend(part.failures);
            all.latencies.extend(part.latencies);
        }
        all.sent = self.sent();
        all
    }
}

/// Says which request is due when. Those who share it take turns.
#[derive(Clone)]
struct Schedule {
    begun: Instant,
    interval: Duration,
    next: Arc<AtomicU32>,
    sent: Arc<AtomicU32>,
    end: watch::Receiver<Option<Instant>>,
}

/// A request that is due.
#[derive(Clone, Copy)]
struct Turn {
    number: u32,
    /// When its time begins to count.
    since: Instant,
}

impl Schedule {
    /// Waits until the next request is due; `None` when the end comes before.
    async fn next(&mut self) -> Option<Turn> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let due = self.begun + self.interval * number;
        let is_late = due <= Instant::now();
        tokio::select! {
            biased;
            _ = self.end.wait_for(|end| end.is_some_and(|end| end < due)) => return None,
            () = sleep_until(due) => {}
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        // The clock of timers is coarse: what it adds is not the answer's fault.
        Some(Turn { number, since: if is_late { due } else { Instant::now() } })
    }
}

type HttpClient = Client<BoxCloneSyncService<Uri, TokioIo<TcpStream>, io::Error>, Empty<Bytes>>;

#[derive(Clone)]
struct Caller {
    gateway: SocketAddr,
    service: String,
    protocol: Protocol,
    schedule: Schedule,
}

impl Caller {
    /// A client that connects to the gateway, whatever it is asked for, and never sends a request a second time.
    fn client(&self) -> HttpClient {
        let gateway = self.gateway;
        let connect = tower::service_fn(move |_: Uri| async move {
            let stream = TcpStream::connect(gateway).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        });
        Client::builder(TokioExecutor::new())
            .http2_only(self.protocol == Protocol::Http2)
            .retry_canceled_requests(false)
            .build(BoxCloneSyncService::new(connect))
    }

    /// Sends the requests whose turn it is, one after the other.
    async fn call(mut self, client: HttpClient) -> Outcome {
        let mut outcome = Outcome::default();
        while let Some(turn) = self.schedule.next().await {
            let answer = timeout(PATIENCE, self.exchange(&client, turn.number)).await;
            match answer.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}"))) {
                Ok(()) => outcome.latencies.push(turn.since.elapsed()),
                Err(what) => outcome.failures.push(self.failure(turn.number, &what)),
            }
        }
        outcome
    }

    async fn exchange(&self, client: &HttpClient, number: u32) -> Result<(), String> {
        let path = format!("/{number}");
        let request = Request::get(format!("http://{}.svc{path}", self.service)).body(Empty::new());
        let answer = client.request(request.map_err(debug)?).await.map_err(debug)?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| format!("{}, then {error:?}", head.status))?;
        let body = body.to_bytes();
        let is_right = serde_json::from_slice(&body)
            .is_ok_and(|echoed: Echoed| echoed.service == self.service && echoed.path == path);
        let is_http2 = head.version == Version::HTTP_2;
        if head.status == StatusCode::OK && is_right && is_http2 == (self.protocol == Protocol::Http2) {
            return Ok(());
        }
        let body = String::from_utf8_lossy(&body);
        Err(format!("{:?} {}, {}, body {body:?}", head.version, head.status, hops(&head.headers)))
    }

    /// Sends a message whenever one is due, and reads the answers.
    async fn talk(self) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(what) = self.converse(&mut outcome.latencies).await {
            outcome.failures.push(self.failure(outcome.latencies.len(), &what));
        }
        outcome
    }

    async fn converse(&self, latencies: &mut Vec<Duration>) -> Result<(), String> {
        let origin = format!("http://{}.svc", self.service).parse().map_err(debug)?;
        let gateway = Endpoint::try_from(format!("http://{}", self.gateway)).map_err(debug)?;
        let mut client = EchoClient::new(gateway.origin(origin).connect().await.map_err(debug)?);
        let broken =
            |status: tonic::Status| format!("{status}, {}", hops(&status.metadata().clone().into_headers()));
        let mut answers = client.chat(self.messages()).await.map_err(broken)?.into_inner();
        loop {
            let answer = timeout(PATIENCE, answers.message()).await;
            let answer = answer.map_err(|_| format!("no answer within {PATIENCE:?}"))?.map_err(broken)?;
            let Some(answer) = answer else { break };
            let sent = answer.message.strip_prefix(&format!("{} ", latencies.len()));
            let sent = sent.and_then(|nanoseconds| nanoseconds.parse().ok()).map(Duration::from_nanos);
            let sent = sent.filter(|_| answer.service == self.service);
            let sent = sent.ok_or_else(|| format!("{} answers {:?}", answer.service, answer.message))?;
            latencies.push(self.schedule.begun.elapsed().saturating_sub(sent));
        }
        let sent = self.schedule.sent.load(Ordering::Relaxed);
        let is_over = self.schedule.end.borrow().is_some() && latencies.len() == sent as usize;
        if is_over { Ok(()) } else { Err(format!("the stream ended after {sent} messages")) }
    }

    /// Each message is its number, and when its time began to count.
    fn messages(&self) -> impl Stream<Item = EchoRequest> + use<> {
        stream::unfold(self.schedule.clone(), |mut schedule| async {
            let Turn { number, since } = schedule.next().await?;
            let nanoseconds = since.duration_since(schedule.begun).as_nanos();
            Some((EchoRequest { message: format!("{number} {nanoseconds}") }, schedule))
        })
    }

    fn failure(&self, number: impl Display, what: &str) -> String {
        let since = self.schedule.begun.elapsed();
        format!("{:?} {number} at {} (after {since:.3?}): {what}", self.protocol, Timestamp::now())
    }
}

/// With all causes.
fn debug(error: impl Debug) -> String {
    format!("{error:?}")
}

fn hops(headers: &HeaderMap) -> String {
    let hops = headers.get(HOPS).map(|value| String::from_utf8_lossy(value.as_bytes()));
    format!("{HOPS} {hops:?}")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::harness::echo;

    fn rate(requests: u32) -> NonZeroU32 {
        NonZeroU32::new(requests).expect("not zero")
    }

    async fn service(name: &'static str) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        tokio::spawn(echo::serve(listener, name, stop.clone()));
        (address, stop)
    }

    async fn until_sent(load: &Load, count: u32) {
        while load.sent() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn every_request_is_sent_and_answered() {
        let (address, _stop) = service("echo.bob").await;
        for protocol in Protocol::ALL {
            let load = Load::start(address, "echo.bob", protocol, rate(1000));
            until_sent(&load, 200).await;
            let outcome = load.finish().await;
            assert_eq!(outcome.failures, Vec::<String>::new(), "{protocol:?}");
            assert_eq!(outcome.latencies.len(), outcome.sent as usize, "{protocol:?}");
        }
    }

    #[tokio::test]
    async fn what_could_not_be_sent_in_time_is_sent_later() {
        let (address, _stop) = service("echo.bob").await;
        for protocol in Protocol::ALL {
            let load = Load::start(address, "echo.bob", protocol, rate(10_000));
            let begun = Instant::now();
            // Nothing else runs in this thread meanwhile.
            std::thread::sleep(Duration::from_millis(100));
            let due = begun.elapsed().as_millis() * 10;
            let outcome = load.finish().await;
            assert!(u128::from(outcome.sent) >= due, "{protocol:?}: {} of {due}", outcome.sent);
            assert_eq!(outcome.failures, Vec::<String>::new(), "{protocol:?}");
        }
    }

    #[tokio::test]
    async fn wrong_answers_are_failures() {
        let (address, stop) = service("echo.carol").await;
        for protocol in Protocol::ALL {
            let load = Load::start(address, "echo.bob", protocol, rate(1000));
            until_sent(&load, 1).await;
            let outcome = load.finish().await;
            assert!(outcome.latencies.is_empty(), "{protocol:?}");
            assert!(outcome.failures[0].contains("echo.carol"), "{:?}", outcome.failures);
        }
        stop.cancel();
    }

    #[tokio::test]
    async fn a_stream_that_breaks_is_a_failure() {
        let (address, stop) = service("echo.bob").await;
        let mut load = Load::start(address, "echo.bob", Protocol::GrpcStream, rate(1000));
        until_sent(&load, 10).await;
        stop.cancel();
        let outcome = load.tasks.join_next().await.expect("a caller").expect("does not panic");
        assert_eq!(outcome.failures.len(), 1, "{:?}", outcome.failures);
    }
}
