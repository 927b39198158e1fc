//! HTTP servers that no client can exhaust.

mod places;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) use places::{Place, Places};

/// Further connections wait until one of these has ended.
const MAX_CONNECTIONS: usize = 512;

/// Connections that have not brought the head of a request yet; a further one displaces the oldest. So there is always
/// room for a client that asks at once.
const MAX_SILENT: usize = 256;

/// Requests at once on one connection of HTTP/2. On HTTP/1.1 a connection serves one request, so that no idle ones
/// take up places.
const MAX_STREAMS: u32 = 64;

/// Most bytes of the head of a request.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Bytes of bodies that may come before they are read: of one request, and of all on a connection of HTTP/2.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// How long a connection may take to bring the whole head of its first request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection is kept on which nothing is asked.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection may then take to hand over what is left of its answers.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves `router` on `listener`, HTTP/1.1 and HTTP/2, until `shutdown`, and then until what has begun is answered.
/// Requests carry the address of their client as [`ConnectInfo`].
pub(crate) async fn serve_http<L: Listener>(mut listener: L, router: Router, shutdown: CancellationToken)
where
    L::Addr: Clone + Sync + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().keep_alive(false).max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let silent = Places::new(MAX_SILENT);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (stream, client) = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                let (builder, router, shutdown) = (builder.clone(), router.clone(), shutdown.clone());
                let place = silent.take();
                connections.spawn(async move {
                    serve_connection(builder, TokioIo::new(stream), client, router, place, shutdown).await;
                });
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// How a connection ends concerns its client only.
async fn serve_connection(
    builder: auto::Builder<TokioExecutor>,
    stream: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    client: impl Clone + Send + Sync + 'static,
    router: Router,
    place: Place,
    shutdown: CancellationToken,
) {
    let (requests, watched) = watch::channel(Requests::default());
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        requests.send_modify(|requests| requests.asked += 1);
        let open = Open(Arc::new(Answered(requests.clone())));
        request.extensions_mut().insert(ConnectInfo(client.clone()));
        request.extensions_mut().insert(open.clone());
        let answer = router.call(request.map(Body::new));
        async move {
            let _open = open;
            answer.await
        }
    });
    let mut connection = pin!(builder.serve_connection(stream, service));
    tokio::select! {
        _ = connection.as_mut() => {}
        was_asked = idle(place, watched) => if was_asked {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(LAST_ANSWER_TIMEOUT, connection).await;
        },
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Requests of one connection.
#[derive(Clone, Copy, Default)]
struct Requests {
    asked: u64,
    /// At least the head of the answer is there, or nobody wants it any more.
    answered: u64,
}

/// A request is answered once all clones are dropped. A handler finds one among the request's extensions; with it, an
/// answer that comes in pieces keeps the connection for as long as that takes.
#[derive(Clone)]
pub(crate) struct Open(#[expect(dead_code, reason = "is there to be dropped")] Arc<Answered>);

/// When it is dropped, a request is answered.
struct Answered(watch::Sender<Requests>);

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.send_modify(|requests| requests.answered += 1);
    }
}

/// Waits until the connection should end. Answers whether anything was ever asked.
async fn idle(place: Place, mut requests: watch::Receiver<Requests>) -> bool {
    let first = timeout(FIRST_REQUEST_TIMEOUT, requests.wait_for(|requests| requests.asked > 0));
    tokio::select! {
        () = place.lost() => return false,
        first = first => if first.is_err() { return false },
    }
    drop(place);
    // The sender lives as long as the connection.
    while requests.wait_for(|requests| requests.asked == requests.answered).await.is_ok() {
        if timeout(IDLE_TIMEOUT, requests.changed()).await.is_err() {
            break;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Semaphore;
    use tokio::task::JoinHandle;

    use super::*;

    struct Server {
        address: SocketAddr,
        /// Requests that have come.
        asked: Arc<Semaphore>,
        /// Requests that may be answered.
        answers: Arc<Semaphore>,
        shutdown: CancellationToken,
        task: JoinHandle<()>,
    }

    impl Server {
        async fn start() -> Self {
            let (asked, answers) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
            let answer = {
                let (asked, answers) = (Arc::clone(&asked), Arc::clone(&answers));
                async move || {
                    asked.add_permits(1);
                    answers.acquire().await.expect("is open").forget();
                    "answer"
                }
            };
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("is bound");
            let shutdown = CancellationToken::new();
            let router = Router::new().route("/", get(answer));
            let task = tokio::spawn(serve_http(listener, router, shutdown.clone()));
            Self { address, asked, answers, shutdown, task }
        }

        async fn connect(&self, sends: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.expect("listens");
            stream.write_all(sends.as_bytes()).await.expect("reads");
            stream
        }
    }

    const REQUEST: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    async fn rest(mut stream: TcpStream) -> String {
        let mut all = String::new();
        // A connection that is reset has ended too.
        let _ = stream.read_to_string(&mut all).await;
        all
    }

    #[tokio::test]
    async fn a_connection_ends_after_its_answer() {
        let server = Server::start().await;
        server.answers.add_permits(1);
        let answer = rest(server.connect(REQUEST).await).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("answer"), "{answer}");
    }

    #[tokio::test]
    async fn connections_that_ask_nothing_are_closed() {
        let server = Server::start().await;
        for head in ["", "GET / HT", "GET / HTTP/1.1\r\nx: ", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let stream = server.connect(head).await;
            tokio::time::pause();
            let answer = rest(stream).await;
            assert!(!answer.contains("200"), "{head:?}: {answer}");
            tokio::time::resume();
        }
    }

    #[tokio::test]
    async fn connections_that_ask_nothing_displace_each_other() {
        let server = Server::start().await;
        server.answers.add_permits(1);
        let oldest = server.connect("").await;
        let mut second = server.connect("").await;
        let mut others = Vec::new();
        for _ in 2..=MAX_SILENT {
            others.push(server.connect("").await);
        }
        assert_eq!(rest(oldest).await, "");
        second.write_all(REQUEST.as_bytes()).await.expect("is still there");
        assert!(rest(second).await.ends_with("answer"));
    }

    #[tokio::test]
    async fn connections_of_http2_end_after_a_time_of_rest() {
        let server = Server::start().await;
        server.answers.add_permits(1);
        let stream = TokioIo::new(server.connect("").await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.expect("is HTTP/2");
        let connection = tokio::spawn(connection);
        let request = hyper::Request::get("http://x/").body(Body::empty()).expect("is valid");
        let answer = sender.send_request(request).await.expect("is answered");
        assert_eq!(answer.status(), 200);
        drop(answer);
        tokio::time::pause();
        connection.await.expect("does not panic").expect("ends in good order");
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait() {
        let server = Server::start().await;
        let mut connections = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            connections.push(server.connect(REQUEST).await);
        }
        server.asked.acquire_many(512).await.expect("is open").forget();
        let last = server.connect(REQUEST).await;
        tokio::task::yield_now().await;
        assert_eq!(server.asked.available_permits(), 0);
        server.answers.add_permits(MAX_CONNECTIONS + 1);
        assert!(rest(last).await.ends_with("answer"));
    }

    #[tokio::test]
    async fn what_has_begun_is_answered_before_the_end_and_nothing_else() {
        let server = Server::start().await;
        let begun = server.connect(REQUEST).await;
        let silent = server.connect("").await;
        server.asked.acquire().await.expect("is open").forget();
        server.shutdown.cancel();
        assert_eq!(rest(silent).await, "");
        assert!(TcpStream::connect(server.address).await.is_err());
        assert!(!server.task.is_finished());
        server.answers.add_permits(1);
        assert!(rest(begun).await.ends_with("answer"));
        server.task.await.expect("does not panic");
    }
}
