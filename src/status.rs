//! What an operator wants to know of a running mesh, in one answer.

mod complaints;
mod dns;
mod observer;
mod problems;

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::api::{Condition, ConditionStatus};
use serde::{Deserialize, Serialize};

use crate::source::SourceReport;

pub(crate) use complaints::Complaints;
pub(crate) use dns::DnsObserver;
pub use dns::{DnsStatus, UpstreamStatus};
pub(crate) use observer::Observer;

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
    /// The live gateways of the domain; several where they share a Kubernetes namespace.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// The controller, where this mesh is a candidate for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<ControllerStatus>,
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
    /// Handshakes that other domains have asked for, by what became of them: `Answered`, or why not.
    #[serde(default)]
    pub handshakes: BTreeMap<String, u64>,
    /// Certificate of the external listener, where that speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,
    /// Certificate that gateways of other domains are shown, where a route has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<CertificateStatus>,
}

/// Who does the controller's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerStatus {
    /// The candidate that does, as far as this one knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Whether it is this mesh.
    pub is_leader: bool,
}

/// The conditions of a route. None but the first holds for long if one before it does not.
const CONDITIONS: [&str; 5] = ["Accepted", "Programmed", "Reachable", "Authenticated", "DataPath"];

/// State of a route.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// Name of the `DomainRoute`.
    pub name: String,
    /// `outbound`, `inbound`, or `forward`: it is between two other domains, and passes this one.
    pub direction: String,
    /// The domain at the other end; both ends, `alice → dave`, where it passes this domain.
    pub peer: String,
    /// `Token`, `MTLS` or `None`; empty where it passes this domain.
    pub authentication: String,
    /// The domains that requests pass, from the source to the destination, where others forward them: as their gateways say
    /// themselves, or else as far as the routes of this domain tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// The domain whose gateway brings the requests, if it is not the peer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<String>,
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
    /// The conditions that do not hold, those first that others need to hold.
    pub fn failed(&self) -> impl Iterator<Item = &Condition> {
        let of_type = |type_| self.conditions.iter().find(move |known| known.type_ == type_);
        let failed = CONDITIONS.into_iter().filter_map(of_type);
        failed.filter(|known| known.status == ConditionStatus::False)
    }

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
    /// `Programmed`, while an Envoy rejects what was made of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
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
    /// The object that it was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Envoy's words.
    pub message: String,
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::source::SourceKind;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    /// A status in which all is well, until second 1000.
    pub(crate) fn well() -> Status {
        let counts = ResourceCounts { sent: 1, acked: 1, nacked: 0 };
        Status {
            domain: "alice".to_owned(),
            instance: "alice-gateway".to_owned(),
            version: "1".to_owned(),
            key_fingerprint: "SHA256:x".to_owned(),
            problems: Vec::new(),
            source: SourceReport::new(SourceKind::Directory),
            gateways: vec!["alice-gateway".to_owned()],
            controller: None,
            routes: vec![RouteStatus {
                name: "alice-bob".to_owned(),
                direction: "outbound".to_owned(),
                peer: "bob".to_owned(),
                authentication: "Token".to_owned(),
                path: Vec::new(),
                carrier: None,
                endpoint: None,
                token_revisions: vec![2, 3],
                token_expires: Some(at(1000)),
                conditions: vec![condition("Authenticated", ConditionStatus::True)],
            }],
            services: Vec::new(),
            rejected: Vec::new(),
            envoys: vec![EnvoyStatus {
                node: "gateway".to_owned(),
                user_agent: "envoy 1.40.0".to_owned(),
                protocol: "Delta".to_owned(),
                connected_since: at(0),
                resources: BTreeMap::from([("Cluster".to_owned(), counts)]),
                rejected: Vec::new(),
            }],
            dns: DnsStatus {
                address: "127.0.0.1:53".to_owned(),
                names: 3,
                responses: BTreeMap::from([("NXDOMAIN".to_owned(), 4)]),
                limited: ::dns::Limited::default(),
                cache: ::dns::CacheUse::default(),
                upstreams: vec![UpstreamStatus {
                    address: "192.0.2.53:53".to_owned(),
                    answers: true,
                    queries: 2,
                    failures: 1,
                    mean_milliseconds: Some(1.5),
                    consecutive_failures: 0,
                    last_success: Some(at(10)),
                    last_failure: Some(at(5)),
                }],
            },
            handshakes: BTreeMap::from([("Answered".to_owned(), 5)]),
            certificate: Some(CertificateStatus { not_after: at(2000), error: None }),
            client_certificate: Some(CertificateStatus { not_after: at(2000), error: None }),
        }
    }

    pub(crate) fn condition(type_: &str, status: ConditionStatus) -> Condition {
        Condition {
            type_: type_.to_owned(),
            status,
            reason: "Reason".to_owned(),
            message: "message".to_owned(),
            gateway: None,
            last_transition_time: None,
        }
    }

    #[test]
    fn what_others_need_to_hold_comes_first_of_what_fails() {
        let mut route = well().routes.remove(0);
        assert_eq!(route.failed().count(), 0);
        route.conditions =
            [("DataPath", ConditionStatus::False), ("Authenticated", ConditionStatus::Unknown)]
                .into_iter()
                .chain([("Reachable", ConditionStatus::True), ("Programmed", ConditionStatus::False)])
                .map(|(type_, status)| condition(type_, status))
                .collect();
        let failed: Vec<&str> = route.failed().map(|known| known.type_.as_str()).collect();
        assert_eq!(failed, ["Programmed", "DataPath"]);
    }

    #[test]
    fn a_condition_holds_only_if_it_is_known_to() {
        let mut route = well().routes.remove(0);
        assert!(route.holds("Authenticated") && !route.holds("Reachable"));
        route.conditions = vec![condition("Authenticated", ConditionStatus::Unknown)];
        assert!(!route.holds("Authenticated"));
    }
}
