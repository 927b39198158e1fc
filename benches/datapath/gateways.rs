//! Two Envoys that requests pass one after the other.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use ::http::{Request, StatusCode};
use bytes::Bytes;
use envoy::{AdminAddress, BootstrapSettings, XdsAddress, bootstrap};
use harness::process::{Child, envoy_command};
use networkmesh::http::{self, Limits, Target};
use serde_json::Value;

use crate::{Failure, GATEWAYS, process};

const START: Duration = Duration::from_secs(60);

/// The Envoys of alice and bob, or two in their place.
pub(crate) struct Gateways {
    pub(crate) name: String,
    /// Where applications of alice call.
    pub(crate) entry: SocketAddr,
    pub(crate) pids: [u32; 2],
    /// Processes that end with this value.
    pub(crate) _processes: Vec<Child>,
}

/// Where two Envoys with static configurations listen.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    /// The first, for applications.
    pub(crate) entry: SocketAddr,
    /// The second, for the first.
    pub(crate) between: SocketAddr,
    /// The service, for the second.
    pub(crate) service: SocketAddr,
}

impl Gateways {
    /// Processor time of both since they have started.
    pub(crate) fn cpu(&self) -> Result<[Duration; 2], Failure> {
        let [alice, bob] = self.pids;
        Ok([process::cpu(alice)?, process::cpu(bob)?])
    }

    /// Keeps them on their processor.
    pub(crate) async fn pin(self) -> Result<Self, Failure> {
        for pid in self.pids {
            process::pin(pid, GATEWAYS).await?;
        }
        Ok(self)
    }
}

/// Starts an Envoy with one worker, the static resources, and what else stands in a gateway's bootstrap.
pub(crate) async fn start_static(
    program: &Path,
    folder: &Path,
    name: &str,
    static_resources: Value,
) -> Result<Child, Failure> {
    let admin = harness::free_address()?;
    let mut config = bootstrap(&BootstrapSettings {
        node_id: name.to_owned(),
        cluster: name.to_owned(),
        xds: XdsAddress::Unix("none".into()),
        admin: AdminAddress::Tcp(admin),
        max_connections: BootstrapSettings::DEFAULT_MAX_CONNECTIONS,
        max_heap_bytes: BootstrapSettings::DEFAULT_MAX_HEAP_BYTES,
    });
    config["dynamic_resources"] = Value::Null;
    config["static_resources"] = static_resources;
    let file = folder.join(format!("{name}.json"));
    std::fs::write(&file, config.to_string())?;
    let command = envoy_command(program, &file, NonZeroU16::new(1));
    let mut process = Child::spawn(name, command, &folder.join(format!("{name}.log")))?;
    let admin = Target::Tcp(admin);
    process.wait_ready(START, || ready(&admin)).await?;
    Ok(process)
}

async fn ready(admin: &Target) -> Result<(), Failure> {
    ask(admin, "/ready").await.map(drop)
}

/// What the admin page of an Envoy shows.
pub(crate) async fn ask(admin: &Target, page: &str) -> Result<Bytes, Failure> {
    let request = Request::get(page).body(Bytes::new())?;
    let answer = http::send(admin, request, Limits { body: 64 << 20, ..Limits::default() }).await?;
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        status => Err(format!("{admin}{page} answers {status}").into()),
    }
}
