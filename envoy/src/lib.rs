//! Translation of a domain's [`Snapshot`] into Envoy resources.

mod settings;

use std::fmt;

use model::Snapshot;

pub use settings::{AccessLog, ExternalProtocol, KeyMaterial, Settings};

/// Name of the extension configuration that holds every accepted token.
pub const TOKEN_AUTH: &str = "token-auth";

/// An Envoy resource, encoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its type, as in `type.googleapis.com/envoy.config.cluster.v3.Cluster`.
    pub type_url: &'static str,
    /// Its name.
    pub name: String,
    /// The encoded message of that type. It may hold tokens and private keys.
    pub body: Vec<u8>,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("type_url", &self.type_url)
            .field("name", &self.name)
            .field("bytes", &self.body.len())
            .finish()
    }
}

/// The Envoy resources of a gateway. The same input gives the same bytes.
#[must_use]
pub fn translate(_snapshot: &Snapshot, _settings: &Settings, _keys: Option<&KeyMaterial>) -> Vec<Resource> {
    Vec::new()
}
