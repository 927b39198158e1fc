//! The addresses of this domain's services.

use envoy_types::pb::envoy::config::core::v3::Address;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use model::{PortScope, ServiceName, Snapshot};

use crate::message::address;
use crate::resource::{Resource, type_url};

/// One assignment a service, which its clusters share. A service without ready addresses has an empty one.
pub(crate) fn assignments(snapshot: &Snapshot) -> impl Iterator<Item = Resource> {
    let reachable = snapshot.services.values().filter(|service| service.scope != PortScope::Local);
    reachable.map(|service| {
        let name = assignment_name(&service.name);
        let assignment = assignment(&name, service.endpoints.iter().map(|endpoint| address(*endpoint)));
        Resource::new(type_url::ENDPOINTS, name, &assignment)
    })
}

/// Name under which the addresses of a service are fetched.
pub(crate) fn assignment_name(service: &ServiceName) -> String {
    format!("svc|{service}")
}

pub(crate) fn assignment(name: &str, addresses: impl Iterator<Item = Address>) -> ClusterLoadAssignment {
    let endpoint = |address| LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(address),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: addresses.map(endpoint).collect(),
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}
