//! Envoy messages as [ProtoJSON](https://protobuf.dev/programming-guides/json/), the form of Envoy's own configuration
//! files and dumps.
//!
//! `build.rs` compiles the descriptors, so that a message is read by its type URL, nested `Any`s included.

use std::sync::LazyLock;

use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions, prost::DecodeError,
};
use serde_json::Value;

static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("build.rs wrote a complete descriptor set"));

/// Why a message cannot be turned into JSON or back.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// No descriptor of this type is built in.
    #[error("unknown message type {0:?}")]
    UnknownType(String),
    /// The bytes are no message of the named type.
    #[error("cannot decode a {type_url}")]
    Decode {
        /// The type URL the bytes were said to have.
        type_url: String,
        /// Where decoding stopped.
        source: DecodeError,
    },
    /// The message has no JSON form: a nested `Any` of an unknown type or with broken bytes, or a duration or
    /// timestamp out of range.
    #[error("cannot write a {type_url} as JSON")]
    Write {
        /// The type URL of the outer message.
        type_url: String,
        /// What has no JSON form.
        source: serde_json::Error,
    },
    /// The JSON is no message of the named type.
    #[error("cannot read a {type_url} from JSON")]
    Read {
        /// The type URL the JSON was said to have.
        type_url: String,
        /// The unknown field or the value of a wrong type.
        source: serde_json::Error,
    },
}

/// The messages of Envoy's API that this crate emits or that a dump of Envoy holds, and the services of xDS: an encoded
/// `google.protobuf.FileDescriptorSet`, with all that it imports.
#[must_use]
pub fn descriptors() -> &'static [u8] {
    DESCRIPTORS
}

/// Decodes `body`, a message of the type `type_url` (`type.googleapis.com/envoy…` or the bare name), as JSON.
///
/// Fields have their .proto names (`snake_case`) and enums their value's name; fields with default values and unknown fields
/// are left out; a nested `Any` is written as its message with `@type`. Secrets are not redacted. Nested `Any`s are
/// followed to any depth, so `body` must not come from a stranger.
///
/// # Errors
/// [`JsonError::UnknownType`], [`JsonError::Decode`] or [`JsonError::Write`].
pub fn to_json(type_url: &str, body: &[u8]) -> Result<Value, JsonError> {
    let message = DynamicMessage::decode(descriptor(type_url)?, body)
        .map_err(|source| JsonError::Decode { type_url: type_url.to_owned(), source })?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|source| JsonError::Write { type_url: type_url.to_owned(), source })
}

/// Encodes `json` as a message of the type `type_url` (`type.googleapis.com/envoy…` or the bare name).
///
/// Fields may have their .proto names or lowerCamelCase; unknown fields are errors.
///
/// # Errors
/// [`JsonError::UnknownType`] or [`JsonError::Read`].
pub fn from_json(type_url: &str, json: &Value) -> Result<Vec<u8>, JsonError> {
    let message = DynamicMessage::deserialize(descriptor(type_url)?, json)
        .map_err(|source| JsonError::Read { type_url: type_url.to_owned(), source })?;
    Ok(prost::Message::encode_to_vec(&message))
}

fn descriptor(type_url: &str) -> Result<MessageDescriptor, JsonError> {
    let name = type_url.rsplit_once('/').map_or(type_url, |(_, name)| name);
    POOL.get_message_by_name(name).ok_or_else(|| JsonError::UnknownType(type_url.to_owned()))
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::{
        envoy::{
            config::{
                cluster::v3::{
                    Cluster,
                    cluster::{ClusterDiscoveryType, DiscoveryType},
                },
                core::v3::Http2ProtocolOptions,
                route::v3::{RouteConfiguration, VirtualHost},
            },
            extensions::upstreams::http::v3::{
                HttpProtocolOptions,
                http_protocol_options::{
                    ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
                },
            },
        },
        google::protobuf::{Any, Duration, UInt32Value},
    };
    use prost::Message;
    use serde_json::json;

    use super::*;

    const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    const HTTP_OPTIONS: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

    fn cluster(options_type: &str, options: Vec<u8>) -> Vec<u8> {
        Cluster {
            name: "alice-to-bob".to_owned(),
            connect_timeout: Some(Duration { seconds: 1, nanos: 500_000_000 }),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into())),
            typed_extension_protocol_options: [(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
                Any { type_url: options_type.to_owned(), value: options },
            )]
            .into(),
            ..Cluster::default()
        }
        .encode_to_vec()
    }

    fn http2_options() -> Vec<u8> {
        HttpProtocolOptions {
            upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
                ExplicitHttpConfig {
                    protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions {
                        max_concurrent_streams: Some(UInt32Value { value: 100 }),
                        ..Http2ProtocolOptions::default()
                    })),
                },
            )),
            ..HttpProtocolOptions::default()
        }
        .encode_to_vec()
    }

    fn cluster_json() -> Value {
        json!({
            "name": "alice-to-bob",
            "type": "STRICT_DNS",
            "connect_timeout": "1.500s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": HTTP_OPTIONS,
                    "explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 100}},
                },
            },
        })
    }

    #[test]
    fn a_cluster_is_written_like_envoys_configuration() {
        let json = to_json(CLUSTER, &cluster(HTTP_OPTIONS, http2_options())).unwrap();
        assert_eq!(json, cluster_json());
    }

    #[test]
    fn a_cluster_is_read_back_from_its_json() {
        let body = from_json(CLUSTER, &cluster_json()).unwrap();
        let expected = cluster(HTTP_OPTIONS, http2_options());
        assert_eq!(Cluster::decode(&*body).unwrap(), Cluster::decode(&*expected).unwrap());
    }

    #[test]
    fn a_bare_message_name_serves_as_type_url() {
        let json = to_json("envoy.config.cluster.v3.Cluster", &[]).unwrap();
        assert_eq!(json, json!({}));
    }

    #[test]
    fn an_unknown_type_is_named() {
        let error = to_json("type.googleapis.com/example.Missing", &[]).unwrap_err();
        assert!(matches!(error, JsonError::UnknownType(url) if url.ends_with("example.Missing")));
    }

    #[test]
    fn an_unknown_nested_type_is_named() {
        let body = cluster("type.googleapis.com/example.Missing", Vec::new());
        let JsonError::Write { source, .. } = to_json(CLUSTER, &body).unwrap_err() else {
            panic!("the outer type is known and its bytes are whole");
        };
        assert!(source.to_string().contains("example.Missing"), "{source}");
    }

    #[test]
    fn truncated_bytes_are_refused() {
        let body = cluster(HTTP_OPTIONS, http2_options());
        let error = to_json(CLUSTER, &body[..body.len() - 1]).unwrap_err();
        assert!(matches!(error, JsonError::Decode { .. }), "{error:?}");
    }

    #[test]
    fn truncated_bytes_of_a_nested_message_are_refused() {
        let mut options = http2_options();
        options.pop();
        let error = to_json(CLUSTER, &cluster(HTTP_OPTIONS, options)).unwrap_err();
        assert!(matches!(error, JsonError::Write { .. }), "{error:?}");
    }

    #[test]
    fn an_unknown_json_field_is_refused() {
        let error = from_json(CLUSTER, &json!({"nmae": "alice-to-bob"})).unwrap_err();
        assert!(matches!(error, JsonError::Read { .. }), "{error:?}");
    }

    #[test]
    fn a_thousand_virtual_hosts_keep_their_number_and_order() {
        let routes = RouteConfiguration {
            virtual_hosts: (0..1000)
                .map(|i| VirtualHost {
                    name: format!("host-{i}"),
                    domains: vec![format!("host-{i}.svc")],
                    ..VirtualHost::default()
                })
                .collect(),
            ..RouteConfiguration::default()
        };
        let json =
            to_json("type.googleapis.com/envoy.config.route.v3.RouteConfiguration", &routes.encode_to_vec())
                .unwrap();
        let names: Vec<_> = json["virtual_hosts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|host| host["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, (0..1000).map(|i| format!("host-{i}")).collect::<Vec<_>>());
    }
}
