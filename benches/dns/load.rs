//! Queries of dnsperf.

use std::fs::File;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::contestants::Running;
use crate::table::Sorted;
use crate::{CLIENT, Failure, Place, names};

/// Queries that are under way at a time, where as many as possible are sent.
const UNDER_WAY: &str = "200";

/// Sockets that they come from.
const CLIENTS: &str = "8";

/// How queries are put.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) seconds: NonZeroU32,
    /// Queries a second; `None`: as many as possible.
    pub(crate) rate: Option<NonZeroU32>,
    /// Where the queries are.
    pub(crate) folder: &'a Path,
    pub(crate) place: Place,
}

/// What one load has shown.
pub(crate) struct Trial {
    /// Answers a second.
    pub(crate) rate: f64,
    /// Queries without an answer.
    pub(crate) lost: u64,
    /// Processor time of the server for a million answers, in seconds.
    pub(crate) cpu: f64,
    /// Times from query to answer; none where as many as possible are sent.
    pub(crate) times: Sorted,
}

impl Load<'_> {
    pub(crate) async fn put_on(&self, server: &Running) -> Result<Trial, Failure> {
        let before = server.cpu()?;
        let (times, report) = self.run(server).await?;
        let spent = server.cpu()? - before;
        let figure = |label: &str| -> Result<f64, Failure> {
            let line = report.iter().find_map(|line| line.trim().strip_prefix(label));
            let number =
                line.and_then(|rest| rest.split_whitespace().next()).ok_or("dnsperf shows no figures")?;
            Ok(number.parse()?)
        };
        let answered = figure("Queries completed:")?;
        Ok(Trial {
            rate: figure("Queries per second:")?,
            lost: figure("Queries lost:")? as u64,
            cpu: spent.as_secs_f64() * 1e6 / answered,
            times: Sorted::of(&times),
        })
    }

    /// Times of single queries, and the other lines that dnsperf prints.
    async fn run(&self, server: &Running) -> Result<(Vec<Duration>, Vec<String>), Failure> {
        let mut command = match self.place {
            Place::Free => Command::new("dnsperf"),
            Place::Pinned => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", &CLIENT.to_string(), "dnsperf"]);
                command
            }
        };
        command.args(["-f", "inet", "-c", CLIENTS, "-T", "1"]);
        command.args(["-s", &server.address.ip().to_string(), "-p", &server.address.port().to_string()]);
        command.args(["-l", &self.seconds.to_string(), "-q", UNDER_WAY]);
        command.arg("-d").arg(self.folder.join(names::QUERIES));
        if let Some(rate) = self.rate {
            command.args(["-v", "-Q", &rate.to_string()]);
        }
        // Into a file: reading along would take the time of the server's processor.
        let output = self.folder.join("dnsperf");
        let status = command.stdin(Stdio::null()).stdout(File::create(&output)?).status().await?;
        if !status.success() {
            return Err("dnsperf failed; see above".into());
        }
        let (mut times, mut others) = (Vec::new(), Vec::new());
        for line in std::fs::read_to_string(&output)?.lines() {
            // `> NOERROR service-1.alice.svc A 0.000042`
            match line.strip_prefix("> NOERROR ").and_then(|answer| answer.rsplit_once(' ')) {
                Some((_, seconds)) => times.push(Duration::from_secs_f64(seconds.parse()?)),
                // Lost: dnsperf counts those.
                None if line.starts_with("> T ") => {}
                None if line.starts_with("> ") => return Err(format!("a wrong answer: {line}").into()),
                None => others.push(line.to_owned()),
            }
        }
        Ok((times, others))
    }
}
