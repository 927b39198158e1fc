//! `DomainRoute`.

#![allow(clippy::duplicated_attributes, reason = "printer columns share their type")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretString;
use super::schema::{DOMAIN_ID, HOST};

/// The routing rules from one domain to another. It stands in the namespace of each side and is read by both.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kuscia.secretflow",
    version = "v1alpha1",
    kind = "DomainRoute",
    plural = "domainroutes",
    shortname = "dr",
    namespaced,
    doc = "The routing rules from one domain to another, in the namespace of each side.",
    derive = "PartialEq",
    status = "DomainRouteStatus",
    printcolumn(name = "Source", json_path = ".spec.source", type_ = "string"),
    printcolumn(name = "Destination", json_path = ".spec.destination", type_ = "string"),
    printcolumn(name = "Host", json_path = ".spec.endpoint.host", type_ = "string"),
    printcolumn(name = "Authentication", json_path = ".spec.authenticationType", type_ = "string"),
    printcolumn(
        name = "Accepted",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status",
        type_ = "string"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DomainRouteSpec {
    /// The domain that sends requests.
    #[schemars(pattern(DOMAIN_ID))]
    pub source: String,
    /// The domain that answers them.
    #[schemars(pattern(DOMAIN_ID))]
    pub destination: String,
    /// Protocol between the gateways: `kuscia` (default) or `bfia`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("enum" = ["", "kuscia", "bfia"]))]
    pub inter_conn_protocol: String,
    /// Where the source reaches the destination's gateway.
    #[serde(default, skip_serializing_if = "is_default")]
    pub endpoint: DomainEndpoint,
    /// The detour to take instead of an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transit: Option<Transit>,
    /// How the destination authenticates the source: `Token`, `MTLS` or `None`.
    #[schemars(extend("enum" = ["Token", "MTLS", "None"]))]
    pub authentication_type: String,
    /// Settings of authentication type `Token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_config: Option<TokenConfig>,
    /// Encryption of bodies between the gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_encryption: Option<BodyEncryption>,
    /// Certificates of authentication type `MTLS`.
    #[serde(default, rename = "mTLSConfig", skip_serializing_if = "Option::is_none")]
    pub mtls_config: Option<MtlsConfig>,
    /// Addresses or CIDRs that the source may come from; empty: any.
    #[serde(default, rename = "sourceWhiteIPList", skip_serializing_if = "Vec::is_empty")]
    pub source_white_ip_list: Vec<String>,
    /// Headers that the destination adds to requests of this source. They may carry credentials.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub request_headers_to_add: BTreeMap<String, SecretString>,
}

impl DomainRouteSpec {
    /// The domain that forwards the route's requests by its own account (`transitMethod: THIRD-DOMAIN`). On the way to it
    /// and from it, further ones may.
    #[must_use]
    pub fn forwarder(&self) -> Option<&str> {
        let transit = self.transit.as_ref().filter(|transit| transit.transit_method != "REVERSE-TUNNEL")?;
        transit.domain.as_ref().map(|domain| domain.domain_id.as_str())
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The address of the destination's gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DomainEndpoint {
    /// DNS name or IP address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(pattern(HOST))]
    pub host: String,
    /// The ports it listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<DomainPort>,
    /// Settings of the ports that speak TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<EndpointTls>,
    /// How long requests may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<EndpointTimeouts>,
}

/// How ports that speak TLS are called and checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointTls {
    /// DNS name that they are asked for (SNI) and that their certificate must be for; empty: they are asked for the
    /// host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(pattern(HOST))]
    pub server_name: String,
    /// True: whoever answers is taken for the destination.
    #[serde(default, skip_serializing_if = "is_default")]
    pub insecure_skip_verify: bool,
}

/// How long requests may take on their way to the destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointTimeouts {
    /// Seconds until a connection is there; left out: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 300))]
    pub connect_seconds: Option<i64>,
    /// Seconds without a byte in either direction; left out: a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub idle_seconds: Option<i64>,
    /// Seconds from the end of a request to the end of its response; 0 or left out: any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub request_seconds: Option<i64>,
}

/// One port of the destination's gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainPort {
    /// Name, unique in the list.
    #[serde(default)]
    pub name: String,
    /// `HTTP` or `GRPC`: which traffic takes this port.
    #[schemars(extend("enum" = ["HTTP", "GRPC"]))]
    pub protocol: String,
    /// Path put in front of every request's path, for a gateway behind a proxy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path_prefix: String,
    /// True if the port speaks TLS.
    #[serde(default, rename = "isTLS")]
    pub is_tls: bool,
    /// Port number, 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i64,
}

/// A detour of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transit {
    /// `THIRD-DOMAIN` (default) or `REVERSE-TUNNEL`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("enum" = ["", "THIRD-DOMAIN", "REVERSE-TUNNEL"]))]
    pub transit_method: String,
    /// The domain in between, for `THIRD-DOMAIN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<TransitDomain>,
}

/// The domain that forwards requests for others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TransitDomain {
    /// Its ID.
    #[serde(rename = "domainID")]
    #[schemars(pattern(DOMAIN_ID))]
    pub domain_id: String,
}

/// How the token of a route is made and renewed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenConfig {
    /// Base64 of the PEM of the source's RSA public key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source_public_key: String,
    /// Base64 of the PEM of the destination's RSA public key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub destination_public_key: String,
    /// Seconds from one token to the next; 0: the token is never renewed.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub rolling_update_period: i64,
    /// `RSA-GEN`, or the deprecated `UID-RSA-GEN`.
    #[schemars(extend("enum" = ["RSA-GEN", "UID-RSA-GEN"]))]
    pub token_gen_method: String,
    /// Whether handshakes must be signed with the keys of both domains: `signed`: others are refused; `compatible`:
    /// Kuscia's, which are not, are taken too. Empty: they are taken until the peer has signed one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("enum" = ["", "signed", "compatible"]))]
    pub handshake: String,
}

/// Encryption of bodies between the gateways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BodyEncryption {
    /// `AES` or `SM4`.
    #[schemars(extend("enum" = ["AES", "SM4"]))]
    pub algorithm: String,
}

/// Certificates of authentication type `MTLS`, all base64 of PEM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MtlsConfig {
    /// The authority that the destination's server certificate is checked against.
    #[serde(default, rename = "tlsCA", skip_serializing_if = "String::is_empty")]
    pub tls_ca: String,
    /// The key of the source's client certificate, where it is not the domain key.
    #[serde(default, skip_serializing_if = "SecretString::is_empty")]
    pub source_client_private_key: SecretString,
    /// The source's client certificate.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source_client_cert: String,
}

/// What was observed of a `DomainRoute`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct DomainRouteStatus {
    /// The destination knows this route and its keys.
    #[serde(default)]
    pub is_destination_authorized: bool,
    /// The last attempt did not reach the destination.
    #[serde(default)]
    pub is_destination_unreachable: bool,
    /// The negotiated tokens.
    #[serde(default)]
    pub token_status: DomainRouteTokenStatus,
    /// Accepted, Reachable, Authenticated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The tokens of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainRouteTokenStatus {
    /// The gateway of the source that starts the negotiation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision_initializer: String,
    /// The newest token.
    #[serde(default)]
    pub revision_token: DomainRouteToken,
    /// The newest two tokens that are in use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<DomainRouteToken>,
}

/// One generation of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainRouteToken {
    /// All gateways of this side use it.
    #[serde(default)]
    pub is_ready: bool,
    /// The token, encrypted with the public key of the domain that keeps it.
    #[serde(default)]
    pub token: String,
    /// Number of the generation; the destination counts.
    #[serde(default)]
    pub revision: i64,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_time: Option<Time>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
    /// When the source first heard that the destination has it, or the destination that the source has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heart_beat_time: Option<Time>,
    /// When the signed handshake that made it was asked for: nanoseconds since the Unix epoch, by the source's clock, or
    /// by the destination's where that was told. None: that handshake was not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_request_time: Option<i64>,
    /// The gateways that use it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effective_instances: Vec<String>,
}

/// One observed aspect of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Condition {
    /// The aspect, such as `Accepted`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One word for programs.
    #[serde(default)]
    pub reason: String,
    /// A sentence for people.
    #[serde(default)]
    pub message: String,
    /// The gateway that says so, where it does not hold for all of the domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// When `status` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody knows yet.
    Unknown,
}
