//! `Domain` and `Gateway`.

#![allow(clippy::duplicated_attributes, reason = "printer columns share their type")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An institution's node: this domain or a partner.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kuscia.secretflow",
    version = "v1alpha1",
    kind = "Domain",
    plural = "domains",
    doc = "An institution's node: a domain of this cluster, or a partner.",
    derive = "PartialEq",
    status = "DomainStatus"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct DomainSpec {
    /// Empty for a domain of this cluster, `partner` for another institution's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("enum" = ["", "partner"]))]
    pub role: String,
    /// Base64 of the PEM of the domain certificate, which holds the domain's public key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cert: String,
    /// Protocols the domain speaks, the preferred one first: `kuscia`, `bfia`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inter_conn_protocols: Vec<String>,
}

/// What others observed of a domain; nothing of it is read here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct DomainStatus {}

/// One running gateway of a domain.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kuscia.secretflow",
    version = "v1alpha1",
    kind = "Gateway",
    plural = "gateways",
    shortname = "gw",
    namespaced,
    no_spec,
    doc = "One running gateway of a domain.",
    derive = "PartialEq",
    status = "GatewayStatus",
    printcolumn(name = "CreationTime", json_path = ".metadata.creationTimestamp", type_ = "string"),
    printcolumn(name = "UpTime", json_path = ".status.uptime", type_ = "string"),
    printcolumn(name = "HeartbeatTime", json_path = ".status.heartbeatTime", type_ = "string"),
    printcolumn(name = "Address", json_path = ".status.address", type_ = "string"),
    printcolumn(name = "Version", json_path = ".status.version", type_ = "string")
)]
pub struct GatewaySpec {}

/// What a gateway says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct GatewayStatus {
    /// Its IP address.
    #[serde(default)]
    pub address: String,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime: Option<Time>,
    /// When it last wrote this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_time: Option<Time>,
    /// Base64 of the PEM of the domain's public key.
    #[serde(default)]
    pub public_key: String,
    /// Version of the software.
    #[serde(default)]
    pub version: String,
    /// Health of the networks it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_status: Vec<NetworkStatus>,
}

/// Health of one network of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkStatus {
    /// Name of the network.
    #[serde(default)]
    pub name: String,
    /// Its type.
    #[serde(default, rename = "type")]
    pub type_: String,
    /// Endpoints in all.
    #[serde(default)]
    pub total_endpoints_count: i64,
    /// Endpoints that are healthy.
    #[serde(default)]
    pub healthy_endpoints_count: i64,
}
