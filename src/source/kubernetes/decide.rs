//! Which of the wanted changes of a status are written now, which wait, and which are done with. No clock, no network.
//!
//! Several gateways of a domain write the same status. Each part of it has one writer at a time:
//! - `Accepted` follows from the spec alone, so every gateway wants the same; the lead, the first of the live ones by
//!   name, writes it. So two versions of this program never fight.
//! - A condition that is `False` because of one gateway stays so while that gateway is alive and says nothing else.
//! - Everything else is wanted by one gateway only.

use std::collections::BTreeSet;

use model::StatusChange;
use model::api::{Condition, ConditionStatus, DomainRouteStatus};
use tokio::time::Instant;

use super::routes::{KnownRoute, Wish, Wishes};

/// The condition that the lead writes.
const OF_THE_LEAD: &str = "Accepted";

/// This gateway among the live ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Role<'a> {
    /// This gateway.
    pub(super) own: &'a str,
    /// Those that are alive.
    pub(super) live: &'a BTreeSet<String>,
}

impl Role<'_> {
    fn is_lead(&self) -> bool {
        self.live.first().is_none_or(|first| first == self.own)
    }

    /// Whether another gateway that is alive says that this condition does not hold.
    fn belongs_to_another(&self, shown: &Condition) -> bool {
        let gateway = shown.gateway.as_ref().filter(|_| shown.status == ConditionStatus::False);
        gateway.is_some_and(|gateway| gateway != self.own && self.live.contains(gateway))
    }
}

/// What becomes of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is fulfilled, or overtaken.
    Done,
    /// It is not its turn.
    Waits,
    /// It is to be written.
    Due,
}

/// The status to write to `known`, if any wish is due. Forgets the wishes that are done with.
pub(super) fn status_to_write(
    known: &KnownRoute,
    wishes: &mut Wishes,
    role: Role<'_>,
    now: Instant,
) -> Option<DomainRouteStatus> {
    let mut status = known.status.clone();
    let mut is_due = false;
    wishes.0.retain(|_, wish| match verdict(wish, known, role, now) {
        Verdict::Done => false,
        Verdict::Waits => true,
        Verdict::Due => {
            is_due |= wish.change.apply(&mut status);
            true
        }
    });
    is_due.then_some(status)
}

fn verdict(wish: &Wish, known: &KnownRoute, role: Role<'_>, now: Instant) -> Verdict {
    // Tokens that are not what the change was made from are not changed, either.
    let changes_something = wish.change.apply(&mut known.status.clone());
    if !changes_something || wish.until.is_some_and(|until| until <= now) {
        return Verdict::Done;
    }
    let StatusChange::Condition(condition) = &wish.change else { return Verdict::Due };
    if condition.type_ == OF_THE_LEAD {
        return match (wish.generation == known.generation, role.is_lead()) {
            (false, _) => Verdict::Done,
            (true, false) => Verdict::Waits,
            (true, true) => Verdict::Due,
        };
    }
    let shown = known.status.conditions.iter().find(|shown| shown.type_ == condition.type_);
    if shown.is_some_and(|shown| role.belongs_to_another(shown)) { Verdict::Waits } else { Verdict::Due }
}
