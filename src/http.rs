//! A small HTTP/1.1 client: one request, one connection, every answer bounded in size and time.
//!
//! Handshakes and the admin commands call peers rarely, and must learn exactly why a call failed; a connection pool
//! would blur that.

use std::{error::Error as StdError, fmt, io, net::SocketAddr, path::PathBuf, time::Duration};

use ::http::{HeaderValue, Request, Response, Uri, header::HOST, uri::PathAndQuery};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// Most bytes that the head of a response may have.
const HEAD_LIMIT: usize = 64 * 1024;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// What a call may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time to connect.
    pub connect: Duration,
    /// Time of the whole call, connecting included.
    pub total: Duration,
    /// Most bytes that the body of the response may have.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), total: Duration::from_secs(10), body: 1024 * 1024 }
    }
}

/// A call that got no whole response.
#[derive(Debug, thiserror::Error)]
#[error("{target}: {cause}")]
pub struct Error {
    /// The server that was called.
    pub target: Target,
    /// What went wrong.
    pub cause: Cause,
}

/// Why a call got no whole response.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Nobody listens at the target.
    #[error("connection refused: nobody listens there")]
    Refused,
    /// The target cannot be reached.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// A limit of [`Limits`] was reached: no connection, or no whole response within this time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The body is longer than [`Limits::body`].
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    /// The connection was closed before the whole response had come.
    #[error("the connection was closed before the whole answer came")]
    Reset,
    /// What came is not HTTP/1.1, or its head is longer than this client reads.
    #[error("the answer is not valid HTTP: {0}")]
    Protocol(hyper::Error),
}

/// Sends one request and reads the whole response, whatever its status.
///
/// The target says where to connect to, the request what to ask for: an absolute URI
/// (`http://echo.bob.svc/path`) gives the `Host` header unless the request has one, and is sent in origin form
/// (RFC 9112, 3.2.1).
///
/// # Errors
/// When no whole response within the limits came: see [`Cause`].
pub async fn send(
    target: &Target,
    request: Request<Bytes>,
    limits: Limits,
) -> Result<Response<Bytes>, Error> {
    let request = in_origin_form(target, request);
    let call = async { exchange(dial(target, limits).await?, request, limits).await };
    let outcome = timeout(limits.total, call).await.unwrap_or(Err(Cause::Timeout(limits.total)));
    outcome.map_err(|cause| Error { target: target.clone(), cause })
}

/// Sends one request and answers as soon as the head of the response is there, within the limits. Its body comes as
/// long as the server sends; dropping it closes the connection.
///
/// # Errors
/// When no head of a response came: see [`Cause`].
pub async fn open(
    target: &Target,
    request: Request<Bytes>,
    limits: Limits,
) -> Result<Response<Incoming>, Error> {
    let request = in_origin_form(target, request);
    let call = async {
        let (mut sender, connection) = handshake(dial(target, limits).await?).await?;
        // What goes wrong with the connection is told by the body.
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?)
    };
    let outcome = timeout(limits.total, call).await.unwrap_or(Err(Cause::Timeout(limits.total)));
    outcome.map_err(|cause| Error { target: target.clone(), cause })
}

fn in_origin_form(target: &Target, request: Request<Bytes>) -> Request<Full<Bytes>> {
    let (mut head, body) = request.into_parts();
    head.headers.entry(HOST).or_insert_with(|| {
        let host = match (head.uri.authority(), target) {
            (Some(authority), _) => authority.to_string(),
            (None, Target::Tcp(address)) => address.to_string(),
            (None, Target::Unix(_)) => "localhost".to_owned(),
        };
        HeaderValue::try_from(host).expect("authorities and addresses are visible ASCII")
    });
    let path = head.uri.path_and_query().cloned();
    head.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Request::from_parts(head, Full::new(body))
}

/// A connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn dial(target: &Target, limits: Limits) -> Result<Box<dyn Stream>, Cause> {
    match target {
        Target::Tcp(address) => {
            let stream = connect(TcpStream::connect(address), limits).await?;
            stream.set_nodelay(true).map_err(Cause::Connect)?;
            Ok(Box::new(stream))
        }
        Target::Unix(path) => Ok(Box::new(connect(UnixStream::connect(path), limits).await?)),
    }
}

async fn connect<S>(attempt: impl Future<Output = io::Result<S>>, limits: Limits) -> Result<S, Cause> {
    let connected = timeout(limits.connect, attempt).await.map_err(|_| Cause::Timeout(limits.connect))?;
    connected.map_err(|error| match error.kind() {
        // A Unix socket whose file does not exist has no listener either.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Cause::Refused,
        _ => Cause::Connect(error),
    })
}

type Connection = http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>;

async fn handshake(
    stream: Box<dyn Stream>,
) -> Result<(http1::SendRequest<Full<Bytes>>, Connection), hyper::Error> {
    http1::Builder::new().max_buf_size(HEAD_LIMIT).handshake(TokioIo::new(stream)).await
}

async fn exchange(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
    limits: Limits,
) -> Result<Response<Bytes>, Cause> {
    let (mut sender, connection) = handshake(stream).await?;
    let answer = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, limits.body).collect().await.map_err(|error| {
            error.downcast::<hyper::Error>().map_or(Cause::TooLarge(limits.body), |error| Cause::from(*error))
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    // The connection ends by itself once the answer has dropped the sender; its own error would repeat the answer's.
    tokio::join!(answer, connection).0
}

impl From<hyper::Error> for Cause {
    fn from(error: hyper::Error) -> Self {
        if error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_broken_pipe(&error)
        {
            return Self::Reset;
        }
        Self::Protocol(error)
    }
}

fn is_broken_pipe(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        matches!(cause.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
    })
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use ::http::{Method, StatusCode};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, UnixListener},
    };

    use super::*;

    const SHORT: Limits =
        Limits { connect: Duration::from_secs(5), total: Duration::from_millis(100), body: 1 << 20 };

    /// Accepts one connection, reads the head of a request, writes `answer`, and closes if told to.
    async fn peer(answer: &'static [u8], close: bool) -> (Target, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let target = Target::Tcp(listener.local_addr().expect("is bound"));
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("accepts");
            serve(stream, answer, close).await
        });
        (target, served)
    }

    async fn serve(
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        answer: &'static [u8],
        close: bool,
    ) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a whole head"));
        }
        stream.write_all(answer).await.expect("writes");
        if !close {
            std::future::pending::<()>().await;
        }
        String::from_utf8(head).expect("is text")
    }

    fn request(uri: &str) -> Request<Bytes> {
        Request::get(uri).body(Bytes::new()).expect("is valid")
    }

    async fn cause(answer: &'static [u8], close: bool, limits: Limits) -> Cause {
        let (target, _served) = peer(answer, close).await;
        let error = send(&target, request("/"), limits).await.expect_err("fails");
        assert_eq!(error.target, target);
        error.cause
    }

    #[tokio::test]
    async fn an_absolute_uri_gives_the_host_and_is_sent_in_origin_form() {
        let (target, served) =
            peer(b"HTTP/1.1 404 Nope\r\ncontent-length: 2\r\nx-a: b\r\n\r\nhi", true).await;
        let response =
            send(&target, request("http://echo.bob.svc:81/a?b=c"), Limits::default()).await.expect("answers");

        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()["x-a"], "b");
        assert_eq!(response.body(), "hi");
        let head = served.await.expect("served");
        assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("host: echo.bob.svc:81\r\n"), "{head}");
    }

    #[tokio::test]
    async fn a_host_header_of_the_caller_wins() {
        let (target, served) = peer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true).await;
        let request = Request::builder()
            .method(Method::POST)
            .uri("http://other/")
            .header(HOST, "echo.bob.svc")
            .body(Bytes::from_static(b"body"))
            .expect("is valid");
        send(&target, request, Limits::default()).await.expect("answers");

        let head = served.await.expect("served");
        assert!(head.contains("host: echo.bob.svc\r\n") && head.contains("content-length: 4\r\n"), "{head}");
    }

    #[tokio::test]
    async fn a_unix_socket_is_called_as_localhost() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("admin.sock");
        let listener = UnixListener::bind(&path).expect("binds");
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("accepts");
            serve(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", true).await
        });
        let response =
            send(&Target::Unix(path), request("/ready"), Limits::default()).await.expect("answers");

        assert_eq!(response.body(), "ok");
        assert!(served.await.expect("served").contains("host: localhost\r\n"));
    }

    #[tokio::test]
    async fn a_closed_port_and_a_missing_socket_are_refusals() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("is bound");
        drop(listener);
        let folder = tempfile::tempdir().expect("a folder");
        for target in [Target::Tcp(address), Target::Unix(folder.path().join("none.sock"))] {
            let error = send(&target, request("/"), Limits::default()).await.expect_err("fails");
            assert!(matches!(error.cause, Cause::Refused), "{error}");
        }
    }

    #[tokio::test]
    async fn a_silent_peer_is_a_timeout() {
        assert!(matches!(cause(b"", false, SHORT).await, Cause::Timeout(_)));
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe";
        assert!(matches!(cause(half, false, SHORT).await, Cause::Timeout(_)));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_too_large_and_one_at_the_limit_is_not() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        let limit = |body| Limits { body, ..Limits::default() };
        assert!(matches!(cause(answer, false, limit(4)).await, Cause::TooLarge(4)));

        let (target, _served) = peer(answer, true).await;
        let response = send(&target, request("/"), limit(5)).await.expect("answers");
        assert_eq!(response.body(), "hello");
    }

    #[tokio::test]
    async fn a_connection_closed_early_is_a_reset() {
        for answer in [
            b"".as_slice(),
            b"HTTP/1.1 200 OK\r\ncont",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe",
        ] {
            let cause = cause(answer, true, Limits::default()).await;
            assert!(matches!(cause, Cause::Reset), "{cause:?} after {answer:?}");
        }
    }

    #[tokio::test]
    async fn a_body_is_read_as_it_comes() {
        let (target, _served) =
            peer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n", false).await;
        let response =
            open(&target, request("/"), Limits { body: 0, ..Limits::default() }).await.expect("answers");
        let frame = response.into_body().frame().await.expect("is there").expect("is whole");
        assert_eq!(frame.into_data().expect("is data"), "hi");

        let (target, _served) = peer(b"HTTP/1.1 200 OK\r\n", false).await;
        let error = open(&target, request("/"), SHORT).await.expect_err("fails");
        assert!(matches!(error.cause, Cause::Timeout(_)), "{error}");
    }

    #[tokio::test]
    async fn garbage_and_a_huge_head_are_protocol_errors() {
        let huge: &'static str = format!("HTTP/1.1 200 OK\r\nx: {}\r\n", "y".repeat(2 * HEAD_LIMIT)).leak();
        for answer in [b"\x16\x03\x01 this is no HTTP\r\n\r\n".as_slice(), huge.as_bytes()] {
            let cause = cause(answer, false, Limits::default()).await;
            assert!(matches!(cause, Cause::Protocol(_)), "{cause:?}");
        }
    }
}
