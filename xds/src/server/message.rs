//! The responses of the protocol as they are sent: the messages of `envoy.service.discovery.v3`.
//!
//! They are written out here, field by field, instead of by generated structs, so that a body is copied once: from
//! the cache's memory into what is sent.

use bytes::BufMut;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::{
    resource::{Resource, ResourceType, Version},
    session::{Protocol, Response},
};

/// The length of a version, which is written in hex digits.
const VERSION_LEN: usize = 16;

/// How many bytes [`encode`] writes.
pub(super) fn encoded_len(protocol: Protocol, response: &Response) -> usize {
    let url = response.ty.type_url();
    let resources = response.resources.iter().map(|resource| match protocol {
        Protocol::Delta => field_len(2, resource_len(url, resource)),
        Protocol::StateOfTheWorld => field_len(2, any_len(url, resource)),
    });
    let absent = response.removed.iter().map(|name| match absence(protocol, response) {
        Absence::Unresolved => field_len(2, unresolved_len(name)),
        Absence::Removed => field_len(6, name.len()),
        Absence::Untold => 0,
    });
    let nonce = field_len(5, response.nonce.len());
    field_len(1, VERSION_LEN) + field_len(4, url.len()) + nonce + resources.chain(absent).sum::<usize>()
}

/// Writes a `DeltaDiscoveryResponse` or a `DiscoveryResponse`. Their fields are the same, but for the resources:
/// delta names each and its version.
pub(super) fn encode(protocol: Protocol, response: &Response, out: &mut impl BufMut) {
    let url = response.ty.type_url();
    put(1, system_version(response).as_bytes(), out);
    for resource in &response.resources {
        match protocol {
            Protocol::Delta => put_resource(url, resource, out),
            Protocol::StateOfTheWorld => put_any(url, resource, out),
        }
    }
    put(4, url.as_bytes(), out);
    put(5, response.nonce.as_bytes(), out);
    for name in &response.removed {
        match absence(protocol, response) {
            Absence::Unresolved => put_unresolved(name, out),
            Absence::Removed => put(6, name.as_bytes(), out),
            Absence::Untold => {}
        }
    }
}

/// How a response says that there is no resource of a name.
enum Absence {
    /// In the list of removed resources.
    Removed,
    /// As a resource without a body. Envoy holds back requests to a virtual host that it has asked for until it
    /// hears of it, which it does not by a removal (VHDS).
    Unresolved,
    /// By leaving it out.
    Untold,
}

fn absence(protocol: Protocol, response: &Response) -> Absence {
    match protocol {
        Protocol::StateOfTheWorld => Absence::Untold,
        Protocol::Delta if response.denies && response.ty == ResourceType::VirtualHost => Absence::Unresolved,
        Protocol::Delta => Absence::Removed,
    }
}

/// `envoy.service.discovery.v3.Resource`: version, resource, name.
fn put_resource(url: &str, resource: &Resource, out: &mut impl BufMut) {
    put_head(2, resource_len(url, resource), out);
    put(1, resource.version().to_string().as_bytes(), out);
    put_any(url, resource, out);
    put(3, resource.name().as_bytes(), out);
}

fn resource_len(url: &str, resource: &Resource) -> usize {
    let any = field_len(2, any_len(url, resource));
    field_len(1, VERSION_LEN) + any + field_len(3, resource.name().len())
}

/// The same with a name and an alias only.
fn put_unresolved(name: &str, out: &mut impl BufMut) {
    put_head(2, unresolved_len(name), out);
    put(3, name.as_bytes(), out);
    put(4, name.as_bytes(), out);
}

fn unresolved_len(name: &str) -> usize {
    field_len(3, name.len()) + field_len(4, name.len())
}

/// `google.protobuf.Any`: type URL, value. It has the same number, 2, in all messages that hold it.
fn put_any(url: &str, resource: &Resource, out: &mut impl BufMut) {
    put_head(2, any_len(url, resource), out);
    put(1, url.as_bytes(), out);
    put(2, resource.body(), out);
}

fn any_len(url: &str, resource: &Resource) -> usize {
    field_len(1, url.len()) + field_len(2, resource.body().len())
}

/// Writes a field that holds a text or bytes.
fn put(tag: u32, value: &[u8], out: &mut impl BufMut) {
    put_head(tag, value.len(), out);
    out.put_slice(value);
}

/// Writes what comes before the content of a field.
fn put_head(tag: u32, len: usize, out: &mut impl BufMut) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

/// The length of a field with content of this length.
fn field_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

/// One version for all of a response, so that people can compare what two clients have. The session itself
/// relies on nonces and on the resources' own versions.
fn system_version(response: &Response) -> String {
    let mut listed = Vec::new();
    for resource in &response.resources {
        listed.extend_from_slice(resource.name().as_bytes());
        listed.push(0);
        listed.extend_from_slice(resource.version().to_string().as_bytes());
    }
    Version::of(&listed).to_string()
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::{
        envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse, Resource as Named},
        google::protobuf::Any,
    };
    use prost::Message;

    use super::*;

    fn response(ty: ResourceType, denies: bool) -> Response {
        let resources =
            [Resource::new("a", b"1"), Resource::new("b", &[7; 300]), Resource::new("empty", b"")];
        let removed = vec!["gone".into()];
        Response { ty, nonce: "7".to_owned(), resources: resources.into(), removed, denies }
    }

    fn encoded(protocol: Protocol, response: &Response) -> Vec<u8> {
        let mut out = Vec::new();
        encode(protocol, response, &mut out);
        assert_eq!(out.len(), encoded_len(protocol, response));
        out
    }

    fn any(ty: ResourceType, resource: &Resource) -> Any {
        Any { type_url: ty.type_url().to_owned(), value: resource.body().to_vec() }
    }

    fn named(ty: ResourceType, resource: &Resource) -> Named {
        Named {
            name: resource.name().to_owned(),
            version: resource.version().to_string(),
            resource: Some(any(ty, resource)),
            ..Named::default()
        }
    }

    #[test]
    fn a_delta_response_is_read_back_by_the_generated_message() {
        for denies in [false, true] {
            let response = response(ResourceType::Cluster, denies);
            let read = DeltaDiscoveryResponse::decode(encoded(Protocol::Delta, &response).as_slice());
            let expected = DeltaDiscoveryResponse {
                system_version_info: system_version(&response),
                resources: response.resources.iter().map(|it| named(response.ty, it)).collect(),
                type_url: response.ty.type_url().to_owned(),
                removed_resources: vec!["gone".to_owned()],
                nonce: "7".to_owned(),
                ..DeltaDiscoveryResponse::default()
            };
            assert_eq!(read, Ok(expected));
        }
    }

    #[test]
    fn a_response_of_the_whole_state_is_read_back_by_the_generated_message() {
        let response = response(ResourceType::Listener, false);
        let read = DiscoveryResponse::decode(encoded(Protocol::StateOfTheWorld, &response).as_slice());
        let expected = DiscoveryResponse {
            version_info: system_version(&response),
            resources: response.resources.iter().map(|it| any(response.ty, it)).collect(),
            type_url: response.ty.type_url().to_owned(),
            nonce: "7".to_owned(),
            ..DiscoveryResponse::default()
        };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn a_virtual_host_that_does_not_exist_is_an_alias_without_a_body() {
        let ty = ResourceType::VirtualHost;
        let read = |response: Response| {
            DeltaDiscoveryResponse::decode(encoded(Protocol::Delta, &response).as_slice()).expect("a message")
        };
        let denied = read(response(ty, true));
        let gone = "gone".to_owned();
        let unresolved = Named { name: gone.clone(), aliases: vec![gone.clone()], ..Named::default() };
        assert_eq!(denied.resources.last(), Some(&unresolved));
        assert_eq!(denied.removed_resources, Vec::<String>::new());

        let removed = read(response(ty, false));
        assert_eq!((removed.resources.len(), removed.removed_resources), (3, vec![gone]));
    }
}
