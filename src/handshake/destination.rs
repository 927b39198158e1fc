//! This domain as a destination: makes tokens with sources, and tells them which ones it has.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use certs::{Fingerprint, PublicKey};
use jiff::Timestamp;
use model::api::DomainRouteToken;
use model::{Direction, DomainId, InboundAuth, Token, TokenSettings};
use proto::handshake::{Ciphertext, HandshakeKind, HandshakeRequest, TokenConfig, TokenState};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use super::acceptance::{Acceptance, AcceptanceError};
use super::ledger::LedgerError;
use super::mint::{MintError, Minted, mint};
use super::state;
use super::turns::Turns;
use crate::app::Identity;

/// How long all gateways of this domain may take to accept a new token.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a handshake may take in all; the gateway in front gives up two seconds later.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(28);

/// Handshakes in the name of one source that are under way or wait for each other; further ones are refused.
const MAX_PER_SOURCE: usize = 4;

/// Handshakes that compute at once.
const MAX_COMPUTING: usize = 4;

/// How long the refusal of a share takes.
const REFUSAL_TIME: Duration = Duration::from_millis(50);

/// How long a probe may wait for the note that it proved something.
const PROOF_TIMEOUT: Duration = Duration::from_secs(2);

/// Time between two lines in the log about refusals to one source.
const WARNING_PERIOD: Duration = Duration::from_secs(10);

/// Why a handshake is refused. The texts go to the peer: they name keys by their public fingerprints only.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The requester is no domain.
    #[error("domain {0:?} is no domain ID")]
    NoDomainId(String),
    /// No route, or one without tokens.
    #[error(
        "{destination} has no route from {requester} with token authentication; its operator must add one"
    )]
    NoRoute { requester: DomainId, destination: DomainId },
    /// Another way to make tokens is wanted.
    #[error("handshake type {0} is not supported; use RSA-GEN")]
    Kind(String),
    /// The source's half is missing.
    #[error("the request has no token_config")]
    NoShare,
    /// The request names another key of the source.
    #[error("{destination} holds the key {known} for {requester}, which is not the key of the request")]
    OtherSourceKey { requester: DomainId, destination: DomainId, known: Fingerprint },
    /// The source's half cannot be opened.
    #[error("the token is not encrypted for {destination}, whose key is {own}; the source holds another key")]
    OtherDestinationKey { destination: DomainId, own: Fingerprint },
    /// Too much is under way.
    #[error("too many handshakes at once; try again")]
    Busy,
    /// The token is stored, but not in force everywhere.
    #[error("not every gateway of {0} accepted the token in time; try again")]
    GatewayLate(DomainId),
    /// The token is not stored. Why concerns this side only.
    #[error("the token could not be kept; try again")]
    NotKept(#[from] LedgerError),
    /// No random bytes, or a share that cannot be encrypted.
    #[error("no token could be made")]
    Crypto,
}

/// Makes tokens for one domain, for all sources that have a route to it.
pub(crate) struct Destination {
    identity: Identity,
    acceptance: Acceptance,
    /// Two handshakes of one source would take each other's place before either is in force.
    turns: Turns<DomainId>,
    places: Semaphore,
    /// When a refusal was last logged, by source; `None` stands for all without a route.
    warned: Mutex<BTreeMap<Option<DomainId>, Instant>>,
}

impl Destination {
    /// A destination that answers once a token is accepted.
    pub(crate) fn new(identity: Identity, acceptance: Acceptance) -> Self {
        Self {
            identity,
            acceptance,
            turns: Turns::new(),
            places: Semaphore::new(MAX_COMPUTING),
            warned: Mutex::default(),
        }
    }

    /// The domain.
    pub(super) fn domain(&self) -> &DomainId {
        &self.identity.domain
    }

    /// Makes a token with the source that asks, and answers its half once this domain's gateways accept the whole.
    ///
    /// # Errors
    /// See [`Refusal`]. Unless the gateways or the ledger are late, a refused request has changed nothing.
    pub(super) async fn negotiate(
        &self,
        request: &HandshakeRequest,
    ) -> Result<proto::handshake::Token, Refusal> {
        let source: DomainId = request
            .domain_id
            .parse()
            .map_err(|_| Refusal::NoDomainId(request.domain_id.chars().take(63).collect()))?;
        let outcome = timeout(HANDSHAKE_TIMEOUT, self.negotiate_with(&source, request)).await;
        outcome.unwrap_or(Err(Refusal::Busy)).inspect_err(|refusal| self.log(&source, refusal))
    }

    /// The state of the token of `revision` from `source`. Where `sent` is that token, the source has proved that it
    /// has it.
    pub(super) async fn token_state(
        &self,
        source: &DomainId,
        revision: Option<i64>,
        sent: Option<&str>,
    ) -> TokenState {
        let snapshot = self.acceptance.ledger.snapshot();
        let Some(route) = snapshot.inbound.get(source) else { return TokenState::NoAuthentication };
        let InboundAuth::Token { accepted, .. } = &route.auth else { return TokenState::NoAuthentication };
        let Some(revision) = revision else { return TokenState::TokenRevisionInputInvalid };
        // What stands in the status may have been made for another key of ours; gateways accept what could be opened.
        let known: Vec<&Token> = accepted.iter().filter(|token| token.revision == revision).collect();
        if known.is_empty() {
            return TokenState::TokenNotFound;
        }
        if sent.is_some_and(|sent| known.iter().any(|token| is_same(sent, token))) {
            self.note_proof(source, revision).await;
        }
        let tokens = &route.status.token_status;
        let mut stored = tokens.tokens.iter().chain([&tokens.revision_token]);
        if stored.any(|token| token.revision == revision && token.is_ready) {
            TokenState::TokenReady
        } else {
            TokenState::TokenNotReady
        }
    }

    async fn negotiate_with(
        &self,
        source: &DomainId,
        request: &HandshakeRequest,
    ) -> Result<proto::handshake::Token, Refusal> {
        let settings = self.token_settings(source).ok_or_else(|| Refusal::NoRoute {
            requester: source.clone(),
            destination: self.identity.domain.clone(),
        })?;
        let share = rsa_share(request)?;
        if share.pubhash != settings.peer_key.pubhash() {
            return Err(Refusal::OtherSourceKey {
                requester: source.clone(),
                destination: self.identity.domain.clone(),
                known: settings.peer_key.fingerprint(),
            });
        }
        let turn = self.turns.of(source);
        if Arc::strong_count(&turn) > MAX_PER_SOURCE + 1 {
            return Err(Refusal::Busy);
        }
        let _turn = turn.lock().await;
        let Minted { stored, answered } = self.mint(share.token.0.clone(), settings.peer_key.clone()).await?;
        let (revision, expires) = self.offer(source, &settings, &stored).await?;
        info!(%source, revision, "token negotiated");
        Ok(proto::handshake::Token {
            token: Ciphertext(answered),
            expiration_time: i64::try_from(expires.as_nanosecond()).unwrap_or(i64::MAX),
            revision: i32::try_from(revision).unwrap_or(i32::MAX),
        })
    }

    /// How tokens are made with `source`; `None` where there is no route from it, or one without tokens.
    fn token_settings(&self, source: &DomainId) -> Option<TokenSettings> {
        match &self.acceptance.ledger.snapshot().inbound.get(source)?.auth {
            InboundAuth::Token { settings, .. } => Some(settings.clone()),
            InboundAuth::None => None,
        }
    }

    /// Makes this side's share, beside the event loop. That a share cannot be opened is answered after a fixed time;
    /// see [`mint`](super::mint).
    async fn mint(&self, source_share: String, peer_key: PublicKey) -> Result<Minted, Refusal> {
        let Ok(_place) = self.places.acquire().await else { return Err(Refusal::Busy) };
        let answer_refusal_at = Instant::now() + REFUSAL_TIME;
        let key = self.identity.key.clone();
        let mint = move || mint(&key, &source_share, &peer_key);
        match tokio::task::spawn_blocking(mint).await {
            Ok(Ok(minted)) => Ok(minted),
            Ok(Err(MintError::NotForUs)) => {
                sleep_until(answer_refusal_at).await;
                Err(Refusal::OtherDestinationKey {
                    destination: self.identity.domain.clone(),
                    own: self.identity.key.public_key().fingerprint(),
                })
            }
            Ok(Err(MintError::Failed)) | Err(_) => Err(Refusal::Crypto),
        }
    }

    /// Stores the token and waits until it is ready. Answers its revision and end.
    async fn offer(
        &self,
        source: &DomainId,
        settings: &TokenSettings,
        sealed: &str,
    ) -> Result<(i64, Timestamp), Refusal> {
        let now = Timestamp::now();
        let offer = |status: &_| {
            let (revision, expires) = state::next_revision(status, settings.rolling_update_period, now);
            let new = state::NewToken { sealed: sealed.to_owned(), revision, expires };
            Some(state::with_offered(status, new, now))
        };
        let offered = self.acceptance.ledger.change_tokens(Direction::Inbound, source, offer).await?;
        let DomainRouteToken { revision, expiration_time, .. } = offered.revision_token;
        let completed = timeout(GATEWAY_TIMEOUT, self.acceptance.completed(source, revision)).await;
        match completed.map_err(|_| Refusal::GatewayLate(self.identity.domain.clone()))? {
            Ok(()) => Ok((revision, expiration_time.map_or(now, |time| time.0))),
            Err(AcceptanceError::Replaced) => Err(Refusal::Busy),
            Err(AcceptanceError::Ledger(error)) => Err(error.into()),
        }
    }

    async fn note_proof(&self, source: &DomainId, revision: i64) {
        let change = |status: &_| state::with_proven(status, revision, Timestamp::now());
        let noted = self.acceptance.ledger.change_tokens(Direction::Inbound, source, change);
        let noted = timeout(PROOF_TIMEOUT, noted).await.unwrap_or(Err(LedgerError::NotStored));
        if let Err(error) = noted {
            debug!(%source, revision, %error, "proof of a token not stored; the next probe repeats it");
        }
    }

    /// Tells the operator of a refusal, but lets no stranger fill the log.
    fn log(&self, source: &DomainId, refusal: &Refusal) {
        let known = self.token_settings(source).map(|_| source.clone());
        let now = Instant::now();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        warned.retain(|_, last| now.duration_since(*last) < WARNING_PERIOD);
        let cause = refusal.source().map(ToString::to_string);
        if warned.contains_key(&known) {
            debug!(%source, %refusal, cause, "handshake refused");
            return;
        }
        warned.insert(known, now);
        warn!(%source, %refusal, cause, "handshake refused");
    }
}

fn rsa_share(request: &HandshakeRequest) -> Result<&TokenConfig, Refusal> {
    match &request.kind {
        HandshakeKind::Rsa => request.token_config.as_ref().ok_or(Refusal::NoShare),
        HandshakeKind::Uid => Err(Refusal::Kind("UID".to_owned())),
        HandshakeKind::Other(kind) => {
            Err(Refusal::Kind(format!("{:?}", kind.chars().take(20).collect::<String>())))
        }
    }
}

fn is_same(sent: &str, token: &Token) -> bool {
    let expected = Zeroizing::new(token.value.header_value());
    verify_slices_are_equal(sent.as_bytes(), expected.as_bytes()).is_ok()
}
