//! A tool that knows nothing of a gRPC server but its address, like grpcurl.

use std::{path::Path, time::Duration};

use serde_json::Value;

use crate::{
    command::{Failed, run},
    python::{self, Python},
};

const PACKAGES: [&str; 4] =
    ["grpcio==1.85.1", "grpcio-reflection==1.85.1", "protobuf==7.36.2", "typing-extensions==4.16.0"];

const SCRIPT: &str = include_str!("grpc_tool.py");

/// How long the server may take to tell all.
const ASKING: Duration = Duration::from_secs(60);

/// How the tool and a server prove themselves to each other; all files are PEM.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    /// The CA that signed the server's certificate.
    pub ca: &'a Path,
    /// The tool's own certificate and its key, if it is to have one.
    pub identity: Option<[&'a Path; 2]>,
}

/// The tool learned nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tool itself cannot be had.
    #[error(transparent)]
    Python(#[from] python::Error),
    /// The server refuses, or does not answer.
    #[error(transparent)]
    Refused(#[from] Failed),
    /// The tool printed something else.
    #[error("the tool printed no JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Asks the server at an address of gRPC's (`127.0.0.1:80`, `unix:/run/xds.sock`) by reflection alone.
///
/// Answers an object: `services` by name, and which of them are `undescribed`; `health`, as `grpc.health.v1.Health` tells
/// it; `clients`, as the client status discovery service tells them, with the contents of resources; and `clientBytes`,
/// the encoded form of that in hexadecimal. `report` is told if packages are installed first, see [`Python::with`].
///
/// # Errors
/// When the server or the tool does not do as it should.
pub async fn ask(
    address: &str,
    tls: Option<Tls<'_>>,
    report: &(dyn Fn(&str) + Sync),
) -> Result<Value, Error> {
    let python = Python::with(&PACKAGES, report).await?;
    let mut command = python.command();
    command.args(["-c", SCRIPT, address]);
    if let Some(Tls { ca, identity }) = tls {
        command.arg(ca).args(identity.into_iter().flatten());
    }
    let output = run(&mut command, ASKING).await?;
    Ok(serde_json::from_slice(&output.stdout)?)
}
