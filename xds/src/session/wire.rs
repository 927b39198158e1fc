//! What a session understands of the two variants of the protocol, delta and state-of-the-world.

use std::{collections::HashMap, sync::Arc};

use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
};
use serde::Serialize;

use crate::resource::{Resource, ResourceType};

/// The variant of the protocol that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Responses carry what changed (incremental xDS).
    Delta,
    /// Responses carry all clusters or listeners, and any subset of the other types.
    StateOfTheWorld,
}

impl Protocol {
    /// Whether every response lists all resources of this type that the client is to hold, so that absence means
    /// removal.
    pub(super) fn lists_all(self, ty: ResourceType) -> bool {
        self == Self::StateOfTheWorld && ty.is_listed_whole()
    }
}

/// A client's request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) node: Option<Node>,
    pub(crate) type_url: String,
    /// The nonce of the response this answers; empty if it answers none.
    pub(crate) nonce: String,
    /// Why the client rejects that response.
    pub(crate) error: Option<String>,
    /// Whether the client says that it holds nothing of this type. Tells something in the first request only.
    pub(crate) holds_nothing: bool,
    pub(crate) interest: Interest,
}

/// What a request says about the resources its client wants.
#[derive(Clone, Debug)]
pub(crate) enum Interest {
    /// Delta: how the set of names changes, and which versions the client holds from an earlier stream.
    Change { subscribe: Vec<String>, unsubscribe: Vec<String>, held: HashMap<String, String> },
    /// State-of-the-world: the whole set of names.
    Exactly(Vec<String>),
}

impl Interest {
    /// All names the request mentions.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        let (first, second, held) = match self {
            Self::Change { subscribe, unsubscribe, held } => {
                (subscribe.as_slice(), unsubscribe.as_slice(), Some(held))
            }
            Self::Exactly(names) => (names.as_slice(), [].as_slice(), None),
        };
        first.iter().chain(second).chain(held.into_iter().flat_map(HashMap::keys))
    }
}

impl From<DeltaDiscoveryRequest> for Request {
    fn from(request: DeltaDiscoveryRequest) -> Self {
        Self {
            node: request.node,
            type_url: request.type_url,
            nonce: request.response_nonce,
            error: request.error_detail.map(|status| status.message),
            holds_nothing: request.initial_resource_versions.is_empty(),
            interest: Interest::Change {
                subscribe: request.resource_names_subscribe,
                unsubscribe: request.resource_names_unsubscribe,
                held: request.initial_resource_versions,
            },
        }
    }
}

impl From<DiscoveryRequest> for Request {
    fn from(request: DiscoveryRequest) -> Self {
        Self {
            node: request.node,
            type_url: request.type_url,
            nonce: request.response_nonce,
            error: request.error_detail.map(|status| status.message),
            holds_nothing: request.version_info.is_empty(),
            interest: Interest::Exactly(request.resource_names),
        }
    }
}

/// A response to send.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Response {
    pub(crate) ty: ResourceType,
    pub(crate) nonce: String,
    pub(crate) resources: Vec<Resource>,
    /// Names without a resource. Told in delta only; state-of-the-world tells them by absence or not at all.
    pub(crate) removed: Vec<Arc<str>>,
    /// Whether these names were asked for and have no resource, as opposed to resources that the client has to give up.
    pub(crate) denies: bool,
}
