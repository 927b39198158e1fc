//! What strangers cost who ask for handshakes a thousand times a second, and what they cost a real partner.
//!
//! `cargo bench --bench flood` starts bob with an Envoy, and a partner, carol, with hers. Then strangers ask bob in each
//! of several ways, one after the other. Meanwhile carol's route comes and goes: each time she negotiates her first token
//! anew, signed; and partners that do not sign, as Kuscia, ask for their first tokens.
//!
//! Kinds and duration can be chosen: `cargo bench --bench flood -- --help`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is run by hand and reports to people")]

#[path = "common/process.rs"]
#[allow(dead_code, reason = "shared with other benches")]
mod process;
#[path = "common/table.rs"]
#[allow(dead_code, reason = "shared with other benches")]
mod table;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certs::{DomainKey, PublicKey};
use clap::{Parser, ValueEnum};
use harness::envoy_binary::Locator;
use harness::process::Child;
use networkmesh::harness::ask::ask_from;
use networkmesh::harness::domain::{Domain, Home};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::table::{Sorted, milliseconds};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Addresses that strangers ask from: 127.0.1.0 to 127.0.1.99.
const ADDRESSES: u64 = 100;

/// Requests of strangers that may be under way; beyond that they are not sent, and the rate shows it.
const UNDER_WAY: usize = 2000;

/// Time between two first tokens of the partner that signs, so that she herself costs little.
const SIGNED_PAUSE: Duration = Duration::from_millis(250);

/// How long a partner waits for its first token.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures what strangers cost.
#[derive(Debug, Parser)]
struct Arguments {
    /// Passed by Cargo.
    #[arg(long, hide = true)]
    bench: bool,
    /// What the strangers do; everything unless told otherwise.
    #[arg(value_enum)]
    kinds: Vec<Kind>,
    /// For how long they do it, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How often they do it in a second.
    #[arg(long, default_value_t = 1000)]
    rate: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Nothing.
    Quiet,
    /// Bodies that are no JSON.
    Garbage,
    /// Requests of a domain without a route.
    UnknownDomain,
    /// Requests in the name of a partner that signs, whose signature has to be verified, and is none.
    ForgedSigner,
    /// Requests in the name of a partner that does not sign, with a share of noise.
    ForgedNoise,
    /// Requests in the name of a partner that does not sign, with a good share.
    Forged,
    /// 64 KiB of nested JSON.
    LongBodies,
    /// Bodies that do not come, through Envoy.
    SlowBodies,
    /// Heads that do not come, straight to the mesh.
    SlowHeads,
    /// Questions for a token's state.
    Probes,
}

fn main() -> Result<(), Failure> {
    // `cargo test --benches` runs this too, without asking for figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    Runtime::new()?.block_on(measure(&Arguments::parse()))
}

async fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let program = Path::new(env!("CARGO_BIN_EXE_networkmesh"));
    let envoy = Locator::from_env().locate(&|line| eprintln!("{line}")).await?;
    let folder = tempfile::tempdir()?;
    let lay_out = |name| Domain::lay_out(folder.path(), name, Home::Folder, &json!({}));
    let (mut bob, mut carol) = (lay_out("bob")?, lay_out("carol")?);
    for domain in [&mut bob, &mut carol] {
        domain.start_mesh(program).await?;
        domain.start_envoy(program, &envoy).await?;
    }
    let erin = DomainKey::generate()?;
    bob.apply("erin.json", &route_from("erin", &erin, &carol, &bob)).await?;
    // From her first token on, carol counts as one that signs.
    first_token_of_mesh(&carol, &bob).await?;

    let kinds = if arguments.kinds.is_empty() { Kind::value_variants() } else { &arguments.kinds };
    let mut rows = Vec::new();
    for kind in kinds {
        eprintln!("{kind:?}");
        rows.push(measure_kind(*kind, arguments, &bob, &carol, &erin).await?);
    }
    let header = [
        "strangers",
        "asked/s",
        "answered/s",
        "mesh: cores",
        "Envoy: cores",
        "mesh: MB",
        "signed: tokens",
        "median ms",
        "most ms",
        "unsigned: tokens",
        "median ms",
        "most ms",
        "late",
    ];
    table::print("What strangers cost", &header, &rows);
    for domain in [&mut bob, &mut carol] {
        domain.stop().await?;
    }
    Ok(())
}

async fn measure_kind(
    kind: Kind,
    arguments: &Arguments,
    bob: &Domain,
    carol: &Domain,
    erin: &DomainKey,
) -> Result<Vec<String>, Failure> {
    let duration = Duration::from_secs(arguments.seconds);
    let (mesh, envoy) = (pid(bob.mesh.as_ref())?, pid(bob.envoy.as_ref())?);
    let flood = Flood::new(kind, bob, carol, erin)?;
    let before = (process::cpu(mesh)?, process::cpu(envoy)?);
    let begun = Instant::now();
    let strangers = flood.run(arguments.rate, duration);
    let (asked, signed, unsigned) = tokio::join!(
        strangers,
        signed_partners(carol, bob, duration),
        unsigned_partners(kind, carol, bob, duration)
    );
    let (signed, unsigned) = (signed?, unsigned?);
    let elapsed = begun.elapsed().as_secs_f64();
    let cores = |now: Duration, before: Duration| format!("{:.2}", (now - before).as_secs_f64() / elapsed);
    let late = [&signed, &unsigned].map(|times| times.iter().filter(|time| time.as_secs() >= 1).count());
    let mut row = vec![
        format!("{kind:?}"),
        format!("{:.0}", asked.asked as f64 / elapsed),
        format!("{:.0}", asked.answered as f64 / elapsed),
        cores(process::cpu(mesh)?, before.0),
        cores(process::cpu(envoy)?, before.1),
        format!("{:.0}", process::resident_megabytes(mesh)?),
    ];
    for times in [signed, unsigned] {
        let most = times.iter().max().copied().unwrap_or_default();
        row.extend([times.len().to_string(), milliseconds(Sorted::of(&times).median), milliseconds(most)]);
    }
    row.push(late.iter().sum::<usize>().to_string());
    Ok(row)
}

fn pid(child: Option<&Child>) -> Result<u32, Failure> {
    child.and_then(Child::pid).ok_or_else(|| "a process has ended".into())
}

/// What strangers do.
struct Flood {
    target: SocketAddr,
    /// What they send; `None`: nothing at all.
    request: Option<Arc<[u8]>>,
}

/// What they did.
struct Asked {
    asked: u64,
    answered: u64,
}

impl Flood {
    fn new(kind: Kind, bob: &Domain, carol: &Domain, erin: &DomainKey) -> Result<Self, Failure> {
        let noise = STANDARD.encode([0x5a; 256]);
        let good = bob.public_key.seal(&[7; model::TOKEN_BYTES / 2])?;
        let through_envoy = |source, body: &str| Some(post(source, &bob.name, body));
        let request = match kind {
            Kind::Quiet => None,
            Kind::Garbage => through_envoy("carol", "this is no handshake"),
            Kind::UnknownDomain => through_envoy("mallory", &handshake("mallory", &carol.public_key, &noise)),
            Kind::ForgedSigner => {
                through_envoy("carol", &signed_by_noise(&handshake("carol", &carol.public_key, &noise)))
            }
            Kind::ForgedNoise => through_envoy("erin", &handshake("erin", erin.public_key(), &noise)),
            Kind::Forged => through_envoy("erin", &handshake("erin", erin.public_key(), &good)),
            Kind::LongBodies => through_envoy("carol", &"[".repeat(64 * 1024)),
            Kind::SlowBodies => {
                let whole = post("carol", &bob.name, &" ".repeat(1000));
                Some(whole[..whole.len() - 999].to_owned())
            }
            Kind::SlowHeads => Some("POST /handshake HT".to_owned()),
            Kind::Probes => {
                let host = handshake_host(&bob.name);
                Some(format!(
                    "GET /handshake HTTP/1.1\r\nhost: {host}\r\nkuscia-host: {host}\r\nkuscia-source: erin\r\n\
                     kuscia-token-revision: 1\r\nconnection: close\r\n\r\n"
                ))
            }
        };
        let is_direct = kind == Kind::SlowHeads;
        let target = if is_direct { bob.addresses.handshake } else { bob.addresses.external };
        Ok(Self { target, request: request.map(|request| request.into_bytes().into()) })
    }

    async fn run(self, rate: u64, duration: Duration) -> Asked {
        let Some(request) = self.request else {
            sleep(duration).await;
            return Asked { asked: 0, answered: 0 };
        };
        let (places, answered) = (Arc::new(Semaphore::new(UNDER_WAY)), Arc::new(AtomicU64::new(0)));
        let mut ticks = interval(Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX).max(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut strangers = JoinSet::new();
        let begun = Instant::now();
        let mut asked = 0;
        while begun.elapsed() < duration {
            ticks.tick().await;
            while strangers.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (target, request, answered) = (self.target, Arc::clone(&request), Arc::clone(&answered));
            let address = Ipv4Addr::from([127, 0, 1, u8::try_from(asked % ADDRESSES).unwrap_or_default()]);
            asked += 1;
            strangers.spawn(async move {
                let answer = ask_from(address, target, &request).await;
                answered
                    .fetch_add(u64::from(answer.is_ok_and(|answer| !answer.is_empty())), Ordering::Relaxed);
                drop(place);
            });
        }
        Asked { asked, answered: answered.load(Ordering::Relaxed) }
    }
}

/// How long carol waits for her first token, from the moment at which both sides have the route.
async fn signed_partners(carol: &Domain, bob: &Domain, duration: Duration) -> Result<Vec<Duration>, Failure> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while begun.elapsed() < duration {
        for domain in [carol, bob] {
            domain.remove("carol.json").await?;
        }
        until(async || Ok(revision(carol).await?.is_none() && revision(bob).await?.is_none())).await?;
        times.push(first_token_of_mesh(carol, bob).await?);
        sleep(SIGNED_PAUSE).await;
    }
    Ok(times)
}

async fn first_token_of_mesh(carol: &Domain, bob: &Domain) -> Result<Duration, Failure> {
    let route = carol.route_to(bob);
    bob.apply("carol.json", &route).await?;
    let begun = Instant::now();
    carol.apply("carol.json", &route).await?;
    until(async || Ok(revision(carol).await?.is_some_and(|revision| revision > 0))).await?;
    Ok(begun.elapsed())
}

/// Number of the newest token of the route from carol; 0: a route without; `None`: no route.
async fn revision(domain: &Domain) -> Result<Option<i64>, Failure> {
    let routes = domain.status().await?.routes;
    let route = routes.iter().find(|route| route.name == "carol-bob");
    Ok(route.map(|route| route.token_revisions.last().copied().unwrap_or_default()))
}

/// How long partners that do not sign wait for their first token, a new partner every second. They try again at once.
async fn unsigned_partners(
    kind: Kind,
    carol: &Domain,
    bob: &Domain,
    duration: Duration,
) -> Result<Vec<Duration>, Failure> {
    // One key for all: to make some takes long, and bob does not mind.
    let key = DomainKey::generate()?;
    let begun = Instant::now();
    let mut times = Vec::new();
    for number in 0.. {
        let pause = Duration::from_secs(number);
        if pause >= duration {
            break;
        }
        sleep(pause.saturating_sub(begun.elapsed())).await;
        // Tokens that were never used count against a name, so each time it is a new one.
        let source = format!("dave-{}-{number}", kind as u8);
        bob.apply("dave.json", &route_from(&source, &key, carol, bob)).await?;
        let known = format!("{source}-bob");
        until(async || Ok(bob.status().await?.routes.iter().any(|route| route.name == known))).await?;
        let share = bob.public_key.seal(&[7; model::TOKEN_BYTES / 2])?;
        let request = post(&source, &bob.name, &handshake(&source, key.public_key(), &share));
        let asked = Instant::now();
        let external = bob.addresses.external;
        until(async || {
            let answer = ask_from(Ipv4Addr::LOCALHOST, external, request.as_bytes()).await;
            Ok(answer.is_ok_and(|answer| answer.contains("expiration_time")))
        })
        .await?;
        times.push(asked.elapsed());
    }
    bob.remove("dave.json").await?;
    Ok(times)
}

async fn until(is_so: impl AsyncFn() -> Result<bool, Failure>) -> Result<(), Failure> {
    let begun = Instant::now();
    while !is_so().await? {
        if begun.elapsed() > PATIENCE {
            return Err(format!("it is not so within {PATIENCE:?}").into());
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The route of a partner that has no mesh here.
fn route_from(source: &str, key: &DomainKey, carol: &Domain, bob: &Domain) -> Value {
    let mut route = carol.route_to(bob);
    route["metadata"]["name"] = format!("{source}-{}", bob.name).into();
    route["spec"]["source"] = source.into();
    route["spec"]["tokenConfig"]["sourcePublicKey"] = key.public_key().to_base64_pem().into();
    route
}

/// What a source asks that does not sign.
fn handshake(source: &str, key: &PublicKey, share: &str) -> String {
    let share = json!({"token": share, "pubhash": key.pubhash()});
    json!({"domain_id": source, "type": "RSA", "token_config": share, "request_time": 1}).to_string()
}

fn signed_by_noise(handshake: &str) -> String {
    let mut request: Value = serde_json::from_str(handshake).expect("it was written so");
    request["signature"] = STANDARD.encode([7; 256]).into();
    request.to_string()
}

fn handshake_host(destination: &str) -> String {
    format!("kuscia-handshake.{destination}.svc")
}

fn post(source: &str, destination: &str, body: &str) -> String {
    let host = handshake_host(destination);
    format!(
        "POST /handshake HTTP/1.1\r\nhost: {host}\r\nkuscia-host: {host}\r\nkuscia-source: {source}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
