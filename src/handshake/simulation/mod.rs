//! Both ends of a route and a network between them, in which everything happens that can: messages are lost, repeated and
//! overtaken, gateways crash, die and come back, clocks jump, statuses and keys are lost, strangers ask for tokens.
//!
//! The decisions are those of [`state`](super::state); only what carries them out is made up. What the real source,
//! gateways and ledger do in one piece is one [`Step`] here.
//!
//! Taken for granted, as by the real ones: a gateway that is alive takes its configuration within a minute, or else counts
//! as dead (three lost heartbeats are 45 seconds); a call is given up after 35 seconds; and within a minute of getting a token
//! the source gets through with it once, by the destination's clock, be it with a probe or with an application's request.

mod end;
mod exhaustive;
mod fair;
mod random;
mod steps;
mod world;

use steps::{Fate, Step};
use world::{DESTINATION, Rules, SOURCE, World};
