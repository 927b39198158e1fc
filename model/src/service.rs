//! `Service`s of this domain with their ready endpoints, parsed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use kube::ResourceExt as _;

use crate::error::{FieldErrors, Problem};
use crate::names::{DATAPATH_SERVICE, HANDSHAKE_SERVICE};
use crate::{DomainId, HostPort, ServiceName};

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
    /// True if clients of this domain are to go through the gateway too.
    pub through_gateway: bool,
    /// True if it is noted when a gateway first served it.
    pub has_ready_time: bool,
    /// The ready addresses, sorted, each once.
    pub endpoints: Arc<[SocketAddr]>,
    /// The host that it really is (`type: ExternalName`), instead of addresses.
    pub external: Option<HostPort>,
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
    Cookie {
        /// Its name.
        name: Box<str>,
        /// How long clients are to keep it.
        ttl: Duration,
    },
}

/// The annotation of a service that says since when a gateway serves it.
pub const READY_TIME: &str = "kuscia.secretflow/ready-time";

const PORT_SCOPE: &str = "kuscia.secretflow/port-scope";
const LOAD_BALANCER: &str = "kuscia.secretflow/loadbalancer";
const ACCESS_DOMAIN: &str = "kuscia.secretflow/access-domain";
const PROTOCOL: &str = "kuscia.secretflow/protocol";

/// What an object tells of a service.
#[derive(Debug)]
pub(crate) struct Definition {
    /// The service, without addresses: those stand in other objects.
    pub(crate) service: Service,
    /// Name of the port whose addresses they are; empty for a port without a name.
    pub(crate) port_name: Box<str>,
}

/// Parses a service.
pub(crate) fn parse(service: &core::Service) -> Result<Definition, FieldErrors> {
    let mut errors = FieldErrors::default();
    let name = errors.check("metadata.name", parse_name(&service.name_any()));
    let labels = service.labels();
    let annotations = service.annotations();
    let scope = parse_scope(labels.get(PORT_SCOPE).map(String::as_str));
    let scope = errors.check(&format!("metadata.labels[{PORT_SCOPE}]"), scope);
    let access = parse_access(annotations.get(ACCESS_DOMAIN).map(String::as_str));
    let access = errors.check(&format!("metadata.annotations[{ACCESS_DOMAIN}]"), access);
    let protocol = parse_protocol(annotations.get(PROTOCOL).map(String::as_str));
    let protocol = errors.check(&format!("metadata.annotations[{PROTOCOL}]"), protocol);
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        let remedy = "give the service a selector or Endpoints";
        errors.add("spec.type", Problem::new("ExternalName is not supported", remedy));
    }
    let port = spec.and_then(|spec| spec.ports.as_ref()?.first());
    if port.is_none() {
        errors.add("spec.ports", Problem::new("is empty", "add the port that the service listens on"));
    }
    match (name, scope, access, protocol, port) {
        (Some(name), Some(scope), Some(access), Some(protocol), Some(port)) if errors.is_empty() => {
            let service = Service {
                name,
                scope,
                access,
                protocol,
                through_gateway: labels.get(LOAD_BALANCER).is_some_and(|value| value == "domainroute"),
                has_ready_time: annotations.contains_key(READY_TIME),
                endpoints: Arc::default(),
                tls: None,
                affinity: Affinity::None,
                external: None,
            };
            Ok(Definition { service, port_name: port.name.as_deref().unwrap_or_default().into() })
        }
        _ => Err(errors),
    }
}

fn parse_name(name: &str) -> Result<ServiceName, Problem> {
    if [HANDSHAKE_SERVICE, DATAPATH_SERVICE].contains(&name) {
        return Err(Problem::new("is the name of the mesh's own service", "choose another name"));
    }
    Ok(name.parse::<ServiceName>()?)
}

fn parse_scope(label: Option<&str>) -> Result<PortScope, Problem> {
    match label {
        None | Some("" | "Cluster") => Ok(PortScope::Cluster),
        Some("Domain") => Ok(PortScope::Domain),
        Some("Local") => Ok(PortScope::Local),
        Some(other) => {
            Err(Problem::new(format!("{other:?} is unknown"), "use \"Cluster\", \"Domain\" or \"Local\""))
        }
    }
}

fn parse_access(annotation: Option<&str>) -> Result<Access, Problem> {
    let Some(list) = annotation.filter(|list| !list.trim().is_empty()) else { return Ok(Access::Anyone) };
    let domains: Result<BTreeSet<DomainId>, _> =
        list.split(',').map(|domain| domain.trim().parse()).collect();
    Ok(Access::Only(domains?.into_iter().collect()))
}

fn parse_protocol(annotation: Option<&str>) -> Result<Protocol, Problem> {
    match annotation {
        None | Some("" | "HTTP") => Ok(Protocol::Http),
        Some("GRPC") => Ok(Protocol::Grpc),
        Some(other) => Err(Problem::new(format!("{other:?} is not supported"), "use \"HTTP\" or \"GRPC\"")),
    }
}
