use std::net::SocketAddr;
use std::time::Duration;

use networkmesh_model::{Access, Affinity, Kind, PortScope, Protocol, ServiceTls, SessionCookie};
use serde_json::{Value, json};

use crate::support::{Mesh, endpoints, object_of, paths, service, slice, with, without};

const SCOPE: &str = "kuscia.secretflow/port-scope";
const ACCESS: &str = "kuscia.secretflow/access-domain";
const PROTOCOL: &str = "kuscia.secretflow/protocol";

const VERIFICATION: &str = "kuscia.secretflow/tls-verification";
const COOKIE: &str = "kuscia.secretflow/sticky-session-cookie";
const TTL: &str = "kuscia.secretflow/sticky-session-ttl";

fn labelled(label: &str, value: &str) -> Value {
    let mut manifest = service("echo");
    manifest["metadata"]["labels"][label] = json!(value);
    manifest
}

fn annotated(annotation: &str, value: &str) -> Value {
    with_annotation(service("echo"), annotation, value)
}

fn with_annotation(mut manifest: Value, annotation: &str, value: &str) -> Value {
    manifest["metadata"]["annotations"][annotation] = json!(value);
    manifest
}

/// Path and problem of the one thing that is wrong with the service.
fn problem(manifest: &Value) -> (String, String) {
    let mesh = Mesh::of(std::slice::from_ref(manifest));
    let [(path, problem)] = mesh.rejection(Kind::Service, "echo")[..] else { panic!("{manifest}") };
    (path.to_owned(), problem.to_owned())
}

fn addresses(manifests: &[Value]) -> Vec<String> {
    let mesh = Mesh::of(manifests);
    assert!(mesh.snapshot.rejected.is_empty(), "{:?}", mesh.snapshot.rejected);
    mesh.service("echo").endpoints.iter().map(SocketAddr::to_string).collect()
}

#[test]
fn a_plain_service_is_open_to_every_domain_and_speaks_http() {
    let mesh = Mesh::of(&[service("echo")]);
    let service = mesh.service("echo");
    assert_eq!(service.name.as_str(), "echo");
    assert_eq!((service.scope, service.protocol), (PortScope::Cluster, Protocol::Http));
    assert_eq!(service.access, Access::Anyone);
    assert!(!service.through_gateway && service.endpoints.is_empty());
}

#[test]
fn the_scope_is_a_label() {
    for (value, scope) in [
        ("", PortScope::Cluster),
        ("Cluster", PortScope::Cluster),
        ("Domain", PortScope::Domain),
        ("Local", PortScope::Local),
    ] {
        assert_eq!(Mesh::of(&[labelled(SCOPE, value)]).service("echo").scope, scope);
    }
    let mesh = Mesh::of(&[labelled(SCOPE, "domain")]);
    let path = "metadata.labels[kuscia.secretflow/port-scope]";
    assert_eq!(mesh.rejection(Kind::Service, "echo"), [(path, "\"domain\" is unknown")]);
}

#[test]
fn access_is_a_list_of_domains() {
    let only =
        |domains: &[&str]| Access::Only(domains.iter().map(|domain| domain.parse().unwrap()).collect());
    let access = |value| Mesh::of(&[annotated(ACCESS, value)]).service("echo").access.clone();
    assert_eq!(access("bob"), only(&["bob"]));
    assert_eq!(access(" carol , bob,bob"), only(&["bob", "carol"]));
    assert_eq!(access(" "), Access::Anyone);
    for (wrong, problem) in [("bob,", "is empty"), (".*", "\".*\" is not a DNS label (RFC 1123)")] {
        let mesh = Mesh::of(&[annotated(ACCESS, wrong)]);
        let path = "metadata.annotations[kuscia.secretflow/access-domain]";
        assert_eq!(mesh.rejection(Kind::Service, "echo"), [(path, problem)]);
    }
}

#[test]
fn the_protocol_is_an_annotation() {
    for (value, protocol, tls) in [
        ("", Protocol::Http, None),
        ("HTTP", Protocol::Http, None),
        ("GRPC", Protocol::Grpc, None),
        ("HTTPS", Protocol::Http, Some(ServiceTls::Verified)),
        ("GRPCS", Protocol::Grpc, Some(ServiceTls::Verified)),
    ] {
        let mesh = Mesh::of(&[annotated(PROTOCOL, value)]);
        assert_eq!((mesh.service("echo").protocol, mesh.service("echo").tls), (protocol, tls));
    }
    let path = "metadata.annotations[kuscia.secretflow/protocol]";
    assert_eq!(problem(&annotated(PROTOCOL, "https")), (path.into(), "\"https\" is unknown".into()));
}

#[test]
fn a_service_is_verified_unless_it_says_in_words_that_it_need_not_be() {
    let mut manifest = annotated(PROTOCOL, "HTTPS");
    manifest["metadata"]["annotations"][VERIFICATION] = json!("off");
    assert_eq!(Mesh::of(&[manifest.clone()]).service("echo").tls, Some(ServiceTls::Unverified));
    let path = "metadata.annotations[kuscia.secretflow/tls-verification]";
    manifest["metadata"]["annotations"][PROTOCOL] = json!("GRPC");
    assert_eq!(problem(&manifest), (path.into(), "is given, and the service speaks no TLS".into()));
    assert_eq!(problem(&annotated(VERIFICATION, "on")), (path.into(), "\"on\" is unknown".into()));
}

#[test]
fn a_service_may_be_another_host() {
    let external = |name: &str| {
        with(
            service("echo"),
            "/spec",
            json!({"type": "ExternalName", "externalName": name, "ports": [{"port": 8443}]}),
        )
    };
    for (name, host) in
        [("Echo.Example.com.", "echo.example.com:8443"), ("2001:db8::1", "[2001:db8::1]:8443")]
    {
        let mesh = Mesh::of(&[endpoints("echo", "192.0.2.1", 80), external(name)]);
        assert_eq!(mesh.service("echo").external.as_ref().unwrap().to_string(), host);
        assert!(mesh.service("echo").endpoints.is_empty());
    }
    let path = "spec.externalName";
    for own in ["echo.alice.svc", "a.b.alice.svc."] {
        assert_eq!(problem(&external(own)), (path.into(), "is a service of this domain itself".into()));
    }
    assert!(Mesh::of(&[external("echo.bob.svc")]).snapshot.rejected.is_empty());
    assert_eq!(problem(&external("")), (path.into(), "is empty".into()));
    let portless = with(external("a.example"), "/spec/ports/0/port", json!(0));
    assert_eq!(problem(&portless), ("spec.ports[0].port".into(), "0 is not a port".into()));
}

#[test]
fn clients_stay_with_their_replica_by_address_or_cookie() {
    let affinity = |manifest: Value| Mesh::of(&[manifest]).service("echo").affinity.clone();
    let cookie = |name: &str, seconds| {
        Affinity::Cookie(Box::new(SessionCookie { name: name.into(), ttl: Duration::from_secs(seconds) }))
    };
    assert_eq!(affinity(service("echo")), Affinity::None);
    let by_address = with(service("echo"), "/spec/sessionAffinity", json!("ClientIP"));
    assert_eq!(affinity(by_address.clone()), Affinity::Client);
    assert_eq!(affinity(with(service("echo"), "/spec/sessionAffinity", json!("None"))), Affinity::None);
    let both = with(by_address, "/metadata/annotations", json!({COOKIE: "KUSCIA_SESSION"}));
    assert_eq!(affinity(both.clone()), cookie("KUSCIA_SESSION", 3600));
    for (ttl, seconds) in
        [("3600", 3600), ("86400s", 86400), ("90m", 5400), ("24h", 86400), ("720h", 2_592_000)]
    {
        let kept = affinity(with_annotation(both.clone(), TTL, ttl));
        assert_eq!(kept, cookie("KUSCIA_SESSION", seconds), "{ttl}");
    }
    for ttl in ["0", "0s", "-1", "1.5", "s", "721h", "18446744073709551615h", "\u{e9}"] {
        let path = "metadata.annotations[kuscia.secretflow/sticky-session-ttl]".to_owned();
        assert_eq!(problem(&annotated(TTL, ttl)).0, path, "{ttl}");
    }
    for name in ["a b", "a=b", "a;b", "\u{e9}", &"a".repeat(129)] {
        let path = "metadata.annotations[kuscia.secretflow/sticky-session-cookie]".to_owned();
        assert_eq!(problem(&annotated(COOKIE, name)), (path, "is no name of a cookie (RFC 6265)".into()));
    }
}

#[test]
fn clients_of_the_domain_go_through_the_gateway_where_the_label_says_so() {
    let through = |value| {
        Mesh::of(&[labelled("kuscia.secretflow/loadbalancer", value)]).service("echo").through_gateway
    };
    assert!(through("domainroute"));
    assert!(!through("other"));
    let mut local = labelled("kuscia.secretflow/loadbalancer", "domainroute");
    local["metadata"]["labels"]["kuscia.secretflow/port-scope"] = "Local".into();
    assert!(!Mesh::of(&[local]).service("echo").through_gateway, "nobody goes there");
}

#[test]
fn services_that_cannot_be_served_are_refused() {
    let mesh = Mesh::of(&[
        with(service("portless"), "/spec/ports", json!([])),
        without(service("specless"), "/spec"),
        service("Upper"),
        service("kuscia-handshake"),
        service("kuscia-datapath"),
    ]);
    let rejection = |name| mesh.rejection(Kind::Service, name);
    assert_eq!(rejection("portless"), [("spec.ports", "is empty")]);
    assert_eq!(rejection("specless"), [("spec.ports", "is empty")]);
    assert_eq!(rejection("Upper"), [("metadata.name", "\"Upper\" is not a DNS label (RFC 1123)")]);
    for own in ["kuscia-handshake", "kuscia-datapath"] {
        assert_eq!(rejection(own), [("metadata.name", "is the name of the mesh's own service")]);
    }
    assert!(mesh.snapshot.services.is_empty());
}

#[test]
fn everything_that_is_wrong_with_a_service_is_said_at_once() {
    let mut manifest = annotated(ACCESS, "B");
    manifest["metadata"]["labels"][SCOPE] = json!("x");
    manifest["metadata"]["annotations"][PROTOCOL] = json!("x");
    manifest["metadata"]["annotations"][COOKIE] = json!("a b");
    manifest["metadata"]["annotations"][TTL] = json!("x");
    manifest["metadata"]["annotations"]["kuscia.secretflow/tls-verification"] = json!("no");
    manifest["metadata"]["annotations"]["kuscia.secretflow/bandwidth-limit-bob"] = json!("1k");
    manifest["spec"] = json!({"type": "ExternalName", "sessionAffinity": "x"});
    assert_eq!(
        paths(&object_of(&manifest).check().unwrap_err()),
        [
            "metadata.labels[kuscia.secretflow/port-scope]",
            "metadata.annotations[kuscia.secretflow/access-domain]",
            "metadata.annotations[kuscia.secretflow/protocol]",
            "metadata.annotations[kuscia.secretflow/tls-verification]",
            "spec.sessionAffinity",
            "metadata.annotations[kuscia.secretflow/sticky-session-ttl]",
            "metadata.annotations[kuscia.secretflow/sticky-session-cookie]",
            "metadata.annotations[kuscia.secretflow/bandwidth-limit-bob]",
            "spec.ports",
            "spec.externalName",
        ]
    );
}

#[test]
fn addresses_come_from_endpoints_and_slices_of_both_families_sorted_and_once() {
    assert_eq!(
        addresses(&[
            slice("echo-6", "echo", "2001:db8::1", 8080),
            slice("echo-4", "echo", "192.0.2.2", 8080),
            slice("other-4", "other", "192.0.2.9", 8080),
            endpoints("echo", "192.0.2.1", 8080),
            slice("echo-5", "echo", "192.0.2.1", 8080),
            service("echo"),
        ]),
        ["192.0.2.1:8080", "192.0.2.2:8080", "[2001:db8::1]:8080"]
    );
}

#[test]
fn addresses_that_are_not_ready_are_left_out() {
    let mut of_endpoints = endpoints("echo", "192.0.2.1", 80);
    of_endpoints["subsets"][0]["notReadyAddresses"] = json!([{"ip": "192.0.2.2"}]);
    let mut of_slice = slice("echo-1", "echo", "192.0.2.3", 80);
    of_slice["endpoints"] = json!([
        {"addresses": ["192.0.2.3"]},
        {"addresses": ["192.0.2.4"], "conditions": {"ready": true}},
        {"addresses": ["192.0.2.5"], "conditions": {"ready": false, "serving": true}},
        {"addresses": ["192.0.2.6"], "conditions": {}},
    ]);
    assert_eq!(
        addresses(&[service("echo"), of_endpoints, of_slice]),
        ["192.0.2.1:80", "192.0.2.3:80", "192.0.2.4:80", "192.0.2.6:80"]
    );
}

#[test]
fn ports_are_found_by_the_name_of_the_services_first_port() {
    let ports = json!([{"name": "metrics", "port": 9090}, {"name": "http", "port": 8080}]);
    let by_name = addresses(&[
        service("echo"),
        with(endpoints("echo", "192.0.2.1", 1), "/subsets/0/ports", ports.clone()),
        with(slice("echo-1", "echo", "192.0.2.2", 1), "/ports", ports.clone()),
        with(slice("echo-2", "echo", "192.0.2.3", 1), "/ports", json!([{"name": "metrics", "port": 9090}])),
        with(slice("echo-3", "echo", "192.0.2.4", 1), "/ports", json!([{"name": "http"}])),
    ]);
    assert_eq!(by_name, ["192.0.2.1:8080", "192.0.2.2:8080"]);

    let unnamed = with(service("echo"), "/spec/ports", json!([{"port": 80}]));
    let only = addresses(&[
        unnamed.clone(),
        endpoints("echo", "192.0.2.1", 8080),
        with(slice("echo-1", "echo", "192.0.2.2", 1), "/ports", ports),
        with(slice("echo-2", "echo", "192.0.2.3", 1), "/ports", json!([{"name": "", "port": 8081}])),
    ]);
    assert_eq!(only, ["192.0.2.1:8080", "192.0.2.3:8081"]);
}

#[test]
fn endpoints_that_are_wrong_keep_the_last_good_ones() {
    let mut mesh = Mesh::of(&[service("echo"), endpoints("echo", "192.0.2.1", 80)]);
    let addresses = json!([{"ip": "192.0.2.300"}, {"ip": "bob.example.com"}]);
    mesh.put(&with(endpoints("echo", "", 0), "/subsets/0/addresses", addresses));
    assert_eq!(
        mesh.rejection(Kind::Endpoints, "echo"),
        [
            ("subsets[0].ports[0].port", "0 is not a port"),
            ("subsets[0].addresses[0].ip", "\"192.0.2.300\" is not an IP address"),
            ("subsets[0].addresses[1].ip", "\"bob.example.com\" is not an IP address"),
        ]
    );
    assert_eq!(*mesh.service("echo").endpoints, ["192.0.2.1:80".parse::<SocketAddr>().unwrap()]);
    mesh.put(&endpoints("echo", "192.0.2.2", 80));
    assert!(mesh.snapshot.rejected.is_empty());
    assert_eq!(*mesh.service("echo").endpoints, ["192.0.2.2:80".parse::<SocketAddr>().unwrap()]);
}

#[test]
fn slices_that_are_wrong_are_named_by_their_fields() {
    let mesh = Mesh::of(&[
        with(slice("names", "echo", "192.0.2.1", 80), "/addressType", json!("FQDN")),
        with(slice("numbers", "echo", "192.0.2.1", 80), "/ports/0/port", json!(65536)),
        slice("words", "echo", "echo", 80),
    ]);
    let rejection = |name| mesh.rejection(Kind::EndpointSlice, name);
    assert_eq!(rejection("names"), [("addressType", "\"FQDN\" is not supported")]);
    assert_eq!(rejection("numbers"), [("ports[0].port", "65536 is not a port")]);
    assert_eq!(rejection("words"), [("endpoints[0].addresses[0]", "\"echo\" is not an IP address")]);
}

#[test]
fn a_slice_that_moves_to_another_service_leaves_the_first() {
    let mut mesh = Mesh::of(&[service("a"), service("b"), slice("s", "a", "192.0.2.1", 80)]);
    assert_eq!((mesh.service("a").endpoints.len(), mesh.service("b").endpoints.len()), (1, 0));
    mesh.put(&slice("s", "b", "192.0.2.1", 80));
    assert_eq!((mesh.service("a").endpoints.len(), mesh.service("b").endpoints.len()), (0, 1));
    mesh.delete(Kind::EndpointSlice, "s");
    assert_eq!((mesh.service("a").endpoints.len(), mesh.service("b").endpoints.len()), (0, 0));
}

#[test]
fn the_addresses_of_a_service_go_on_while_its_newest_version_is_wrong() {
    let mut mesh = Mesh::of(&[service("echo"), endpoints("echo", "192.0.2.1", 80)]);
    mesh.put(&with(annotated(PROTOCOL, "TCP"), "/spec/ports/0/name", json!("other")));
    mesh.put(&endpoints("echo", "192.0.2.2", 80));
    assert_eq!(mesh.rejection(Kind::Service, "echo").len(), 1);
    assert_eq!(*mesh.service("echo").endpoints, ["192.0.2.2:80".parse::<SocketAddr>().unwrap()]);
}

#[test]
fn addresses_that_are_there_before_their_service_and_after_it_count_while_it_is_there() {
    let mut mesh = Mesh::of(&[endpoints("echo", "192.0.2.1", 80), slice("echo-1", "echo", "192.0.2.2", 80)]);
    assert!(mesh.snapshot.services.is_empty());
    for _ in 0..2 {
        mesh.put(&service("echo"));
        assert_eq!(mesh.service("echo").endpoints.len(), 2);
        mesh.delete(Kind::Service, "echo");
        assert!(mesh.snapshot.services.is_empty());
    }
}
