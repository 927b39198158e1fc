//! Every order of few events.

use model::api::DomainRouteTokenStatus;
use stateright::{Checker as _, Model, Property};

use super::{Rules, Step, World};

/// Worlds that begin with an agreed token or with none, and in which at most so many things happen.
struct Everything {
    rules: Rules,
    /// Accidents, and times that pass.
    accidents: usize,
    /// Steps in all.
    steps: usize,
}

#[derive(Clone, Debug, PartialEq, Hash)]
struct State {
    world: World,
    accidents: usize,
    steps: usize,
}

impl Model for Everything {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let nothing = [DomainRouteTokenStatus::default(), DomainRouteTokenStatus::default()];
        let new = World::new(self.rules, nothing);
        let mut agreed = new.clone();
        agreed.settle_down();
        // The token is to be renewed now.
        agreed.take(&Step::Pass { seconds: 100 });
        [new, agreed].map(|world| State { world, accidents: 0, steps: 0 }).into()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps.extend(state.world.work());
        if state.accidents < self.accidents {
            steps.extend(state.world.accidents());
            steps.extend(state.world.can_pass(16).then_some(Step::Pass { seconds: 16 }));
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut world = state.world.clone();
        let is_work = world.work().contains(&step);
        world.take(&step);
        Some(State { world, accidents: state.accidents + usize::from(!is_work), steps: state.steps + 1 })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("no request is refused", |_, state: &State| state.world.violation.is_none())]
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.steps <= self.steps
    }
}

fn check([is_signed, is_open]: [bool; 2], gateways: [usize; 2], accidents: usize, steps: usize) {
    let rules = Rules { is_signed, is_open, gateways, is_strict: true };
    let checked = Everything { rules, accidents, steps }.checker().spawn_bfs().join();
    checked.assert_properties();
    assert!(checked.unique_state_count() > 1000, "{}", checked.unique_state_count());
}

#[test]
fn no_order_of_two_accidents_costs_a_request() {
    check([true, false], [1, 2], 2, 16);
    check([true, true], [1, 1], 2, 16);
    check([false, true], [2, 1], 2, 16);
}

/// Some minutes: `cargo test --release --lib simulation -- --ignored`.
#[test]
#[ignore = "takes some minutes in a release build"]
fn no_order_of_three_accidents_costs_a_request() {
    for kind in [[true, false], [true, true], [false, true]] {
        check(kind, [2, 2], 3, 22);
    }
}
