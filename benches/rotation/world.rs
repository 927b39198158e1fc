//! Two domains, and what their processes have cost until now.

use std::ops::Sub;
use std::path::Path;
use std::time::Duration;

use ::http::Request;
use bytes::Bytes;
use harness::process::Child;
use networkmesh::harness::domain::{Domain, Home};
use networkmesh::http::{self, Limits, Target};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::Failure;
use crate::process::cpu_with_ended;

/// Within this time both ways have a token.
const PATIENCE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(50);

/// Alice and bob, each with a mesh, an Envoy and a service `echo`.
pub(crate) struct World {
    pub(crate) alice: Domain,
    bob: Domain,
    // Dropped after the domains, whose processes write into it.
    _folder: TempDir,
}

/// What was counted since the processes have started.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    /// Tokens that alice was given.
    pub(crate) tokens: i64,
    /// Processor time of the meshes of alice and bob, then of their Envoys.
    pub(crate) cpu: [Duration; 4],
    /// Bytes that the Envoys of alice and bob have received from their meshes.
    pub(crate) xds_bytes: [u64; 2],
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            tokens: self.tokens - before.tokens,
            cpu: std::array::from_fn(|process| self.cpu[process] - before.cpu[process]),
            xds_bytes: std::array::from_fn(|envoy| self.xds_bytes[envoy] - before.xds_bytes[envoy]),
        }
    }
}

impl World {
    /// Everything runs, and alice's token for bob rolls every `period` seconds; 0: never. That of bob for alice stays.
    pub(crate) async fn start(envoy: &Path, period: u32) -> Result<Self, Failure> {
        let program = Path::new(env!("CARGO_BIN_EXE_networkmesh"));
        let folder = tempfile::tempdir()?;
        let config = json!({"envoy": {"accessLog": "off"}});
        let mut alice = Domain::lay_out(folder.path(), "alice", Home::Folder, &config)?;
        let mut bob = Domain::lay_out(folder.path(), "bob", Home::Folder, &config)?;
        bob.serve_echo("echo").await?;
        let mut route = alice.route_to(&bob);
        route["spec"]["tokenConfig"]["rollingUpdatePeriod"] = period.into();
        for domain in [&mut alice, &mut bob] {
            domain.apply("alice-bob.json", &route).await?;
            domain.start_mesh(program).await?;
            domain.start_envoy(program, envoy).await?;
        }
        let world = Self { alice, bob, _folder: folder };
        let answered = timeout(PATIENCE, async {
            while world.alice.call("http://echo.bob.svc/").await?.status() != 200 {
                sleep(POLL).await;
            }
            Ok::<_, Failure>(())
        });
        answered.await.map_err(|_| "bob's echo service does not answer alice in time")??;
        Ok(world)
    }

    pub(crate) async fn counts(&self) -> Result<Counts, Failure> {
        let [alice, bob] = [&self.alice, &self.bob];
        Ok(Counts {
            tokens: alice.stored_status("alice-bob").await?.token_status.revision_token.revision,
            cpu: [
                cpu(alice.mesh.as_ref())?,
                cpu(bob.mesh.as_ref())?,
                cpu(alice.envoy.as_ref())?,
                cpu(bob.envoy.as_ref())?,
            ],
            xds_bytes: [xds_bytes(alice).await?, xds_bytes(bob).await?],
        })
    }

    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        self.alice.stop().await?;
        self.bob.stop().await?;
        Ok(())
    }
}

fn cpu(process: Option<&Child>) -> Result<Duration, Failure> {
    cpu_with_ended(process.and_then(Child::pid).ok_or("a process has ended")?)
}

async fn xds_bytes(domain: &Domain) -> Result<u64, Failure> {
    let request = Request::get("/stats?filter=^cluster.xds.upstream_cx_rx_bytes_total$").body(Bytes::new())?;
    let admin = Target::Tcp(domain.addresses.envoy_admin);
    let answer = http::send(&admin, request, Limits::default()).await?;
    let answer = String::from_utf8_lossy(answer.body()).into_owned();
    let count = answer.trim().rsplit(' ').next().unwrap_or_default();
    count.parse().map_err(|_| format!("Envoy's statistics say {answer:?}").into())
}
