//! Encoded resources.

use std::fmt;

use prost::{Message, Name};

/// The types of the resources that [`crate::Translator`] makes.
pub mod type_url {
    /// Clusters.
    pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    /// Endpoints of clusters.
    pub const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
    /// Certificates, private keys and authorities.
    pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    /// Listeners.
    pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
    /// Which requests take which route configuration.
    pub const SCOPES: &str = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration";
    /// Route configurations.
    pub const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
}

/// An Envoy resource, encoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its type: one of [`type_url`].
    pub type_url: &'static str,
    /// Its name.
    pub name: String,
    /// The encoded message of that type. It may hold tokens and private keys.
    pub body: Vec<u8>,
}

impl Resource {
    pub(crate) fn new<M: Message + Name>(
        type_url: &'static str,
        name: impl Into<String>,
        message: &M,
    ) -> Self {
        debug_assert_eq!(type_url, M::type_url());
        Self { type_url, name: name.into(), body: message.encode_to_vec() }
    }
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
