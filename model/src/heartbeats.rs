//! Which gateways of a domain are alive.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How often a gateway writes its heartbeat (as Kuscia's).
pub const HEARTBEAT_PERIOD: Duration = Duration::from_secs(15);

/// How many ticks a gateway may be silent: two heartbeats may be lost, the third means that it is gone.
const SILENT_TICKS: u64 = 3;

/// How old a heartbeat may be that is the first one heard of a gateway (as Kuscia's). It compares the clocks of two
/// machines, so it is generous.
const OLDEST_FIRST_HEARTBEAT: SignedDuration = SignedDuration::from_mins(3);

/// The heartbeats of gateways, heard through a Kubernetes API server.
///
/// Silence is counted in ticks, not in seconds: whoever listens ticks once for each period in which it was sure to hear
/// others. So while the API server is away, nobody grows old, and no clock of another machine matters.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats {
    gateways: BTreeMap<String, Gateway>,
    ticks: u64,
}

#[derive(Clone, Debug)]
struct Gateway {
    heartbeat: Option<Timestamp>,
    /// The tick in which the heartbeat was heard; `None`: it was too old already.
    heard: Option<u64>,
}

impl Heartbeats {
    /// Nothing heard yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The gateway `name` says, at `now` by the listener's clock, that its last heartbeat was `heartbeat`. Answers
    /// whether that is news.
    pub fn heard(&mut self, name: &str, heartbeat: Option<Timestamp>, now: Timestamp) -> bool {
        let before = self.gateways.get(name);
        if before.is_some_and(|gateway| gateway.heartbeat == heartbeat) {
            return false;
        }
        let is_fresh = |heartbeat| now.duration_since(heartbeat) <= OLDEST_FIRST_HEARTBEAT;
        let counts = before.is_some() || heartbeat.is_some_and(is_fresh);
        let heard = counts.then_some(self.ticks);
        self.gateways.insert(name.to_owned(), Gateway { heartbeat, heard });
        true
    }

    /// The gateway `name` was removed.
    pub fn gone(&mut self, name: &str) {
        self.gateways.remove(name);
    }

    /// All gateways but these were removed.
    pub fn keep_only(&mut self, names: &BTreeSet<String>) {
        self.gateways.retain(|name, _| names.contains(name));
    }

    /// A period is over in which every live gateway was to be heard.
    pub fn tick(&mut self) {
        self.ticks += 1;
    }

    /// The names of the gateways that are alive.
    #[must_use]
    pub fn live(&self) -> BTreeSet<String> {
        let is_live = |gateway: &Gateway| gateway.heard.is_some_and(|tick| self.ticks - tick < SILENT_TICKS);
        let live = self.gateways.iter().filter(|(_, gateway)| is_live(gateway));
        live.map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
        names.map(str::to_owned).into()
    }

    #[test]
    fn a_gateway_that_misses_three_heartbeats_is_gone_until_it_is_heard_again() {
        let mut heartbeats = Heartbeats::new();
        for name in ["a", "b"] {
            assert!(heartbeats.heard(name, Some(at(1000)), at(1001)));
        }
        for round in 1..=3 {
            assert_eq!(heartbeats.live(), names(["a", "b"]), "round {round}");
            assert!(heartbeats.heard("a", Some(at(1000 + 15 * round)), at(1000 + 15 * round)));
            assert!(!heartbeats.heard("b", Some(at(1000)), at(1000 + 15 * round)), "that is no news");
            heartbeats.tick();
        }
        assert_eq!(heartbeats.live(), names(["a"]));
        assert!(heartbeats.heard("b", Some(at(1046)), at(1046)));
        assert_eq!(heartbeats.live(), names(["a", "b"]));
    }

    #[test]
    fn nobody_grows_old_while_nothing_can_be_heard() {
        let mut heartbeats = Heartbeats::new();
        heartbeats.heard("a", Some(at(1000)), at(1001));
        assert!(!heartbeats.heard("a", Some(at(1000)), at(9000)));
        assert_eq!(heartbeats.live(), names(["a"]));
    }

    #[test]
    fn what_is_left_of_a_gateway_that_went_long_ago_is_not_alive() {
        let mut heartbeats = Heartbeats::new();
        heartbeats.heard("old", Some(at(1000)), at(1181));
        heartbeats.heard("never", None, at(1181));
        heartbeats.heard("ahead", Some(at(2000)), at(1181));
        assert_eq!(heartbeats.live(), names(["ahead"]));
        heartbeats.heard("old", Some(at(1190)), at(9000));
        assert_eq!(heartbeats.live(), names(["ahead", "old"]), "its clock is behind, but it goes");
    }

    #[test]
    fn a_gateway_that_was_removed_is_forgotten() {
        let mut heartbeats = Heartbeats::new();
        for name in ["a", "b", "c"] {
            heartbeats.heard(name, Some(at(1000)), at(1000));
        }
        heartbeats.gone("a");
        heartbeats.keep_only(&names(["c"]));
        assert_eq!(heartbeats.live(), names(["c"]));
    }
}
