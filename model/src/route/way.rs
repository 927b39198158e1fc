//! How requests get to a destination.

use std::sync::Arc;
use std::time::Duration;

use super::OutboundRoute;
use crate::api::SecretString;
use crate::{DomainId, Host, ServiceName};

/// How requests get to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// To its gateway.
    Direct(Arc<Direct>),
    /// To the gateway of another domain, which forwards them (`transitMethod: THIRD-DOMAIN`).
    Transit(Transit),
}

/// A gateway, and how it and this domain know each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Whom its TLS ports are to prove to be.
    pub trust: Trust,
    /// What this domain shows TLS ports that ask for a client certificate.
    pub client: Option<ClientCertificate>,
}

/// A detour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transit {
    /// The domains that requests pass, as far as this domain's routes tell: at least one, and that of the first gateway
    /// first.
    pub domains: Arc<[DomainId]>,
    /// The route to the last of them, by which requests leave.
    pub next: Arc<OutboundRoute>,
}

/// The gateway of a destination: at most one port a protocol, at least one port in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its host.
    pub host: Host,
    /// Its ports, that for HTTP first.
    pub ports: Vec<EndpointPort>,
    /// The name that TLS ports are asked for (SNI, RFC 6066) and that their certificate must be for. `None`: they are
    /// asked for the host, if that is a name, and their certificate need only be for it where [`Trust::SystemRoots`] says
    /// whom to trust.
    pub server_name: Option<Host>,
    /// How long requests may take.
    pub timeouts: Timeouts,
    /// gRPC is carried over HTTP/1.1, for middleboxes that know no other (label `kuscia.secretflow/grpc-degrade`). Calls
    /// have one request and one response then.
    pub grpc_degrade: bool,
}

/// A port of a destination's gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// The traffic that takes it.
    pub protocol: PortProtocol,
    /// Its number.
    pub port: u16,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// What is put in front of paths: empty, or starting with `/` and not ending with it.
    pub path_prefix: String,
}

/// The traffic that a port of a gateway takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortProtocol {
    /// Everything, or all but gRPC where there is a port for gRPC too.
    Http,
    /// gRPC; everything where it is the only port.
    Grpc,
}

/// What the certificate of a destination's gateway is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// This authority, as PEM: the route's `tlsCA`, or else the destination's own, from its `Domain`.
    Authority(Arc<str>),
    /// The authorities that the system trusts, and the endpoint's host name.
    SystemRoots,
    /// Nothing: whoever answers is taken for the destination, because the route says so in words.
    Anybody,
}

/// What a source shows to a gateway that asks who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// A certificate that this domain's own authority signs and the mesh renews.
    Own,
    /// The route's.
    Given {
        /// The certificate, and those that lead to its authority, as PEM.
        chain_pem: Arc<str>,
        /// Its private key, as PEM.
        key_pem: Arc<SecretString>,
    },
}

/// How long requests may take on their way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection to the gateway is there.
    pub connect: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// From the end of a request to the end of its response; `None`: any time.
    pub request: Option<Duration>,
}

impl Default for Timeouts {
    /// Jobs hold streams open for hours, so only a stream on which nothing has moved for a day ends.
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), idle: Duration::from_hours(24), request: None }
    }
}

/// How fast requests of one task may move data to a destination, and responses back: all of them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BandwidthLimit {
    /// The services of the task: requests for services of the destination whose names begin so are limited.
    pub services: Box<[ServiceName]>,
    /// The limit in each direction, in kibibytes a second as Kuscia and Envoy count it.
    pub limit: u64,
}
