//! The load, which h2load makes.

use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::{Failure, OTHERS};

/// The host that all requests are for.
pub(crate) const HOST: &str = "web.bob.svc";

/// Connections are made, and a first token is noted as used, before figures are taken.
pub(crate) const WARM_UP: NonZeroU32 = NonZeroU32::MIN;

const REMEDY: &str = "install it (Debian: apt-get install nghttp2-client)";

/// What h2load sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) protocol: Protocol,
    pub(crate) body: Body,
    /// Requests a second; `None`: as many as are answered.
    pub(crate) rate: Option<NonZeroU32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// What the service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Small,
    Large,
}

/// What came back.
pub(crate) struct Outcome {
    /// Answers a second.
    pub(crate) rate: f64,
    /// From each request to the end of its answer.
    pub(crate) times: Vec<Duration>,
}

impl Protocol {
    pub(crate) const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

impl Body {
    pub(crate) const ALL: [Self; 2] = [Self::Small, Self::Large];

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Small => 200,
            Self::Large => 64 << 10,
        }
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Small => "/small",
            Self::Large => "/large",
        }
    }
}

impl Load {
    /// Sends so many requests for a small answer to the gateway at `entry`, on one connection, one after the other.
    pub(crate) async fn one_by_one(entry: SocketAddr, protocol: Protocol, count: u32) -> Result<(), Failure> {
        let load = Self { protocol, body: Body::Small, rate: None };
        let one = [
            "--clients=1".to_owned(),
            "--max-concurrent-streams=1".to_owned(),
            format!("--requests={count}"),
        ];
        load.send(entry, &one).await.map(drop)
    }

    /// Sends requests to the gateway at `entry` for so many seconds. Every answer must be 200.
    pub(crate) async fn run(&self, entry: SocketAddr, seconds: NonZeroU32) -> Result<Outcome, Failure> {
        let duration = format!("--duration={seconds}");
        let options = match (self.rate, self.protocol) {
            (None, Protocol::Http1) => vec!["--clients=32".to_owned(), duration],
            (None, Protocol::Http2) => {
                vec!["--clients=4".to_owned(), "--max-concurrent-streams=8".to_owned(), duration]
            }
            (Some(rate), _) => spread(rate, seconds).into(),
        };
        let requests = self.send(entry, &options).await?;
        let begin = requests.iter().map(|(sent, _)| *sent).min();
        let end = requests.iter().map(|(sent, time)| *sent + *time).max();
        let (Some(begin), Some(end)) = (begin, end) else {
            return Err(format!("nothing answers at {entry}").into());
        };
        let times: Vec<_> = requests.into_iter().map(|(_, time)| time).collect();
        Ok(Outcome { rate: times.len() as f64 / (end - begin).as_secs_f64(), times })
    }

    /// Lets h2load send requests: when each was sent, and how long its answer took.
    async fn send(
        &self,
        entry: SocketAddr,
        options: &[String],
    ) -> Result<Vec<(Duration, Duration)>, Failure> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("requests");
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &OTHERS.to_string(), "h2load", "--log-file"]).arg(&log).args(options);
        if self.protocol == Protocol::Http1 {
            command.arg("--h1");
        }
        command.arg(format!("--connect-to={entry}")).arg(format!("http://{HOST}{}", self.body.path()));
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
        if !output.status.success() {
            return Err(format!("h2load: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        fs::read_to_string(&log)?.lines().map(answered).collect()
    }
}

/// Options for requests that come evenly: h2load looks at the clock 100 times a second, so each connection sends one
/// request at a time, and connections begin one after the other at other moments of that hundredth.
fn spread(rate: NonZeroU32, seconds: NonZeroU32) -> [String; 5] {
    let connections = rate.get().div_ceil(100);
    [
        format!("--clients={connections}"),
        format!("--rps={}", f64::from(rate.get()) / f64::from(connections)),
        format!("--requests={}", rate.saturating_mul(seconds)),
        "--rate=1".to_owned(),
        "--rate-period=7ms".to_owned(),
    ]
}

/// Reads a line of h2load: when a request was sent, after the epoch; its status; and how long it took.
fn answered(line: &str) -> Result<(Duration, Duration), Failure> {
    match line.split('\t').collect::<Vec<_>>()[..] {
        [sent, "200", time] => {
            Ok((Duration::from_micros(sent.parse()?), Duration::from_micros(time.parse()?)))
        }
        _ => Err(format!("a request failed (sent at, status, microseconds): {line}").into()),
    }
}

/// h2load is there.
pub(crate) async fn find() -> Result<(), Failure> {
    let output = Command::new("h2load").arg("--version").stdin(Stdio::null()).output().await;
    output.map(drop).map_err(|error| format!("h2load: {error}; {REMEDY}").into())
}
