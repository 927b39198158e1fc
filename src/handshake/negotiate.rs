//! Keeps the token of every route out of this domain fresh, and the conditions of its link.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certs::PublicKey;
use jiff::Timestamp;
use model::api::DomainRouteTokenStatus;
use model::{Direction, DomainId, OutboundAuth, OutboundRoute, Token, TokenSettings, with_listed};
use proto::handshake::TokenState;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::acceptance::{Acceptance, keep_accepted};
use super::call_error::CallError;
use super::client::{HandshakeClient, Terms};
use super::contact::{Contact, NegotiationError};
use super::findings::{diagnose, of_data_path};
use super::ledger::{Ledger, LedgerError};
use super::signing;
use super::state::{self, Action, Source, View};
use super::supervisor::supervise;
use crate::app::Identity;
use crate::program::Gateways;
use crate::replicas::Replicas;

/// The longest time that is waited for a clock time; a clock that is set meanwhile is noticed after it.
pub(super) const CLOCK_CHECK: Duration = Duration::from_secs(5);

/// Time between two complaints about one route. A peer may fail in another way each time, and a complaint costs a
/// line in the log, a write to the source and a snapshot.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(5);

/// How long the gateways may take to learn of a new route before they are tried all the same. An Envoy that is started
/// together with the mesh takes some seconds.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(5);

/// Negotiates for every route until `shutdown`, through the gateway of this domain at `address`.
pub(crate) async fn negotiate_all(
    identity: Identity,
    tokens: Acceptance,
    address: SocketAddr,
    shutdown: CancellationToken,
) {
    let snapshots = tokens.ledger.snapshots();
    let client = HandshakeClient { domain: identity.domain, key: identity.key, gateway: address };
    let Acceptance { ledger, gateways, replicas } = tokens.clone();
    let negotiation = Arc::new(Negotiation { client, gateways, ledger, replicas, failing: Arc::default() });
    let run = |direction, peer, changed: Arc<Notify>| {
        let (negotiation, tokens) = (Arc::clone(&negotiation), tokens.clone());
        async move {
            match direction {
                Direction::Outbound => {
                    // Until then this domain's own gateway answers that there is no such service.
                    let _ = timeout(GATEWAY_TIMEOUT, negotiation.gateways.lead_to(&peer)).await;
                    negotiation.keep_fresh(&peer, &changed).await;
                    negotiation.watch(&peer, &changed).await;
                }
                Direction::Inbound => keep_accepted(&tokens, &peer, &changed).await,
            }
        }
    };
    supervise(snapshots, run, shutdown).await;
}

pub(super) struct Negotiation {
    pub(super) client: HandshakeClient,
    gateways: Gateways,
    pub(super) ledger: Ledger,
    pub(super) replicas: Replicas,
    /// Every route that fails holds a copy: so the count of references tells how many do.
    failing: Arc<()>,
}

/// What is remembered of one route between two attempts.
#[derive(Default)]
pub(super) struct Memory {
    source: Source,
    /// The destination's key, once it is known.
    peer_key: Option<PublicKey>,
    /// How far the destination's clock is ahead of this one, in nanoseconds, if it has refused a request for its time.
    clock_offset: Option<i64>,
    /// A copy of [`Negotiation::failing`], while the route fails.
    failing: Option<Arc<()>>,
    /// When it was last asked what is wrong, if nothing has gone well since.
    complained: Option<Instant>,
    /// Revision of the token with which a request last took the way of applications' requests.
    tried: Option<i64>,
}

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

impl Negotiation {
    /// Returns once the route is gone, or has no tokens. `changed` tells that it is to be looked at.
    async fn keep_fresh(&self, destination: &DomainId, changed: &Notify) {
        let mut memory = Memory::default();
        let mut replicas = self.replicas.clone();
        loop {
            let route = self.ledger.snapshot().outbound.get(destination).cloned();
            let Some(route) = route else { return };
            let OutboundAuth::Token { settings, sending } = &route.auth else { return };
            let status = &route.status.token_status;
            let in_use = sending.as_ref().filter(|token| token.revision == status.revision_token.revision);
            let to_list = in_use.filter(|_| !self.is_listed(status));
            if !self.replicas.is_chosen(&status.revision_initializer) {
                // Another gateway does it, and what this one remembers of it is soon out of date.
                memory = Memory::default();
                tokio::select! {
                    () = changed.notified() => {}
                    () = replicas.changed() => {}
                    () = self.list(destination, to_list, changed) => {}
                }
                continue;
            }
            if memory.peer_key.replace(settings.peer_key.clone()).is_some_and(|old| old != settings.peer_key)
            {
                memory.source.peer_changed();
            }
            let view = View {
                status,
                is_open: in_use.is_some(),
                period: settings.rolling_update_period,
                own: self.replicas.own(),
                live: &self.replicas.live(),
            };
            match (memory.source.next(view, Timestamp::now()), in_use) {
                (Action::Wait(_), Some(token))
                    if to_list.is_none() && memory.tried != Some(token.revision) =>
                {
                    self.try_data_path(&route, token.revision, &mut memory).await;
                }
                (Action::Wait(until), _) => tokio::select! {
                    () = wait(until, changed) => {}
                    () = self.list(destination, to_list, changed) => {}
                },
                (Action::Probe, Some(token)) => self.probe(&route, token, &mut memory).await,
                (Action::Claim, _) => {
                    if let Err(error) = self.claim(destination).await {
                        self.note_negotiation(&route, Err(error.into()), &mut memory).await;
                    }
                }
                (Action::Negotiate | Action::Probe, _) => {
                    let outcome = self.negotiate(&route, settings, in_use, &memory).await;
                    self.note_negotiation(&route, outcome, &mut memory).await;
                }
            }
        }
    }

    /// Whether this gateway has listed itself among those that send the newest token.
    fn is_listed(&self, status: &DomainRouteTokenStatus) -> bool {
        status.revision_token.effective_instances.iter().any(|name| name == self.replicas.own())
    }

    /// Lists this gateway among those that send the `token` as soon as its Envoys do.
    async fn list(&self, destination: &DomainId, token: Option<&Token>, changed: &Notify) {
        let Some(token) = token else { return std::future::pending().await };
        self.gateways.send_token(destination, token).await;
        let list = |status: &_| with_listed(status, token.revision, self.replicas.own());
        if let Err(error) = self.ledger.change_tokens(Direction::Outbound, destination, list).await {
            debug!(%destination, revision = token.revision, %error, "cannot tell that the token is sent; retrying");
            wait(Timestamp::now() + CLOCK_CHECK, changed).await;
        }
    }

    async fn claim(&self, destination: &DomainId) -> Result<(), LedgerError> {
        let claim = |status: &_| Some(state::with_claim(status, self.replicas.own()));
        self.ledger.change_tokens(Direction::Outbound, destination, claim).await.map(drop)
    }

    async fn negotiate(
        &self,
        route: &OutboundRoute,
        settings: &TokenSettings,
        in_use: Option<&Token>,
        memory: &Memory,
    ) -> Result<i64, NegotiationError> {
        let own = self.replicas.own();
        let last_request_time = state::last_request_time(&route.status.token_status);
        let terms = Terms {
            settings,
            revision: in_use.map_or(0, |token| token.revision),
            request_time: state::next_request_time(
                nanoseconds(Timestamp::now()),
                memory.clock_offset,
                last_request_time,
            ),
            must_be_signed: signing::is_required(settings.handshake, last_request_time.is_some()),
        };
        let new = self.client.negotiate(&route.destination, &terms).await?;
        let now = Timestamp::now();
        let sealed = self.client.key.public_key().seal(new.value.as_bytes());
        let sealed = sealed.map_err(|error| CallError::Internal(error.to_string()))?;
        let token = state::NewToken {
            sealed,
            revision: new.revision,
            expires: state::end_of_life(new.expires, settings.rolling_update_period, now),
            request_time: new.request_time,
        };
        let change = |status: &_| state::with_negotiated(status, token.clone(), own, now);
        let stored = self.ledger.change_tokens(Direction::Outbound, &route.destination, change).await?;
        if stored.revision_token.token != token.sealed {
            return Err(NegotiationError::Superseded);
        }
        Ok(new.revision)
    }

    async fn note_negotiation(
        &self,
        route: &OutboundRoute,
        outcome: Result<i64, NegotiationError>,
        memory: &mut Memory,
    ) {
        let destination = &route.destination;
        match outcome {
            Ok(revision) => {
                info!(%destination, revision, "token negotiated");
                memory.failing = None;
                // After the destination has lost its status, another token has the same number.
                memory.tried = None;
                memory.source.negotiated(Timestamp::now());
                self.note(route, &Contact::negotiated(), memory).await;
            }
            Err(error) => {
                if let NegotiationError::Call(CallError::Refused(refusal)) = &error
                    && let Some(expected) = refusal.expected_time
                {
                    memory.clock_offset = Some(expected.saturating_sub(nanoseconds(Timestamp::now())));
                }
                memory.failing.get_or_insert_with(|| Arc::clone(&self.failing));
                memory.source.negotiation_failed(Timestamp::now(), Arc::strong_count(&self.failing) - 1);
                debug!(%destination, %error, "no token yet");
                self.note_failure(route, &error, memory).await;
            }
        }
    }

    async fn probe(&self, route: &OutboundRoute, token: &Token, memory: &mut Memory) {
        let outcome = self.client.probe(route, token).await;
        let now = Timestamp::now();
        memory.source.probed(outcome.as_ref().ok().copied(), now);
        if matches!(outcome, Ok(TokenState::TokenReady)) {
            let confirm = |status: &_| state::with_confirmed(status, token.revision, now);
            let confirmed = self.ledger.change_tokens(Direction::Outbound, &route.destination, confirm).await;
            if let Err(error) = confirmed {
                debug!(destination = %route.destination, %error, "cannot tell that the token is confirmed; retrying");
            }
        }
        match outcome {
            Ok(state) => {
                self.note(route, &Contact::probed(state, &route.destination, token.revision), memory).await;
            }
            Err(error) => return self.note_failure(route, &error.into(), memory).await,
        }
        if self.is_listed(&route.status.token_status) {
            self.try_data_path(route, token.revision, memory).await;
        }
    }

    /// Sends a request the way of applications' requests, whose gateway sends the token of `revision`.
    async fn try_data_path(&self, route: &OutboundRoute, revision: i64, memory: &mut Memory) {
        memory.tried = Some(revision);
        let answer = self.client.try_data_path(&route.destination).await;
        self.note(route, &Contact::data_path(&of_data_path(&answer, route)), memory).await;
    }

    /// Finds out why an exchange failed, and tells it; now and then only.
    async fn note_failure(&self, route: &OutboundRoute, error: &NegotiationError, memory: &mut Memory) {
        if memory.complained.is_some_and(|last| last.elapsed() < COMPLAINT_PERIOD) {
            return;
        }
        memory.complained = Some(Instant::now());
        let finding = match error {
            NegotiationError::Call(error) => diagnose(error, route).await,
            _ => None,
        };
        self.note(route, &Contact::failed(error, finding.as_ref()), memory).await;
    }

    /// Tells the route's status, and where something is wrong the log, what is new about `contact`.
    pub(super) async fn note(&self, route: &OutboundRoute, contact: &Contact, memory: &mut Memory) {
        let changes = contact.changes(&route.status);
        match contact.problem() {
            None => memory.complained = None,
            Some(problem) if !changes.is_empty() => {
                warn!(destination = %route.destination, problem, "the link to a destination fails; retrying");
            }
            Some(_) => {}
        }
        for change in changes {
            self.ledger.note(&route.object, change).await;
        }
    }
}

/// Waits until `time`, a change of the route or the next look at the clock, whatever comes first.
pub(super) async fn wait(time: Timestamp, changed: &Notify) {
    let duration = time.duration_since(Timestamp::now());
    let duration = Duration::try_from(duration).unwrap_or_default().min(CLOCK_CHECK);
    let _ = timeout(duration, changed.notified()).await;
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::handshake::tests::world::{ALICE, Source as Routes, identity, outbound, route};

    fn world() -> (Routes, Negotiation) {
        let (routes, ledger) = Routes::new("alice", &[route("alice", "bob")]);
        let gateway = SocketAddr::from(([127, 0, 0, 1], 1));
        let client = HandshakeClient { domain: identity("alice").domain, key: ALICE.clone(), gateway };
        let gateways = Gateways::new(ledger.snapshot()).0;
        let replicas = Replicas::alone("a".to_owned());
        (routes, Negotiation { client, gateways, ledger, replicas, failing: Arc::default() })
    }

    /// Tells that the peer failed with `message`, stores it, and answers how often it was written.
    async fn complain(
        negotiation: &Negotiation,
        routes: &mut Routes,
        memory: &mut Memory,
        message: &str,
    ) -> usize {
        let error = CallError::OtherDomain { expected: identity("bob").domain, actual: message.to_owned() };
        let snapshot = negotiation.ledger.snapshot();
        negotiation.note_failure(outbound(&snapshot), &error.into(), memory).await;
        stored(routes)
    }

    async fn tell(
        negotiation: &Negotiation,
        routes: &mut Routes,
        memory: &mut Memory,
        contact: &Contact,
    ) -> usize {
        let snapshot = negotiation.ledger.snapshot();
        negotiation.note(outbound(&snapshot), contact, memory).await;
        stored(routes)
    }

    fn stored(routes: &mut Routes) -> usize {
        let mut written = 0;
        while let Ok(update) = routes.updates.try_recv() {
            routes.store(&update);
            written += 1;
        }
        written
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_fails_differently_each_time_is_written_of_now_and_then() {
        let (mut routes, negotiation) = world();
        let mut memory = Memory::default();

        assert_eq!(complain(&negotiation, &mut routes, &mut memory, "port 1").await, 2);
        for port in 2..100 {
            let message = format!("port {port}");
            assert_eq!(complain(&negotiation, &mut routes, &mut memory, &message).await, 0, "{message}");
        }
        advance(COMPLAINT_PERIOD).await;
        assert_eq!(complain(&negotiation, &mut routes, &mut memory, "port 1").await, 0, "it is known");
        advance(COMPLAINT_PERIOD).await;
        assert_eq!(complain(&negotiation, &mut routes, &mut memory, "port 2").await, 1);
        assert_eq!(tell(&negotiation, &mut routes, &mut memory, &Contact::negotiated()).await, 2);
        assert_eq!(complain(&negotiation, &mut routes, &mut memory, "port 3").await, 2, "it was well before");
    }

    #[tokio::test]
    async fn routes_that_fail_are_counted_while_they_do() {
        let (mut routes, negotiation) = world();
        let snapshot = negotiation.ledger.snapshot();
        let error = || CallError::Internal("a test".to_owned()).into();
        let mut memories = [Memory::default(), Memory::default()];
        for memory in &mut memories {
            negotiation.note_negotiation(outbound(&snapshot), Err(error()), memory).await;
            negotiation.note_negotiation(outbound(&snapshot), Err(error()), memory).await;
        }
        assert_eq!(Arc::strong_count(&negotiation.failing), 3);
        let [mut first, second] = memories;
        negotiation.note_negotiation(outbound(&snapshot), Ok(1), &mut first).await;
        drop(second);
        assert_eq!(Arc::strong_count(&negotiation.failing), 1);
        while let Ok(update) = routes.updates.try_recv() {
            routes.store(&update);
        }
        assert!(outbound(&negotiation.ledger.snapshot()).status.is_destination_authorized);
    }
}
