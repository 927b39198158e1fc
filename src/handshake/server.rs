//! The handshake service of this domain on the wire, which sources reach through the gateway.
//!
//! Everything that comes here is a stranger's input: it is bounded in size, time and number.

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, StatusCode};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::Json;
use axum::routing::post;
use model::DomainId;
use proto::handshake::{HandshakeRequest, HandshakeResponse, Status, StatusResponse, TokenState};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::destination::Destination;
use crate::serve::serve_http;

/// A request is about one kilobyte.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// How long a request's body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Kuscia's code for any failure.
const FAILED: i32 = 500;

/// Serves handshakes with `destination` on `listener` until `shutdown`, then ends the ones that have begun.
pub(crate) async fn serve(listener: TcpListener, destination: Destination, shutdown: CancellationToken) {
    let router = Router::new()
        .route("/handshake", post(answer_handshake).get(answer_probe))
        .with_state(Arc::new(destination));
    serve_http(listener, router, shutdown).await;
}

/// `POST /handshake`. Refusals are answered with status 200 and a code in the body, as Kuscia does.
async fn answer_handshake(
    State(destination): State<Arc<Destination>>,
    body: Body,
) -> (StatusCode, Json<HandshakeResponse>) {
    let refused = |http_status, message: String| {
        let status = Some(Status { code: FAILED, message });
        (http_status, Json(HandshakeResponse { status, ..HandshakeResponse::default() }))
    };
    let body = match timeout(BODY_TIMEOUT, to_bytes(body, MAX_REQUEST_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let message = format!("no whole request came, or one of more than {MAX_REQUEST_BYTES} bytes");
            return refused(StatusCode::PAYLOAD_TOO_LARGE, message);
        }
        Err(_) => {
            let message = format!("no whole request came within {BODY_TIMEOUT:?}");
            return refused(StatusCode::REQUEST_TIMEOUT, message);
        }
    };
    let Ok(request) = serde_json::from_slice::<HandshakeRequest>(&body) else {
        return refused(StatusCode::BAD_REQUEST, "the request is not the JSON of a handshake".to_owned());
    };
    match destination.negotiate(&request).await {
        Ok(token) => {
            let response = HandshakeResponse {
                status: Some(Status::default()),
                token: Some(token),
                ..HandshakeResponse::default()
            };
            (StatusCode::OK, Json(response))
        }
        Err(refusal) => refused(StatusCode::OK, refusal.to_string()),
    }
}

/// `GET /handshake`. It changes nothing but to note that the source proved to have a token.
async fn answer_probe(
    State(destination): State<Arc<Destination>>,
    headers: HeaderMap,
) -> Json<StatusResponse> {
    let state = token_state(&destination, &headers).await;
    Json(StatusResponse { namespace: destination.domain().to_string(), state })
}

async fn token_state(destination: &Destination, headers: &HeaderMap) -> TokenState {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let named = text("kuscia-origin-source").or_else(|| text("kuscia-source"));
    let Some(Ok(source)) = named.map(str::parse::<DomainId>) else {
        return TokenState::DomainIdInputInvalid;
    };
    let revision = text("kuscia-token-revision").and_then(|revision| revision.parse().ok());
    destination.token_state(&source, revision, text("kuscia-token")).await
}
