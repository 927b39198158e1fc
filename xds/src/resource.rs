//! What an xDS server serves: named, versioned, encoded messages of a few types.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use triomphe::ThinArc;

/// The types of resource this server serves.
///
/// Their order is make-before-break: what comes first is needed by what comes later. Additions are sent in
/// this order, removals in the reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[non_exhaustive]
pub enum ResourceType {
    /// `envoy.config.cluster.v3.Cluster`, served by CDS.
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`, served by EDS.
    ClusterLoadAssignment,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`, served by SDS.
    Secret,
    /// `envoy.config.core.v3.TypedExtensionConfig`, served by ECDS.
    TypedExtensionConfig,
    /// `envoy.config.listener.v3.Listener`, served by LDS.
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration`, served by RDS.
    RouteConfiguration,
    /// `envoy.config.route.v3.VirtualHost`, served by VHDS.
    VirtualHost,
    /// `envoy.config.route.v3.ScopedRouteConfiguration`, served by SRDS.
    ///
    /// Comes last, although Envoy asks for a route configuration only once it has a scope that names it: a scope may
    /// also lead to one that Envoy has already, which must be up to date by then. And a scope that goes must go
    /// before its routes.
    ScopedRouteConfiguration,
}

impl ResourceType {
    /// Every type, in make-before-break order.
    pub const ALL: [Self; 8] = [
        Self::Cluster,
        Self::ClusterLoadAssignment,
        Self::Secret,
        Self::TypedExtensionConfig,
        Self::Listener,
        Self::RouteConfiguration,
        Self::VirtualHost,
        Self::ScopedRouteConfiguration,
    ];

    /// The URL that names this type in requests, responses and `google.protobuf.Any`.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::ClusterLoadAssignment => {
                "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
            }
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::TypedExtensionConfig => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::RouteConfiguration => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
            Self::ScopedRouteConfiguration => {
                "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
            }
        }
    }

    /// The type that a URL names, or `None` if this server does not serve it.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.type_url() == url)
    }

    /// Whether the xDS protocol, or Envoy for scopes, treats this type as one whole: a request without names asks for
    /// all resources, and a state-of-the-world response lists all of them, so that absence means removal.
    pub(crate) const fn is_listed_whole(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener | Self::ScopedRouteConfiguration)
    }

    /// Whether resources of this type send traffic to what the other types describe.
    ///
    /// Envoy acknowledges clusters only once they are warm, which takes their endpoints, secrets and extension
    /// configs. So those may not wait for the clusters' acknowledgement; listeners and routes must.
    pub(crate) const fn directs_traffic(self) -> bool {
        matches!(
            self,
            Self::Listener | Self::RouteConfiguration | Self::VirtualHost | Self::ScopedRouteConfiguration
        )
    }

    /// Whether each resource of this type goes in a response of its own.
    ///
    /// Envoy notes the hash of a secret or extension config before it tries it, and acknowledges the same content
    /// when it sees it again, even if it has rejected it. So a bad one must not have to be searched for.
    pub(crate) const fn is_sent_alone(self) -> bool {
        matches!(self, Self::Secret | Self::TypedExtensionConfig)
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A hash of a resource's encoded content: the first 64 bits of its SHA-256, written as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(u64);

impl Version {
    /// The version of a message encoded as `body`.
    pub fn of(body: &[u8]) -> Self {
        let digest = Sha256::digest(body);
        Self(digest.iter().take(8).fold(0, |version, byte| version << 8 | u64::from(*byte)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text is not 16 hex digits, so no version of this server.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version is 16 lower-case hex digits")]
pub struct InvalidVersion;

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let version = u64::from_str_radix(text, 16).map(Self).map_err(|_| InvalidVersion)?;
        if version.to_string() == text { Ok(version) } else { Err(InvalidVersion) }
    }
}

/// One resource: its name, its encoded content, and the version that follows from the content.
///
/// Encoded and hashed once, and kept in one piece of memory: copies, which clients and states hold, share it.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource(ThinArc<Head, u8>);

/// What stands before the name and the body.
#[derive(PartialEq, Eq)]
struct Head {
    version: Version,
    name_bytes: usize,
}

impl Resource {
    /// A resource whose message, encoded, is `body`.
    pub fn new(name: &str, body: &[u8]) -> Self {
        let head = Head { version: Version::of(body), name_bytes: name.len() };
        Self(ThinArc::from_header_and_slice(head, &[name.as_bytes(), body].concat()))
    }

    /// The name, unique within the type.
    pub fn name(&self) -> &str {
        // Always a name: it was put in as one.
        str::from_utf8(self.name_bytes()).unwrap_or_default()
    }

    /// The version, a hash of the content.
    pub fn version(&self) -> Version {
        self.0.header.header.version
    }

    /// The encoded message: what goes into the `value` of a `google.protobuf.Any`.
    pub fn body(&self) -> &[u8] {
        &self.0.slice[self.0.header.header.name_bytes..]
    }

    /// The name, whose order is that of its bytes.
    pub(crate) fn name_bytes(&self) -> &[u8] {
        &self.0.slice[..self.0.header.header.name_bytes]
    }
}

/// Leaves the body out: it may hold keys and tokens.
impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name(), self.version())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_urls_are_those_of_envoys_messages() {
        use envoy_types::pb::envoy::{
            config::{
                cluster::v3::Cluster,
                core::v3::TypedExtensionConfig,
                endpoint::v3::ClusterLoadAssignment,
                listener::v3::Listener,
                route::v3::{RouteConfiguration, ScopedRouteConfiguration, VirtualHost},
            },
            extensions::transport_sockets::tls::v3::Secret,
        };
        use prost::Name;

        let urls = [
            Cluster::type_url(),
            ClusterLoadAssignment::type_url(),
            Secret::type_url(),
            TypedExtensionConfig::type_url(),
            Listener::type_url(),
            RouteConfiguration::type_url(),
            VirtualHost::type_url(),
            ScopedRouteConfiguration::type_url(),
        ];
        assert_eq!(urls.each_ref().map(String::as_str), ResourceType::ALL.map(ResourceType::type_url));
        for ty in ResourceType::ALL {
            assert_eq!(ResourceType::from_type_url(ty.type_url()), Some(ty));
        }
        assert_eq!(ResourceType::from_type_url("type.googleapis.com/envoy.config.Nonsense"), None);
    }

    #[test]
    fn a_version_is_the_head_of_the_sha256_and_reads_back() {
        let version = Version::of(b"abc");
        assert_eq!(version.to_string(), "ba7816bf8f01cfea");
        assert_eq!("ba7816bf8f01cfea".parse(), Ok(version));
        for text in ["", "BA7816BF8F01CFEA", "+a7816bf8f01cfea", "ba7816bf8f01cfea0", "v1"] {
            assert_eq!(text.parse::<Version>(), Err(InvalidVersion), "{text}");
        }
    }

    #[test]
    fn name_and_body_read_back_and_are_shared_by_copies() {
        let resource = Resource::new("näme", b"body");
        let copy = resource.clone();
        assert_eq!((copy.name(), copy.body(), copy.version()), ("näme", &b"body"[..], Version::of(b"body")));
        assert_eq!(copy.body().as_ptr(), resource.body().as_ptr());
        assert_ne!(copy, Resource::new("n", "ämebody".as_bytes()));
    }

    #[test]
    fn debug_output_keeps_the_body_to_itself() {
        let resource = Resource::new("key", b"hunter2");
        assert_eq!(format!("{resource:?}"), format!("key@{}", Version::of(b"hunter2")));
    }
}
