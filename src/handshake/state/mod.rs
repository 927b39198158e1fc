//! The life of a token as two state machines, one for each end of a route: decisions only, no clock, no network, no keys.
//!
//! What must outlive a restart stands in the route's status, one at each end, which the gateways of a domain share and
//! change one at a time. Each function here makes the next status of one.
//!
//! ```text
//!  source                                                  destination
//!  claimed by one gateway
//!     │ asks ────────────────────────────────────────────► offered: accepted by each gateway that lists itself,
//!     │                                                       │     beside the tokens before
//!  negotiated: sent by each gateway that lists itself  ◄──── ready: every live gateway accepts it
//!     │ shows it ────────────────────────────────────────►    │
//!  confirmed; renewed when its time comes               proven: the tokens before the last one may go
//! ```
//!
//! Three things hold, whatever is lost, repeated or restarted; the module `simulation` looks for a way
//! around them:
//!
//! - A token that a gateway of the source sends is accepted by every live gateway of the destination, unless the
//!   destination has lost its status or its key since the token was made.
//! - Once messages get through, both ends come to one token that is ready.
//! - No stranger makes the destination forget a token that the source sends.

mod destination;
mod source;

use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use model::api::{DomainRouteToken, DomainRouteTokenStatus, Time};

#[cfg(test)]
pub(super) use destination::EXPIRED_KEPT;
pub(super) use destination::{
    Expiry, Forgetting, Stale, TooManyUnproven, check_request_time, next_revision, reusable, standing,
    with_offered, with_proven, without_expired,
};
pub(super) use source::{
    Action, Source, View, end_of_life, next_request_time, with_claim, with_confirmed, with_negotiated,
};

/// Lifetime of a token that is never renewed, in hours: a hundred years (as Kuscia's).
const FOR_EVER_HOURS: i64 = 100 * 365 * 24;

/// The numbers that tokens have: those of Kuscia's wire, of which the last has no successor. With one token a second they
/// last for 68 years.
const REVISIONS: Range<i64> = 1..i32::MAX as i64;

/// The times of requests that can be true, in nanoseconds since the Unix epoch: up to the year 2242. After one of later, no
/// request would ever be new.
const REQUEST_TIMES: Range<i64> = 0..i64::MAX - 20 * 366 * 24 * 3600 * 1_000_000_000;

/// A new token, as it is stored.
#[derive(Clone)]
pub(super) struct NewToken {
    /// Encrypted with the storing domain's own key.
    pub(super) sealed: String,
    pub(super) revision: i64,
    pub(super) expires: Timestamp,
    /// When it was asked for by a signed request, in nanoseconds since the Unix epoch; `None`: by an unsigned one.
    pub(super) request_time: Option<i64>,
}

impl NewToken {
    fn stored(self, is_ready: bool, now: Timestamp) -> DomainRouteToken {
        DomainRouteToken {
            is_ready,
            token: self.sealed,
            revision: self.revision,
            revision_time: Some(Time(now)),
            expiration_time: Some(Time(self.expires)),
            heart_beat_time: None,
            effective_instances: Vec::new(),
            signed_request_time: self.request_time,
        }
    }
}

/// When the last signed handshake was asked for of which a status tells, in nanoseconds since the Unix epoch; `None`:
/// the other end has never signed.
pub(super) fn last_request_time(status: &DomainRouteTokenStatus) -> Option<i64> {
    all_tokens(status).filter_map(request_time).max()
}

/// When a signed request asked for a token, if that can be true.
fn request_time(token: &DomainRouteToken) -> Option<i64> {
    token.signed_request_time.filter(|time| REQUEST_TIMES.contains(time))
}

fn all_tokens(status: &DomainRouteTokenStatus) -> impl Iterator<Item = &DomainRouteToken> {
    status.tokens.iter().chain([&status.revision_token])
}

fn for_ever(now: Timestamp) -> Timestamp {
    now.checked_add(SignedDuration::from_hours(FOR_EVER_HOURS)).unwrap_or(Timestamp::MAX)
}

/// The time of a token's end, if it has one.
fn end(token: &DomainRouteToken) -> Option<Timestamp> {
    token.expiration_time.as_ref().map(|time| time.0)
}

/// When a token was made, if that is known.
fn begin(token: &DomainRouteToken) -> Option<Timestamp> {
    token.revision_time.as_ref().map(|time| time.0)
}

fn has_expired(token: &DomainRouteToken, now: Timestamp) -> bool {
    end(token).is_some_and(|end| end <= now)
}
