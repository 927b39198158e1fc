use std::time::Duration;

use networkmesh_model::{
    EndpointPort, HandshakePolicy, Host, InboundAuth, Kind, Object, OutboundAuth, PortProtocol, Timeouts,
    TokenMethod, TokenSettings, Trust, expand_cluster_route,
};
use serde_json::{Value, json};

use crate::support::{ALICE, BOB, BOB_CERTIFICATE, Mesh, domain, object_of, paths, route, with, without};

/// Checks that alice refuses her route to bob with `value` at `pointer`, for `path` alone and with these words.
fn refused(pointer: &str, value: Value, path: &str, problem: &str) {
    let mesh = Mesh::of(&[with(route("alice", "bob"), pointer, value)]);
    let name = mesh.snapshot.rejected.keys().next().unwrap().name.clone();
    assert_eq!(mesh.rejection(Kind::DomainRoute, &name), [(path, problem)]);
    assert!(mesh.snapshot.outbound.is_empty());
}

#[test]
fn the_source_builds_the_way_out() {
    let mut manifest = route("alice", "bob");
    manifest["spec"]["endpoint"]["ports"] = json!([
        {"name": "grpc", "port": 1081, "protocol": "GRPC", "isTLS": true, "pathPrefix": "/a/b/"},
        {"name": "http", "port": 1080, "protocol": "HTTP"},
    ]);
    let mesh = Mesh::of(&[manifest]);
    let route = mesh.outbound("bob");
    let direct = route.direct().unwrap();
    assert_eq!(route.object.to_string(), "DomainRoute alice/alice-bob");
    assert_eq!(route.destination.as_str(), "bob");
    assert_eq!(direct.endpoint.host, Host::Name("bob.example.com".into()));
    let port = |protocol, port, tls, path_prefix: &str| EndpointPort {
        protocol,
        port,
        tls,
        path_prefix: path_prefix.into(),
    };
    assert_eq!(
        direct.endpoint.ports,
        [port(PortProtocol::Http, 1080, false, ""), port(PortProtocol::Grpc, 1081, true, "/a/b")]
    );
    assert_eq!(direct.trust, Trust::SystemRoots);
    let OutboundAuth::Token { settings, sending } = &route.auth else { panic!("{route:?}") };
    assert_eq!(settings.peer_key, *BOB.public_key());
    assert_eq!(settings.rolling_update_period, Some(Duration::from_secs(3600)));
    assert_eq!(*sending, None);
    assert!(mesh.snapshot.inbound.is_empty() && mesh.snapshot.rejected.is_empty());
}

#[test]
fn the_destination_builds_the_way_in_and_needs_no_endpoint() {
    let manifest = without(route("bob", "alice"), "/spec/endpoint");
    let mesh = Mesh::of(&[with(manifest, "/spec/tokenConfig/rollingUpdatePeriod", json!(0))]);
    let route = mesh.inbound("bob");
    assert_eq!((route.object.name.as_str(), route.source.as_str()), ("bob-alice", "bob"));
    let InboundAuth::Token { settings, accepted } = &route.auth else { panic!("{route:?}") };
    assert_eq!(settings.peer_key, *BOB.public_key());
    assert_eq!(settings.rolling_update_period, None);
    assert!(accepted.is_empty() && mesh.snapshot.outbound.is_empty());
}

#[test]
fn a_route_without_authentication_needs_no_keys() {
    for (source, destination) in [("alice", "bob"), ("bob", "alice")] {
        let manifest = without(route(source, destination), "/spec/tokenConfig");
        let mesh = Mesh::of(&[with(manifest, "/spec/authenticationType", json!("None"))]);
        let out = mesh.snapshot.outbound.values().all(|route| route.auth == OutboundAuth::None);
        let ins = mesh.snapshot.inbound.values().all(|route| route.auth == InboundAuth::None);
        assert!(out && ins && mesh.snapshot.outbound.len() + mesh.snapshot.inbound.len() == 1);
    }
}

#[test]
fn names_of_the_two_domains_are_checked() {
    let not_a_label = "\"Bob\" is not a DNS label (RFC 1123)";
    refused("/spec/destination", json!("Bob"), "spec.destination", not_a_label);
    refused("/spec/destination", json!(""), "spec.destination", "is empty");
    let stranger = "is \"carol\" and spec.destination is \"bob\", but the route stands in \"alice\"";
    let mesh = Mesh::of(&[with(route("alice", "bob"), "/spec/source", json!("carol"))]);
    assert_eq!(
        mesh.rejection(Kind::DomainRoute, "alice-bob"),
        [
            ("spec.source", stranger),
            ("metadata.name", "is \"alice-bob\", but the route leads from carol to bob"),
        ]
    );
    let mesh =
        Mesh::of(&[with(route("alice", "alice"), "/spec/tokenConfig/destinationPublicKey", json!(""))]);
    assert_eq!(
        mesh.rejection(Kind::DomainRoute, "alice-alice"),
        [("spec.destination", "is the source itself")]
    );
}

#[test]
fn a_route_is_named_after_its_two_domains() {
    let problem = "is \"to-bob\", but the route leads from alice to bob";
    refused("/metadata/name", json!("to-bob"), "metadata.name", problem);
}

#[test]
fn authentication_and_its_settings_are_checked() {
    let path = "spec.authenticationType";
    refused("/spec/authenticationType", json!("mTLS"), path, "\"mTLS\" is unknown");
    refused("/spec/authenticationType", json!(""), path, "\"\" is unknown");
    let missing = "is missing, and authenticationType is Token";
    refused("/spec/tokenConfig", json!(null), "spec.tokenConfig", missing);
    let path = "spec.tokenConfig.tokenGenMethod";
    refused("/spec/tokenConfig/tokenGenMethod", json!("UID"), path, "\"UID\" is unknown");
    refused("/spec/tokenConfig/tokenGenMethod", json!(""), path, "\"\" is unknown");
    let path = "spec.tokenConfig.handshake";
    refused("/spec/tokenConfig/handshake", json!("Signed"), path, "\"Signed\" is unknown");
    let path = "spec.tokenConfig.rollingUpdatePeriod";
    refused("/spec/tokenConfig/rollingUpdatePeriod", json!(-1), path, "-1 is out of range");
    refused(
        "/spec/tokenConfig/rollingUpdatePeriod",
        json!(i64::MAX),
        path,
        "9223372036854775807 is out of range",
    );
}

/// How alice negotiates the token of her route to bob, given this value in `tokenConfig`.
fn settings_with(pointer: &str, value: &str) -> TokenSettings {
    let mesh = Mesh::of(&[with(route("alice", "bob"), pointer, json!(value))]);
    match &mesh.outbound("bob").auth {
        OutboundAuth::Token { settings, .. } => settings.clone(),
        OutboundAuth::Mtls | OutboundAuth::None => panic!("has tokens"),
    }
}

#[test]
fn both_methods_of_kuscia_make_tokens() {
    for (name, method) in [("RSA-GEN", TokenMethod::Rsa), ("UID-RSA-GEN", TokenMethod::Uid)] {
        assert_eq!(settings_with("/spec/tokenConfig/tokenGenMethod", name).method, method);
    }
}

#[test]
fn unsigned_handshakes_are_taken_as_the_route_says() {
    for (name, policy) in [
        ("", HandshakePolicy::WhatPeerCan),
        ("signed", HandshakePolicy::Signed),
        ("compatible", HandshakePolicy::Compatible),
    ] {
        assert_eq!(settings_with("/spec/tokenConfig/handshake", name).handshake, policy);
    }
    let mesh = Mesh::of(&[route("bob", "alice")]);
    let InboundAuth::Token { settings, .. } = &mesh.inbound("bob").auth else { panic!("has tokens") };
    assert_eq!(settings.handshake, HandshakePolicy::WhatPeerCan);
}

#[test]
fn the_route_of_a_cluster_route_keeps_its_policy_of_handshakes() {
    let mut manifest = with(route("alice", "bob"), "/spec/tokenConfig/handshake", json!("signed"));
    manifest["kind"] = json!("ClusterDomainRoute");
    let Object::ClusterDomainRoute(cluster_route) = object_of(&manifest) else { panic!("{manifest}") };
    let expanded = serde_json::to_value(expand_cluster_route(&cluster_route, "alice")).unwrap();
    let mesh = Mesh::of(&[expanded]);
    let OutboundAuth::Token { settings, .. } = &mesh.outbound("bob").auth else { panic!("has tokens") };
    assert_eq!(settings.handshake, HandshakePolicy::Signed);
}

#[test]
fn the_endpoint_is_checked() {
    let host = "spec.endpoint.host";
    refused("/spec/endpoint/host", json!(""), host, "is empty");
    let problem = "\"http://bob\" is neither a DNS name nor an IP address";
    refused("/spec/endpoint/host", json!("http://bob"), host, problem);
    refused("/spec/endpoint/ports", json!([]), "spec.endpoint.ports", "is empty");

    for port in [0, -1, 65536, i64::MAX] {
        let problem = format!("{port} is not a port");
        refused("/spec/endpoint/ports/0/port", json!(port), "spec.endpoint.ports[0].port", &problem);
    }
    let path = "spec.endpoint.ports[0].protocol";
    refused("/spec/endpoint/ports/0/protocol", json!("http"), path, "\"http\" is unknown");
    let path = "spec.endpoint.ports[0].pathPrefix";
    refused("/spec/endpoint/ports/0/pathPrefix", json!("a"), path, "must start with \"/\"");
    for prefix in ["/a?b", "/a#b", "/a b", "/a%2f", "/\u{e9}", "/a\nb", "/a\\b"] {
        let problem = "has characters that are not plain parts of a path";
        refused("/spec/endpoint/ports/0/pathPrefix", json!(prefix), path, problem);
    }
    let port = json!({"name": "x", "port": 1, "protocol": "HTTP"});
    let problem = "is the protocol of an earlier port too";
    refused("/spec/endpoint/ports", json!([port, port]), "spec.endpoint.ports[1].protocol", problem);
}

#[test]
fn the_endpoint_says_how_its_ports_are_called() {
    let mut manifest = with(route("alice", "bob"), "/spec/endpoint/host", json!("[2001:db8::1]"));
    let plain = Mesh::of(&[manifest.clone()]);
    let endpoint = &plain.outbound("bob").direct().unwrap().endpoint;
    assert_eq!(endpoint.host, Host::Address("2001:db8::1".parse().unwrap()));
    assert_eq!((&endpoint.server_name, endpoint.grpc_degrade), (&None, false));
    assert_eq!(endpoint.timeouts, Timeouts::default());

    manifest["metadata"]["labels"] = json!({"kuscia.secretflow/grpc-degrade": "True"});
    manifest["spec"]["endpoint"]["ports"][0]["isTLS"] = json!(true);
    manifest["spec"]["endpoint"]["tls"] = json!({"serverName": "GW.bob.example"});
    manifest["spec"]["endpoint"]["timeouts"] =
        json!({"connectSeconds": 300, "idleSeconds": 2_592_000, "requestSeconds": 1});
    let mesh = Mesh::of(&[manifest.clone()]);
    let endpoint = &mesh.outbound("bob").direct().unwrap().endpoint;
    assert_eq!(endpoint.server_name, Some(Host::Name("gw.bob.example".into())));
    assert!(endpoint.grpc_degrade);
    let seconds = Duration::from_secs;
    let timeouts = Timeouts { connect: seconds(300), idle: seconds(2_592_000), request: Some(seconds(1)) };
    assert_eq!(endpoint.timeouts, timeouts);

    manifest["metadata"]["labels"] = json!({"kuscia.secretflow/grpc-degrade": "False"});
    manifest["spec"]["endpoint"]["timeouts"] = json!({"requestSeconds": 0});
    let mesh = Mesh::of(&[manifest]);
    assert!(!mesh.outbound("bob").direct().unwrap().endpoint.grpc_degrade);
    assert_eq!(mesh.outbound("bob").direct().unwrap().endpoint.timeouts, Timeouts::default());
}

#[test]
fn how_ports_are_called_is_checked() {
    for (field, wrong) in [
        ("connectSeconds", [0, 301, -1]),
        ("idleSeconds", [0, 2_592_001, i64::MIN]),
        ("requestSeconds", [-1, 2_592_001, i64::MAX]),
    ] {
        for seconds in wrong {
            let path = format!("spec.endpoint.timeouts.{field}");
            let problem = format!("{seconds} is out of range");
            refused("/spec/endpoint/timeouts", json!({field: seconds}), &path, &problem);
        }
    }
    let path = "metadata.labels[kuscia.secretflow/grpc-degrade]";
    let labels = json!({"kuscia.secretflow/grpc-degrade": "true"});
    refused("/metadata/labels", labels, path, "\"true\" is unknown");
    let unused = "is given, and no port speaks TLS";
    refused("/spec/endpoint/tls", json!({"serverName": "a"}), "spec.endpoint.tls", unused);
    refused("/spec/mTLSConfig", json!({}), "spec.mTLSConfig", unused);
    for (name, problem) in [
        ("192.0.2.1", "is an address"),
        ("https://a", "\"https://a\" is neither a DNS name nor an IP address"),
    ] {
        let mut manifest = route("alice", "bob");
        manifest["spec"]["endpoint"]["ports"][0]["isTLS"] = json!(true);
        manifest["spec"]["endpoint"]["tls"] = json!({"serverName": name});
        let mesh = Mesh::of(&[manifest]);
        assert_eq!(
            mesh.rejection(Kind::DomainRoute, "alice-bob"),
            [("spec.endpoint.tls.serverName", problem)]
        );
    }
}

#[test]
fn settings_that_are_not_supported_are_refused_by_both_sides() {
    for (field, value, path) in [
        ("transit", json!({"transitMethod": "REVERSE-TUNNEL"}), "spec.transit.transitMethod"),
        ("bodyEncryption", json!({"algorithm": "SM4"}), "spec.bodyEncryption"),
        ("interConnProtocol", json!("bfia"), "spec.interConnProtocol"),
    ] {
        for (source, destination) in [("alice", "bob"), ("bob", "alice")] {
            let mesh =
                Mesh::of(&[with(route(source, destination), &format!("/spec/{field}"), value.clone())]);
            let rejected: Vec<_> = mesh.snapshot.rejected.values().flat_map(|errors| paths(errors)).collect();
            assert_eq!(rejected, [path]);
        }
    }
    assert!(
        Mesh::of(&[with(route("alice", "bob"), "/spec/interConnProtocol", json!("kuscia"))])
            .snapshot
            .rejected
            .is_empty()
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let mut manifest = route("alice", "bob");
    manifest["metadata"]["name"] = json!("x");
    manifest["spec"]["endpoint"] = json!({"host": "a b", "ports": [
        {"name": "a", "port": 0, "protocol": "UDP", "pathPrefix": "x"},
        {"name": "b", "port": 70000, "protocol": "HTTP"},
    ]});
    manifest["spec"]["tokenConfig"] = json!({
        "tokenGenMethod": "RAND-GEN", "rollingUpdatePeriod": -5,
        "sourcePublicKey": "???", "destinationPublicKey": "abcd",
    });
    manifest["spec"]["bodyEncryption"] = json!({"algorithm": "AES"});
    let mesh = Mesh::of(&[manifest]);
    let (_, errors) = mesh.snapshot.rejected.get_min().unwrap();
    assert_eq!(
        paths(errors),
        [
            "metadata.name",
            "spec.bodyEncryption",
            "spec.tokenConfig.tokenGenMethod",
            "spec.tokenConfig.rollingUpdatePeriod",
            "spec.tokenConfig.sourcePublicKey",
            "spec.tokenConfig.destinationPublicKey",
            "spec.endpoint.host",
            "spec.endpoint.ports[0].port",
            "spec.endpoint.ports[0].protocol",
            "spec.endpoint.ports[0].pathPrefix",
            "spec.endpoint.ports[1].port",
        ]
    );
    assert!(errors.iter().all(|error| !error.remedy.is_empty()));
    assert_eq!(errors.to_string().lines().count(), 11);
}

#[test]
fn a_key_that_is_not_ours_is_refused_with_both_fingerprints() {
    for (source, destination, field) in
        [("alice", "bob", "sourcePublicKey"), ("bob", "alice", "destinationPublicKey")]
    {
        let pointer = format!("/spec/tokenConfig/{field}");
        let mut mesh = Mesh::empty();
        let (_, updates) =
            mesh.put(&with(route(source, destination), &pointer, json!(BOB.public_key().to_base64_pem())));
        let (bob, alice) = (BOB.public_key().fingerprint(), ALICE.public_key().fingerprint());
        let problem = format!("is the key {bob}, but this domain's key is {alice}");
        assert_eq!(
            mesh.rejection(Kind::DomainRoute, &format!("{source}-{destination}")),
            [(format!("spec.tokenConfig.{field}").as_str(), problem.as_str())]
        );
        assert_eq!(reason(&updates), "KeyMismatch");
    }
}

#[test]
fn our_own_key_may_be_left_out() {
    let mesh = Mesh::of(&[without(route("alice", "bob"), "/spec/tokenConfig/sourcePublicKey")]);
    assert!(mesh.snapshot.outbound.contains_key("bob"));
}

#[test]
fn a_key_that_cannot_be_read_is_refused_even_where_it_is_not_the_peers() {
    for field in ["sourcePublicKey", "destinationPublicKey"] {
        let manifest = with(route("alice", "bob"), &format!("/spec/tokenConfig/{field}"), json!("AAAA"));
        let mesh = Mesh::of(&[manifest]);
        let rejected: Vec<_> = mesh.snapshot.rejected.values().flat_map(|errors| paths(errors)).collect();
        assert_eq!(rejected, [format!("spec.tokenConfig.{field}")]);
    }
}

#[test]
fn a_missing_peer_key_comes_from_the_peers_domain() {
    let manifest = without(route("alice", "bob"), "/spec/tokenConfig/destinationPublicKey");
    let mut mesh = Mesh::empty();
    let (_, updates) = mesh.put(&manifest);
    let path = "spec.tokenConfig.destinationPublicKey";
    assert_eq!(mesh.rejection(Kind::DomainRoute, "alice-bob"), [(path, "is missing")]);
    assert_eq!(reason(&updates), "PeerKeyMissing");

    let (published, updates) = mesh.put(&domain("bob", &BOB_CERTIFICATE));
    assert!(published && mesh.snapshot.rejected.is_empty());
    assert_eq!(reason(&updates), "Valid");
    let OutboundAuth::Token { settings, .. } = &mesh.outbound("bob").auth else { panic!("no tokens") };
    assert_eq!(settings.peer_key, *BOB.public_key());
}

#[test]
fn a_wrong_key_of_ours_and_a_missing_one_of_the_peer_are_said_at_once() {
    let manifest = with(
        without(route("alice", "bob"), "/spec/tokenConfig/destinationPublicKey"),
        "/spec/tokenConfig/sourcePublicKey",
        json!(BOB.public_key().to_base64_pem()),
    );
    let mut mesh = Mesh::empty();
    let (_, updates) = mesh.put(&manifest);
    let paths: Vec<_> = mesh.snapshot.rejected.values().flat_map(|errors| paths(errors)).collect();
    assert_eq!(paths, ["spec.tokenConfig.sourcePublicKey", "spec.tokenConfig.destinationPublicKey"]);
    assert_eq!(reason(&updates), "KeyMismatch");
}

#[test]
fn a_destination_with_a_domain_certificate_is_checked_against_that_alone() {
    let mut mesh = Mesh::of(&[domain("bob", &BOB_CERTIFICATE), route("alice", "bob")]);
    let Trust::Authority(pem) = &mesh.outbound("bob").direct().unwrap().trust else {
        panic!("the system's roots")
    };
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n") && !pem.contains('\r'), "{pem}");
    mesh.delete(Kind::Domain, "bob");
    assert_eq!(mesh.outbound("bob").direct().unwrap().trust, Trust::SystemRoots);
}

#[test]
fn a_private_key_beside_a_certificate_gets_no_further() {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let certificate = String::from_utf8(base64.decode(&*BOB_CERTIFICATE).unwrap()).unwrap();
    let both = base64.encode(format!("{}{certificate}", &*BOB.to_pkcs1_pem()));
    let mesh = Mesh::of(&[domain("bob", &both), route("alice", "bob")]);
    assert_eq!(mesh.outbound("bob").direct().unwrap().trust, Trust::Authority(certificate.into()));
}

#[test]
fn offline_a_route_is_checked_for_the_side_that_its_namespace_tells() {
    let bare = without(route("alice", "bob"), "/spec/endpoint");
    let check = |namespace: &str| {
        let object = object_of(&with(bare.clone(), "/metadata/namespace", json!(namespace)));
        object.check().err().map(|errors| paths(&errors).join(" "))
    };
    assert_eq!(check("alice").as_deref(), Some("spec.endpoint.host spec.endpoint.ports"));
    assert_eq!(check("bob"), None);
    assert_eq!(check("carol").as_deref(), Some("spec.source"));

    let read =
        networkmesh_model::read_manifests(&without(bare, "/metadata/namespace").to_string(), "").unwrap();
    let [networkmesh_model::Document::Read { object, .. }] = read.as_slice() else { panic!("{read:?}") };
    assert_eq!(object.check(), Ok(()), "nothing tells that this is the source's");
}

#[test]
fn offline_a_cluster_route_needs_an_endpoint() {
    let mut manifest = without(route("alice", "bob"), "/spec/endpoint");
    manifest["kind"] = json!("ClusterDomainRoute");
    let errors = object_of(&manifest).check().unwrap_err();
    assert_eq!(paths(&errors), ["spec.endpoint.host", "spec.endpoint.ports"]);
}

#[test]
fn offline_keys_are_read_but_not_compared() {
    let swapped = json!(BOB.public_key().to_base64_pem());
    let manifest = with(route("alice", "bob"), "/spec/tokenConfig/sourcePublicKey", swapped);
    assert_eq!(object_of(&manifest).check(), Ok(()));
    let manifest = with(manifest, "/spec/tokenConfig/sourcePublicKey", json!("AAAA"));
    assert_eq!(paths(&object_of(&manifest).check().unwrap_err()), ["spec.tokenConfig.sourcePublicKey"]);
}

fn reason(updates: &[networkmesh_model::StatusUpdate]) -> &str {
    match updates {
        [
            networkmesh_model::StatusUpdate {
                change: networkmesh_model::StatusChange::Condition(condition),
                ..
            },
        ] => {
            assert_eq!(condition.type_, "Accepted");
            &condition.reason
        }
        other => panic!("{other:?}"),
    }
}
