//! Keeps the token of every route out of this domain fresh, and forgets expired ones of routes in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::api::{Condition, ConditionStatus, Time};
use model::{
    DomainId, InboundAuth, InboundRoute, OutboundAuth, OutboundRoute, Snapshot, StatusChange, Token,
};
use proto::handshake::TokenState;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::client::{CallError, HandshakeClient};
use super::ledger::{Ledger, LedgerError};
use super::state::{self, Action, Source};
use crate::app::Identity;

/// The longest time that is waited for a clock time; a clock that is set meanwhile is noticed after it.
const CLOCK_CHECK: Duration = Duration::from_secs(5);

/// Negotiates for every route until `shutdown`.
pub(crate) async fn negotiate_all(
    identity: Identity,
    gateway: std::net::SocketAddr,
    ledger: Ledger,
    shutdown: CancellationToken,
) {
    let client = HandshakeClient { domain: identity.domain.clone(), key: identity.key.clone(), gateway };
    let negotiation = Arc::new(Negotiation { client, ledger, instance: identity.instance });
    let mut snapshots = negotiation.ledger.snapshots();
    let mut tasks = JoinSet::new();
    let mut running: BTreeMap<(Side, DomainId), AbortHandle> = BTreeMap::new();
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        let wanted: Vec<(Side, DomainId)> = with_tokens(&snapshot).collect();
        running.retain(|route, task| {
            let keep = wanted.contains(route) && !task.is_finished();
            if !keep {
                task.abort();
            }
            keep
        });
        for (side, peer) in wanted {
            running.entry((side, peer.clone())).or_insert_with(|| {
                let negotiation = Arc::clone(&negotiation);
                match side {
                    Side::Source => tasks.spawn(async move { negotiation.keep_fresh(peer).await }),
                    Side::Destination => tasks.spawn(async move { negotiation.forget_expired(peer).await }),
                }
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = snapshots.changed() => if changed.is_err() { break },
            // Ended tasks are collected; a route that is still there starts anew with the next snapshot.
            Some(_) = tasks.join_next() => {}
        }
    }
    tasks.shutdown().await;
}

/// On which side of a route this domain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Source,
    Destination,
}

fn with_tokens(snapshot: &Snapshot) -> impl Iterator<Item = (Side, DomainId)> {
    let sources =
        snapshot.outbound.iter().filter(|(_, route)| matches!(route.auth, OutboundAuth::Token { .. }));
    let destinations =
        snapshot.inbound.iter().filter(|(_, route)| matches!(route.auth, InboundAuth::Token { .. }));
    let sources = sources.map(|(peer, _)| (Side::Source, peer.clone()));
    sources.chain(destinations.map(|(peer, _)| (Side::Destination, peer.clone())))
}

struct Negotiation {
    client: HandshakeClient,
    ledger: Ledger,
    instance: String,
}

impl Negotiation {
    async fn keep_fresh(&self, destination: DomainId) {
        let mut source = Source::default();
        let mut snapshots = self.ledger.snapshots();
        loop {
            let Some(route) = snapshots.borrow_and_update().outbound.get(&destination).cloned() else {
                return;
            };
            let OutboundAuth::Token { settings, sending } = &route.auth else { return };
            let period = settings.rolling_update_period;
            let status = &route.status.token_status;
            // A token that cannot be opened any more is none.
            let status = if sending.is_some() { status.clone() } else { <_>::default() };
            let now = Timestamp::now();
            match (source.next(&status, period, now), sending) {
                (Action::Wait(until), _) => wait(until, &mut snapshots).await,
                (Action::Probe { .. }, Some(token)) => self.probe(&route, token, &mut source).await,
                (Action::Negotiate | Action::Probe { .. }, _) => {
                    let outcome = self.negotiate(&route, &settings.peer_key, sending.as_ref()).await;
                    self.note_negotiation(&route, outcome, &mut source).await;
                }
            }
        }
    }

    async fn negotiate(
        &self,
        route: &OutboundRoute,
        peer_key: &certs::PublicKey,
        sending: Option<&Token>,
    ) -> Result<i64, NegotiationError> {
        let revision = sending.map_or(0, |token| token.revision);
        let new = self.client.negotiate(&route.destination, peer_key, revision, Timestamp::now()).await?;
        let sealed = self.client.key.public_key().seal(new.value.as_bytes());
        let sealed = sealed.map_err(|error| CallError::Crypto(error.to_string()))?;
        let token = state::NewToken { sealed, revision: new.revision, expires: new.expires };
        let change =
            |status: &_| Some(state::with_negotiated(status, token, &self.instance, Timestamp::now()));
        self.ledger.change_tokens(&route.object, change).await?;
        Ok(new.revision)
    }

    async fn note_negotiation(
        &self,
        route: &OutboundRoute,
        outcome: Result<i64, NegotiationError>,
        source: &mut Source,
    ) {
        let destination = &route.destination;
        match outcome {
            Ok(revision) => {
                info!(%destination, revision, "token negotiated");
                source.negotiated();
                self.note_contact(route, &Contact::fine("TokenNegotiated")).await;
            }
            Err(error) => {
                source.negotiation_failed(Timestamp::now());
                let contact = Contact::failed(&error);
                if has_condition(route, &contact.authenticated()) {
                    debug!(%destination, %error, "no token yet");
                } else {
                    warn!(%destination, %error, "no token yet; retrying");
                }
                self.note_contact(route, &contact).await;
            }
        }
    }

    async fn probe(&self, route: &OutboundRoute, token: &Token, source: &mut Source) {
        let outcome = self.client.probe(&route.destination, token.revision, &token.value).await;
        source.probed(outcome.as_ref().ok().copied(), Timestamp::now());
        let contact = match outcome {
            Ok(TokenState::TokenReady) => Contact::fine("TokenReady"),
            Ok(state) => Contact::answered(state, &route.destination, token.revision),
            Err(error) => Contact::failed(&NegotiationError::Call(error)),
        };
        if let Some(problem) = &contact.problem
            && !has_condition(route, &contact.authenticated())
        {
            warn!(destination = %route.destination, revision = token.revision, %problem, "token not confirmed");
        }
        self.note_contact(route, &contact).await;
    }

    async fn note_contact(&self, route: &OutboundRoute, contact: &Contact) {
        let authorized = contact.problem.is_none();
        let destination = StatusChange::Destination { authorized, unreachable: contact.unreachable };
        let changes = [
            StatusChange::Condition(contact.reachable()),
            StatusChange::Condition(contact.authenticated()),
            destination,
        ];
        for change in changes {
            if change.apply(&mut route.status.clone()) {
                self.ledger.note(&route.object, change).await;
            }
        }
    }

    async fn forget_expired(&self, source: DomainId) {
        let mut snapshots = self.ledger.snapshots();
        loop {
            let route: Option<Arc<InboundRoute>> =
                snapshots.borrow_and_update().inbound.get(&source).cloned();
            let Some(route) = route else { return };
            let now = Timestamp::now();
            match state::next_expiry(&route.status.token_status) {
                Some(time) if time <= now => {
                    let change = |status: &_| state::without_expired(status, now);
                    if let Err(error) = self.ledger.change_tokens(&route.object, change).await {
                        warn!(%source, %error, "expired tokens not removed; retrying");
                        wait(now + CLOCK_CHECK, &mut snapshots).await;
                    }
                }
                Some(time) => wait(time, &mut snapshots).await,
                None => {
                    if snapshots.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Waits until `time`, a new snapshot or the next look at the clock, whatever comes first.
async fn wait(time: Timestamp, snapshots: &mut watch::Receiver<Arc<Snapshot>>) {
    let duration = time.duration_since(Timestamp::now());
    let duration = Duration::try_from(duration).unwrap_or_default().min(CLOCK_CHECK);
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        // The sender lives as long as the mesh; when it goes, this task is aborted.
        Ok(()) = snapshots.changed() => {}
    }
}

#[derive(Debug, thiserror::Error)]
enum NegotiationError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the token could not be kept: {0}")]
    Ledger(#[from] LedgerError),
}

/// What an exchange with a destination showed.
struct Contact {
    unreachable: bool,
    reason: &'static str,
    problem: Option<String>,
}

impl Contact {
    fn fine(reason: &'static str) -> Self {
        Self { unreachable: false, reason, problem: None }
    }

    fn failed(error: &NegotiationError) -> Self {
        let (unreachable, reason) = match error {
            NegotiationError::Call(call) => (call.is_unreachable(), call.reason()),
            NegotiationError::Ledger(_) => (false, "TokenNotStored"),
        };
        Self { unreachable, reason, problem: Some(error.to_string()) }
    }

    fn answered(state: TokenState, destination: &DomainId, revision: i64) -> Self {
        let (reason, problem) = match state {
            TokenState::NoAuthentication => {
                ("RouteMissing", format!("{destination} has no route from this domain; it must add one"))
            }
            TokenState::TokenNotFound => {
                ("TokenUnknown", format!("{destination} does not know revision {revision}; negotiating anew"))
            }
            other => ("TokenNotReady", format!("{destination} says {other:?} of revision {revision}")),
        };
        Self { unreachable: false, reason, problem: Some(problem) }
    }

    fn reachable(&self) -> Condition {
        let problem = self.problem.as_deref().filter(|_| self.unreachable);
        condition("Reachable", if self.unreachable { self.reason } else { "Answered" }, problem)
    }

    fn authenticated(&self) -> Condition {
        condition("Authenticated", self.reason, self.problem.as_deref())
    }
}

fn condition(type_: &str, reason: &str, problem: Option<&str>) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: if problem.is_none() { ConditionStatus::True } else { ConditionStatus::False },
        reason: reason.to_owned(),
        message: problem.unwrap_or_default().to_owned(),
        last_transition_time: Some(Time(Timestamp::now())),
    }
}

/// Whether the route's status already says so: repeated failures are logged once.
fn has_condition(route: &OutboundRoute, condition: &Condition) -> bool {
    !StatusChange::Condition(condition.clone()).apply(&mut route.status.clone())
}
