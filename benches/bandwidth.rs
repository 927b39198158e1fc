//! How well limits of bandwidth are kept.
//!
//! `cargo bench --bench bandwidth` starts two domains with real Envoys, limits what alice's task may exchange with bob, and
//! sends bodies in each direction as fast as they pass. The first seconds are not counted: a limit lets a second's worth
//! pass at once after a pause.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is run by hand and reports to people")]

#[path = "common/table.rs"]
#[allow(dead_code, reason = "shared with other benches")]
mod table;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ::http::{Request, StatusCode};
use bytes::Bytes;
use clap::Parser;
use futures_util::stream;
use harness::envoy_binary::Locator;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use networkmesh::harness::domain::{Domain, Home, service_manifest};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use crate::table::{grouped, print};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Kibibytes a second.
const LIMITS: [u64; 3] = [256, 2_048, 16_384];

/// The service of the task.
const HOST: &str = "task.bob.svc";

const CHUNK_BYTES: usize = 16 << 10;

/// Within this time everything runs.
const PATIENCE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(50);

/// Measures how well limits of bandwidth are kept.
#[derive(Debug, Parser)]
struct Arguments {
    /// Passed by Cargo.
    #[arg(long, hide = true)]
    bench: bool,
    /// How long each body takes if the limit is kept, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

fn main() -> Result<(), Failure> {
    // `cargo test --benches` runs this too, without asking for figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    Runtime::new()?.block_on(measure(&Arguments::parse()))
}

async fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let envoy = Locator::from_env().locate(&|line| eprintln!("{line}")).await?;
    let mut rows = Vec::new();
    for limit in LIMITS {
        let folder = tempfile::tempdir()?;
        let (mut alice, mut bob) = start(folder.path(), &envoy, limit).await?;
        for (protocol, http2) in [("HTTP/1.1", false), ("HTTP/2", true)] {
            let caller = Caller { http2, gateway: alice.addresses.internal };
            for (direction, call) in
                [("to bob", Caller::upload as fn(_, _) -> _), ("from bob", Caller::download)]
            {
                let bytes = limit * 1024 * arguments.seconds;
                // Takes what the limit has saved up.
                call(&caller, limit * 1024 * 2).await?;
                let begun = Instant::now();
                call(&caller, bytes).await?;
                let rate = bytes as f64 / begun.elapsed().as_secs_f64() / 1024.0;
                eprintln!("{limit} KiB/s, {protocol}, {direction}: {rate:.0} KiB/s");
                let ratio = format!("{:.3}", rate / limit as f64);
                rows.push(vec![
                    grouped(limit),
                    protocol.to_owned(),
                    direction.to_owned(),
                    format!("{rate:.0}"),
                    ratio,
                ]);
            }
        }
        alice.stop().await?;
        bob.stop().await?;
    }
    print("Limits", &["limit KiB/s", "protocol", "direction", "measured KiB/s", "ratio"], &rows);
    Ok(())
}

/// Both domains, once alice's calls of bob are limited.
async fn start(folder: &Path, envoy: &Path, limit: u64) -> Result<(Domain, Domain), Failure> {
    let program = Path::new(env!("CARGO_BIN_EXE_networkmesh"));
    let config = json!({"envoy": {"accessLog": "off"}});
    let mut alice = Domain::lay_out(folder, "alice", Home::Folder, &config)?;
    let mut bob = Domain::lay_out(folder, "bob", Home::Folder, &config)?;
    bob.serve_echo("task").await?;
    let mut task = service_manifest("task", &[]);
    task["items"][0]["metadata"]["annotations"] =
        json!({"kuscia.secretflow/bandwidth-limit-bob": limit.to_string()});
    alice.apply("task.json", &task).await?;
    let route = alice.route_to(&bob);
    for domain in [&mut alice, &mut bob] {
        domain.apply("alice-bob.json", &route).await?;
        domain.start_mesh(program).await?;
        domain.start_envoy(program, envoy).await?;
    }
    let answered = timeout(PATIENCE, async {
        while alice.call(&format!("http://{HOST}/")).await?.status() != StatusCode::OK {
            sleep(POLL).await;
        }
        Ok::<_, Failure>(())
    });
    answered.await.map_err(|_| "bob's service does not answer alice in time")??;
    Ok((alice, bob))
}

type Body = BoxBody<Bytes, Infallible>;

/// An application of alice.
struct Caller {
    http2: bool,
    gateway: SocketAddr,
}

impl Caller {
    fn upload(&self, bytes: u64) -> futures_util::future::BoxFuture<'_, Result<(), Failure>> {
        let chunk = Bytes::from(vec![b'x'; CHUNK_BYTES]);
        let frames =
            stream::iter((0..bytes / CHUNK_BYTES as u64).map(move |_| Ok(Frame::data(chunk.clone()))));
        Box::pin(self.call("/upload".to_owned(), StreamBody::new(frames).boxed()))
    }

    fn download(&self, bytes: u64) -> futures_util::future::BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.call(format!("/bytes/{bytes}"), Empty::new().boxed()))
    }

    /// Sends a body, and reads that of the answer to its end.
    async fn call(&self, path: String, body: Body) -> Result<(), Failure> {
        let stream = TokioIo::new(TcpStream::connect(self.gateway).await?);
        let request = Request::post(format!("http://{HOST}{path}")).header("host", HOST).body(body)?;
        let answer = if self.http2 {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(connection);
            sender.send_request(request).await?
        } else {
            let (mut sender, connection) = http1::handshake(stream).await?;
            tokio::spawn(connection);
            sender.send_request(request).await?
        };
        let status = answer.status();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        if status == StatusCode::OK { Ok(()) } else { Err(format!("{path}: {status}").into()) }
    }
}
