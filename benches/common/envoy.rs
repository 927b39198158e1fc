//! A real Envoy as client.

use std::{num::NonZeroU16, path::Path, time::Duration};

use ::http::{Request, StatusCode};
use bytes::Bytes;
use envoy::{AdminAddress, BootstrapSettings, XdsAddress, bootstrap};
use harness::process::{Child, envoy_command};
use networkmesh::http::{self, Limits, Target};
use xds::Protocol;

use crate::Failure;

/// The ID of its node.
pub(crate) const NODE: &str = "bench";

/// Ten thousand services take it some seconds, a hundred thousand a minute.
const START: Duration = Duration::from_secs(300);

/// A running Envoy. It is killed when this is dropped.
pub(crate) struct Envoy {
    process: Child,
    admin: Target,
}

impl Envoy {
    /// Starts an Envoy with one worker that asks the server at the socket, and waits until it has all it asked for.
    pub(crate) async fn start(
        program: &Path,
        folder: &Path,
        socket: &Path,
        protocol: Protocol,
    ) -> Result<Self, Failure> {
        let admin = harness::free_address()?;
        let mut config = bootstrap(&BootstrapSettings {
            node_id: NODE.to_owned(),
            cluster: "alice".to_owned(),
            xds: XdsAddress::Unix(socket.to_owned()),
            admin: AdminAddress::Tcp(admin),
            max_connections: BootstrapSettings::DEFAULT_MAX_CONNECTIONS,
            max_heap_bytes: BootstrapSettings::DEFAULT_MAX_HEAP_BYTES,
        });
        if protocol == Protocol::StateOfTheWorld {
            config["dynamic_resources"]["ads_config"]["api_type"] = "GRPC".into();
        }
        std::fs::create_dir_all(folder)?;
        let file = folder.join("envoy.json");
        std::fs::write(&file, config.to_string())?;
        let command = envoy_command(program, &file, NonZeroU16::new(1));
        let mut process = Child::spawn("Envoy", command, &folder.join("envoy.log"))?;
        let admin = Target::Tcp(admin);
        process.wait_ready(START, || ready(&admin)).await?;
        Ok(Self { process, admin })
    }

    pub(crate) fn pid(&self) -> Result<u32, Failure> {
        self.process.pid().ok_or_else(|| "Envoy has ended".into())
    }

    /// Bytes that it has received from the server.
    pub(crate) async fn received_bytes(&self) -> Result<u64, Failure> {
        let answer = ask(&self.admin, "/stats?filter=^cluster.xds.upstream_cx_rx_bytes_total$").await?;
        let count = answer.trim().rsplit(' ').next().unwrap_or_default();
        count.parse().map_err(|_| format!("Envoy's statistics say {answer:?}").into())
    }
}

async fn ready(admin: &Target) -> Result<(), Failure> {
    ask(admin, "/ready").await.map(drop)
}

async fn ask(admin: &Target, path: &str) -> Result<String, Failure> {
    let request = Request::get(path).body(Bytes::new())?;
    let response = http::send(admin, request, Limits::default()).await?;
    let text = String::from_utf8_lossy(response.body()).into_owned();
    if response.status() == StatusCode::OK { Ok(text) } else { Err(text.into()) }
}
