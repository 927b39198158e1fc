//! `Service`s of this domain with their ready endpoints, parsed.

mod parse;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{DomainId, HostPort, ServiceName};

pub(crate) use parse::parse;

/// A service of this domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// From where it may be called.
    pub scope: PortScope,
    /// Which other domains may call it, where `scope` lets them.
    pub access: Access,
    /// What it speaks.
    pub protocol: Protocol,
    /// Whom it must prove to be; `None`: it speaks no TLS.
    pub tls: Option<ServiceTls>,
    /// Which of its replicas a request goes to.
    pub affinity: Affinity,
    /// True if clients of this domain are to go through the gateway too; never where `scope` lets nobody.
    pub through_gateway: bool,
    /// True if it is noted when a gateway first served it.
    pub has_ready_time: bool,
    /// The name of its port, by which SRV records are asked for (RFC 2782); empty for a port without a name.
    pub port_name: Box<str>,
    /// The ready addresses, of the port of that name; sorted, each once.
    pub endpoints: Arc<[SocketAddr]>,
    /// The host that it really is (`type: ExternalName`), instead of addresses.
    pub external: Option<Box<HostPort>>,
}

impl Service {
    /// A service of which nothing special is said: it speaks HTTP with everybody, at these addresses of a port without a
    /// name.
    #[must_use]
    pub fn new(name: ServiceName, endpoints: Arc<[SocketAddr]>) -> Self {
        Self {
            name,
            scope: PortScope::Cluster,
            access: Access::Anyone,
            protocol: Protocol::Http,
            tls: None,
            affinity: Affinity::None,
            through_gateway: false,
            has_ready_time: false,
            port_name: Box::default(),
            endpoints,
            external: None,
        }
    }
}

/// From where a service may be called (label `kuscia.secretflow/port-scope`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortScope {
    /// By this and other domains: the default.
    Cluster,
    /// By this domain only.
    Domain,
    /// By nobody through the gateway.
    Local,
}

/// Which other domains may call a service (annotation `kuscia.secretflow/access-domain`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every domain with a route to this one.
    Anyone,
    /// These only, sorted, each once.
    Only(Box<[DomainId]>),
}

/// What a service speaks (annotation `kuscia.secretflow/protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, or HTTP/2 where the client speaks it: the default.
    Http,
    /// gRPC: always HTTP/2.
    Grpc,
}

/// Whom a service that speaks TLS must prove to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceTls {
    /// Itself: its certificate is signed by this domain's authority, or, where it is another host
    /// ([`Service::external`]), by one that the system trusts, and for that host.
    Verified,
    /// Anybody, because the service says so in words.
    Unverified,
}

/// Which replica of a service a request goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// Any: that with the least to do.
    #[default]
    None,
    /// The same for the same client: for the same address within this domain, for the same domain from elsewhere
    /// (`sessionAffinity: ClientIP`).
    Client,
    /// The same for the same cookie (annotation `kuscia.secretflow/sticky-session-cookie`).
    Cookie(Box<SessionCookie>),
}

/// The cookie by which a client stays with a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCookie {
    /// Its name.
    pub name: Box<str>,
    /// How long clients are to keep it.
    pub ttl: Duration,
}

/// The annotation of a service that says since when a gateway serves it.
pub const READY_TIME: &str = "kuscia.secretflow/ready-time";

/// What an object tells of a service.
#[derive(Debug)]
pub(crate) struct Definition {
    /// The service, without addresses: those stand in other objects.
    pub(crate) service: Service,
    /// What its task may send where.
    pub(crate) quota: Quota,
}

/// What the task of a service may send to other domains (annotations `kuscia.secretflow/bandwidth-limit-<domain>`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quota {
    /// The task (annotation `kuscia.secretflow/task-id`), whose services share their limits; `None`: the service is
    /// alone.
    pub(crate) task: Option<Box<str>>,
    /// The limits, by destination, in kibibytes a second.
    pub(crate) limits: Box<[(DomainId, u64)]>,
}
