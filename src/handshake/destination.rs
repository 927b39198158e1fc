//! This domain as a destination: makes tokens with sources, and tells them which ones it has.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use certs::PublicKey;
use jiff::Timestamp;
use model::api::{DomainRouteStatus, DomainRouteToken};
use model::{Direction, DomainId, InboundAuth, Token, TokenSettings};
use proto::handshake::{
    Ciphertext, HandshakeKind, HandshakeRequest, HandshakeResponse, Status, TokenConfig, TokenState,
};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use super::acceptance::{Acceptance, AcceptanceError};
use super::limits::Limits;
use super::mint::{MintError, Minted, mint, mint_alone};
use super::proof;
use super::refusal::Refusal;
use super::signing::{self, NoRandomness, WrongSignature, sign_answer, verify_request};
use super::state::{self, TooManyUnproven, check_request_time};
use super::turns::Turns;
use crate::app::Identity;

/// How long all gateways of this domain may take to accept a new token.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a handshake may take in all; the gateway in front gives up two seconds later.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(28);

/// Handshakes in the name of one source that are under way or wait for each other; further ones are refused.
const MAX_PER_SOURCE: usize = 4;

/// How long the refusal of a share takes.
const REFUSAL_TIME: Duration = Duration::from_millis(50);

/// Time between two lines in the log about refusals to one source.
const WARNING_PERIOD: Duration = Duration::from_secs(10);

/// Makes tokens for one domain, for all sources that have a route to it.
pub(crate) struct Destination {
    identity: Identity,
    acceptance: Acceptance,
    /// Two handshakes of one source would take each other's place before either is in force.
    turns: Turns<DomainId>,
    pub(super) limits: Limits,
    /// When the newest signed request was made that has come, by source. Each of them has a route, and a key.
    newest_requests: Mutex<BTreeMap<DomainId, i64>>,
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
            limits: Limits::new(),
            newest_requests: Mutex::default(),
            warned: Mutex::default(),
        }
    }

    /// The domain.
    pub(super) fn domain(&self) -> &DomainId {
        &self.identity.domain
    }

    /// Makes a token with the source that asks, and answers its half once this domain's gateways accept the whole; or
    /// answers why there is none. Unless the gateways or the ledger are late, a refused request has changed nothing. The
    /// answer to a signed request is signed. Unsigned requests from the same `address` are limited in number.
    pub(super) async fn answer(&self, request: &HandshakeRequest, address: IpAddr) -> HandshakeResponse {
        let source: DomainId = match request.domain_id.parse() {
            Ok(source) => source,
            Err(_) => {
                let refusal = Refusal::NoDomainId(request.domain_id.chars().take(63).collect());
                return refusal.response();
            }
        };
        let mut is_signed = false;
        let negotiated =
            timeout(HANDSHAKE_TIMEOUT, self.negotiate(&source, request, address, &mut is_signed)).await;
        let mut answer = match negotiated.unwrap_or(Err(Refusal::Busy)) {
            Ok(token) => HandshakeResponse {
                status: Some(Status::default()),
                token: Some(token),
                ..HandshakeResponse::default()
            },
            Err(refusal) => {
                self.log(&source, &refusal);
                refusal.response()
            }
        };
        if is_signed {
            let (domain, key) = (self.identity.domain.clone(), self.identity.key.clone());
            let request = request.clone();
            // A signature takes a millisecond, too long for the event loop.
            let place = self.limits.place(true).await;
            let signed = spawn_blocking(move || {
                let signed = sign_answer(&mut answer, &request, domain.as_str(), &key);
                signed.map(|()| answer)
            });
            answer = signed.await.unwrap_or(Err(NoRandomness)).unwrap_or_else(|_| Refusal::Crypto.response());
            drop(place);
        }
        answer
    }

    /// Whether requests in the name of `source` may come from `address`: where another domain's gateway brings them, by the
    /// route of that domain. Anywhere is fine for domains without a route, which are refused for that.
    pub(super) fn may_come_from(&self, source: &DomainId, address: IpAddr) -> bool {
        let snapshot = self.acceptance.ledger.snapshot();
        let Some(route) = snapshot.inbound.get(source) else { return true };
        let carrier = route.carrier.as_ref().and_then(|carrier| snapshot.inbound.get(carrier));
        let allowed = &carrier.unwrap_or(route).addresses;
        allowed.is_empty() || allowed.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// The state of the token of `revision` from `source`. If the source has shown in `evidence` that it has that token, that
    /// is noted.
    pub(super) async fn token_state(
        &self,
        source: &DomainId,
        revision: Option<i64>,
        evidence: Evidence<'_>,
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
        let is_shown = |token: &Token| match (&route.carrier, evidence) {
            (None, Evidence { token: Some(sent), .. }) => Some(is_same(sent, token)),
            // What comes as a token is that of the gateway which brings the request.
            (Some(_), Evidence { proof: Some(sent), .. }) => {
                Some(proof::is_proof(sent, token, source, &self.identity.domain))
            }
            _ => None,
        };
        let shown: Option<Vec<bool>> = known.iter().map(|token| is_shown(token)).collect();
        if let Some(shown) = shown {
            if !shown.contains(&true) {
                // Another token has the same number: this side has lost its status since, or the other one has.
                return TokenState::TokenNotFound;
            }
            self.acceptance.note_proof(source, revision).await;
        }
        state::standing(&route.status.token_status, revision, Timestamp::now())
    }

    /// Makes a token. Notes in `is_signed` whether the source itself has asked.
    async fn negotiate(
        &self,
        source: &DomainId,
        request: &HandshakeRequest,
        address: IpAddr,
        is_signed: &mut bool,
    ) -> Result<proto::handshake::Token, Refusal> {
        let (requester, destination) = (source.clone(), self.identity.domain.clone());
        let Some((settings, status)) = self.token_settings(source) else {
            return Err(Refusal::NoRoute { requester, destination });
        };
        if !self.may_come_from(source, address) {
            return Err(Refusal::OtherAddress { requester, destination, address });
        }
        let kind = Kind::of(request)?;
        let known = settings.peer_key.fingerprint();
        if let Kind::Rsa(share) = kind
            && share.pubhash != settings.peer_key.pubhash()
        {
            return Err(Refusal::OtherSourceKey { requester, destination, known });
        }
        let now = Timestamp::now();
        let request_time = match verify_request(request, destination.as_str(), &settings.peer_key) {
            Ok(true) => {
                let stale = check_request_time(&status.token_status, request.request_time, now).err();
                // Who repeats a signed request must not make this side compute more than the first one did.
                let is_new = stale.is_none() && self.is_first(source, request.request_time);
                if !is_new && !self.limits.admit_repeated(source, address) {
                    return Err(Refusal::TooOften(source.clone()));
                }
                *is_signed = true;
                if let Some(stale) = stale {
                    return Err(Refusal::Stale { destination, asked_at: request.request_time, stale });
                }
                Some(request.request_time)
            }
            Ok(false) => {
                let has_signed = state::last_request_time(&status.token_status).is_some();
                if signing::is_required(settings.handshake, has_signed) {
                    return Err(Refusal::NotSigned { requester, destination, has_signed });
                }
                if !self.limits.admit_unsigned(source, address) {
                    return Err(Refusal::TooOften(source.clone()));
                }
                None
            }
            Err(WrongSignature) => return Err(Refusal::WrongSignature { requester, destination, known }),
        };
        if matches!(kind, Kind::Uid)
            && let Some(token) = self.token_given_again(source, &settings)?
        {
            return Ok(token);
        }
        let Minted { stored, answered } = self.mint(kind, &settings.peer_key, request_time.is_some()).await?;
        let turn = self.turns.of(source);
        // Strangers must not take all places in the line.
        let places = if *is_signed { 2 * MAX_PER_SOURCE } else { MAX_PER_SOURCE };
        if Arc::strong_count(&turn) > places + 1 {
            return Err(Refusal::Busy);
        }
        let _turn = turn.lock().await;
        let (revision, expires) = self.offer(source, &settings, &stored, request_time).await?;
        info!(%source, revision, is_signed, "token negotiated");
        Ok(token(answered, revision, expires))
    }

    /// Whether no signed request of `source` has come with this time or a later one. Whether one was answered, the status
    /// tells; this only saves work.
    fn is_first(&self, source: &DomainId, request_time: i64) -> bool {
        let mut newest = self.newest_requests.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = newest.entry(source.clone()).or_insert(i64::MIN);
        let is_first = *newest < request_time;
        *newest = request_time.max(*newest);
        is_first
    }

    /// The token that `source` has, if its time is not over: no stranger can open it, and nothing changes.
    fn token_given_again(
        &self,
        source: &DomainId,
        settings: &TokenSettings,
    ) -> Result<Option<proto::handshake::Token>, Refusal> {
        let snapshot = self.acceptance.ledger.snapshot();
        let Some(route) = snapshot.inbound.get(source) else { return Ok(None) };
        let now = Timestamp::now();
        let status = &route.status.token_status;
        let reusable = state::reusable(status, settings.rolling_update_period, now);
        let known = reusable
            .and_then(|stored| route.accepted().iter().find(|token| token.revision == stored.revision));
        let Some(known) = known else { return Ok(None) };
        let answered = settings.peer_key.seal(known.value.as_bytes()).map_err(|_| Refusal::Crypto)?;
        Ok(Some(token(answered, known.revision, known.expires.unwrap_or(now))))
    }

    /// How tokens are made with `source`, and its route's status; `None` where there is no route from it, or one without tokens.
    fn token_settings(&self, source: &DomainId) -> Option<(TokenSettings, Arc<DomainRouteStatus>)> {
        let snapshot = self.acceptance.ledger.snapshot();
        let route = snapshot.inbound.get(source)?;
        match &route.auth {
            InboundAuth::Token { settings, .. } => Some((settings.clone(), Arc::clone(&route.status))),
            InboundAuth::Mtls { .. } | InboundAuth::None => None,
        }
    }

    /// Makes this side's share, beside the event loop. That a share cannot be opened is answered after a fixed time;
    /// see [`mint`](super::mint).
    async fn mint(&self, kind: Kind<'_>, peer_key: &PublicKey, is_signed: bool) -> Result<Minted, Refusal> {
        let Ok(place) = self.limits.place(is_signed).await else { return Err(Refusal::Busy) };
        let answer_refusal_at = Instant::now() + REFUSAL_TIME;
        let (key, peer_key) = (self.identity.key.clone(), peer_key.clone());
        let share = match kind {
            Kind::Rsa(config) => Some(config.token.0.clone()),
            Kind::Uid => None,
        };
        let mint = move || match share {
            Some(share) => mint(&key, &share, &peer_key),
            None => mint_alone(&key, &peer_key),
        };
        let minted = spawn_blocking(mint).await;
        drop(place);
        match minted {
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
        request_time: Option<i64>,
    ) -> Result<(i64, Timestamp), Refusal> {
        let now = Timestamp::now();
        let offer = |status: &_| {
            let (revision, expires) = state::next_revision(status, settings.rolling_update_period, now);
            // Another gateway may have answered the same request meanwhile.
            if request_time.is_some_and(|time| check_request_time(status, time, now).is_err()) {
                return None;
            }
            let new = state::NewToken { sealed: sealed.to_owned(), revision, expires, request_time };
            state::with_offered(status, new, now).ok()
        };
        let offered = self.acceptance.ledger.change_tokens(Direction::Inbound, source, offer).await?;
        let DomainRouteToken { token, revision, expiration_time, .. } = offered.revision_token;
        if token != sealed {
            return Err(if request_time.is_some() { Refusal::Busy } else { TooManyUnproven.into() });
        }
        let completed = timeout(GATEWAY_TIMEOUT, self.acceptance.completed(source, revision)).await;
        match completed.map_err(|_| Refusal::GatewayLate(self.identity.domain.clone()))? {
            Ok(()) => Ok((revision, expiration_time.map_or(now, |time| time.0))),
            Err(AcceptanceError::Replaced) => Err(Refusal::Busy),
            Err(AcceptanceError::Ledger(error)) => Err(error.into()),
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

/// By what a probe shows that its sender has the token that it asks about.
#[derive(Clone, Copy, Default)]
pub(super) struct Evidence<'a> {
    /// The token itself (`Kuscia-Token`).
    pub(super) token: Option<&'a str>,
    /// A [proof] of it.
    pub(super) proof: Option<&'a str>,
}

/// How the token comes about.
#[derive(Clone, Copy)]
enum Kind<'a> {
    /// Each side contributes a half.
    Rsa(&'a TokenConfig),
    /// This side makes all of it.
    Uid,
}

impl<'a> Kind<'a> {
    /// As Kuscia, whatever the route says: both are as safe.
    fn of(request: &'a HandshakeRequest) -> Result<Self, Refusal> {
        match &request.kind {
            HandshakeKind::Rsa => request.token_config.as_ref().map(Self::Rsa).ok_or(Refusal::NoShare),
            HandshakeKind::Uid => Ok(Self::Uid),
            HandshakeKind::Other(kind) => Err(Refusal::Kind(kind.chars().take(20).collect())),
        }
    }
}

fn token(answered: String, revision: i64, expires: Timestamp) -> proto::handshake::Token {
    proto::handshake::Token {
        token: Ciphertext(answered),
        expiration_time: i64::try_from(expires.as_nanosecond()).unwrap_or(i64::MAX),
        revision: i32::try_from(revision).unwrap_or(i32::MAX),
    }
}

fn is_same(sent: &str, token: &Token) -> bool {
    let expected = Zeroizing::new(token.value.header_value());
    verify_slices_are_equal(sent.as_bytes(), expected.as_bytes()).is_ok()
}
