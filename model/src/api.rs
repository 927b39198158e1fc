//! The custom resources of API group `kuscia.secretflow/v1alpha1`, with Kuscia's field names.
//!
//! These structs say what may be *written*; [`crate::OutboundRoute`], [`crate::InboundRoute`] and
//! [`crate::Service`] say what it *means*. Fields that nothing here uses are left out and ignored on reading.

mod cluster_domain_route;
mod domain;
mod domain_route;
mod schema;
mod secret;

pub use cluster_domain_route::{
    ClusterDomainRoute, ClusterDomainRouteSpec, ClusterDomainRouteStatus, ClusterDomainRouteTokenStatus,
    EndpointStatus,
};
pub use domain::{Domain, DomainSpec, DomainStatus, Gateway, GatewaySpec, GatewayStatus, NetworkStatus};
pub use domain_route::{
    BodyEncryption, Condition, ConditionStatus, DomainEndpoint, DomainPort, DomainRoute, DomainRouteSpec,
    DomainRouteStatus, DomainRouteToken, DomainRouteTokenStatus, EndpointTimeouts, EndpointTls, MtlsConfig,
    TokenConfig, Transit, TransitDomain,
};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
pub use schema::custom_resource_definitions;
pub use secret::SecretString;
