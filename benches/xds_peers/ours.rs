//! Our server, with the commands of the Go program (`benches/peers/main.go` lists them).

use std::{
    io::stdin,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use xds::{Cache, Change, Clients, ListenAddress, Version, bind};

use crate::{
    Failure,
    file::{self, Resource},
};

/// What this program is called with to be a server.
pub(crate) const COMMAND: &str = "serve";

/// How long an ACK is awaited.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn run(socket: &Path, resources: &Path) -> Result<(), Failure> {
    let runtime = Runtime::new()?;
    let mut server = Ours { cache: Cache::new(), clients: Clients::new(), changes: Vec::new() };
    for resource in file::read(resources)? {
        server.cache.apply([set(resource?)]);
    }
    let serve = {
        let _runtime = runtime.enter();
        let bound = bind(&ListenAddress::Unix(socket.to_owned()))?;
        bound.serve(server.cache.clone(), server.clients.clone(), CancellationToken::new())
    };
    runtime.spawn(async {
        if let Err(error) = serve.await {
            eprintln!("{error}");
        }
    });
    println!("ready");
    for line in stdin().lines() {
        println!("{}", runtime.block_on(server.execute(&line?))?);
    }
    Ok(())
}

struct Ours {
    cache: Cache,
    clients: Clients,
    changes: Vec<Vec<Change>>,
}

impl Ours {
    async fn execute(&mut self, line: &str) -> Result<String, Failure> {
        let (verb, arguments) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "change" => {
                self.changes.push(changes(arguments)?);
                Ok(format!("prepared {} 1", self.changes.len() - 1))
            }
            "changes" => {
                let first = self.changes.len();
                self.changes.extend(changes(arguments)?.into_iter().map(|change| vec![change]));
                Ok(format!("prepared {first} {}", self.changes.len() - first))
            }
            "apply" => self.apply(arguments.parse()?).await,
            "burst" => {
                let numbers: Vec<u64> =
                    arguments.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
                let [first, count, seconds] = numbers[..] else { return Err(line.into()) };
                let (first, count) = (usize::try_from(first)?, usize::try_from(count)?);
                Ok(self.burst(&self.changes[first..first + count], Duration::from_secs(seconds)))
            }
            _ => Err(format!("unknown command {line:?}").into()),
        }
    }

    async fn apply(&self, id: usize) -> Result<String, Failure> {
        let change = self.changes[id].clone();
        let started = now();
        self.cache.apply(change);
        let held = async {
            for change in &self.changes[id] {
                if let Change::Set(ty, name, body) = change {
                    self.clients.acknowledged(*ty, name, Version::of(body)).await;
                }
            }
        };
        tokio::time::timeout(PATIENCE, held).await.map_err(|_| format!("no ACK within {PATIENCE:?}"))?;
        Ok(format!("acked {} {}", started.as_nanos(), now().as_nanos()))
    }

    fn burst(&self, changes: &[Vec<Change>], limit: Duration) -> String {
        let (started, clock) = (now(), Instant::now());
        let mut made = 0;
        for change in changes {
            if clock.elapsed() > limit {
                break;
            }
            self.cache.apply(change.clone());
            made += 1;
        }
        format!("made {made} {} {}", started.as_nanos(), now().as_nanos())
    }
}

fn changes(file: &str) -> Result<Vec<Change>, Failure> {
    file::read(Path::new(file))?.map(|resource| resource.map(set)).collect()
}

fn set(resource: Resource) -> Change {
    Change::Set(resource.ty, resource.name, resource.body)
}

/// The time since the Unix epoch, which processes on one machine share.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
