//! `ClusterDomainRoute`.

#![allow(clippy::duplicated_attributes, reason = "printer columns share their type")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::domain_route::{Condition, DomainRouteSpec, DomainRouteToken};

/// A route between two domains, from which each side's `DomainRoute` is made.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kuscia.secretflow",
    version = "v1alpha1",
    kind = "ClusterDomainRoute",
    plural = "clusterdomainroutes",
    shortname = "cdr",
    doc = "A route between two domains, from which each side's DomainRoute is made.",
    derive = "PartialEq",
    status = "ClusterDomainRouteStatus",
    printcolumn(name = "Source", json_path = ".spec.source", type_ = "string"),
    printcolumn(name = "Destination", json_path = ".spec.destination", type_ = "string"),
    printcolumn(name = "Host", json_path = ".spec.endpoint.host", type_ = "string"),
    printcolumn(name = "Authentication", json_path = ".spec.authenticationType", type_ = "string"),
    printcolumn(
        name = "Ready",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        type_ = "string"
    )
)]
#[serde(transparent)]
pub struct ClusterDomainRouteSpec {
    /// The route itself.
    pub route: DomainRouteSpec,
}

/// What was observed of a `ClusterDomainRoute`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct ClusterDomainRouteStatus {
    /// The tokens of both sides.
    #[serde(default)]
    pub token_status: ClusterDomainRouteTokenStatus,
    /// Ready, Running, Pending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Health of the endpoint as each gateway of the source sees it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoint_statuses: BTreeMap<String, EndpointStatus>,
}

/// The tokens of both sides of a `ClusterDomainRoute`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterDomainRouteTokenStatus {
    /// Number of the newest generation.
    #[serde(default)]
    pub revision: i64,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_time: Option<Time>,
    /// What the source uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_tokens: Vec<DomainRouteToken>,
    /// What the destination accepts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destination_tokens: Vec<DomainRouteToken>,
}

/// Health of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    /// Whether the gateway reaches it.
    #[serde(default)]
    pub endpoint_healthy: bool,
}
