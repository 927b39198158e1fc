//! Keeps the token of every route out of this domain fresh.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certs::PublicKey;
use jiff::Timestamp;
use model::{Direction, DomainId, OutboundAuth, OutboundRoute, Token};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::acceptance::{Acceptance, keep_accepted};
use super::client::{CallError, HandshakeClient};
use super::contact::{Contact, NegotiationError};
use super::ledger::Ledger;
use super::state::{self, Action, Source};
use super::supervisor::supervise;
use crate::app::Identity;
use crate::program::Gateways;
use crate::replicas::Replicas;

/// The longest time that is waited for a clock time; a clock that is set meanwhile is noticed after it.
pub(super) const CLOCK_CHECK: Duration = Duration::from_secs(5);

/// Time between two complaints about one route. A peer may fail in another way each time, and a complaint costs a
/// line in the log, a write to the source and a snapshot.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(5);

/// How long the gateways may take to learn of a new route before they are tried all the same.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(1);

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
                Direction::Outbound => negotiation.keep_fresh(&peer, &changed).await,
                Direction::Inbound => keep_accepted(&tokens, &peer, &changed).await,
            }
        }
    };
    supervise(snapshots, run, shutdown).await;
}

struct Negotiation {
    client: HandshakeClient,
    gateways: Gateways,
    ledger: Ledger,
    replicas: Replicas,
    /// Every route that fails holds a copy: so the count of references tells how many do.
    failing: Arc<()>,
}

/// What is remembered of one route between two attempts.
#[derive(Default)]
struct Memory {
    source: Source,
    /// The destination's key, once it is known.
    peer_key: Option<PublicKey>,
    /// A copy of [`Negotiation::failing`], while the route fails.
    failing: Option<Arc<()>>,
    /// When something wrong was last told, if nothing has gone well since.
    complained: Option<Instant>,
}

impl Negotiation {
    /// Returns once the route is gone. `changed` tells that it is to be looked at.
    async fn keep_fresh(&self, destination: &DomainId, changed: &Notify) {
        // Until then this domain's own gateway answers that there is no such service.
        let _ = timeout(GATEWAY_TIMEOUT, self.gateways.lead_to(destination)).await;
        let mut memory = Memory::default();
        let mut replicas = self.replicas.clone();
        loop {
            let route = self.ledger.snapshot().outbound.get(destination).cloned();
            let Some(route) = route else { return };
            let OutboundAuth::Token { settings, sending } = &route.auth else { return };
            if !self.replicas.is_chosen(&route.status.token_status.revision_initializer) {
                // Another gateway does it, and what this one remembers of it is soon out of date.
                memory = Memory::default();
                tokio::select! {
                    () = changed.notified() => {}
                    () = replicas.changed() => {}
                }
                continue;
            }
            if memory.peer_key.replace(settings.peer_key.clone()).is_some_and(|old| old != settings.peer_key)
            {
                memory.source.peer_changed();
            }
            // A token that cannot be opened any more is none.
            let tokens = sending.as_ref().map(|_| &route.status.token_status);
            match (memory.source.next(tokens, settings.rolling_update_period, Timestamp::now()), sending) {
                (Action::Wait(until), _) => wait(until, changed).await,
                (Action::Probe, Some(token)) => self.probe(&route, token, &mut memory).await,
                (Action::Negotiate | Action::Probe, _) => {
                    let outcome = self.negotiate(&route, &settings.peer_key, sending.as_ref()).await;
                    self.note_negotiation(&route, outcome, &mut memory).await;
                }
            }
        }
    }

    async fn negotiate(
        &self,
        route: &OutboundRoute,
        peer_key: &PublicKey,
        sending: Option<&Token>,
    ) -> Result<i64, NegotiationError> {
        let revision = sending.map_or(0, |token| token.revision);
        let new = self.client.negotiate(&route.destination, peer_key, revision, Timestamp::now()).await?;
        let sealed = self.client.key.public_key().seal(new.value.as_bytes());
        let sealed = sealed.map_err(|error| CallError::Internal(error.to_string()))?;
        let change = |status: &_| {
            let token =
                state::NewToken { sealed: sealed.clone(), revision: new.revision, expires: new.expires };
            Some(state::with_negotiated(status, token, self.replicas.own(), Timestamp::now()))
        };
        self.ledger.change_tokens(Direction::Outbound, &route.destination, change).await?;
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
                memory.source.negotiated(Timestamp::now());
                self.note(route, &Contact::negotiated(), memory).await;
            }
            Err(error) => {
                memory.failing.get_or_insert_with(|| Arc::clone(&self.failing));
                memory.source.negotiation_failed(Timestamp::now(), Arc::strong_count(&self.failing) - 1);
                debug!(%destination, %error, "no token yet");
                self.note(route, &Contact::failed(&error), memory).await;
            }
        }
    }

    async fn probe(&self, route: &OutboundRoute, token: &Token, memory: &mut Memory) {
        let outcome = self.client.probe(&route.destination, token.revision, &token.value).await;
        memory.source.probed(outcome.as_ref().ok().copied(), Timestamp::now());
        let contact = match outcome {
            Ok(state) => Contact::probed(state, &route.destination, token.revision),
            Err(error) => Contact::failed(&error.into()),
        };
        self.note(route, &contact, memory).await;
    }

    /// Tells the route's status, and where something is wrong the log, what is new about `contact`.
    async fn note(&self, route: &OutboundRoute, contact: &Contact, memory: &mut Memory) {
        let changes = contact.changes(&route.status);
        match contact.problem() {
            None => memory.complained = None,
            Some(_) if changes.is_empty() => return,
            Some(_) if memory.complained.is_some_and(|last| last.elapsed() < COMPLAINT_PERIOD) => return,
            Some(problem) => {
                memory.complained = Some(Instant::now());
                warn!(destination = %route.destination, problem, "the token is not confirmed; retrying");
            }
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
        let error = CallError::NoAnswer { destination: identity("bob").domain, cause: message.to_owned() };
        tell(negotiation, routes, memory, &Contact::failed(&error.into())).await
    }

    async fn tell(
        negotiation: &Negotiation,
        routes: &mut Routes,
        memory: &mut Memory,
        contact: &Contact,
    ) -> usize {
        let snapshot = negotiation.ledger.snapshot();
        negotiation.note(outbound(&snapshot), contact, memory).await;
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

        assert_eq!(complain(&negotiation, &mut routes, &mut memory, "port 1").await, 3);
        for port in 2..100 {
            let message = format!("port {port}");
            assert_eq!(complain(&negotiation, &mut routes, &mut memory, &message).await, 0, "{message}");
        }
        advance(COMPLAINT_PERIOD).await;
        assert_eq!(complain(&negotiation, &mut routes, &mut memory, "port 1").await, 0, "it is known");
        assert_eq!(complain(&negotiation, &mut routes, &mut memory, "port 2").await, 2);
        assert_eq!(tell(&negotiation, &mut routes, &mut memory, &Contact::negotiated()).await, 3);
        assert_eq!(complain(&negotiation, &mut routes, &mut memory, "port 3").await, 3, "it was well before");
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
