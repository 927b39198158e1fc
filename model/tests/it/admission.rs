//! What a source may do at this domain beside proving who it is.

use std::net::IpAddr;

use networkmesh_model::{InboundRoute, Kind};
use serde_json::{Value, json};

use crate::support::{Mesh, listed, object_of, route, with};

fn refused(field: &str, value: Value) -> Vec<(String, String)> {
    let mesh = Mesh::of(&[with(route("bob", "alice"), &format!("/spec/{field}"), value)]);
    let errors = mesh.rejection(Kind::DomainRoute, "bob-alice");
    errors.into_iter().map(|(path, problem)| (path.to_owned(), problem.to_owned())).collect()
}

fn networks(route: &InboundRoute) -> Vec<String> {
    route.addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn addresses_and_networks_are_truncated_sorted_and_each_once() {
    let list =
        json!(["192.0.2.77/24", "2001:db8::1", "192.0.2.1/24", "10.0.0.1", "2001:db8::9/32", "10.0.0.1/32"]);
    let mesh = Mesh::of(&[with(route("bob", "alice"), "/spec/sourceWhiteIPList", list)]);
    let bob = mesh.inbound("bob");
    assert_eq!(networks(bob), ["10.0.0.1/32", "192.0.2.0/24", "2001:db8::/32", "2001:db8::1/128"]);
    let lets_in = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        bob.addresses.iter().any(|network| network.contains(&address))
    };
    assert!(lets_in("192.0.2.255") && !lets_in("192.0.3.0"));
    assert!(Mesh::of(&[route("bob", "alice")]).inbound("bob").addresses.is_empty());
}

#[test]
fn what_is_no_network_is_named() {
    assert_eq!(
        refused("sourceWhiteIPList", json!(["10.0.0.0/8", "10.0.0.0/33", "", "bob.example"])),
        [
            ("spec.sourceWhiteIPList[1]", "\"10.0.0.0/33\" is neither an IP address nor a network"),
            ("spec.sourceWhiteIPList[2]", "\"\" is neither an IP address nor a network"),
            ("spec.sourceWhiteIPList[3]", "\"bob.example\" is neither an IP address nor a network"),
        ]
        .map(|(path, problem)| (path.to_owned(), problem.to_owned()))
    );
    let many: Vec<String> =
        (0..1001).map(|number| format!("10.0.{}.{}", number / 250, number % 250)).collect();
    assert_eq!(
        refused("sourceWhiteIPList", json!(many)),
        [("spec.sourceWhiteIPList".to_owned(), "has 1001 entries".to_owned())]
    );
    let most = json!(many[..1000]);
    let mesh = Mesh::of(&[with(route("bob", "alice"), "/spec/sourceWhiteIPList", most)]);
    assert_eq!(mesh.inbound("bob").addresses.len(), 1000);
}

#[test]
fn headers_are_sorted_and_their_values_hidden() {
    let headers = json!({"X-Role": "reader\tand writer", "Authorization": "Bearer S3CRET", "a": "none"});
    let mesh = Mesh::of(&[with(route("bob", "alice"), "/spec/requestHeadersToAdd", headers)]);
    let headers = &mesh.inbound("bob").request_headers;
    let shown: Vec<_> = headers.iter().map(|header| (header.name.as_str(), header.value.expose())).collect();
    assert_eq!(shown, [("a", "none"), ("authorization", "Bearer S3CRET"), ("x-role", "reader\tand writer")]);
    assert!(!format!("{:?}", mesh.snapshot).contains("S3CRET"));
}

#[test]
fn headers_that_cannot_be_added_are_refused_without_their_values() {
    let own = "is a header of the gateways themselves";
    for (name, problem) in [
        ("Kuscia-Token", own),
        ("X-NM-Peer", own),
        ("x-envoy-retry-on", own),
        ("Proxy-Authorization", own),
        (":path", own),
        ("Host", own),
        ("content-length", own),
        ("Transfer-Encoding", own),
        ("connection", own),
        ("te", own),
        ("upgrade", own),
        ("keep-alive", own),
        ("a b", "is no name of a header (RFC 9110)"),
        ("", "is no name of a header (RFC 9110)"),
        ("a\nb", "is no name of a header (RFC 9110)"),
        ("\u{e9}", "is no name of a header (RFC 9110)"),
    ] {
        let found = refused("requestHeadersToAdd", json!({name: "S3CRET"}));
        assert_eq!(found, [(format!("spec.requestHeadersToAdd[{name}]"), problem.to_owned())]);
    }
    for value in ["S3CRET\r\nx: y", "S3CRET\0", "S3CRET\u{e9}"] {
        let found = refused("requestHeadersToAdd", json!({"a": value}));
        let problem = "has a value that no header can carry";
        assert_eq!(found, [("spec.requestHeadersToAdd[a]".to_owned(), problem.to_owned())]);
    }
    for value in ["", " "] {
        let found = refused("requestHeadersToAdd", json!({"a": value}));
        assert_eq!(found, [("spec.requestHeadersToAdd[a]".to_owned(), "has an empty value".to_owned())]);
    }
    let found = refused("requestHeadersToAdd", json!({"a": "x".repeat(8193)}));
    assert_eq!(found[0].1, "has a value of 8193 bytes");
    let found = refused("requestHeadersToAdd", json!({"X-A": "1", "x-a": "2"}));
    assert_eq!(
        found,
        [("spec.requestHeadersToAdd[x-a]".to_owned(), "is given twice, in other letters".to_owned())]
    );
    let many: serde_json::Map<_, _> = (0..65).map(|number| (format!("h{number}"), json!("x"))).collect();
    assert_eq!(refused("requestHeadersToAdd", Value::Object(many))[0].1, "has 65 headers");
}

#[test]
fn the_source_ignores_what_the_destination_is_told_but_offline_it_is_checked() {
    let wrong = with(route("alice", "bob"), "/spec/sourceWhiteIPList", json!(["x"]));
    let mut wrong = with(wrong, "/spec/requestHeadersToAdd", json!({"host": "x"}));
    assert!(Mesh::of(&[wrong.clone()]).snapshot.outbound.contains_key("bob"));
    wrong["kind"] = json!("ClusterDomainRoute");
    let errors = object_of(&wrong).check().unwrap_err();
    assert_eq!(
        listed(&errors),
        [
            ("spec.sourceWhiteIPList[0]", "\"x\" is neither an IP address nor a network"),
            ("spec.requestHeadersToAdd[host]", "is a header of the gateways themselves"),
        ]
    );
}
