//! A service that answers what it was asked: HTTP/1.1, HTTP/2 without TLS, and gRPC on one port.

use std::{collections::BTreeMap, convert::Infallible, io, time::Duration};

use ::http::{HeaderMap, StatusCode, header::HOST};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, Request, State},
    response::IntoResponse,
    routing::any,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::BoxStream};
use http_body_util::BodyExt;
use proto::echo::{
    EchoRequest, EchoResponse,
    echo_server::{Echo, EchoServer},
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, metadata::KeyAndValueRef, metadata::MetadataMap, server::NamedService};

/// What the service answers in JSON to any request that is not for a path below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echoed {
    /// Name of the service that answers.
    pub service: String,
    /// Method of the request.
    pub method: String,
    /// Path and query of the request.
    pub path: String,
    /// Headers of the request; values of one name are joined by `, `. `host` stands for HTTP/2's `:authority` too.
    pub headers: BTreeMap<String, String>,
    /// Length of the request's body.
    pub body_bytes: u64,
}

/// Serves until `shutdown`, then lets requests end that have begun. Beside [`Echoed`] for any path, it answers
/// - `/status/CODE` with this status (200 to 599) and no body,
/// - `/bytes/COUNT` with a body of that many bytes,
/// - `/stream?chunks=N&interval_ms=M` with a body of N lines, M milliseconds apart (by default 3 and 100),
/// - the gRPC service `networkmesh.echo.v1.Echo`.
///
/// # Errors
/// None so far: a connection that cannot be accepted is tried again.
pub async fn serve(
    listener: TcpListener,
    name: impl Into<String>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let service = Service { name: name.into(), shutdown: shutdown.clone() };
    let router = Router::new()
        .route("/status/{code}", any(status))
        .route("/bytes/{count}", any(bytes))
        .route("/stream", any(slow_lines))
        .route_service(
            &format!("/{}/{{method}}", EchoServer::<Service>::NAME),
            EchoServer::new(service.clone()),
        )
        .fallback(echo)
        .with_state(service);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

#[derive(Clone)]
struct Service {
    name: String,
    shutdown: CancellationToken,
}

async fn echo(State(service): State<Service>, request: Request) -> Result<Json<Echoed>, StatusCode> {
    let (head, mut body) = request.into_parts();
    let mut headers = texts(&head.headers);
    if let Some(authority) = head.uri.authority() {
        headers.entry(HOST.to_string()).or_insert_with(|| authority.to_string());
    }
    let mut body_bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
        body_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(Json(Echoed {
        service: service.name,
        method: head.method.to_string(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers,
        body_bytes,
    }))
}

fn texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        texts
            .entry(name.to_string())
            .and_modify(|earlier| *earlier = format!("{earlier}, {value}"))
            .or_insert_with(|| value.to_string());
    }
    texts
}

async fn status(Path(code): Path<u16>) -> StatusCode {
    match StatusCode::from_u16(code) {
        Ok(status) if (200..600).contains(&code) => status,
        _ => StatusCode::BAD_REQUEST,
    }
}

async fn bytes(Path(count): Path<u64>) -> impl IntoResponse {
    const CHUNK: u64 = 16 << 10;
    let rest = count % CHUNK;
    let chunks = (0..count / CHUNK).map(|_| CHUNK).chain((rest > 0).then_some(rest));
    let full = Bytes::from(vec![b'x'; CHUNK as usize]);
    let chunk = move |length: u64| Ok::<_, Infallible>(full.slice(..length as usize));
    Body::from_stream(stream::iter(chunks.map(chunk)))
}

#[derive(Deserialize)]
#[serde(default)]
struct SlowLines {
    chunks: u32,
    interval_ms: u64,
}

impl Default for SlowLines {
    fn default() -> Self {
        Self { chunks: 3, interval_ms: 100 }
    }
}

async fn slow_lines(Query(SlowLines { chunks, interval_ms }): Query<SlowLines>) -> impl IntoResponse {
    Body::from_stream(stream::iter(0..chunks).then(move |chunk| async move {
        if chunk > 0 {
            sleep(Duration::from_millis(interval_ms)).await;
        }
        Ok::<_, Infallible>(format!("chunk {chunk}\n"))
    }))
}

#[tonic::async_trait]
impl Echo for Service {
    type ChatStream = BoxStream<'static, Result<EchoResponse, Status>>;

    async fn say(
        &self,
        request: tonic::Request<EchoRequest>,
    ) -> Result<tonic::Response<EchoResponse>, Status> {
        let metadata = ascii(request.metadata()).collect();
        let message = request.into_inner().message;
        Ok(tonic::Response::new(EchoResponse { service: self.name.clone(), message, metadata }))
    }

    async fn chat(
        &self,
        request: tonic::Request<Streaming<EchoRequest>>,
    ) -> Result<tonic::Response<Self::ChatStream>, Status> {
        let metadata: std::collections::HashMap<_, _> = ascii(request.metadata()).collect();
        let service = self.name.clone();
        let answers = request.into_inner().map(move |message| {
            let EchoRequest { message } = message?;
            Ok(EchoResponse { service: service.clone(), message, metadata: metadata.clone() })
        });
        // A caller may keep its side open for ever: without this, so would the shutdown.
        Ok(tonic::Response::new(answers.take_until(self.shutdown.clone().cancelled_owned()).boxed()))
    }
}

fn ascii(metadata: &MetadataMap) -> impl Iterator<Item = (String, String)> {
    metadata.iter().filter_map(|entry| match entry {
        KeyAndValueRef::Ascii(name, value) => Some((name.to_string(), value.to_str().ok()?.to_owned())),
        KeyAndValueRef::Binary(..) => None,
    })
}

#[cfg(test)]
mod tests {
    use ::http::{Method, header::CONTENT_TYPE};
    use http_body_util::Full;
    use hyper_util::{
        client::legacy::Client,
        rt::{TokioExecutor, TokioIo},
    };
    use proto::echo::echo_client::EchoClient;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::http::{Limits, Target, send};

    struct Server {
        address: std::net::SocketAddr,
        shutdown: CancellationToken,
        task: JoinHandle<io::Result<()>>,
    }

    async fn server() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("is bound");
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, "echo.bob", shutdown.clone()));
        Server { address, shutdown, task }
    }

    async fn get(server: &Server, path: &str) -> ::http::Response<Bytes> {
        let request = ::http::Request::get(path).body(Bytes::new()).expect("is valid");
        send(&Target::Tcp(server.address), request, Limits::default()).await.expect("answers")
    }

    #[tokio::test]
    async fn http_1_is_echoed() {
        let server = server().await;
        let request = ::http::Request::builder()
            .method(Method::PUT)
            .uri("http://echo.bob.svc/a/b?c=d")
            .header("x-many", "1")
            .header("x-many", "2")
            .body(Bytes::from(vec![b'x'; 3_000_000]))
            .expect("is valid");
        let response = send(&Target::Tcp(server.address), request, Limits::default()).await.expect("answers");

        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let echoed: Echoed = serde_json::from_slice(response.body()).expect("is JSON");
        assert_eq!(
            (echoed.service.as_str(), echoed.method.as_str(), echoed.path.as_str(), echoed.body_bytes),
            ("echo.bob", "PUT", "/a/b?c=d", 3_000_000)
        );
        assert_eq!(echoed.headers["host"], "echo.bob.svc");
        assert_eq!(echoed.headers["x-many"], "1, 2");
    }

    #[tokio::test]
    async fn http_2_without_tls_is_echoed() {
        let server = server().await;
        let client: Client<_, Full<Bytes>> =
            Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let uri = format!("http://{}/x", server.address).parse().expect("is valid");
        let response = client.get(uri).await.expect("answers");

        assert_eq!(response.version(), ::http::Version::HTTP_2);
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let echoed: Echoed = serde_json::from_slice(&body).expect("is JSON");
        assert_eq!((echoed.path.as_str(), &echoed.headers["host"]), ("/x", &server.address.to_string()));
    }

    #[tokio::test]
    async fn statuses_are_as_asked_for() {
        let server = server().await;
        for (path, status) in [("/status/204", 204), ("/status/503", 503), ("/status/101", 400)] {
            assert_eq!(get(&server, path).await.status(), status, "{path}");
        }
    }

    #[tokio::test]
    async fn a_stream_has_as_many_lines_as_asked_for() {
        let response = get(&server().await, "/stream?chunks=3&interval_ms=1").await;
        assert_eq!(response.body(), "chunk 0\nchunk 1\nchunk 2\n");
        assert!(!response.headers().contains_key("content-length"));
    }

    #[tokio::test]
    async fn as_many_bytes_come_as_asked_for() {
        let server = server().await;
        for count in [0_usize, 1, 16 << 10, 100_000] {
            assert_eq!(get(&server, &format!("/bytes/{count}")).await.body().len(), count);
        }
    }

    #[tokio::test]
    async fn grpc_says_and_chats_on_the_same_port() {
        let server = server().await;
        let mut client = EchoClient::connect(format!("http://{}", server.address)).await.expect("connects");

        let mut request = tonic::Request::new(EchoRequest { message: "hi".into() });
        request.metadata_mut().insert("x-source", "alice".parse().expect("is ASCII"));
        let said = client.say(request).await.expect("answers").into_inner();
        assert_eq!((said.service.as_str(), said.message.as_str()), ("echo.bob", "hi"));
        assert_eq!(said.metadata["x-source"], "alice");

        let words = ["one", "two"].map(|word| EchoRequest { message: word.into() });
        let answers = client.chat(stream::iter(words)).await.expect("answers").into_inner();
        let answers: Vec<_> = answers.map(|answer| answer.expect("a message").message).collect().await;
        assert_eq!(answers, ["one", "two"]);
    }

    #[tokio::test]
    async fn shutdown_ends_an_open_chat_and_the_server() {
        let server = server().await;
        let mut client = EchoClient::connect(format!("http://{}", server.address)).await.expect("connects");
        let endless = stream::iter([EchoRequest { message: "one".into() }]).chain(stream::pending());
        let mut answers = client.chat(endless).await.expect("answers").into_inner();
        assert_eq!(answers.message().await.expect("a message").expect("one").message, "one");

        server.shutdown.cancel();
        assert_eq!(answers.message().await.expect("ends well"), None);
        server.task.await.expect("no panic").expect("ends well");
    }

    #[tokio::test]
    async fn shutdown_lets_a_begun_response_end() {
        let server = server().await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(
            tokio::net::TcpStream::connect(server.address).await.expect("connects"),
        ))
        .await
        .expect("shakes hands");
        let connection = tokio::spawn(connection);
        let request = ::http::Request::get("/stream?chunks=3&interval_ms=20")
            .header(HOST, "echo")
            .body(Full::<Bytes>::default())
            .expect("is valid");
        let response = sender.send_request(request).await.expect("answers");

        server.shutdown.cancel();
        let body = response.into_body().collect().await.expect("a whole body").to_bytes();
        assert_eq!(body, "chunk 0\nchunk 1\nchunk 2\n");
        server.task.await.expect("no panic").expect("ends well");
        connection.await.expect("no panic").expect("ends well");
    }
}
