//! A direct look at a destination's gateway, past this domain's Envoy.
//!
//! The first bytes that come back tell TLS from HTTP. No secret is sent, and nothing of what comes is trusted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;
use model::{Endpoint, EndpointPort, Host, HostPort, quoted};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs};

use super::{Finding, Witness};

/// Time of a whole look.
const TOTAL: Duration = Duration::from_secs(3);

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(2);

/// A name may have any number of addresses.
const MAX_ADDRESSES: usize = 4;

/// The head of a gateway's answer is shorter.
const MAX_ANSWER_BYTES: usize = 4096;

/// First bytes of TLS: an alert or a handshake message (RFC 8446 section 5.1), then the version, whose first byte is 3.
const TLS_RECORDS: [[u8; 2]; 2] = [[0x15, 3], [0x16, 3]];

/// Looks from this host at the port of `endpoint` that handshakes take; `None`: a gateway seems to be there.
pub(super) async fn examine(endpoint: &Endpoint) -> Option<Finding> {
    let port = endpoint.ports.first()?;
    let place = HostPort { host: endpoint.host.clone(), port: port.port };
    Look { place, port, deadline: Instant::now() + TOTAL }.look().await.err()
}

struct Look<'a> {
    place: HostPort,
    port: &'a EndpointPort,
    deadline: Instant,
}

/// What is heard of a peer.
#[derive(Debug, PartialEq, Eq)]
enum Voice {
    Tls,
    Http {
        status: StatusCode,
        server: Option<String>,
        is_gateway: bool,
    },
    /// Neither of the two.
    Other,
    /// It closed without a byte.
    Closed,
    /// Nothing in time.
    Silent,
}

impl Look<'_> {
    async fn look(&self) -> Result<(), Finding> {
        let addresses = self.resolve().await?;
        if self.port.tls { self.expect_tls(&addresses).await } else { self.expect_http(&addresses).await }
    }

    async fn expect_tls(&self, addresses: &[SocketAddr]) -> Result<(), Finding> {
        match self.ask(addresses, &self.client_hello()).await? {
            Voice::Tls => Ok(()),
            Voice::Http { .. } => Err(Finding::plaintext(&self.place, &Witness::Mesh)),
            Voice::Silent => Err(Finding::silent(&self.place, &Witness::Mesh)),
            voice => Err(match self.ask(addresses, &self.request()).await? {
                Voice::Http { .. } => Finding::plaintext(&self.place, &Witness::Mesh),
                _ => self.no_gateway(voice),
            }),
        }
    }

    async fn expect_http(&self, addresses: &[SocketAddr]) -> Result<(), Finding> {
        match self.ask(addresses, &self.request()).await? {
            Voice::Http { is_gateway: true, .. } => Ok(()),
            Voice::Tls => Err(Finding::tls(&self.place, &Witness::Mesh)),
            Voice::Silent => Err(Finding::silent(&self.place, &Witness::Mesh)),
            voice @ Voice::Http { status, .. } if status != StatusCode::BAD_REQUEST => {
                Err(self.no_gateway(voice))
            }
            // So do servers with TLS that are asked without.
            voice => Err(match self.ask(addresses, &self.client_hello()).await? {
                Voice::Tls => Finding::tls(&self.place, &Witness::Mesh),
                _ => self.no_gateway(voice),
            }),
        }
    }

    fn no_gateway(&self, voice: Voice) -> Finding {
        let answer = match voice {
            Voice::Http { status, server, .. } => {
                let server = server.unwrap_or_else(|| "none".to_owned());
                format!("it says HTTP {status}, with the header server: {server}")
            }
            Voice::Closed => return Finding::closed(&self.place, &Witness::Mesh),
            Voice::Tls | Voice::Other | Voice::Silent => "it speaks no HTTP".to_owned(),
        };
        Finding::not_a_gateway(&self.place, &answer, &Witness::Mesh)
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, Finding> {
        let HostPort { host, port } = &self.place;
        let name = match host {
            Host::Address(address) => return Ok(vec![SocketAddr::new(*address, *port)]),
            Host::Name(name) => name,
        };
        let unresolved = |words: &str| {
            let mut finding = Finding::unresolved(&self.place, &Witness::Mesh);
            finding.message = format!("{words}: {}", finding.message);
            finding
        };
        match timeout_at(self.deadline, lookup_host((name.as_str(), *port))).await {
            Ok(Ok(addresses)) => Ok(addresses.take(MAX_ADDRESSES).collect()),
            Ok(Err(error)) => Err(unresolved(&quoted(&error.to_string()))),
            Err(_) => Err(unresolved("the resolver does not answer in time")),
        }
    }

    /// Sends `hello` by a new connection, and listens.
    async fn ask(&self, addresses: &[SocketAddr], hello: &[u8]) -> Result<Voice, Finding> {
        let until = self.deadline.min(Instant::now() + CONNECT);
        let mut stream = match timeout_at(until, TcpStream::connect(addresses)).await {
            Ok(connected) => connected.map_err(|error| self.no_connection(&error))?,
            Err(_) => return Err(Finding::connect_timeout(&self.place, &Witness::Mesh)),
        };
        let mut answer = Vec::new();
        let exchange = async {
            stream.write_all(hello).await?;
            let mut stream = stream.take(MAX_ANSWER_BYTES as u64);
            while !is_enough(&answer) && stream.read_buf(&mut answer).await? > 0 {}
            io::Result::Ok(())
        };
        let in_time = timeout_at(self.deadline, exchange).await.is_ok();
        Ok(match hear(&answer) {
            Voice::Closed if !in_time => Voice::Silent,
            voice => voice,
        })
    }

    fn no_connection(&self, error: &io::Error) -> Finding {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Finding::refused(&self.place, &Witness::Mesh),
            io::ErrorKind::TimedOut => Finding::connect_timeout(&self.place, &Witness::Mesh),
            io::ErrorKind::ConnectionReset => Finding::closed(&self.place, &Witness::Mesh),
            _ => {
                let mut finding = Finding::no_route(&self.place, &Witness::Mesh);
                finding.message = format!("{error}: {}", finding.message);
                finding
            }
        }
    }

    /// A request that every gateway refuses, as it names no source.
    fn request(&self) -> Vec<u8> {
        let prefix = &self.port.path_prefix;
        format!("GET {prefix}/ HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.place).into_bytes()
    }

    /// The first message of TLS; nothing, if none can be made.
    fn client_hello(&self) -> Vec<u8> {
        let mut hello = Vec::new();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let name = ServerName::try_from(self.place.host.to_string());
        if let (Ok(config), Ok(name)) = (config, name) {
            let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
            if let Ok(mut connection) = ClientConnection::new(Arc::new(config), name) {
                // A buffer takes all.
                let _ = connection.write_tls(&mut hello);
            }
        }
        hello
    }
}

/// More bytes would tell nothing.
fn is_enough(answer: &[u8]) -> bool {
    let is_http = answer.iter().zip(b"HTTP/").all(|(byte, expected)| byte == expected);
    answer.len() >= 5 && !is_http || answer.windows(4).any(|end| end == b"\r\n\r\n")
}

fn hear(answer: &[u8]) -> Voice {
    if answer.is_empty() {
        return Voice::Closed;
    }
    if TLS_RECORDS.iter().any(|start| answer.starts_with(start)) {
        return Voice::Tls;
    }
    http(answer).unwrap_or(Voice::Other)
}

fn http(answer: &[u8]) -> Option<Voice> {
    let text = String::from_utf8_lossy(answer);
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok()?;
    let mut server = None;
    let mut is_gateway = false;
    for (name, value) in lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("server") {
            server = Some(quoted(value.trim()));
        }
        is_gateway |= name.eq_ignore_ascii_case("kuscia-error-message");
    }
    Some(Voice::Http { status, server, is_gateway })
}
