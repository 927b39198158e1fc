//! What is to be written back to an object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::ObjectRef;
use crate::api::{Condition, DomainRouteStatus, DomainRouteTokenStatus};

/// A change of the status of one `DomainRoute`.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusUpdate {
    /// The route.
    pub object: ObjectRef,
    /// The part of its status that changes.
    pub change: StatusChange,
}

/// The part of a route's status that one writer owns.
#[derive(Clone, Debug, PartialEq)]
pub enum StatusChange {
    /// One condition.
    Condition(Condition),
    /// The tokens, where nobody else has changed them meanwhile.
    Tokens {
        /// What the change was made from.
        before: Box<DomainRouteTokenStatus>,
        /// What takes its place.
        after: Box<DomainRouteTokenStatus>,
    },
    /// What the last contact with the destination showed.
    Destination {
        /// The destination knows this route and its keys.
        authorized: bool,
        /// The destination was not reached.
        unreachable: bool,
    },
}

impl StatusChange {
    /// Changes `status`; answers whether anything is different now. A condition's transition time is kept where its
    /// `status` stays the same. Tokens that are not what the change was made from stay what they are.
    pub fn apply(&self, status: &mut DomainRouteStatus) -> bool {
        match self {
            Self::Condition(condition) => apply_condition(condition, &mut status.conditions),
            Self::Tokens { before, after } => {
                let changes = status.token_status == **before && before != after;
                if changes {
                    status.token_status.clone_from(after);
                }
                changes
            }
            Self::Destination { authorized, unreachable } => {
                let before = (status.is_destination_authorized, status.is_destination_unreachable);
                status.is_destination_authorized = *authorized;
                status.is_destination_unreachable = *unreachable;
                before != (*authorized, *unreachable)
            }
        }
    }
}

fn apply_condition(new: &Condition, conditions: &mut Vec<Condition>) -> bool {
    let Some(old) = conditions.iter_mut().find(|old| old.type_ == new.type_) else {
        conditions.push(new.clone());
        return true;
    };
    let transition: Option<Time> = if old.status == new.status {
        old.last_transition_time.clone()
    } else {
        new.last_transition_time.clone()
    };
    let new = Condition { last_transition_time: transition, ..new.clone() };
    let changed = *old != new;
    *old = new;
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ConditionStatus, DomainRouteToken};

    fn accepted(status: ConditionStatus, message: &str, second: i64) -> StatusChange {
        StatusChange::Condition(Condition {
            type_: "Accepted".into(),
            status,
            reason: "Test".into(),
            message: message.into(),
            gateway: None,
            last_transition_time: Some(Time(jiff::Timestamp::from_second(second).expect("a time"))),
        })
    }

    fn tokens(revision: i64) -> DomainRouteTokenStatus {
        let revision_token = DomainRouteToken { revision, ..DomainRouteToken::default() };
        DomainRouteTokenStatus { revision_token, ..DomainRouteTokenStatus::default() }
    }

    #[test]
    fn tokens_that_another_writer_has_changed_stay() {
        let mut status = DomainRouteStatus { token_status: tokens(1), ..DomainRouteStatus::default() };
        let change = |before, after| StatusChange::Tokens {
            before: Box::new(tokens(before)),
            after: Box::new(tokens(after)),
        };
        assert!(!change(1, 1).apply(&mut status));
        assert!(change(1, 2).apply(&mut status));
        assert!(!change(1, 3).apply(&mut status));
        assert_eq!(status.token_status, tokens(2));
    }

    #[test]
    fn a_condition_keeps_its_transition_time_while_its_status_stays() {
        let mut status = DomainRouteStatus::default();
        assert!(accepted(ConditionStatus::True, "a", 1).apply(&mut status));
        assert!(!accepted(ConditionStatus::True, "a", 2).apply(&mut status));
        assert!(accepted(ConditionStatus::True, "b", 3).apply(&mut status));
        assert_eq!(status.conditions[0].last_transition_time.as_ref().map(|t| t.0.as_second()), Some(1));
        assert!(accepted(ConditionStatus::False, "b", 4).apply(&mut status));
        assert_eq!(status.conditions[0].last_transition_time.as_ref().map(|t| t.0.as_second()), Some(4));
        assert_eq!(status.conditions.len(), 1);
    }
}
