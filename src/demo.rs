//! `networkmesh demo`: two domains with real Envoys on this machine, and traffic through both.

mod checks;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::envoy_binary::{self, Locator};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::harness::domain::{self, Domain, Home};

/// How long the domains may take to agree on tokens.
const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(15);

const POLL: Duration = Duration::from_millis(20);

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No Envoy.
    #[error(transparent)]
    Envoy(#[from] envoy_binary::Error),
    /// A domain did not start, or did not answer.
    #[error(transparent)]
    Domain(#[from] domain::Error),
    /// A file, a socket or the output.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A signal came before the end.
    #[error("interrupted; not all steps were shown")]
    Interrupted,
    /// A step ended otherwise than it should.
    #[error("{0}")]
    Unexpected(String),
}

/// How the demo is to run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Leave everything running until Ctrl-C.
    pub keep: bool,
}

/// Runs the demo, and tells its steps to `out` as they happen. Every process and file of it is gone afterwards.
///
/// # Errors
/// Something is not as it should be.
pub async fn run(settings: Settings, out: &mut (dyn Write + Send)) -> Result<(), DemoError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let folder = tempfile::Builder::new().prefix("networkmesh-demo-").tempdir()?;
    let mut alice = Domain::lay_out(folder.path(), "alice", Home::Folder, &json!({}))?;
    let mut bob = Domain::lay_out(folder.path(), "bob", Home::Folder, &json!({}))?;
    let shown = tokio::select! {
        shown = show(settings, &mut alice, &mut bob, out) => shown,
        _ = interrupt.recv() => Err(DemoError::Interrupted),
        _ = terminate.recv() => Err(DemoError::Interrupted),
    };
    let (alice, bob) = tokio::join!(alice.stop(), bob.stop());
    match shown {
        Err(DemoError::Interrupted) if settings.keep => {}
        shown => shown?,
    }
    Ok(alice.and(bob)?)
}

async fn show(
    settings: Settings,
    alice: &mut Domain,
    bob: &mut Domain,
    out: &mut (dyn Write + Send),
) -> Result<(), DemoError> {
    let mut steps = Steps { out, started: Instant::now(), number: 0 };
    let report = |line: &str| crate::output::print_note(&line);
    let envoy = Locator::from_env().locate(&report).await?;
    steps.done(&format!("Envoy at {}", envoy.display()))?;

    for manifest in [alice.route_to(bob), bob.route_to(alice)] {
        alice.apply(&route_file(&manifest), &manifest).await?;
        bob.apply(&route_file(&manifest), &manifest).await?;
    }
    let folders = format!("{} and {}", alice.folder.display(), bob.folder.display());
    steps.done(&format!("keys and manifests in {folders}"))?;

    alice.serve_echo("echo").await?;
    bob.serve_echo("echo").await?;
    steps.done("an echo service (HTTP and gRPC) in each domain")?;

    let program = std::env::current_exe()?;
    tokio::try_join!(alice.start_mesh(&program), bob.start_mesh(&program))?;
    steps.done("two meshes: networkmesh run --config networkmesh.yaml")?;

    tokio::try_join!(alice.start_envoy(&program, &envoy), bob.start_envoy(&program, &envoy))?;
    steps.done("two Envoys, configured over xDS")?;

    let (alice, bob) = (&*alice, &*bob);
    for (source, destination) in [(alice, bob), (bob, alice)] {
        let revision = wait_for_token(source, destination).await?;
        steps.done(&format!(
            "{} and {} agreed on a token for the way to {} (revision {revision})",
            source.name, destination.name, destination.name
        ))?;
    }
    for (source, destination) in [(alice, bob), (bob, alice)] {
        let host = format!("echo.{}.svc", destination.name);
        let address = checks::resolve(source, &host).await?;
        steps.done(&format!("{}'s DNS: {host} is {address}, {0}'s own gateway", source.name))?;
        let echoed = checks::call_http(source, destination).await?;
        steps.done(&format!("HTTP from {} to {host} through both gateways: {echoed}", source.name))?;
        let echoed = checks::call_grpc(source, destination).await?;
        steps.done(&format!("gRPC from {} to {host} through both gateways: {echoed}", source.name))?;
    }
    steps.done(&format!("a forged token is refused by bob: {}", checks::forge(bob).await?))?;
    steps.done(&format!("an unknown service is refused: {}", checks::call_unknown(alice, bob).await?))?;

    let seconds = steps.started.elapsed().as_secs_f32();
    let number = steps.number;
    writeln!(steps.out, "\nAll {number} steps are as they should be, after {seconds:.1} s.")?;
    print_commands(steps.out, &program, alice, bob)?;
    if settings.keep {
        writeln!(steps.out, "\nEverything runs until Ctrl-C; logs are in logs/ of both folders.")?;
        std::future::pending::<()>().await;
    }
    Ok(())
}

struct Steps<'a> {
    out: &'a mut (dyn Write + Send),
    started: Instant,
    number: usize,
}

impl Steps<'_> {
    fn done(&mut self, what: &str) -> io::Result<()> {
        self.number += 1;
        writeln!(self.out, "{:5.1} s  ok  {what}", self.started.elapsed().as_secs_f32())?;
        self.out.flush()
    }
}

fn route_file(manifest: &serde_json::Value) -> String {
    format!("{}.json", manifest["metadata"]["name"].as_str().unwrap_or_default())
}

/// The revision of the token that `source` sends to `destination`, once the destination has confirmed it.
async fn wait_for_token(source: &Domain, destination: &Domain) -> Result<i64, DemoError> {
    let started = Instant::now();
    loop {
        let status = source.status().await?;
        let mut routes = status.routes.iter();
        let route = routes.find(|route| route.direction == "outbound" && route.peer == destination.name);
        let confirmed = route.filter(|route| route.holds("Authenticated"));
        if let Some(revision) = confirmed.and_then(|route| route.token_revisions.last()) {
            return Ok(*revision);
        }
        if started.elapsed() > NEGOTIATION_TIMEOUT {
            return Err(DemoError::Unexpected(format!(
                "no token from {} to {} within {NEGOTIATION_TIMEOUT:?}:\n{}",
                source.name,
                destination.name,
                status.problems.join("\n")
            )));
        }
        sleep(POLL).await;
    }
}

fn print_commands(out: &mut dyn Write, program: &Path, alice: &Domain, bob: &Domain) -> io::Result<()> {
    let program = relative(program);
    let program = program.display();
    writeln!(out, "\nTo look around while it runs (networkmesh demo --keep):")?;
    writeln!(out, "  {program} status --admin http://{}", alice.admin)?;
    writeln!(out, "  {program} dump clusters -o table --admin http://{}", bob.admin)?;
    let (dns, internal) = (alice.addresses.dns, alice.addresses.internal);
    writeln!(out, "  dig @{} -p {} echo.bob.svc", dns.ip(), dns.port())?;
    writeln!(out, "  curl -i -H 'Host: echo.bob.svc' http://{internal}/hello")
}

/// The program as it is called from here.
fn relative(program: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    program.strip_prefix(here).map_or_else(|_| program.to_owned(), |path| Path::new(".").join(path))
}
