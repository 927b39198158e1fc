//! From a resource back to the object that it was made of.

use model::{DomainId, ServiceName};

use crate::clusters::{peer_of_cluster, service_of_cluster};
use crate::gateway::Gateway;
use crate::resource::type_url;
use crate::routes::{destination_of_routes, source_of_routes};
use crate::secrets::{peer_of_authority, peer_of_client_certificate};

/// The object that a resource was made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The route to this destination.
    Outbound(DomainId),
    /// The route from this source.
    Inbound(DomainId),
    /// The service of this name.
    Service(ServiceName),
}

/// `None` for what belongs to the gateway itself.
pub(crate) fn owner(gateway: &Gateway, type_url: &str, name: &str) -> Option<Owner> {
    let domain = &gateway.domain;
    match type_url {
        type_url::CLUSTER | type_url::ENDPOINTS => service_of_cluster(name, domain)
            .map(Owner::Service)
            .or_else(|| peer_of_cluster(name, domain).map(Owner::Outbound)),
        type_url::SECRET => {
            peer_of_authority(name).or_else(|| peer_of_client_certificate(name)).map(Owner::Outbound)
        }
        type_url::ROUTES | type_url::SCOPES => destination_of_routes(name)
            .map(Owner::Outbound)
            .or_else(|| source_of_routes(name).map(Owner::Inbound)),
        _ => None,
    }
}
