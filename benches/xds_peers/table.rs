//! What the contestants cost, in tables for people.

use std::time::Duration;

use crate::common::table::{Sorted, grouped, milliseconds, print};

/// What one kind of change cost a contestant.
pub(crate) struct Figures {
    pub(crate) contestant: &'static str,
    /// From the start of a change until the client had the response; empty where the client does not tell.
    pub(crate) received: Vec<Duration>,
    /// From the start of a change until its ACK.
    pub(crate) acked: Vec<Duration>,
    /// Per change.
    pub(crate) server_cpu: Duration,
    /// Per change; `None` where the client is in this process.
    pub(crate) client_cpu: Option<Duration>,
    /// Per change.
    pub(crate) bytes: u64,
}

impl Figures {
    fn cells(&self, first: &Self) -> Vec<String> {
        let (received, acked) = (Sorted::of(&self.received), Sorted::of(&self.acked));
        let base = Sorted::of(&first.acked);
        let told = |time| if self.received.is_empty() { nothing() } else { milliseconds(time) };
        vec![
            self.contestant.to_owned(),
            told(received.median),
            told(received.p99),
            milliseconds(acked.median),
            milliseconds(acked.p99),
            ratio(acked.median, base.median),
            milliseconds(self.server_cpu),
            ratio(self.server_cpu, first.server_cpu),
            self.client_cpu.map_or_else(nothing, milliseconds),
            grouped(self.bytes),
            times(self.bytes as f64, first.bytes as f64),
        ]
    }
}

/// How long a kind of change took until its ACK.
pub(crate) struct Median {
    /// The client and the kind of change.
    pub(crate) title: String,
    pub(crate) contestant: &'static str,
    pub(crate) services: usize,
    pub(crate) acked: Duration,
}

/// The median.
pub(crate) fn median(times: &[Duration]) -> Duration {
    Sorted::of(times).median
}

/// Prints what one kind of change cost everybody, and how many times what it cost the first.
pub(crate) fn print_changes(title: &str, rows: &[Figures]) {
    let header =
        ["", "received ms", "p99", "ACK ms", "p99", "×", "server CPU ms", "×", "Envoy CPU ms", "bytes", "×"];
    let Some(first) = rows.first() else { return };
    print(title, &header, &rows.iter().map(|row| row.cells(first)).collect::<Vec<_>>());
}

/// Prints how the time until the ACK grows with the number of services.
pub(crate) fn print_growth(medians: &[Median]) {
    let mut sizes: Vec<_> = medians.iter().map(|median| median.services).collect();
    sizes.sort_unstable();
    sizes.dedup();
    if sizes.len() < 2 {
        return;
    }
    let mut titles: Vec<_> = medians.iter().map(|median| median.title.as_str()).collect();
    titles.sort_unstable();
    titles.dedup();
    let header: Vec<_> = sizes.iter().map(|size| format!("{} ms", grouped(*size as u64))).collect();
    let header: Vec<_> = [""].into_iter().chain(header.iter().map(String::as_str)).chain(["×"]).collect();
    for title in titles {
        let mut rows: Vec<(&str, Vec<Duration>)> = Vec::new();
        for median in medians.iter().filter(|median| median.title == title) {
            match rows.iter_mut().find(|(contestant, _)| *contestant == median.contestant) {
                Some((_, times)) => times.push(median.acked),
                None => rows.push((median.contestant, vec![median.acked])),
            }
        }
        let cells = |(contestant, times): &(&str, Vec<Duration>)| {
            let growth =
                times.last().zip(times.first()).map_or_else(nothing, |(last, first)| ratio(*last, *first));
            let times = times.iter().map(|time| milliseconds(*time));
            [(*contestant).to_owned()].into_iter().chain(times).chain([growth]).collect()
        };
        print(
            &format!("Median until the ACK, by services; {title}"),
            &header,
            &rows.iter().map(cells).collect::<Vec<_>>(),
        );
    }
}

pub(crate) fn ratio(value: Duration, base: Duration) -> String {
    times(value.as_secs_f64(), base.as_secs_f64())
}

/// How many times the base a value is.
pub(crate) fn times(value: f64, base: f64) -> String {
    match value / base {
        ratio if !ratio.is_finite() => nothing(),
        ratio if ratio < 10.0 => format!("{ratio:.1}"),
        ratio => format!("{ratio:.0}"),
    }
}

/// What stands where there is no figure.
pub(crate) fn nothing() -> String {
    "–".to_owned()
}
