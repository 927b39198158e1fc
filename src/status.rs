//! What an operator wants to know of a running mesh, in one answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use certs::CertState;
use jiff::Timestamp;
use model::api::{Condition, ConditionStatus, DomainRouteStatus};
use model::{InboundAuth, OutboundAuth, Snapshot, Token};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use xds::ResourceType;

use crate::app::Identity;
use crate::program::Gateways;
use crate::source::{Severity, SourceReport};

/// State of a mesh.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// ID of the domain.
    pub domain: String,
    /// Name of this gateway.
    pub instance: String,
    /// Version of the mesh.
    pub version: String,
    /// Fingerprint of the domain's public key, to compare with what partners hold.
    pub key_fingerprint: String,
    /// Everything that is not as it should be, one line each; empty: all is well.
    pub problems: Vec<String>,
    /// The source of manifests.
    pub source: SourceReport,
    /// The routes in force.
    pub routes: Vec<RouteStatus>,
    /// The services of the domain.
    pub services: Vec<ServiceStatus>,
    /// Objects whose newest version is not in force.
    pub rejected: Vec<RejectedObject>,
    /// The connected Envoys.
    pub envoys: Vec<EnvoyStatus>,
    /// The in-domain DNS.
    pub dns: DnsStatus,
    /// Certificate of the external listener, where that speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,
}

/// State of a route.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// Name of the `DomainRoute`.
    pub name: String,
    /// `outbound` or `inbound`.
    pub direction: String,
    /// The domain at the other end.
    pub peer: String,
    /// `Token` or `None`.
    pub authentication: String,
    /// The peer's gateway, of an outbound route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Revisions of the tokens that are sent or accepted, oldest first.
    pub token_revisions: Vec<i64>,
    /// When the newest of them ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_expires: Option<Timestamp>,
    /// The conditions in the object's status.
    pub conditions: Vec<Condition>,
}

impl RouteStatus {
    /// Whether a condition is known to hold.
    #[must_use]
    pub fn holds(&self, condition: &str) -> bool {
        let mut conditions = self.conditions.iter();
        conditions.any(|known| known.type_ == condition && known.status == ConditionStatus::True)
    }
}

/// State of a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its host.
    pub host: String,
    /// Who may call it.
    pub scope: String,
    /// Its ready addresses.
    pub endpoints: Vec<String>,
}

/// An object that is not in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RejectedObject {
    /// Kind, namespace and name.
    pub object: String,
    /// What is wrong, with field paths and remedies.
    pub errors: Vec<String>,
}

/// A connected Envoy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvoyStatus {
    /// ID of its node.
    pub node: String,
    /// Its version, as it says.
    pub user_agent: String,
    /// `Delta` or `StateOfTheWorld`.
    pub protocol: String,
    /// Since when.
    pub connected_since: Timestamp,
    /// Resources by type.
    pub resources: BTreeMap<String, ResourceCounts>,
    /// What it rejects.
    pub rejected: Vec<RejectedResource>,
}

/// How many resources of one type an Envoy was sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResourceCounts {
    /// Sent.
    pub sent: usize,
    /// Accepted.
    pub acked: usize,
    /// Rejected.
    pub nacked: usize,
}

/// A resource that an Envoy rejects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RejectedResource {
    /// Its type and name.
    pub resource: String,
    /// Envoy's words.
    pub message: String,
}

/// State of the in-domain DNS.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsStatus {
    /// Where it listens.
    pub address: String,
    /// Answers by response code.
    pub responses: BTreeMap<String, u64>,
}

/// State of a certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// When it ends.
    pub not_after: Timestamp,
    /// Why the last renewal failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where the parts of a status come from.
#[derive(Clone)]
pub(crate) struct Observer {
    pub(crate) identity: Identity,
    pub(crate) source: watch::Receiver<SourceReport>,
    pub(crate) gateways: Gateways,
    pub(crate) dns_address: std::net::SocketAddr,
    pub(crate) dns: Arc<dns::Metrics>,
    pub(crate) certificate: Option<watch::Receiver<CertState>>,
}

impl Observer {
    /// Whether there is a configuration to serve.
    pub(crate) fn is_ready(&self) -> bool {
        self.gateways.cache.state().is_loaded()
    }

    /// The state at this moment.
    pub(crate) fn status(&self) -> Status {
        let snapshot = self.gateways.programmed.borrow().clone();
        let mut status = Status {
            domain: self.identity.domain.to_string(),
            instance: self.identity.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            key_fingerprint: self.identity.key.public_key().fingerprint().to_string(),
            problems: Vec::new(),
            source: self.source.borrow().clone(),
            routes: routes(&snapshot),
            services: services(&snapshot),
            rejected: rejected(&snapshot),
            envoys: self.gateways.clients.snapshot().into_iter().map(envoy).collect(),
            dns: DnsStatus { address: self.dns_address.to_string(), responses: dns_responses(&self.dns) },
            certificate: self.certificate.as_ref().map(|state| certificate(&state.borrow())),
        };
        status.problems = problems(&status, self.is_ready());
        status
    }
}

fn routes(snapshot: &Snapshot) -> Vec<RouteStatus> {
    let outbound = snapshot.outbound.values().map(|route| {
        let tokens = match &route.auth {
            OutboundAuth::Token { sending, .. } => Some(sending.as_slice()),
            OutboundAuth::None => None,
        };
        let endpoint =
            route.endpoint.ports.first().map(|port| format!("{}:{}", route.endpoint.host, port.port));
        let status = route_status(&route.object.name, route.destination.as_str(), tokens, &route.status);
        RouteStatus { direction: "outbound".to_owned(), endpoint, ..status }
    });
    let inbound = snapshot.inbound.values().map(|route| {
        let tokens = match &route.auth {
            InboundAuth::Token { accepted, .. } => Some(accepted.as_slice()),
            InboundAuth::None => None,
        };
        let status = route_status(&route.object.name, route.source.as_str(), tokens, &route.status);
        RouteStatus { direction: "inbound".to_owned(), ..status }
    });
    outbound.chain(inbound).collect()
}

/// `tokens` is `None` for a route without token authentication.
fn route_status(name: &str, peer: &str, tokens: Option<&[Token]>, status: &DomainRouteStatus) -> RouteStatus {
    RouteStatus {
        name: name.to_owned(),
        direction: String::new(),
        peer: peer.to_owned(),
        authentication: if tokens.is_some() { "Token" } else { "None" }.to_owned(),
        endpoint: None,
        token_revisions: tokens.into_iter().flatten().map(|token| token.revision).collect(),
        token_expires: tokens.and_then(<[Token]>::last).and_then(|token| token.expires),
        conditions: status.conditions.clone(),
    }
}

fn services(snapshot: &Snapshot) -> Vec<ServiceStatus> {
    let service = |service: &model::Service| ServiceStatus {
        host: snapshot.domain.service_host(service.name.as_str()),
        scope: format!("{:?}", service.scope),
        endpoints: service.endpoints.iter().map(ToString::to_string).collect(),
    };
    snapshot.services.values().map(|known| service(known)).collect()
}

fn rejected(snapshot: &Snapshot) -> Vec<RejectedObject> {
    let object = |(object, errors): (&model::ObjectRef, &model::FieldErrors)| RejectedObject {
        object: object.to_string(),
        errors: errors.iter().map(ToString::to_string).collect(),
    };
    snapshot.rejected.iter().map(object).collect()
}

fn envoy(client: xds::ClientStatus) -> EnvoyStatus {
    let counts = |(ty, status): (&ResourceType, &xds::TypeStatus)| {
        let counts = ResourceCounts { sent: status.sent, acked: status.acked, nacked: status.nacked };
        (ty.to_string(), counts)
    };
    let rejected = client.types.iter().flat_map(|(ty, status)| {
        let nacked =
            status.resources.iter().filter_map(|(name, resource)| Some((name, resource.nack.as_ref()?)));
        nacked.map(move |(name, nack)| RejectedResource {
            resource: format!("{ty} {name}"),
            message: nack.message.clone(),
        })
    });
    EnvoyStatus {
        resources: client.types.iter().map(counts).collect(),
        rejected: rejected.collect(),
        node: client.node,
        user_agent: client.user_agent,
        protocol: format!("{:?}", client.protocol),
        connected_since: client.connected_since,
    }
}

fn certificate(state: &CertState) -> CertificateStatus {
    let not_after = Timestamp::try_from(state.leaf.not_after).unwrap_or(Timestamp::MAX);
    CertificateStatus { not_after, error: state.error.clone() }
}

fn dns_responses(metrics: &dns::Metrics) -> BTreeMap<String, u64> {
    metrics.snapshot().into_iter().map(|(rcode, count)| (rcode.to_owned(), count)).collect()
}

/// Every line names the thing and what is wrong with it.
fn problems(status: &Status, ready: bool) -> Vec<String> {
    let mut problems = Vec::new();
    if !ready {
        problems.push("no configuration is loaded yet".to_owned());
    }
    let errors = status.source.problems.iter().filter(|problem| problem.severity == Severity::Error);
    problems.extend(errors.map(|problem| format!("{}: {}", problem.file.display(), problem.message)));
    for object in &status.rejected {
        problems.extend(object.errors.iter().map(|error| format!("{}: {error}", object.object)));
    }
    for route in &status.routes {
        let failed = route.conditions.iter().filter(|condition| condition.type_ == "Authenticated");
        let failed = failed.filter(|condition| condition.status == ConditionStatus::False);
        problems.extend(
            failed.map(|condition| {
                format!("route {}: {}: {}", route.name, condition.reason, condition.message)
            }),
        );
        if route.direction == "outbound"
            && route.authentication == "Token"
            && route.token_revisions.is_empty()
        {
            problems.push(format!("route {}: no token is negotiated with {} yet", route.name, route.peer));
        }
    }
    if status.envoys.is_empty() {
        problems
            .push("no Envoy is connected; start one with the output of `networkmesh bootstrap`".to_owned());
    }
    for envoy in &status.envoys {
        let rejected = envoy.rejected.iter();
        problems.extend(
            rejected.map(|nack| format!("Envoy {} rejects {}: {}", envoy.node, nack.resource, nack.message)),
        );
    }
    if let Some(certificate) = &status.certificate {
        problems.extend(certificate.error.iter().map(|error| format!("certificate not renewed: {error}")));
        if certificate.not_after < Timestamp::now() {
            problems.push("the certificate of the external listener has expired".to_owned());
        }
    }
    problems
}
