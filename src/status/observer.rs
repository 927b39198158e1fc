//! Puts the state of a mesh together from its parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use certs::CertState;
use envoy::{Owner, Translator};
use jiff::Timestamp;
use model::api::DomainRouteStatus;
use model::{Direct, InboundAuth, OutboundAuth, Snapshot, Token};
use tokio::sync::watch;
use xds::{ResourceType, TypeSummary};

use super::problems::problems;
use super::{
    CertificateStatus, Complaints, ControllerStatus, DnsStatus, EnvoyStatus, RejectedObject,
    RejectedResource, ResourceCounts, RouteStatus, ServiceStatus, Status,
};
use crate::app::Identity;
use crate::handshake::Outcomes;
use crate::program::Gateways;
use crate::programmed;
use crate::replicas::Replicas;
use crate::source::SourceReport;

/// Where the parts of a status come from.
#[derive(Clone)]
pub(crate) struct Observer {
    pub(crate) identity: Identity,
    pub(crate) translator: Translator,
    pub(crate) source: watch::Receiver<SourceReport>,
    pub(crate) gateways: Gateways,
    pub(crate) replicas: Replicas,
    pub(crate) complaints: Complaints,
    pub(crate) dns_address: std::net::SocketAddr,
    pub(crate) dns: Arc<dns::Metrics>,
    pub(crate) handshakes: Outcomes,
    pub(crate) certificate: Option<watch::Receiver<CertState>>,
}

impl Observer {
    /// Whether there is a configuration to serve; that of an earlier run does not count.
    pub(crate) fn is_ready(&self) -> bool {
        let state = self.gateways.cache.state();
        state.is_loaded() && !state.is_restored()
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
            gateways: self.replicas.live().iter().cloned().collect(),
            controller: self.complaints.controller.as_ref().map(|state| controller_status(&state.borrow())),
            routes: routes(&snapshot),
            services: self.services(&snapshot),
            rejected: rejected(&snapshot),
            envoys: self.gateways.clients.summaries().into_iter().map(|client| self.envoy(client)).collect(),
            dns: DnsStatus { address: self.dns_address.to_string(), responses: dns_responses(&self.dns) },
            handshakes: self.handshakes.snapshot(),
            certificate: self.certificate.as_ref().map(|state| certificate(&state.borrow())),
        };
        status.problems = problems(&status, self.is_ready(), Timestamp::now());
        status.problems.extend(self.complaints.all());
        status
    }

    fn services(&self, snapshot: &Snapshot) -> Vec<ServiceStatus> {
        let mut rejections = BTreeMap::new();
        for rejection in self.gateways.clients.rejections() {
            if let Some(Owner::Service(name)) =
                self.translator.owner(rejection.ty.type_url(), &rejection.name)
            {
                rejections.insert(name, programmed::rejected(&rejection));
            }
        }
        let service = |service: &model::Service| ServiceStatus {
            host: snapshot.domain.service_host(service.name.as_str()),
            scope: format!("{:?}", service.scope),
            endpoints: service.endpoints.iter().map(ToString::to_string).collect(),
            conditions: rejections.get(&service.name).cloned().into_iter().collect(),
        };
        snapshot.services.values().map(|known| service(known)).collect()
    }

    fn envoy(&self, client: xds::ClientStatus<TypeSummary>) -> EnvoyStatus {
        let counts = |(ty, summary): (&ResourceType, &TypeSummary)| {
            let counts = ResourceCounts { sent: summary.sent, acked: summary.acked, nacked: summary.nacked };
            (ty.to_string(), counts)
        };
        let rejected = client.types.iter().flat_map(|(ty, summary)| {
            summary.rejected.iter().map(move |(name, nack)| RejectedResource {
                resource: format!("{ty} {name}"),
                object: self.object(*ty, name),
                message: nack.message.to_string(),
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

    /// The object that a resource was made of.
    fn object(&self, ty: ResourceType, name: &str) -> Option<String> {
        let domain = &self.identity.domain;
        Some(match self.translator.owner(ty.type_url(), name)? {
            Owner::Outbound(destination) => format!("DomainRoute {domain}/{domain}-{destination}"),
            Owner::Inbound(source) => format!("DomainRoute {domain}/{source}-{domain}"),
            Owner::Service(service) => format!("Service {domain}/{service}"),
        })
    }
}

fn controller_status(state: &controller::State) -> ControllerStatus {
    ControllerStatus { leader: state.leader.clone(), is_leader: state.is_leader }
}

fn routes(snapshot: &Snapshot) -> Vec<RouteStatus> {
    let outbound = snapshot.outbound.values().map(|route| {
        let tokens = match &route.auth {
            OutboundAuth::Token { sending, .. } => Some(sending.as_slice()),
            OutboundAuth::Mtls | OutboundAuth::None => None,
        };
        let (_, Direct { endpoint, .. }) = route.first_hop();
        let endpoint = endpoint.ports.first().map(|port| format!("{}:{}", endpoint.host, port.port));
        let status = route_status(&route.object.name, route.destination.as_str(), tokens, &route.status);
        RouteStatus { direction: "outbound".to_owned(), endpoint, ..status }
    });
    let inbound = snapshot.inbound.values().map(|route| {
        let tokens = match &route.auth {
            InboundAuth::Token { accepted, .. } => Some(accepted.as_slice()),
            InboundAuth::Mtls { .. } | InboundAuth::None => None,
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

fn rejected(snapshot: &Snapshot) -> Vec<RejectedObject> {
    let object = |(object, errors): (&model::ObjectRef, &Arc<model::FieldErrors>)| RejectedObject {
        object: object.to_string(),
        errors: errors.iter().map(ToString::to_string).collect(),
    };
    snapshot.rejected.iter().map(object).collect()
}

fn certificate(state: &CertState) -> CertificateStatus {
    let not_after = Timestamp::try_from(state.leaf.not_after).unwrap_or(Timestamp::MAX);
    CertificateStatus { not_after, error: state.error.clone() }
}

fn dns_responses(metrics: &dns::Metrics) -> BTreeMap<String, u64> {
    metrics.snapshot().into_iter().map(|(rcode, count)| (rcode.to_owned(), count)).collect()
}
