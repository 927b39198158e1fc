//! Worlds in which whatever can happens, from whatever statuses.
//!
//! `PROPTEST_CASES=100000 cargo test --release --lib simulation` looks longer.

use model::api::{DomainRouteToken, DomainRouteTokenStatus, Time};
use proptest::prelude::*;

use super::{Rules, SOURCE, Step, World};

const SECOND: i64 = 1_000_000_000;

/// What is chosen among what can happen, and how often.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Work(usize),
    Accident(usize),
    Pass(u64),
    Jump(usize, i64),
    LoseStatus(usize),
    ChangeKey(usize),
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        60 => any::<usize>().prop_map(Choice::Work),
        20 => any::<usize>().prop_map(Choice::Accident),
        15 => prop::sample::select(vec![1, 5, 16, 35, 55]).prop_map(Choice::Pass),
        2 => (0..2_usize, prop::sample::select(vec![-100_000, -700, -60, 60, 700, 100_000]))
            .prop_map(|(end, seconds)| Choice::Jump(end, seconds)),
        1 => (0..2_usize).prop_map(Choice::LoseStatus),
        1 => (0..2_usize).prop_map(Choice::ChangeKey),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    let kind = prop::sample::select(vec![(true, false), (true, true), (false, true)]);
    (kind, 1..3_usize, 1..4_usize).prop_map(|((is_signed, is_open), source, destination)| Rules {
        is_signed,
        is_open,
        gateways: [source, destination],
        is_strict: false,
    })
}

/// A status that nobody need have written.
fn status() -> impl Strategy<Value = DomainRouteTokenStatus> {
    let time = || prop::option::of(prop::sample::select(vec![0, 999_000, 999_999, 1_000_050, 9_000_000]));
    let revision = prop::sample::select(vec![
        i64::MIN,
        -1,
        0,
        1,
        2,
        3,
        7,
        i64::from(i32::MAX) - 1,
        i64::from(i32::MAX),
        i64::MAX,
    ]);
    let sealed = prop::sample::select(vec!["", "0:1", "0:2", "0:3", "0:9", "7:1", "garbage"]);
    let gateways = prop::sample::subsequence(
        vec!["source-0", "source-1", "destination-0", "destination-1", "stranger"],
        0..5,
    );
    let asked = prop::option::of(prop_oneof![0..2_000_000 * SECOND, (i64::MAX - 2)..=i64::MAX, Just(-1)]);
    let times = (time(), time(), time(), asked);
    let token = (any::<bool>(), sealed, revision, times, gateways).prop_map(
        |(is_ready, sealed, revision, (made, ends, used, asked), gateways)| {
            let time = |second: i64| Time(jiff::Timestamp::from_second(second).expect("a time"));
            DomainRouteToken {
                is_ready,
                token: sealed.to_owned(),
                revision,
                revision_time: made.map(time),
                expiration_time: ends.map(time),
                heart_beat_time: used.map(time),
                effective_instances: gateways.into_iter().map(str::to_owned).collect(),
                signed_request_time: asked,
            }
        },
    );
    let initializer = prop::sample::select(vec!["", "source-0", "source-1", "stranger"]);
    (initializer, token.clone(), prop::collection::vec(token, 0..5)).prop_map(
        |(initializer, revision_token, tokens)| DomainRouteTokenStatus {
            revision_initializer: initializer.to_owned(),
            revision_token,
            tokens,
        },
    )
}

fn statuses() -> impl Strategy<Value = [DomainRouteTokenStatus; 2]> {
    let nothing = || Just(DomainRouteTokenStatus::default());
    prop_oneof![[nothing(), nothing()], [status(), status()]]
}

impl World {
    /// Takes one of the steps that are possible.
    fn choose(&mut self, choice: Choice) -> Option<Step> {
        let pick = |steps: Vec<Step>, number: usize| steps.get(number.checked_rem(steps.len())?).cloned();
        let can_jump = |end: usize| self.is_at_rest() || end == SOURCE && self.nobody_is_behind();
        let step = match choice {
            Choice::Work(number) => pick(self.work(), number),
            Choice::Accident(number) => pick(self.accidents(), number),
            Choice::Pass(seconds) => self.can_pass(seconds).then_some(Step::Pass { seconds }),
            Choice::Jump(end, seconds) => can_jump(end).then_some(Step::Jump { end, seconds }),
            Choice::LoseStatus(end) => Some(Step::LoseStatus { end }),
            Choice::ChangeKey(end) => Some(Step::ChangeKey { end }),
        }?;
        self.take(&step);
        Some(step)
    }
}

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = default.cases.max(1000);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2000, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_happens_no_request_is_refused_and_both_ends_agree_in_the_end(
        rules in rules(),
        statuses in statuses(),
        choices in prop::collection::vec(choice(), 0..200),
    ) {
        let mut world = World::new(rules, statuses);
        let mut taken = Vec::new();
        for choice in choices {
            taken.extend(world.choose(choice));
            prop_assert!(world.violation.is_none(), "{:?} after {taken:#?}\n{world:#?}", world.violation);
        }
        // Strangers may have taken all places for a while.
        world.recover(120);
        if let Err(why) = world.is_served() {
            prop_assert!(false, "{why} after {taken:#?}");
        }
        // What was left behind goes with the next tokens.
        world.recover(250);
        if let Err(why) = world.has_converged() {
            prop_assert!(false, "{why} after {taken:#?}");
        }
    }
}
