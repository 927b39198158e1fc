//! Puts the state of a mesh together from its parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use certs::CertState;
use dns::NameKind;
use envoy::{Owner, Translator};
use hickory_proto::rr::Name;
use jiff::Timestamp;
use model::api::DomainRouteStatus;
use model::{Direct, DomainId, InboundAuth, OutboundAuth, OutboundRoute, Snapshot, Token, Way};
use tokio::sync::watch;
use xds::{ResourceType, TypeSummary};

use super::problems::problems;
use super::{
    CertificateStatus, Complaints, ControllerStatus, DnsObserver, EnvoyStatus, RejectedObject,
    RejectedResource, ResourceCounts, RouteStatus, ServiceStatus, Status,
};
use crate::app::Identity;
use crate::config::reachable;
use crate::explain::{self, Explanation, Facts, lookup};
use crate::handshake::{Outcomes, Path};
use crate::names::States;
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
    pub(crate) dns: DnsObserver,
    pub(crate) names: States,
    pub(crate) handshakes: Outcomes,
    pub(crate) certificate: Option<watch::Receiver<CertState>>,
    pub(crate) client_certificate: watch::Receiver<CertState>,
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
            dns: self.dns.status(),
            handshakes: self.handshakes.snapshot(),
            certificate: self.certificate.as_ref().map(|state| certificate(&state.borrow())),
            client_certificate: Some(certificate(&self.client_certificate.borrow())),
        };
        status.problems = problems(&status, self.is_ready(), Timestamp::now());
        status.problems.extend(self.complaints.all());
        status
    }

    /// Why `name`, taken for absolute, resolves as it does. Where it leads to others, it is
    /// looked up, if this host may.
    pub(crate) async fn explain(&self, name: &Name) -> Explanation {
        let snapshot = self.gateways.programmed.borrow().clone();
        let found = self.dns.names.explain(name);
        let state = explain::owner(&found, &snapshot.domain).and_then(|owner| self.names.of(&owner));
        let forwarding = self.dns.forwarding();
        let server = reachable(self.dns.address);
        let may_ask = self.dns.recursion.allows(server.ip());
        let leads_to_others = matches!(found.kind, NameKind::NotOurs | NameKind::Alias);
        let response =
            if leads_to_others && may_ask { Some(lookup::addresses(server, name).await) } else { None };
        Explanation::new(name, &Facts { snapshot: &snapshot, found, state, forwarding, response })
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
        let (authentication, tokens) = match &route.auth {
            OutboundAuth::Token { sending, .. } => ("Token", sending.as_slice()),
            OutboundAuth::Mtls => ("MTLS", &[][..]),
            OutboundAuth::None => ("None", &[][..]),
        };
        let (_, Direct { endpoint, .. }) = route.first_hop();
        RouteStatus {
            direction: "outbound".to_owned(),
            authentication: authentication.to_owned(),
            path: path(&snapshot.domain, route),
            endpoint: endpoint.ports.first().map(|port| format!("{}:{}", endpoint.host, port.port)),
            ..route_status(&route.object.name, route.destination.as_str(), tokens, &route.status)
        }
    });
    let inbound = snapshot.inbound.values().map(|route| RouteStatus {
        direction: "inbound".to_owned(),
        authentication: match &route.auth {
            InboundAuth::Token { .. } => "Token",
            InboundAuth::Mtls { .. } => "MTLS",
            InboundAuth::None => "None",
        }
        .to_owned(),
        carrier: route.carrier.as_ref().map(ToString::to_string),
        ..route_status(&route.object.name, route.source.as_str(), route.accepted(), &route.status)
    });
    let forwarded = snapshot.forwarded.values().map(|route| {
        let peer = format!("{} → {}", route.source, route.destination);
        RouteStatus {
            direction: "forward".to_owned(),
            carrier: Some(route.carrier.to_string()),
            ..route_status(&route.object.name, &peer, &[], &route.status)
        }
    });
    outbound.chain(inbound).chain(forwarded).collect()
}

/// The domains that requests of a detour pass; none of a route that leads straight to its destination.
fn path(domain: &DomainId, route: &OutboundRoute) -> Vec<String> {
    let Way::Transit(transit) = &route.way else { return Vec::new() };
    let told = route.status.conditions.iter().find(|known| known.type_ == "DataPath");
    let told: Option<Path> = told.and_then(|known| known.message.parse().ok());
    let by_way_of = told.as_ref().map_or(&*transit.domains, |path| &path.by_way_of);
    let domains = [domain].into_iter().chain(by_way_of).chain([&route.destination]);
    domains.map(ToString::to_string).collect()
}

fn route_status(name: &str, peer: &str, tokens: &[Token], status: &DomainRouteStatus) -> RouteStatus {
    RouteStatus {
        name: name.to_owned(),
        direction: String::new(),
        peer: peer.to_owned(),
        authentication: String::new(),
        path: Vec::new(),
        carrier: None,
        endpoint: None,
        token_revisions: tokens.iter().map(|token| token.revision).collect(),
        token_expires: tokens.last().and_then(|token| token.expires),
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

#[cfg(test)]
mod tests {
    use model::api::{Condition, ConditionStatus};
    use serde_json::{Value, json};

    use super::*;
    use crate::program::tests::{open_route, snapshot};
    use crate::status::tests::condition;

    fn routes_of(domain: &str, manifests: &[Value]) -> Vec<RouteStatus> {
        routes(&snapshot(domain, manifests))
    }

    #[test]
    fn a_detour_shows_the_way_that_gateways_tell_or_else_what_the_routes_say() {
        let told = Condition {
            message: "answered by dave by way of bob, carol".to_owned(),
            ..condition("DataPath", ConditionStatus::True)
        };
        for (conditions, path) in [
            (vec![], &["alice", "bob", "dave"][..]),
            (vec![condition("DataPath", ConditionStatus::False)], &["alice", "bob", "dave"]),
            (vec![told], &["alice", "bob", "carol", "dave"]),
        ] {
            let mut manifests = [open_route("alice", "bob", None), open_route("alice", "dave", Some("bob"))];
            manifests[1]["status"] = json!({"conditions": conditions});
            let [to_bob, to_dave] = routes_of("alice", &manifests).try_into().expect("two routes");
            assert_eq!(to_bob.path, [] as [&str; 0]);
            assert_eq!(to_dave.path, path);
            assert_eq!(
                to_dave.endpoint.as_deref(),
                Some("gateway.example.com:1080"),
                "that of the first gateway"
            );
        }
    }

    #[test]
    fn routes_that_only_pass_this_domain_are_listed_with_who_brings_them() {
        let manifests = [("alice", "bob", None), ("bob", "dave", None), ("alice", "dave", Some("bob"))]
            .map(|(source, destination, transit)| open_route(source, destination, transit));
        let shown: Vec<String> = routes_of("bob", &manifests)
            .iter()
            .map(|route| format!("{} {} {} {:?}", route.name, route.direction, route.peer, route.carrier))
            .collect();
        assert_eq!(
            shown,
            [
                "bob-dave outbound dave None",
                "alice-bob inbound alice None",
                "alice-dave forward alice → dave Some(\"alice\")"
            ]
        );
    }
}
