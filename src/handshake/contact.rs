//! What an exchange with a destination showed, as the route's status tells it.

use jiff::Timestamp;
use model::api::{Condition, ConditionStatus, DomainRouteStatus, Time};
use model::{DomainId, StatusChange};
use proto::handshake::TokenState;

use super::client::CallError;
use super::ledger::LedgerError;

/// Why a route has no new token.
#[derive(Debug, thiserror::Error)]
pub(super) enum NegotiationError {
    /// None came.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It came, and is lost.
    #[error("the token could not be kept: {0}")]
    Ledger(#[from] LedgerError),
}

/// What an exchange with a destination showed.
pub(super) struct Contact {
    unreachable: bool,
    reason: &'static str,
    problem: Option<String>,
}

impl Contact {
    /// The destination gave a new token.
    pub(super) fn negotiated() -> Self {
        Self { unreachable: false, reason: "TokenNegotiated", problem: None }
    }

    /// No new token, or no answer to a probe.
    pub(super) fn failed(error: &NegotiationError) -> Self {
        let (unreachable, reason) = match error {
            NegotiationError::Call(call) => (call.is_unreachable(), call.reason()),
            NegotiationError::Ledger(_) => (false, "TokenNotStored"),
        };
        Self { unreachable, reason, problem: Some(error.to_string()) }
    }

    /// The destination answered a probe of `revision`.
    pub(super) fn probed(state: TokenState, destination: &DomainId, revision: i64) -> Self {
        let (reason, problem) = match state {
            TokenState::TokenReady => ("TokenReady", None),
            TokenState::NoAuthentication => (
                "RouteMissing",
                Some(format!("{destination} has no route from this domain; it must add one")),
            ),
            TokenState::TokenNotFound => {
                let problem = format!("{destination} does not know revision {revision}; negotiating anew");
                ("TokenUnknown", Some(problem))
            }
            other => ("TokenNotReady", Some(format!("{destination} says {other:?} of revision {revision}"))),
        };
        Self { unreachable: false, reason, problem }
    }

    /// What is wrong, for people.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// What `status` does not say yet.
    pub(super) fn changes(&self, status: &DomainRouteStatus) -> Vec<StatusChange> {
        let unreached = self.problem().filter(|_| self.unreachable);
        let reached = if self.unreachable { self.reason } else { "Answered" };
        let changes = [
            StatusChange::Condition(condition("Reachable", reached, unreached)),
            StatusChange::Condition(condition("Authenticated", self.reason, self.problem())),
            StatusChange::Destination { authorized: self.problem.is_none(), unreachable: self.unreachable },
        ];
        changes.into_iter().filter(|change| change.apply(&mut status.clone())).collect()
    }
}

fn condition(type_: &str, reason: &str, problem: Option<&str>) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: if problem.is_none() { ConditionStatus::True } else { ConditionStatus::False },
        reason: reason.to_owned(),
        message: problem.unwrap_or_default().to_owned(),
        gateway: None,
        last_transition_time: Some(Time(Timestamp::now())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bob() -> DomainId {
        "bob".parse().expect("a domain ID")
    }

    fn after(contact: &Contact, status: &DomainRouteStatus) -> DomainRouteStatus {
        let mut status = status.clone();
        for change in contact.changes(&status.clone()) {
            assert!(change.apply(&mut status), "{change:?} changes nothing");
        }
        status
    }

    fn shown(status: &DomainRouteStatus) -> Vec<(&str, ConditionStatus, &str)> {
        let conditions = status.conditions.iter();
        conditions.map(|known| (known.type_.as_str(), known.status, known.reason.as_str())).collect()
    }

    #[test]
    fn an_unreachable_destination_is_neither_reachable_nor_authenticated() {
        let error = CallError::NoAnswer { destination: bob(), cause: "it hangs".to_owned() };
        let status = after(&Contact::failed(&error.into()), &DomainRouteStatus::default());
        let expected = [
            ("Reachable", ConditionStatus::False, "DestinationUnreachable"),
            ("Authenticated", ConditionStatus::False, "DestinationUnreachable"),
        ];
        assert_eq!(shown(&status), expected);
        assert!(status.is_destination_unreachable && !status.is_destination_authorized);
    }

    #[test]
    fn a_destination_that_refuses_is_reachable() {
        let contact = Contact::probed(TokenState::NoAuthentication, &bob(), 3);
        let status = after(&contact, &DomainRouteStatus::default());
        let expected = [
            ("Reachable", ConditionStatus::True, "Answered"),
            ("Authenticated", ConditionStatus::False, "RouteMissing"),
        ];
        assert_eq!(shown(&status), expected);
        assert!(!status.is_destination_unreachable && !status.is_destination_authorized);
    }

    #[test]
    fn what_the_status_says_already_is_no_change() {
        let status = after(&Contact::negotiated(), &DomainRouteStatus::default());
        assert!(status.is_destination_authorized);
        assert_eq!(Contact::negotiated().changes(&status), []);
        let ready = Contact::probed(TokenState::TokenReady, &bob(), 1);
        assert_eq!(ready.changes(&status).len(), 1, "only the reason differs");
    }
}
