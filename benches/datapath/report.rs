//! The tables.

use std::time::Duration;

use crate::load::{Body, Load, Outcome};
use crate::statistics::{median, spread};
use crate::table::{Sorted, grouped, milliseconds, print};

/// What one trial has shown.
pub(crate) struct Trial {
    /// Answers a second.
    rate: f64,
    times: Sorted,
    /// Processor time of each gateway for one request, in microseconds.
    cpu: [f64; 2],
}

impl Trial {
    /// `before` and `after`: processor time of the gateways.
    pub(crate) fn new(outcome: &Outcome, before: [Duration; 2], after: [Duration; 2]) -> Self {
        let requests = outcome.times.len() as f64;
        let cpu = [0, 1].map(|gateway| (after[gateway] - before[gateway]).as_secs_f64() * 1e6 / requests);
        Self { rate: outcome.rate, times: Sorted::of(&outcome.times), cpu }
    }

    fn whole_cpu(&self) -> f64 {
        self.cpu.iter().sum()
    }
}

/// Trials of one load with so many sources: of plain gateways, of those that do no more than the wire asks for, and of
/// those with meshes.
pub(crate) struct Series {
    pub(crate) sources: usize,
    pub(crate) load: Load,
    pub(crate) plain: Vec<Trial>,
    pub(crate) wire: Vec<Trial>,
    pub(crate) mesh: Vec<Trial>,
}

impl Series {
    fn title(&self) -> Vec<String> {
        let body = match self.load.body {
            Body::Small => "200 B",
            Body::Large => "64 KiB",
        };
        let rate = self.load.rate.map_or_else(|| "full".to_owned(), |rate| grouped(u64::from(rate.get())));
        let protocol = self.load.protocol.name().to_owned();
        vec![protocol, body.to_owned(), rate, grouped(self.sources as u64)]
    }
}

/// The median of what `ratio` says of trials of the same round, and in brackets the least and the most.
fn ratios(ones: &[Trial], others: &[Trial], ratio: impl Fn(&Trial, &Trial) -> f64) -> String {
    spread(ones.iter().zip(others).map(|(one, other)| ratio(one, other)).collect(), 3)
}

/// Meshes beside plain gateways.
pub(crate) fn compared(series: &[Series]) {
    let header = [
        "protocol",
        "answer",
        "requests/s",
        "sources",
        "plain req/s",
        "mesh req/s",
        "mesh / plain",
        "wire / plain",
        "mesh / wire",
        "plain CPU µs: alice",
        "bob",
        "mesh CPU µs: alice",
        "bob",
        "plain / mesh CPU",
        "plain / wire CPU",
        "wire / mesh CPU",
    ];
    let rows = series.iter().map(|series| {
        let rate = |trials| format!("{:.0}", of(trials, |trial| trial.rate));
        let cpu = |trials, gateway: usize| format!("{:.1}", of(trials, |trial| trial.cpu[gateway]));
        let (plain, wire, mesh) = (&series.plain[..], &series.wire[..], &series.mesh[..]);
        let rates = |one: &Trial, other: &Trial| one.rate / other.rate;
        let times = |one: &Trial, other: &Trial| one.whole_cpu() / other.whole_cpu();
        let figures = vec![
            rate(plain),
            rate(mesh),
            ratios(mesh, plain, rates),
            ratios(wire, plain, rates),
            ratios(mesh, wire, rates),
            cpu(plain, 0),
            cpu(plain, 1),
            cpu(mesh, 0),
            cpu(mesh, 1),
            ratios(plain, mesh, times),
            ratios(plain, wire, times),
            ratios(wire, mesh, times),
        ];
        [series.title(), figures].concat()
    });
    print("Requests", &header, &rows.collect::<Vec<_>>());
    let header = [
        "protocol",
        "answer",
        "requests/s",
        "sources",
        "plain p50 ms",
        "mesh p50 ms",
        "plain p99 ms",
        "mesh p99 ms",
    ];
    let rows = series.iter().map(|series| {
        let both = [&series.plain, &series.mesh];
        let medians = both.map(|trials| middle(trials, |trial| trial.times.median));
        let ends = both.map(|trials| middle(trials, |trial| trial.times.p99));
        [series.title(), medians.to_vec(), ends.to_vec()].concat()
    });
    print("Times, medians of the rounds", &header, &rows.collect::<Vec<_>>());
}

/// What is left of a request's cost when one part after the other is left out.
pub(crate) fn ladder(load: Load, contestants: &[(&str, Vec<Trial>)]) {
    let header = ["gateways", "requests/s", "CPU µs: alice", "bob", "both", "less by", "plain / this"];
    let both = |trials: &[Trial]| of(trials, Trial::whole_cpu);
    let plain = contestants.last().map(|(_, trials)| both(trials)).unwrap_or_default();
    let mut before = None;
    let rows = contestants.iter().map(|(name, trials)| {
        let cpu = both(trials);
        let less = before.replace(cpu).map_or(String::new(), |before: f64| format!("{:+.1}", before - cpu));
        vec![
            (*name).to_owned(),
            format!("{:.0}", of(trials, |trial| trial.rate)),
            format!("{:.1}", of(trials, |trial| trial.cpu[0])),
            format!("{:.1}", of(trials, |trial| trial.cpu[1])),
            format!("{cpu:.1}"),
            less,
            format!("{:.3}", plain / cpu),
        ]
    });
    print(load.protocol.name(), &header, &rows.collect::<Vec<_>>());
}

/// Instructions of a request by HTTP/1.1 and HTTP/2, in the gateways of alice and bob.
pub(crate) fn instructions(rows: &[(String, [[f64; 2]; 2])]) {
    let header = [
        "gateways, thousands",
        "HTTP/1.1: alice",
        "bob",
        "both",
        "plain / this",
        "HTTP/2: alice",
        "bob",
        "both",
        "plain / this",
    ];
    let plain =
        rows.last().map(|(_, counts)| counts.map(|both| both.iter().sum::<f64>())).unwrap_or_default();
    let rows = rows.iter().map(|(name, counts)| {
        let figures = counts.iter().zip(plain).flat_map(|(both, plain)| {
            let sum: f64 = both.iter().sum();
            let thousands = [both[0], both[1], sum].map(|count| format!("{:.0}", count / 1000.0));
            thousands.into_iter().chain([format!("{:.2}", plain / sum)])
        });
        [name.clone()].into_iter().chain(figures).collect()
    });
    print("Instructions of a request", &header, &rows.collect::<Vec<Vec<String>>>());
}

fn of(trials: &[Trial], figure: impl Fn(&Trial) -> f64) -> f64 {
    median(trials.iter().map(figure).collect())
}

fn middle(trials: &[Trial], figure: impl Fn(&Trial) -> Duration) -> String {
    milliseconds(Sorted::of(&trials.iter().map(figure).collect::<Vec<_>>()).median)
}
