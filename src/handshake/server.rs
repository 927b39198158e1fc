//! The handshake service of this domain on the wire, which sources reach through the gateway.
//!
//! Everything that comes here is a stranger's input: it is bounded in size, time and number.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, StatusCode};
use axum::Router;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{ConnectInfo, State};
use axum::response::Json;
use axum::routing::post;
use bytes::Bytes;
use model::DomainId;
use proto::handshake::{HandshakeRequest, HandshakeResponse, Status, StatusResponse, TokenState};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::destination::{Destination, Evidence};
use super::outcomes::Outcomes;
use super::proof;
use super::refusal::FAILED;
use crate::serve::{Places, serve_http};

/// Most bytes of a request. Real ones are one to three kilobytes.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// Requests above this are read at times only.
const LONG_REQUEST_BYTES: usize = 8 * 1024;

/// How long a request's body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests whose body has not come yet; a further one displaces the oldest.
const MAX_WAITING: usize = 128;

/// Serves handshakes with `destination` on `listener` until `shutdown`, then ends the ones that have begun. Each
/// handshake is counted in `outcomes`.
pub(crate) async fn serve(
    listener: TcpListener,
    destination: Destination,
    outcomes: Outcomes,
    shutdown: CancellationToken,
) {
    let own_address =
        listener.local_addr().map_or_else(|_| Ipv4Addr::LOCALHOST.into(), |address| address.ip());
    let server = Server { destination, outcomes, own_address, waiting: Places::new(MAX_WAITING) };
    let router = Router::new()
        .route("/handshake", post(answer_handshake).get(answer_probe))
        .with_state(Arc::new(server));
    serve_http(listener, router, shutdown).await;
}

struct Server {
    destination: Destination,
    outcomes: Outcomes,
    /// Where this server listens.
    own_address: IpAddr,
    waiting: Places,
}

/// Why a request is not understood.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Unread {
    #[error("no whole request came, or one of more than {MAX_REQUEST_BYTES} bytes")]
    TooLong,
    #[error("requests of more than {LONG_REQUEST_BYTES} bytes are too many; try again")]
    TooManyLong,
    #[error("no whole request came within {BODY_TIMEOUT:?}")]
    TooSlow,
    #[error("too many requests have begun since; send the request at once")]
    Displaced,
    #[error("the request is not the JSON of a handshake")]
    NoHandshake,
}

impl Unread {
    fn status(self) -> StatusCode {
        match self {
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyLong => StatusCode::TOO_MANY_REQUESTS,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Displaced => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoHandshake => StatusCode::BAD_REQUEST,
        }
    }
}

/// `POST /handshake`. Refusals are answered with status 200 and a code in the body, as Kuscia does.
async fn answer_handshake(
    State(server): State<Arc<Server>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> (StatusCode, Json<HandshakeResponse>) {
    match server.read(body).await {
        Ok(request) => {
            let client = client_address(peer, server.own_address, &headers);
            let answer = server.destination.answer(&request, client).await;
            let refusal = answer.status.as_ref().filter(|status| status.code != 0);
            server.outcomes.count(refusal.map_or("Answered", |status| &status.reason));
            (StatusCode::OK, Json(answer))
        }
        Err(unread) => {
            server.outcomes.count(&format!("{unread:?}"));
            let status = Status { code: FAILED, message: unread.to_string(), ..Status::default() };
            let answer = HandshakeResponse { status: Some(status), ..HandshakeResponse::default() };
            (unread.status(), Json(answer))
        }
    }
}

/// `GET /handshake`. It changes nothing but to note that the source proved to have a token.
///
/// One that names no token is a gateway that looks whether this one is well. That costs no more than to refuse it, and many
/// gateways may share an address with strangers: so it is always answered.
async fn answer_probe(
    State(server): State<Arc<Server>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> (StatusCode, Json<StatusResponse>) {
    let Server { destination, outcomes, own_address, .. } = server.as_ref();
    let answer =
        |status, state| (status, Json(StatusResponse { namespace: destination.domain().to_string(), state }));
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // Where requests are forwarded, the last gateway is not the one that has the token. Nothing is granted to either name.
    let named = text("kuscia-origin-source").or_else(|| text("kuscia-source"));
    let source = named.and_then(|named| named.parse::<DomainId>().ok());
    let revision = headers.get("kuscia-token-revision");
    if revision.is_some() {
        let client = client_address(peer, *own_address, &headers);
        if !destination.limits.admit_probe(client) {
            outcomes.count("TooManyProbes");
            return answer(StatusCode::TOO_MANY_REQUESTS, TokenState::InternalError);
        }
        if source.as_ref().is_some_and(|source| !destination.may_come_from(source, client)) {
            outcomes.count("AddressNotAllowed");
            return answer(StatusCode::FORBIDDEN, TokenState::NoAuthentication);
        }
    }
    let Some(source) = source else { return answer(StatusCode::OK, TokenState::DomainIdInputInvalid) };
    let revision = text("kuscia-token-revision").and_then(|revision| revision.parse().ok());
    let evidence = Evidence { token: text("kuscia-token"), proof: text(proof::HEADER) };
    answer(StatusCode::OK, destination.token_state(&source, revision, evidence).await)
}

impl Server {
    async fn read(&self, body: Body) -> Result<HandshakeRequest, Unread> {
        let body = self.read_bytes(body).await?;
        serde_json::from_slice(&body).map_err(|_| Unread::NoHandshake)
    }

    async fn read_bytes(&self, body: Body) -> Result<Bytes, Unread> {
        let length = body.size_hint();
        if length.lower() > MAX_REQUEST_BYTES as u64 {
            return Err(Unread::TooLong);
        }
        let may_be_long = length.upper().is_none_or(|most| most > LONG_REQUEST_BYTES as u64);
        if may_be_long && !self.destination.limits.admit_long() {
            return Err(Unread::TooManyLong);
        }
        let place = self.waiting.take();
        tokio::select! {
            () = place.lost() => Err(Unread::Displaced),
            read = timeout(BODY_TIMEOUT, to_bytes(body, MAX_REQUEST_BYTES)) => match read {
                Ok(read) => read.map_err(|_| Unread::TooLong),
                Err(_) => Err(Unread::TooSlow),
            },
        }
    }
}

/// The address of the client. Envoy appends it to what its client sent, so the last one is true, if the request comes
/// from this machine, as Envoy's requests do.
pub(super) fn client_address(peer: SocketAddr, own_address: IpAddr, headers: &HeaderMap) -> IpAddr {
    let peer = peer.ip().to_canonical();
    if !peer.is_loopback() && peer != own_address.to_canonical() {
        return peer;
    }
    let forwarded = headers.get_all("x-forwarded-for").iter().next_back();
    let last = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    last.unwrap_or(peer)
}
