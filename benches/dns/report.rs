//! The tables.

use std::time::Duration;

use crate::Round;
use crate::contestants::Contestant;
use crate::load::Trial;
use crate::statistics::{median, spread};
use crate::table::{self, grouped};

const RATIO_DIGITS: usize = 2;

/// `place` says where the servers and their client ran.
pub(crate) fn print(contestants: &[Contestant], rounds: &[(Contestant, Round)], place: &str) {
    let of = |contestant, figure: &dyn Fn(&Round) -> f64| {
        median(rounds.iter().filter(|(who, _)| *who == contestant).map(|(_, round)| figure(round)).collect())
    };
    let rate: &dyn Fn(&Round) -> f64 = &|round| round.full.rate;
    let cpu: &dyn Fn(&Round) -> f64 = &|round| round.full.cpu;
    let ours = Contestant::Networkmesh;
    let header = [
        "server",
        "queries/s",
        "lost",
        "networkmesh / this",
        "CPU s per million",
        "networkmesh / this",
        "MB at rest",
        "MB after",
    ];
    let rows = contestants.iter().map(|&contestant| {
        vec![
            contestant.name().to_owned(),
            grouped(of(contestant, rate) as u64),
            grouped(of(contestant, &|round| round.full.lost as f64) as u64),
            ratios(rounds, ours, contestant, rate),
            format!("{:.2}", of(contestant, cpu)),
            ratios(rounds, ours, contestant, cpu),
            format!("{:.1}", of(contestant, &|round| round.memory_at_rest)),
            format!("{:.1}", of(contestant, &|round| round.memory)),
        ]
    });
    table::print(&format!("As many queries as possible; {place}"), &header, &rows.collect::<Vec<_>>());

    let header = [
        "server",
        "answers/s",
        "CPU s per million",
        "p50 µs",
        "p99 µs",
        "p50 µs while changing",
        "p99 µs while changing",
        "p99 changing / still",
    ];
    let rows = contestants.iter().map(|&contestant| {
        let changing = |figure: &dyn Fn(&Trial) -> f64| {
            let figures = rounds.iter().filter(|(who, _)| *who == contestant);
            let figures: Vec<_> =
                figures.filter_map(|(_, round)| round.changing.as_ref().map(figure)).collect();
            if figures.is_empty() { String::new() } else { format!("{:.0}", median(figures)) }
        };
        let rises = rounds.iter().filter(|(who, _)| *who == contestant).filter_map(|(_, round)| {
            Some(micros(round.changing.as_ref()?.times.p99) / micros(round.paced.times.p99))
        });
        vec![
            contestant.name().to_owned(),
            grouped(of(contestant, &|round| round.paced.rate) as u64),
            format!("{:.2}", of(contestant, &|round| round.paced.cpu)),
            format!("{:.0}", of(contestant, &|round| micros(round.paced.times.median))),
            format!("{:.0}", of(contestant, &|round| micros(round.paced.times.p99))),
            changing(&|trial| micros(trial.times.median)),
            changing(&|trial| micros(trial.times.p99)),
            spread(rises.collect(), RATIO_DIGITS),
        ]
    });
    table::print(&format!("At a fixed rate; {place}"), &header, &rows.collect::<Vec<_>>());
}

/// The median of what the rounds say of one beside another, and in brackets the least and the most.
fn ratios(
    rounds: &[(Contestant, Round)],
    one: Contestant,
    other: Contestant,
    figure: &dyn Fn(&Round) -> f64,
) -> String {
    let of =
        |who| rounds.iter().filter(move |(contestant, _)| *contestant == who).map(|(_, round)| figure(round));
    spread(of(one).zip(of(other)).map(|(one, other)| one / other).collect(), RATIO_DIGITS)
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
