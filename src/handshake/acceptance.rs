//! This gateway's part in making a token ready: a token is, once every live gateway of the destination accepts it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::api::DomainRouteTokenStatus;
use model::{Direction, DomainId, settle_tokens, with_listed};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::ledger::{Ledger, LedgerError};
use super::negotiate::{CLOCK_CHECK, wait};
use super::state::{self, Expiry, Forgetting};
use crate::program::Gateways;
use crate::replicas::Replicas;

/// How long the note of a proof may take to be stored.
const PROOF_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a token does not become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AcceptanceError {
    /// The tokens cannot be changed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A newer token took its place.
    #[error("a newer token took its place")]
    Replaced,
}

/// Accepts tokens from `source` with this gateway as soon as one is offered, and forgets expired ones. Returns once the
/// route is gone; `changed` tells that it is to be looked at.
pub(super) async fn keep_accepted(tokens: &Acceptance, source: &DomainId, changed: &Notify) {
    let mut replicas = tokens.replicas.clone();
    let mut expiry = Expiry::default();
    let begun = Instant::now();
    loop {
        let route = tokens.ledger.snapshot().inbound.get(source).cloned();
        let Some(route) = route else { return };
        let status = &route.status.token_status;
        let now = Timestamp::now();
        // One gateway forgets for all of them.
        let forgetting = if tokens.replicas.is_chosen("") {
            expiry.next(status, now, begun.elapsed())
        } else {
            expiry = Expiry::default();
            Forgetting::Nothing
        };
        let look_again = async {
            tokio::select! {
                () = changed.notified() => {}
                () = replicas.changed() => {}
                () = pause(&forgetting) => {}
            }
        };
        let outcome = if let Forgetting::Now(revisions) = &forgetting {
            tokens.forget(source, revisions, now).await
        } else if tokens.is_due(status) {
            tokens.settle(source).await
        } else if tokens.is_awaited(status) {
            tokio::select! {
                listed = tokens.list(source, status.revision_token.revision) => listed,
                () = look_again => Ok(()),
            }
        } else {
            look_again.await;
            Ok(())
        };
        if let Err(error) = outcome {
            warn!(%source, %error, "the tokens of a source are not up to date; retrying");
            expiry.troubled();
            wait(now + CLOCK_CHECK, changed).await;
        }
    }
}

/// Returns when it is time to look after expired tokens again. The clock may be set meanwhile.
async fn pause(forgetting: &Forgetting) {
    match forgetting {
        Forgetting::Wait(time) => sleep(CLOCK_CHECK.min(*time)).await,
        Forgetting::Nothing | Forgetting::Now(_) => std::future::pending().await,
    }
}

/// What it takes to agree on tokens.
#[derive(Clone)]
pub(crate) struct Acceptance {
    /// Where tokens are kept.
    pub(crate) ledger: Ledger,
    /// The Envoys of this gateway.
    pub(crate) gateways: Gateways,
    /// This gateway among those of its domain.
    pub(crate) replicas: Replicas,
}

impl Acceptance {
    /// Whether this gateway has to list itself for the newest of `tokens`.
    pub(super) fn is_awaited(&self, tokens: &DomainRouteTokenStatus) -> bool {
        let newest = &tokens.revision_token;
        !newest.is_ready && with_listed(tokens, newest.revision, self.replicas.own()).is_some()
    }

    /// Whether the newest of `tokens` is ready, but not marked so.
    pub(super) fn is_due(&self, tokens: &DomainRouteTokenStatus) -> bool {
        self.settled(tokens).is_some()
    }

    /// `tokens` once the newest is marked ready, if it is and this gateway can tell.
    ///
    /// Only one that is listed can: the Envoy of another may serve although it is not connected, as when its mesh was
    /// just started anew. That this gateway is alive, nobody has told it then.
    fn settled(&self, tokens: &DomainRouteTokenStatus) -> Option<DomainRouteTokenStatus> {
        let is_listed =
            tokens.revision_token.effective_instances.iter().any(|name| name == self.replicas.own());
        settle_tokens(tokens, &self.replicas.live()).filter(|_| is_listed)
    }

    /// Lists this gateway for the token of `revision` from `source` once its Envoys accept it. If it is the last one,
    /// the token is ready.
    ///
    /// # Errors
    /// The tokens cannot be changed.
    pub(super) async fn list(&self, source: &DomainId, revision: i64) -> Result<(), LedgerError> {
        let snapshot = self.ledger.snapshot();
        let route = snapshot.inbound.get(source);
        let token = route.and_then(|route| route.accepted().iter().find(|token| token.revision == revision));
        let Some(token) = token else {
            // It is gone, or cannot be opened; the next one takes its place.
            return std::future::pending().await;
        };
        self.gateways.accept_token(source, token).await;
        let change = |status: &_| {
            let listed = with_listed(status, revision, self.replicas.own());
            self.settled(listed.as_ref().unwrap_or(status)).or(listed)
        };
        self.ledger.change_tokens(Direction::Inbound, source, change).await.map(drop)
    }

    /// Marks the newest token from `source` ready, if it is: the gateways that were waited for may be gone.
    ///
    /// # Errors
    /// The tokens cannot be changed.
    pub(super) async fn settle(&self, source: &DomainId) -> Result<(), LedgerError> {
        let change = |status: &_| self.settled(status);
        self.ledger.change_tokens(Direction::Inbound, source, change).await.map(drop)
    }

    /// Notes that the source proved that it has the token of `revision`, if that is not known yet.
    pub(crate) async fn note_proof(&self, source: &DomainId, revision: i64) {
        let change = |status: &_| state::with_proven(status, revision, Timestamp::now());
        let noted = self.ledger.change_tokens(Direction::Inbound, source, change);
        let noted = timeout(PROOF_TIMEOUT, noted).await.unwrap_or(Err(LedgerError::NotStored));
        if let Err(error) = noted {
            debug!(%source, revision, %error, "proof of a token not stored; its next use repeats it");
        }
    }

    /// Forgets those of the tokens with these numbers that have expired.
    async fn forget(
        &self,
        source: &DomainId,
        revisions: &BTreeSet<i64>,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let change = |status: &_| state::without_expired(status, revisions, now);
        self.ledger.change_tokens(Direction::Inbound, source, change).await.map(drop)
    }

    /// Returns once the token of `revision` from `source`, which is the newest, is ready.
    ///
    /// # Errors
    /// It will never be, or cannot be marked.
    pub(super) async fn completed(&self, source: &DomainId, revision: i64) -> Result<(), AcceptanceError> {
        self.list(source, revision).await?;
        let mut snapshots = self.ledger.snapshots();
        let mut replicas = self.replicas.clone();
        loop {
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            let route = snapshot.inbound.get(source).ok_or(LedgerError::RouteGone)?;
            let newest = &route.status.token_status.revision_token;
            if newest.revision != revision {
                return Err(AcceptanceError::Replaced);
            }
            if newest.is_ready {
                return Ok(());
            }
            if self.is_due(&route.status.token_status) {
                self.settle(source).await?;
                continue;
            }
            tokio::select! {
                changed = snapshots.changed() => changed.map_err(|_| LedgerError::NotStored)?,
                () = replicas.changed() => {}
            }
        }
    }
}
