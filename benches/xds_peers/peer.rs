//! A server in a process of its own: ours or the Go program of `benches/peers`, which take the same commands.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    Failure,
    contestants::{Contestant, Programs},
    ours,
};

/// A running server. It is killed when this is dropped.
pub(crate) struct Server {
    process: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// When a change was begun and when the client's ACK had come, since the Unix epoch.
pub(crate) struct Acked {
    pub(crate) started: Duration,
    pub(crate) acked: Duration,
}

/// How many changes were made, and when, since the Unix epoch.
pub(crate) struct Burst {
    pub(crate) made: usize,
    pub(crate) started: Duration,
    pub(crate) ended: Duration,
}

impl Server {
    /// Starts a contestant's server with the resources of a file, and waits until it serves on the socket.
    pub(crate) async fn start(
        contestant: &Contestant,
        programs: &Programs,
        socket: &Path,
        resources: &Path,
    ) -> Result<Self, Failure> {
        let mut command = match contestant.mode {
            None => Command::new(&programs.ours),
            Some(_) => Command::new(&programs.peer),
        };
        command.arg(contestant.mode.unwrap_or(ours::COMMAND)).arg(socket).arg(resources);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let (Some(commands), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("a server without pipes".into());
        };
        let mut server = Self { process, commands, answers: BufReader::new(output).lines() };
        match server.answer().await?.as_str() {
            "ready" => Ok(server),
            other => Err(format!("the server says {other:?} instead of ready").into()),
        }
    }

    pub(crate) fn pid(&self) -> Result<u32, Failure> {
        self.process.id().ok_or_else(|| "the server has ended".into())
    }

    /// Prepares one change that sets the file's resources, and answers its ID.
    pub(crate) async fn change(&mut self, file: &Path) -> Result<u64, Failure> {
        let [first, _] = self.ask(&format!("change {}", file.display()), "prepared").await?;
        Ok(first)
    }

    /// Prepares a change for each of the file's resources, and answers the ID of the first.
    pub(crate) async fn changes(&mut self, file: &Path) -> Result<u64, Failure> {
        let [first, _] = self.ask(&format!("changes {}", file.display()), "prepared").await?;
        Ok(first)
    }

    /// Makes a change and waits for the client's ACK.
    pub(crate) async fn apply(&mut self, id: u64) -> Result<Acked, Failure> {
        let times = self.ask(&format!("apply {id}"), "acked").await?;
        let [started, acked] = times.map(Duration::from_nanos);
        Ok(Acked { started, acked })
    }

    /// Makes changes one after the other, until all are made or the time is over.
    pub(crate) async fn burst(
        &mut self,
        first: u64,
        count: usize,
        limit: Duration,
    ) -> Result<Burst, Failure> {
        let command = format!("burst {first} {count} {}", limit.as_secs());
        let [made, started, ended] = self.ask(&command, "made").await?;
        let [started, ended] = [started, ended].map(Duration::from_nanos);
        Ok(Burst { made: usize::try_from(made)?, started, ended })
    }

    /// Sends a command and takes the numbers of its answer apart.
    async fn ask<const N: usize>(&mut self, command: &str, verb: &str) -> Result<[u64; N], Failure> {
        self.commands.write_all(format!("{command}\n").as_bytes()).await?;
        let answer = self.answer().await?;
        let numbers = answer.strip_prefix(verb).ok_or_else(|| format!("{command}: {answer}"))?;
        let numbers: Vec<u64> = numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        numbers.try_into().map_err(|_| format!("{command}: {answer}").into())
    }

    async fn answer(&mut self) -> Result<String, Failure> {
        self.answers.next_line().await?.ok_or_else(|| "the server ended; see above".into())
    }
}
