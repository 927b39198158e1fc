//! The admin interface: health, metrics, status and dumps over HTTP, on loopback or a Unix socket.

mod queries;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::get;
use hickory_proto::rr::Name;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use xds::Listener;

use crate::dump::{self, Selection};
use crate::metrics;
use crate::serve::serve_http;
use crate::status::{Observer, Status};

#[derive(Clone)]
struct Admin {
    observer: Observer,
    may_show_secrets: bool,
    /// Places for names that are explained.
    explanations: Arc<Semaphore>,
    /// Places for those who follow the log of DNS queries.
    followers: Arc<Semaphore>,
    /// Ends what would go on for ever.
    shutdown: CancellationToken,
}

/// Names that are explained at one time: each may be looked up, and is compared with all others.
const MAX_EXPLANATIONS: usize = 4;

/// Who follows the log of DNS queries makes the server work for each of them.
const MAX_FOLLOWERS: usize = 8;

/// Serves the admin interface on `listener` until `shutdown`.
pub(crate) async fn serve(listener: Listener, observer: Observer, shutdown: CancellationToken) {
    // The mode of a socket's file keeps other users out.
    let admin = Admin {
        observer,
        may_show_secrets: matches!(listener, Listener::Unix(..)),
        explanations: Arc::new(Semaphore::new(MAX_EXPLANATIONS)),
        followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)),
        shutdown: shutdown.clone(),
    };
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .route("/status", get(show_status))
        .route("/dump", get(show_dump))
        .route("/explain", get(explain))
        .route("/dns/queries", get(queries::follow))
        .layer(middleware::from_fn(refuse_foreign_pages))
        .with_state(admin);
    match listener {
        Listener::Tcp(listener) => serve_http(listener, router, shutdown).await,
        Listener::Unix(listener, _file) => serve_http(listener, router, shutdown).await,
    }
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.observer.is_ready() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no configuration is loaded yet\n")
    }
}

async fn show_metrics(State(admin): State<Admin>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics::render(
        admin.observer.status(),
        admin.observer.is_ready(),
        Arc::clone(&admin.observer.dns.metrics),
    ) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn show_status(State(admin): State<Admin>) -> Json<Status> {
    Json(admin.observer.status())
}

#[derive(Deserialize)]
struct ExplainQuery {
    name: String,
}

async fn explain(State(admin): State<Admin>, Query(query): Query<ExplainQuery>) -> Response {
    let Ok(_place) = admin.explanations.try_acquire() else {
        let message = "too many names are being explained; ask again in a moment\n";
        return (StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    };
    match Name::from_utf8(&query.name) {
        Ok(mut name) => {
            name.set_fqdn(true);
            Json(admin.observer.explain(&name).await).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("this is no name: {error}\n")).into_response(),
    }
}

#[derive(Deserialize)]
struct DumpQuery {
    #[serde(default = "everything")]
    kind: Selection,
    #[serde(default)]
    secrets: bool,
}

fn everything() -> Selection {
    Selection::All
}

async fn show_dump(State(admin): State<Admin>, Query(query): Query<DumpQuery>) -> Response {
    if query.secrets && !admin.may_show_secrets {
        let message = "secrets are shown on a Unix socket only: set listen.admin to unix:PATH and pass that to --admin\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    if query.kind == Selection::Names {
        return dns::render_master_file(admin.observer.dns.names.records()).into_response();
    }
    Json(dump::dump(&admin.observer.gateways.cache, query.kind, query.secrets)).into_response()
}

/// A page in an operator's browser can reach loopback under a name of its own (DNS rebinding), but it cannot choose
/// the `Host` header: addresses and `localhost` are ours, other names are not. And it can send requests here without
/// seeing the answers, of which browsers tell where they come from (Fetch Metadata).
async fn refuse_foreign_pages(headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name =
        host.parse::<http::uri::Authority>().map(|authority| authority.host().to_owned()).unwrap_or_default();
    let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok();
    let site = headers.get("sec-fetch-site").map_or(&b"none"[..], HeaderValue::as_bytes);
    if !matches!(site, b"none" | b"same-origin") {
        return (StatusCode::FORBIDDEN, "pages of others may not ask this interface\n").into_response();
    }
    if is_address || name == "localhost" {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "ask for this interface by its address or as localhost\n").into_response()
}

#[cfg(test)]
mod tests;
