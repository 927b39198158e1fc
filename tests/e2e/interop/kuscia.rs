//! Domains whose gateway is not ours: a program in Python that was written from Kuscia's wire, with a cryptographic
//! library of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use certs::{Fingerprint, PublicKey};
use harness::free_address;
use harness::process::Child;
use harness::python::Python;
use networkmesh::harness::domain::Domain;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::world::{DEADLINE, run};

const PACKAGES: [&str; 3] = ["cryptography==50.0.2", "cffi==2.1.1", "typing-extensions==4.16.0"];

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/interop/kuscia.py");

/// A domain that runs Kuscia.
pub(super) struct Kuscia {
    pub(super) name: &'static str,
    /// Base64 of its public key as PEM, as it stands in routes.
    pub(super) public_key: String,
    /// The file of its private key.
    pub(super) key: PathBuf,
    python: Python,
}

/// What came of a request for a token.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    /// The body of the request.
    pub(super) request: String,
    /// Status of the answer.
    pub(super) status: u16,
    /// Its body.
    pub(super) answer: String,
    /// What the body says, if the status was 200.
    #[serde(default)]
    pub(super) code: i32,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) token: String,
    #[serde(default)]
    pub(super) revision: i64,
    #[serde(default)]
    pub(super) expiration_time: i64,
}

/// A response.
#[derive(Debug, Deserialize)]
pub(super) struct Response {
    pub(super) status: u16,
    #[serde(rename = "answer", alias = "body")]
    pub(super) body: String,
}

impl Kuscia {
    /// A domain with a new key in `folder`.
    pub(super) async fn new(folder: &Path, name: &'static str) -> Self {
        let python = Python::with(&PACKAGES, &|_| ()).await.unwrap_or_else(|error| panic!("{error}"));
        let key = folder.join(format!("{name}.pem"));
        let mut kuscia = Self { name, public_key: String::new(), key, python };
        let made: Value = kuscia.run("keygen", json!({"key": kuscia.key})).await;
        kuscia.public_key = made["public_key"].as_str().unwrap().to_owned();
        kuscia
    }

    /// A domain with the same key.
    pub(super) fn twin(&self, name: &'static str) -> Self {
        let Self { public_key, key, python, .. } = self;
        Self { name, public_key: public_key.clone(), key: key.clone(), python: python.clone() }
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        PublicKey::from_base64_pem(&self.public_key).unwrap().fingerprint()
    }

    /// Asks `destination` for a token, as is usual but for `options`.
    pub(super) async fn handshake(&self, destination: &Domain, kind: &str, options: &Value) -> Answer {
        let usual = json!({
            "key": self.key,
            "peer": destination.name,
            "peer_key": destination.public_key.to_base64_pem(),
            "type": kind,
        });
        self.ask("source", destination, merged(usual, options)).await
    }

    /// Sends the body of an earlier request again.
    pub(super) async fn replay(&self, destination: &Domain, request: &str) -> Response {
        self.ask("replay", destination, json!({"peer": destination.name, "request": request})).await
    }

    /// Asks for the state of the token of `revision`.
    pub(super) async fn probe(&self, destination: &Domain, revision: Option<i64>) -> Response {
        self.ask("probe", destination, json!({"peer": destination.name, "revision": revision})).await
    }

    /// Calls the service `echo` of `destination`.
    pub(super) async fn call(&self, destination: &Domain, token: &str) -> Response {
        let host = format!("echo.{}.svc", destination.name);
        self.ask("call", destination, json!({"host": host, "token": token})).await
    }

    async fn ask<T: DeserializeOwned>(&self, command: &str, destination: &Domain, options: Value) -> T {
        let usual = json!({"address": destination.addresses.external, "domain": self.name});
        self.run(command, merged(usual, &options)).await
    }

    async fn run<T: DeserializeOwned>(&self, command: &str, options: Value) -> T {
        let ran = run(&mut self.command(command, &options), "install Python 3").await;
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{command} {options}: {error}: {ran:?}"))
    }

    fn command(&self, command: &str, options: &Value) -> Command {
        let mut python = self.python.command();
        python.arg(SCRIPT).arg(command).arg(options.to_string());
        python
    }
}

/// A gateway at which domains that run Kuscia are destinations.
pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    log: PathBuf,
    process: Child,
}

impl Gateway {
    /// Serves `domains`, by name, with the parameters of the program's `Domain`.
    pub(super) async fn serve(kuscia: &Kuscia, log: &Path, domains: &Value) -> Self {
        let address = free_address().unwrap();
        let process = start(kuscia, log, address, domains).await;
        Self { address, log: log.to_owned(), process }
    }

    /// Starts anew, without any token, and serves these domains.
    pub(super) async fn restart(&mut self, kuscia: &Kuscia, domains: &Value) {
        self.process.kill9().await.unwrap();
        self.process = start(kuscia, &self.log, self.address, domains).await;
    }

    /// The handshakes (`handshake`) or probes (`probe`) that came to `domain`, oldest first.
    pub(super) fn asked(&self, domain: &str, what: &str) -> Vec<Value> {
        let log = fs::read_to_string(&self.log).unwrap();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.map(|line| line[what].clone()).filter(|asked| asked["domain"] == domain).collect()
    }
}

async fn start(kuscia: &Kuscia, log: &Path, address: SocketAddr, domains: &Value) -> Child {
    let command = kuscia.command("destination", &json!({"address": address, "domains": domains}));
    let mut process = Child::spawn_tethered("a gateway of Kuscia's", command, log).unwrap();
    let listens = || async { TcpStream::connect(address).await.map(drop) };
    process.wait_ready(DEADLINE, listens).await.unwrap_or_else(|error| panic!("{error}"));
    process
}

/// `usual` with `options` over it.
pub(super) fn merged(mut usual: Value, options: &Value) -> Value {
    let options = options.as_object().unwrap().clone();
    usual.as_object_mut().unwrap().extend(options);
    usual
}
