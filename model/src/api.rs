//! The custom resources of API group `kuscia.secretflow/v1alpha1`, with Kuscia's field names.
//!
//! These structs say what may be *written*; [`crate::OutboundRoute`], [`crate::InboundRoute`] and
//! [`crate::Service`] say what it *means*. Fields that nothing here uses are left out and ignored on reading.

mod cluster_domain_route;
mod domain;
mod domain_route;
mod secret;

use kube::CustomResourceExt as _;

pub use cluster_domain_route::{
    ClusterDomainRoute, ClusterDomainRouteSpec, ClusterDomainRouteStatus, ClusterDomainRouteTokenStatus,
    EndpointStatus,
};
pub use domain::{Domain, DomainSpec, Gateway, GatewaySpec, GatewayStatus, NetworkStatus};
pub use domain_route::{
    BodyEncryption, Condition, ConditionStatus, DomainEndpoint, DomainPort, DomainRoute, DomainRouteSpec,
    DomainRouteStatus, DomainRouteToken, DomainRouteTokenStatus, MtlsConfig, TokenConfig, Transit,
    TransitDomain,
};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
pub use secret::SecretString;

/// The CustomResourceDefinitions of every kind of this group, in the order to apply them.
#[must_use]
pub fn custom_resource_definitions()
-> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    vec![Domain::crd(), DomainRoute::crd(), ClusterDomainRoute::crd(), Gateway::crd()]
}
