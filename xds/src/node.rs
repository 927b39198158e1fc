//! Who a client says it is, and where it connects from.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::config::core::v3::{self as core, Locality, node::UserAgentVersionType},
    google::protobuf::{Struct, Value, value::Kind},
};
use prost::Message;

/// How many bytes are kept of each thing a client says about itself, but its metadata.
const TEXT_BYTES: usize = 256;

/// What a client says about itself in the first request of its stream (`envoy.config.core.v3.Node`).
///
/// Nobody has verified it: what must not be forged has to be told from the [`Peer`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// The node's id, cut after 256 bytes like all texts here.
    pub id: String,
    /// The node's cluster.
    pub cluster: String,
    /// Name and version of the client's software, like `envoy 1.40.0`.
    pub user_agent: String,
    /// Where the node runs, if it says so.
    pub locality: Option<Locality>,
    /// Whatever else it says. Empty if that is longer than [`Limits::metadata_bytes`](crate::Limits).
    pub metadata: Struct,
}

impl Node {
    /// The metadata at a path of keys, if there is any.
    pub fn metadata_at<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Option<&Kind> {
        let mut path = path.into_iter();
        let mut found = self.metadata.fields.get(path.next()?)?;
        for key in path {
            let Value { kind: Some(Kind::StructValue(inner)) } = found else { return None };
            found = inner.fields.get(key)?;
        }
        found.kind.as_ref()
    }

    pub(crate) fn parse(node: core::Node, metadata_bytes: usize) -> Self {
        let version = match node.user_agent_version_type {
            Some(UserAgentVersionType::UserAgentVersion(version)) => version,
            Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build
                .version
                .map(|version| format!("{}.{}.{}", version.major_number, version.minor_number, version.patch))
                .unwrap_or_default(),
            None => String::new(),
        };
        let user_agent = format!("{} {version}", node.user_agent_name);
        let shorten = |text: &str| text[..text.floor_char_boundary(TEXT_BYTES)].to_owned();
        Self {
            id: shorten(&node.id),
            cluster: shorten(&node.cluster),
            user_agent: shorten(user_agent.trim()),
            locality: node.locality.map(|locality| Locality {
                region: shorten(&locality.region),
                zone: shorten(&locality.zone),
                sub_zone: shorten(&locality.sub_zone),
            }),
            metadata: node
                .metadata
                .filter(|metadata| metadata.encoded_len() <= metadata_bytes)
                .unwrap_or_default(),
        }
    }

    /// The same process on the same machine, as far as the client tells them apart.
    pub(crate) fn identity(&self) -> Self {
        Self {
            id: self.id.clone(),
            cluster: self.cluster.clone(),
            user_agent: self.user_agent.clone(),
            ..Self::default()
        }
    }
}

impl From<&Node> for core::Node {
    fn from(node: &Node) -> Self {
        let (name, version) = node.user_agent.split_once(' ').unwrap_or((&node.user_agent, ""));
        Self {
            id: node.id.clone(),
            cluster: node.cluster.clone(),
            user_agent_name: name.to_owned(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(version.to_owned())),
            locality: node.locality.clone(),
            metadata: Some(node.metadata.clone()),
            ..Self::default()
        }
    }
}

/// Where a client connects from, as the operating system and TLS tell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// A process on this machine, through the Unix socket; its id, where the system tells it.
    Process(Option<i32>),
    /// An address, which may be anybody's.
    Tcp(SocketAddr),
    /// The holder of a certificate that one of the client CAs has signed.
    Tls {
        /// Where it connects from.
        address: SocketAddr,
        /// Its certificate, in DER.
        certificate: Bytes,
    },
}

impl Peer {
    /// What is the same for all connections of a client, and no other can pretend where TLS or the operating system
    /// vouch for it.
    pub(crate) fn identity(&self) -> Self {
        match self {
            Self::Process(_) => Self::Process(None),
            Self::Tcp(address) => Self::Tcp(SocketAddr::new(address.ip(), 0)),
            Self::Tls { certificate, .. } => {
                let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
                Self::Tls { address, certificate: certificate.clone() }
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(Some(id)) => write!(f, "process {id}"),
            Self::Process(None) => f.write_str("unix socket"),
            Self::Tcp(address) | Self::Tls { address, .. } => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(kind: Kind) -> Value {
        Value { kind: Some(kind) }
    }

    fn fields<const N: usize>(fields: [(&str, Kind); N]) -> Struct {
        Struct { fields: fields.map(|(name, kind)| (name.to_owned(), value(kind))).into() }
    }

    #[test]
    fn metadata_is_found_by_its_path() {
        let inner = fields([("role", Kind::StringValue("edge".to_owned()))]);
        let metadata = fields([("mesh", Kind::StructValue(inner)), ("ready", Kind::BoolValue(true))]);
        let node = Node { metadata, ..Node::default() };
        assert_eq!(node.metadata_at(["mesh", "role"]), Some(&Kind::StringValue("edge".to_owned())));
        assert_eq!(node.metadata_at(["ready"]), Some(&Kind::BoolValue(true)));
        for path in [&["mesh", "zone"][..], &["ready", "role"], &["zone"], &[]] {
            assert_eq!(node.metadata_at(path.iter().copied()), None, "{path:?}");
        }
    }

    #[test]
    fn what_a_client_says_is_cut_or_left_out_where_it_is_too_long() {
        let metadata = fields([("text", Kind::StringValue("x".repeat(100)))]);
        let given = core::Node {
            id: "é".repeat(TEXT_BYTES),
            user_agent_name: "envoy".to_owned(),
            metadata: Some(metadata.clone()),
            ..core::Node::default()
        };
        let node = Node::parse(given.clone(), metadata.encoded_len());
        assert_eq!((node.id.len(), node.user_agent.as_str()), (TEXT_BYTES, "envoy"));
        assert_eq!(node.metadata, metadata);
        assert_eq!(Node::parse(given, metadata.encoded_len() - 1).metadata, Struct::default());
    }

    #[test]
    fn a_node_is_given_back_as_it_was_told() {
        let given = core::Node {
            id: "alice-1".to_owned(),
            cluster: "alice".to_owned(),
            user_agent_name: "envoy".to_owned(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion("1.40.0".to_owned())),
            locality: Some(Locality { zone: "b".to_owned(), ..Locality::default() }),
            metadata: Some(fields([("a", Kind::NumberValue(1.0))])),
            ..core::Node::default()
        };
        assert_eq!(core::Node::from(&Node::parse(given.clone(), 1024)), given);
    }
}
