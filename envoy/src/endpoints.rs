//! The addresses of this domain's services.

use envoy_types::pb::envoy::config::core::v3::Address;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use model::{DomainId, Service};

use crate::clusters::service_cluster_name;
use crate::message::address;
use crate::resource::{Resource, type_url};

/// The addresses of a service, under the name of its cluster; `None` where those of its cluster are another host's. A
/// service without ready addresses has an empty one.
pub(crate) fn service_assignment(service: &Service, domain: &DomainId) -> Option<Resource> {
    if service.external.is_some() {
        return None;
    }
    let name = service_cluster_name(&domain.service_host(service.name.as_str()));
    let assignment = assignment(&name, service.endpoints.iter().map(|endpoint| address(*endpoint)));
    Some(Resource::new(type_url::ENDPOINTS, name, &assignment))
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
