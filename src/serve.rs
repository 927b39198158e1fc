//! HTTP servers that no client can exhaust.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Further connections wait until one of these has ended.
const MAX_CONNECTIONS: usize = 512;

/// Requests at once on one connection of HTTP/2. On HTTP/1.1 a connection serves one request, so that no idle ones
/// take up places.
const MAX_STREAMS: u32 = 64;

/// How long a connection may take to bring the whole head of its first request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `router` on `listener`, HTTP/1.1 and HTTP/2, until `shutdown`, and then until what has begun is answered.
pub(crate) async fn serve_http(mut listener: impl Listener, router: Router, shutdown: CancellationToken) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().keep_alive(false);
    builder.http2().max_concurrent_streams(MAX_STREAMS);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (stream, _) = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                let (builder, router, shutdown) = (builder.clone(), router.clone(), shutdown.clone());
                connections.spawn(serve_connection(builder, TokioIo::new(stream), router, shutdown));
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
    router: Router,
    shutdown: CancellationToken,
) {
    let asked = CancellationToken::new();
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        asked.cancel();
        router.call(request)
    });
    let mut connection = pin!(builder.serve_connection(stream, service));
    tokio::select! {
        _ = connection.as_mut() => {}
        Err(_) = timeout(FIRST_REQUEST_TIMEOUT, asked.cancelled()) => {}
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
