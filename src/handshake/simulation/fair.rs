//! Both ends left alone: every message gets through, and nothing breaks.

use model::api::DomainRouteTokenStatus;

use super::end::Gateway;
use super::{DESTINATION, Rules, SOURCE, Step, World};

/// Steps that both ends may take at one time. They come to rest long before.
const MOST_STEPS: usize = 500;

impl World {
    /// Repairs what is broken and lets time pass.
    pub(super) fn recover(&mut self, seconds: u64) {
        for end in [SOURCE, DESTINATION] {
            for gateway in 0..self.rules.gateways[end] {
                let known = &self.ends[end].gateways[gateway];
                match (known.is_alive, known.is_running) {
                    (false, _) => self.take(&Step::Revive { end, gateway }),
                    (true, false) => self.take(&Step::Start { end, gateway }),
                    (true, true) => {}
                }
            }
        }
        for _ in 0..seconds {
            self.settle_down();
            self.take(&Step::Pass { seconds: 1 });
        }
        self.settle_down();
    }

    /// Lets both ends do what there is to do now.
    pub(super) fn settle_down(&mut self) {
        for _ in 0..MOST_STEPS {
            // A call that was lost is given up; there is no need to wait for it.
            let lost = self.ends[SOURCE].gateways.iter().position(|gateway| gateway.call.is_some());
            let step =
                self.work().into_iter().next().or_else(|| lost.map(|gateway| Step::GiveUp { gateway }));
            let Some(step) = step else { return };
            self.take(&step);
        }
        panic!("both ends never come to rest: {self:#?}");
    }

    /// Every gateway of the source sends the newest token, and every gateway of the destination accepts it.
    pub(super) fn is_served(&self) -> Result<(), String> {
        let newest = self.ends[SOURCE].open(&self.ends[SOURCE].status.revision_token);
        let newest = newest.ok_or_else(|| format!("there is no token: {self:#?}"))?;
        let has_newest = |gateway: &Gateway| gateway.envoy.values().any(|secret| *secret == newest);
        let mut gateways = self.ends.iter().flat_map(|end| &end.gateways);
        match gateways.find(|gateway| !has_newest(gateway)) {
            Some(gateway) => Err(format!("{} has no token {newest}: {self:#?}", gateway.name)),
            None => Ok(()),
        }
    }

    /// The same, and both ends know it.
    pub(super) fn has_converged(&self) -> Result<(), String> {
        self.is_served()?;
        for end in &self.ends {
            let newest = &end.status.revision_token;
            let is_listed = end.live().iter().all(|name| newest.effective_instances.contains(name));
            if !newest.is_ready || newest.heart_beat_time.is_none() || !is_listed {
                return Err(format!("{newest:#?} is not settled"));
            }
        }
        let [source, destination] = self.ends.each_ref().map(|end| end.status.revision_token.revision);
        if source == destination { Ok(()) } else { Err(format!("revision {source} and {destination}")) }
    }
}

fn rules(is_signed: bool, gateways: [usize; 2]) -> Rules {
    Rules { is_signed, is_open: !is_signed, gateways, is_strict: true }
}

fn new_world(rules: Rules) -> World {
    World::new(rules, [DomainRouteTokenStatus::default(), DomainRouteTokenStatus::default()])
}

#[test]
fn both_ends_agree_at_once_and_renew_their_token_in_time() {
    for is_signed in [true, false] {
        let mut world = new_world(rules(is_signed, [2, 3]));
        world.settle_down();
        world.has_converged().expect("a first token");
        world.recover(1000);
        world.has_converged().expect("a token");
        assert_eq!(world.violation, None);
        let revision = world.ends[DESTINATION].status.revision_token.revision;
        assert!((10..=12).contains(&revision), "one each hundred seconds, not {revision}");
    }
}

#[test]
fn clocks_that_jump_cost_no_request() {
    for is_signed in [true, false] {
        for end in [SOURCE, DESTINATION] {
            for seconds in [-1_000_000, -600, -150, -20, 20, 150, 250, 600, 1_000_000] {
                let mut world = new_world(rules(is_signed, [2, 2]));
                world.recover(130);
                world.take(&Step::Jump { end, seconds });
                world.recover(500);
                assert_eq!(world.violation, None, "{is_signed} {end} {seconds}");
                world.has_converged().unwrap_or_else(|why| panic!("{is_signed} {end} {seconds}: {why}"));
            }
        }
    }
}

#[test]
fn lost_statuses_and_new_keys_heal() {
    let damage = |end| [Step::LoseStatus { end }, Step::ChangeKey { end }];
    for step in [SOURCE, DESTINATION].into_iter().flat_map(damage) {
        for is_signed in [true, false] {
            let mut world = new_world(rules(is_signed, [2, 2]));
            world.recover(130);
            world.take(&step);
            world.recover(20);
            world.has_converged().unwrap_or_else(|why| panic!("{step:?} {is_signed}: {why}"));
        }
    }
}
