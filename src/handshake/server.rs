//! The handshake service of this domain, which sources reach through the gateway.
//!
//! Everything that comes here is a stranger's input: it is bounded in size, time and number, and no answer tells more
//! than Kuscia's protocol has to.

use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderMap;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::post;
use certs::DomainKey;
use jiff::Timestamp;
use model::{DomainId, InboundAuth, InboundRoute, TOKEN_BYTES, Token, TokenSettings};
use proto::handshake::{
    Ciphertext, HandshakeKind, HandshakeRequest, HandshakeResponse, Status, StatusResponse, TokenState,
};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use super::ledger::{Ledger, LedgerError};
use super::state;
use crate::app::Identity;
use crate::program::Gateways;

const SHARE_BYTES: usize = TOKEN_BYTES / 2;

/// A request is about one kilobyte.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// How long the gateways may take to accept a new token.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(5);

/// Handshakes at work at once; further ones wait, within [`QUEUE_TIMEOUT`].
const MAX_CONCURRENT: usize = 16;

const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// Kuscia's code for any failure.
const FAILED: i32 = 500;

/// Answers handshakes for one domain.
#[derive(Clone)]
pub(crate) struct HandshakeServer(Arc<Inner>);

struct Inner {
    identity: Identity,
    ledger: Ledger,
    gateways: Gateways,
    places: Semaphore,
}

/// Serves handshakes on `listener` until `shutdown`, then ends the ones that have begun.
pub(crate) async fn serve(listener: TcpListener, server: HandshakeServer, shutdown: CancellationToken) {
    let router = Router::new()
        .route("/handshake", post(answer_handshake).get(answer_probe))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(server);
    let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
    if let Err(error) = served.await {
        warn!(%error, "the handshake service ended");
    }
}

impl HandshakeServer {
    pub(crate) fn new(identity: Identity, ledger: Ledger, gateways: Gateways) -> Self {
        Self(Arc::new(Inner { identity, ledger, gateways, places: Semaphore::new(MAX_CONCURRENT) }))
    }
}

/// `POST /handshake`.
async fn answer_handshake(
    State(HandshakeServer(server)): State<HandshakeServer>,
    body: axum::body::Bytes,
) -> (StatusCode, Json<HandshakeResponse>) {
    let refused =
        |message: String| HandshakeResponse { status: Some(Status { code: FAILED, message }), token: None };
    let Ok(request) = serde_json::from_slice::<HandshakeRequest>(&body) else {
        return (StatusCode::BAD_REQUEST, Json(refused("the request is not the JSON of a handshake".into())));
    };
    let Ok(Ok(_place)) = timeout(QUEUE_TIMEOUT, server.places.acquire()).await else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(refused("too many handshakes at once; try again".into())),
        );
    };
    let response = match server.negotiate(&request).await {
        Ok(token) => HandshakeResponse { status: Some(Status::default()), token: Some(token) },
        Err(error) => {
            let source: String = request.domain_id.chars().filter(|c| !c.is_control()).take(63).collect();
            warn!(%source, %error, "handshake refused");
            refused(error.to_string())
        }
    };
    (StatusCode::OK, Json(response))
}

/// `GET /handshake`. It changes nothing but to note that the source proved to have a token.
async fn answer_probe(
    State(HandshakeServer(server)): State<HandshakeServer>,
    headers: HeaderMap,
) -> Json<StatusResponse> {
    let state = server.token_state(&headers).await;
    Json(StatusResponse { namespace: server.identity.domain.to_string(), state })
}

/// Why a handshake is refused. The texts go to the peer: they name keys by their public fingerprints only.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("domain {0:?} is no domain ID")]
    NoDomainId(String),
    #[error(
        "{destination} has no route from {requester} with token authentication; its operator must add one"
    )]
    NoRoute { requester: DomainId, destination: DomainId },
    #[error("handshake type {0} is not supported; use RSA-GEN")]
    Kind(String),
    #[error("the request has no token_config")]
    NoShare,
    #[error("{destination} holds the key {known} for {requester}, which is not the key of the request")]
    OtherSourceKey { requester: DomainId, destination: DomainId, known: String },
    #[error("the token is not encrypted for {destination}, whose key is {own}; the source holds another key")]
    OtherDestinationKey { destination: DomainId, own: String },
    #[error("the gateway of {0} did not accept the token in time; try again")]
    GatewayLate(DomainId),
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    #[error("no random bytes, or a share that cannot be encrypted")]
    Crypto,
}

impl Inner {
    async fn negotiate(&self, request: &HandshakeRequest) -> Result<proto::handshake::Token, Refusal> {
        let source: DomainId = request
            .domain_id
            .parse()
            .map_err(|_| Refusal::NoDomainId(request.domain_id.chars().take(63).collect()))?;
        let (route, settings) = self.token_route(&source)?;
        let share = match (&request.kind, &request.token_config) {
            (HandshakeKind::Rsa, Some(share)) => share,
            (HandshakeKind::Rsa, None) => return Err(Refusal::NoShare),
            (HandshakeKind::Uid, _) => return Err(Refusal::Kind("UID".into())),
            (HandshakeKind::Other(kind), _) => {
                return Err(Refusal::Kind(format!("{:?}", kind.chars().take(20).collect::<String>())));
            }
        };
        if share.pubhash != settings.peer_key.pubhash() {
            return Err(Refusal::OtherSourceKey {
                requester: source,
                destination: self.identity.domain.clone(),
                known: settings.peer_key.fingerprint().to_string(),
            });
        }
        let minted = self.mint(share.token.0.clone(), settings.clone()).await?;
        let (revision, expires) = self.offer(&route, &settings, minted.stored).await?;
        info!(%source, revision, "token negotiated");
        Ok(proto::handshake::Token {
            token: Ciphertext(minted.answered),
            expiration_time: i64::try_from(expires.as_nanosecond()).unwrap_or(i64::MAX),
            revision: i32::try_from(revision).unwrap_or(i32::MAX),
        })
    }

    fn token_route(&self, source: &DomainId) -> Result<(Arc<InboundRoute>, TokenSettings), Refusal> {
        let route = self.ledger.snapshot().inbound.get(source).cloned();
        if let Some(route) = route
            && let InboundAuth::Token { settings, .. } = &route.auth
        {
            return Ok((Arc::clone(&route), settings.clone()));
        }
        Err(Refusal::NoRoute { requester: source.clone(), destination: self.identity.domain.clone() })
    }

    /// Makes this side's share. RSA costs a millisecond, so it runs beside the event loop.
    async fn mint(&self, source_share: String, settings: TokenSettings) -> Result<Minted, Refusal> {
        let identity = self.identity.clone();
        let mint = move || {
            mint(&identity.key, &source_share, &settings).map_err(|error| match error {
                MintError::NotForUs => Refusal::OtherDestinationKey {
                    destination: identity.domain.clone(),
                    own: identity.key.public_key().fingerprint().to_string(),
                },
                MintError::Crypto => Refusal::Crypto,
            })
        };
        tokio::task::spawn_blocking(mint).await.map_err(|_| Refusal::Crypto)?
    }

    /// Stores the token, waits until the gateways accept it, and marks it ready.
    async fn offer(
        &self,
        route: &InboundRoute,
        settings: &TokenSettings,
        sealed: String,
    ) -> Result<(i64, Timestamp), Refusal> {
        let now = Timestamp::now();
        let mut offered = (0, now);
        let change = |status: &_| {
            let (revision, expires) = state::next_revision(status, settings.rolling_update_period, now);
            offered = (revision, expires);
            Some(state::with_offered(status, state::NewToken { sealed, revision, expires }, now))
        };
        self.ledger.change_tokens(&route.object, change).await?;
        let revision = offered.0;
        if timeout(GATEWAY_TIMEOUT, self.gateways.accept_token(&route.source, revision)).await.is_err() {
            return Err(Refusal::GatewayLate(self.identity.domain.clone()));
        }
        let ready = |status: &model::api::DomainRouteTokenStatus| {
            (status.revision_token.revision == revision)
                .then(|| state::with_ready(status, &self.identity.instance))
        };
        let stored = self.ledger.change_tokens(&route.object, ready).await?;
        // Another handshake for the same source took over meanwhile: its answer counts, not this one.
        if stored.revision_token.revision != revision {
            return Err(Refusal::GatewayLate(self.identity.domain.clone()));
        }
        Ok(offered)
    }

    async fn token_state(&self, headers: &HeaderMap) -> TokenState {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let named = text("kuscia-origin-source").or_else(|| text("kuscia-source"));
        let Some(Ok(source)) = named.map(str::parse::<DomainId>) else {
            return TokenState::DomainIdInputInvalid;
        };
        let Ok((route, _)) = self.token_route(&source) else { return TokenState::NoAuthentication };
        let Some(Ok(revision)) = text("kuscia-token-revision").map(str::parse::<i64>) else {
            return TokenState::TokenRevisionInputInvalid;
        };
        let tokens = &route.status.token_status;
        let known =
            tokens.tokens.iter().chain([&tokens.revision_token]).filter(|token| token.revision == revision);
        let Some(ready) = known.filter(|token| !token.token.is_empty()).map(|token| token.is_ready).max()
        else {
            return TokenState::TokenNotFound;
        };
        if let InboundAuth::Token { accepted, .. } = &route.auth
            && let Some(token) = accepted.iter().find(|token| token.revision == revision)
            && text("kuscia-token").is_some_and(|sent| is_same(sent, token))
        {
            self.note_proof(&route, revision).await;
        }
        if ready { TokenState::TokenReady } else { TokenState::TokenNotReady }
    }

    async fn note_proof(&self, route: &InboundRoute, revision: i64) {
        let change = |status: &_| state::with_proven(status, revision, Timestamp::now());
        if let Err(error) = self.ledger.change_tokens(&route.object, change).await {
            debug!(source = %route.source, revision, %error, "proof of a token not stored; the next probe repeats it");
        }
    }
}

fn is_same(sent: &str, token: &Token) -> bool {
    let expected = Zeroizing::new(token.value.header_value());
    verify_slices_are_equal(sent.as_bytes(), expected.as_bytes()).is_ok()
}

struct Minted {
    /// The whole token, encrypted with this domain's key.
    stored: String,
    /// This side's share, encrypted for the source.
    answered: String,
}

enum MintError {
    NotForUs,
    Crypto,
}

fn mint(key: &DomainKey, source_share: &str, settings: &TokenSettings) -> Result<Minted, MintError> {
    let source_share = key.open(source_share, SHARE_BYTES).map_err(|_| MintError::NotForUs)?;
    let mut token = Zeroizing::new([0; TOKEN_BYTES]);
    token[..SHARE_BYTES].copy_from_slice(&source_share);
    aws_lc_rs::rand::fill(&mut token[SHARE_BYTES..]).map_err(|_| MintError::Crypto)?;
    let stored = key.public_key().seal(&token[..]).map_err(|_| MintError::Crypto)?;
    let answered = settings.peer_key.seal(&token[SHARE_BYTES..]).map_err(|_| MintError::Crypto)?;
    Ok(Minted { stored, answered })
}
