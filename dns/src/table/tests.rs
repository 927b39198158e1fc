use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::rr::RecordType;
use model::HostPort;
use proptest::prelude::*;

use super::*;
use crate::explain::NameKind;
use crate::master_file::render_master_file;
use crate::testing::service;
use crate::zone::DEFAULT_TTL;

const GATEWAY: &str = "10.0.0.1";

fn external(name: &str, host: &str) -> Service {
    let external = HostPort { host: host.parse().unwrap(), port: 5432 };
    Service { external: Some(external.into()), ..service(name, &[]) }
}

fn names() -> Names {
    Names::new(&ZoneSettings {
        domain: "alice".parse().unwrap(),
        gateway: vec![GATEWAY.parse().unwrap()],
        gateway_port: 8080,
        ttl: DEFAULT_TTL,
    })
}

/// Domain `alice`, with a route to `bob`, where `late` is still to come.
fn alice() -> Names {
    let names = names();
    let services = [
        service("web", &["192.0.2.1:80", "192.0.2.1:81", "192.0.2.2:80", "[2001:db8::1]:80"]),
        Service { through_gateway: true, ..service("inner", &["192.0.2.9:80"]) },
        service("down", &[]),
        Service { port_name: Box::default(), ..service("four", &["192.0.2.1:80", "[::ffff:192.0.2.3]:80"]) },
        external("elsewhere", "db.example.com"),
        external("far", "198.51.100.7"),
        Service { through_gateway: true, ..external("hidden", "db.example.com") },
        service("kuscia-dns", &["192.0.2.66:53"]),
    ];
    let services = services.into_iter().map(|service| NameChange::Service(service.into()));
    let others = [NameChange::Route("bob".parse().unwrap()), NameChange::Pending("late".parse().unwrap())];
    names.apply(services.chain(others));
    names
}

fn labels(name: &str) -> Vec<&[u8]> {
    name.split('.').map(str::as_bytes).collect()
}

/// The records of a name as text, each `TYPE data`; a word for names without.
fn ask(name: &str) -> Vec<String> {
    let names = alice();
    let table = names.read();
    let found = table.find(&labels(name));
    match found {
        Found::Empty => vec!["empty".to_owned()],
        Found::Pending => vec!["pending".to_owned()],
        Found::Missing => vec!["missing".to_owned()],
        Found::NotOurs => vec!["not ours".to_owned()],
        _ => table.data(found).iter().map(|data| format!("{} {data}", data.record_type())).collect(),
    }
}

fn kind(name: &str) -> NameKind {
    alice().explain(&Name::from_ascii(name).unwrap()).kind
}

#[test]
fn a_service_has_its_ready_addresses_under_each_of_its_names() {
    for name in ["web", "web.alice", "web.alice.svc"] {
        assert_eq!(ask(name), ["A 192.0.2.1", "A 192.0.2.2", "AAAA 2001:db8::1"], "{name}");
        assert_eq!(kind(name), NameKind::Service, "{name}");
    }
}

#[test]
fn an_address_of_ipv4_in_the_clothes_of_ipv6_is_one_of_ipv4() {
    assert_eq!(ask("four.alice.svc"), ["A 192.0.2.1", "A 192.0.2.3"]);
    assert_eq!(ask("192-0-2-3.four.alice.svc"), ["A 192.0.2.3"]);
    assert_eq!(ask("3.2.0.192.in-addr.arpa"), ["PTR four.alice.svc."]);
}

#[test]
fn a_service_without_addresses_exists() {
    for name in ["down.alice.svc", "_http._tcp.down.alice.svc"] {
        assert_eq!(ask(name), [""; 0], "{name}");
    }
}

#[test]
fn a_service_that_clients_reach_through_the_gateway_has_its_address_and_port() {
    for service in ["inner", "hidden"] {
        for name in [format!("{service}.alice.svc"), format!("{service}.alice"), service.to_owned()] {
            assert_eq!(ask(&name), ["A 10.0.0.1"], "{name}");
            assert_eq!(kind(&name), NameKind::ServiceThroughGateway, "{name}");
        }
        let port = format!("_http._tcp.{service}.alice.svc");
        assert_eq!(ask(&port), [format!("SRV 0 1 8080 {service}.alice.svc.")]);
    }
    assert_eq!(ask("192-0-2-9.inner.alice.svc"), ["missing"]);
    assert_eq!(ask("9.2.0.192.in-addr.arpa"), ["not ours"]);
}

#[test]
fn a_service_that_is_really_another_host_is_an_alias_for_it() {
    for name in ["elsewhere", "elsewhere.alice", "elsewhere.alice.svc"] {
        assert_eq!(ask(name), ["CNAME db.example.com."], "{name}");
        assert_eq!(kind(name), NameKind::Alias, "{name}");
    }
    assert_eq!(ask("_http._tcp.elsewhere.alice.svc"), ["SRV 0 1 5432 db.example.com."]);
}

#[test]
fn a_service_that_is_really_an_address_has_it_but_not_its_reverse_name() {
    assert_eq!(ask("far.alice.svc"), ["A 198.51.100.7"]);
    assert_eq!(ask("_http._tcp.far.alice.svc"), ["SRV 0 1 5432 198-51-100-7.far.alice.svc."]);
    assert_eq!(ask("198-51-100-7.far.alice.svc"), ["A 198.51.100.7"]);
    assert_eq!(ask("7.100.51.198.in-addr.arpa"), ["not ours"]);
}

#[test]
fn a_named_port_is_at_each_endpoint() {
    assert_eq!(
        ask("_http._tcp.web.alice.svc"),
        [
            "SRV 0 1 80 192-0-2-1.web.alice.svc.",
            "SRV 0 1 81 192-0-2-1.web.alice.svc.",
            "SRV 0 1 80 192-0-2-2.web.alice.svc.",
            "SRV 0 1 80 2001-db8-0-0-0-0-0-1.web.alice.svc.",
        ]
    );
    assert_eq!(ask("192-0-2-1.web.alice.svc"), ["A 192.0.2.1"]);
    assert_eq!(ask("2001-db8-0-0-0-0-0-1.web.alice.svc"), ["AAAA 2001:db8::1"]);
    assert_eq!(ask("_tcp.web.alice.svc"), ["empty"]);
}

#[test]
fn a_port_without_a_name_or_with_an_unfit_one_has_no_srv() {
    assert_eq!(ask("_tcp.four.alice.svc"), ["missing"]);
    assert_eq!(ask("_._tcp.four.alice.svc"), ["missing"]);
    for port in ["with.dot", "UPPER", &"a".repeat(63)] {
        let names = names();
        let service = Service { port_name: port.into(), ..service("odd", &["192.0.2.1:80"]) };
        names.apply([NameChange::Service(service.into())]);
        assert_eq!(names.read().find(&labels("_tcp.odd.alice.svc")), Found::Missing, "{port}");
        let srv = names.records().filter(|record| record.record_type() == RecordType::SRV);
        assert_eq!(srv.count(), 0, "{port}");
    }
}

#[test]
fn an_address_leads_back_to_all_its_services() {
    assert_eq!(ask("1.2.0.192.in-addr.arpa"), ["PTR four.alice.svc.", "PTR web.alice.svc."]);
    assert_eq!(ask("2.2.0.192.in-addr.arpa"), ["PTR web.alice.svc."]);
    let ipv6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    assert_eq!(ask(ipv6), ["PTR web.alice.svc."]);
    assert_eq!(ask("1.0.0.10.in-addr.arpa"), ["not ours"]);
}

#[test]
fn the_services_of_a_domain_with_a_route_are_at_the_gateway() {
    for name in ["web.bob.svc", "kuscia-handshake.bob.svc"] {
        assert_eq!(ask(name), ["A 10.0.0.1"], "{name}");
        assert_eq!(kind(name), NameKind::OtherDomain, "{name}");
    }
}

#[test]
fn the_zone_tells_its_start_and_its_server() {
    let [soa, ns] = &ask("svc")[..] else { panic!("{:?}", ask("svc")) };
    assert!(soa.starts_with("SOA kuscia-dns.alice.svc. hostmaster.svc. "), "{soa}");
    assert!(soa.ends_with(" 5"), "negative answers live as long as positive ones: {soa}");
    assert_eq!(ns, "NS kuscia-dns.alice.svc.");
    for name in ["kuscia-dns", "kuscia-dns.alice", "kuscia-dns.alice.svc"] {
        assert_eq!(ask(name), ["A 10.0.0.1"], "no service takes the server's place: {name}");
        assert_eq!(kind(name), NameKind::NameServer, "{name}");
    }
}

#[test]
fn names_above_existing_ones_are_empty() {
    for name in ["alice.svc", "bob.svc"] {
        assert_eq!(ask(name), ["empty"], "{name}");
        assert_eq!(kind(name), NameKind::Domain, "{name}");
    }
    assert_eq!(kind("_tcp.web.alice.svc"), NameKind::AbovePort);
}

#[test]
fn the_rest_of_the_zone_does_not_exist() {
    for name in [
        "unknown.alice.svc",
        "x.web.alice.svc",
        "192-0-2-3.web.alice.svc",
        "_udp.web.alice.svc",
        "_http._udp.web.alice.svc",
        "_grpc._tcp.web.alice.svc",
        "http._tcp.web.alice.svc",
        "_tcp.unknown.alice.svc",
        "_http._tcp.web.bob.svc",
        "_http._tcp.elsewhere.bob.svc",
        "a._http._tcp.web.alice.svc",
        "a.b.bob.svc",
        "carol.svc",
        "web.carol.svc",
    ] {
        assert_eq!(ask(name), ["missing"], "{name}");
        assert_eq!(kind(name), NameKind::Missing, "{name}");
    }
}

#[test]
fn other_names_are_not_ours() {
    for name in [
        "",
        "unknown",
        "alice",
        "unknown.alice",
        "web.bob",
        "a.web.alice",
        "_http._tcp.web.alice",
        "192-0-2-1.web",
        "example.com",
        "svc.com",
        "arpa",
    ] {
        assert_eq!(ask(name), ["not ours"], "{name}");
    }
}

#[test]
fn a_pending_service_has_nothing_below_and_is_for_nobody_else_to_tell() {
    for name in ["late", "late.alice", "late.alice.svc"] {
        assert_eq!(ask(name), ["pending"], "{name}");
        assert_eq!(kind(name), NameKind::Pending, "{name}");
    }
    assert_eq!(ask("_http._tcp.late.alice.svc"), ["missing"]);
    assert_eq!(ask("late.bob"), ["not ours"]);
}

#[test]
fn a_service_that_becomes_pending_loses_its_records() {
    let names = alice();
    let pending = |name: &str| NameChange::Pending(name.parse().unwrap());
    names.apply([pending("web"), pending("kuscia-dns")]);
    let table = names.read();
    assert_eq!(table.find(&labels("web")), Found::Pending);
    assert_eq!(table.find(&labels("2.2.0.192.in-addr.arpa")), Found::NotOurs);
    assert!(matches!(table.find(&labels("kuscia-dns")), Found::Host(_)));
    drop(table);
    assert_eq!((names.counts().services, names.counts().addresses), (6, 2));
    assert!(!render_master_file(names.records()).contains("web."));
}

#[test]
fn what_is_not_there_is_never_kept_for_long() {
    for (ttl, negative) in [(0, 0), (3, 3), (5, 5), (3600, 5)] {
        let names = Names::new(&ZoneSettings {
            domain: "alice".parse().unwrap(),
            gateway: Vec::new(),
            gateway_port: 8080,
            ttl: std::time::Duration::from_secs(ttl),
        });
        let soa = names.read().soa();
        let RData::SOA(data) = &soa.data else { panic!("{soa}") };
        assert_eq!((soa.ttl, data.minimum), (negative, negative));
    }
}

#[test]
fn bytes_that_are_no_text_name_nothing() {
    let names = alice();
    let table = names.read();
    assert_eq!(table.find(&[]), Found::NotOurs);
    assert_eq!(table.find(&[b"\xff"]), Found::NotOurs);
    assert_eq!(table.find(&[b"\xff", b"alice", b"svc"]), Found::Missing);
    assert_eq!(table.find(&[b"web", b"\xff", b"svc"]), Found::Missing);
    assert_eq!(table.find(&[b"\xff", b"web", b"alice", b"svc"]), Found::Missing);
    assert_eq!(table.find(&[b"\xff", b"_tcp", b"web", b"alice", b"svc"]), Found::Missing);
}

#[test]
fn an_explanation_says_which_service_a_name_speaks_of() {
    let parts = |name: &str| {
        let explanation = alice().explain(&Name::from_ascii(name).unwrap());
        let service = explanation.service.map(|service| service.to_string());
        (service.unwrap_or_default(), explanation.domain.map(|domain| domain.to_string()).unwrap_or_default())
    };
    for (name, service, domain) in [
        ("WEB.Alice.SVC.", "web", "alice"),
        ("web.", "web", "alice"),
        ("unknown.alice.", "unknown", "alice"),
        ("_http._tcp.web.alice.svc.", "web", "alice"),
        ("web.bob.svc.", "web", "bob"),
        ("web.carol.svc.", "web", "carol"),
        ("carol.svc.", "", "carol"),
        ("svc.", "", ""),
        ("example.com.", "", ""),
        (".", "", ""),
    ] {
        assert_eq!(parts(name), (service.to_owned(), domain.to_owned()), "{name}");
    }
    let explanation = alice().explain(&Name::from_ascii("Web.").unwrap());
    let records: Vec<_> = explanation.records.iter().map(ToString::to_string).collect();
    assert_eq!(records, ["Web. 5 IN A 192.0.2.1", "Web. 5 IN A 192.0.2.2", "Web. 5 IN AAAA 2001:db8::1"]);
}

#[test]
fn the_master_file_holds_the_whole_zone() {
    let text = render_master_file(alice().records());
    let (soa, rest) = text.split_once('\n').expect("lines");
    assert!(soa.starts_with("svc. 5 IN SOA kuscia-dns.alice.svc. hostmaster.svc. "), "{soa}");
    let expected = "\
svc. 5 IN NS kuscia-dns.alice.svc.
kuscia-dns.alice.svc. 5 IN A 10.0.0.1
elsewhere.alice.svc. 5 IN CNAME db.example.com.
_http._tcp.elsewhere.alice.svc. 5 IN SRV 0 1 5432 db.example.com.
far.alice.svc. 5 IN A 198.51.100.7
_http._tcp.far.alice.svc. 5 IN SRV 0 1 5432 198-51-100-7.far.alice.svc.
198-51-100-7.far.alice.svc. 5 IN A 198.51.100.7
four.alice.svc. 5 IN A 192.0.2.1
four.alice.svc. 5 IN A 192.0.2.3
192-0-2-1.four.alice.svc. 5 IN A 192.0.2.1
192-0-2-3.four.alice.svc. 5 IN A 192.0.2.3
hidden.alice.svc. 5 IN A 10.0.0.1
_http._tcp.hidden.alice.svc. 5 IN SRV 0 1 8080 hidden.alice.svc.
inner.alice.svc. 5 IN A 10.0.0.1
_http._tcp.inner.alice.svc. 5 IN SRV 0 1 8080 inner.alice.svc.
web.alice.svc. 5 IN A 192.0.2.1
web.alice.svc. 5 IN A 192.0.2.2
web.alice.svc. 5 IN AAAA 2001:db8::1
_http._tcp.web.alice.svc. 5 IN SRV 0 1 80 192-0-2-1.web.alice.svc.
_http._tcp.web.alice.svc. 5 IN SRV 0 1 81 192-0-2-1.web.alice.svc.
_http._tcp.web.alice.svc. 5 IN SRV 0 1 80 192-0-2-2.web.alice.svc.
_http._tcp.web.alice.svc. 5 IN SRV 0 1 80 2001-db8-0-0-0-0-0-1.web.alice.svc.
192-0-2-1.web.alice.svc. 5 IN A 192.0.2.1
192-0-2-2.web.alice.svc. 5 IN A 192.0.2.2
2001-db8-0-0-0-0-0-1.web.alice.svc. 5 IN AAAA 2001:db8::1
*.bob.svc. 5 IN A 10.0.0.1
";
    assert_eq!(rest, expected);
}

#[test]
fn each_record_of_the_zone_is_what_its_name_is_answered_with() {
    let names = alice();
    let table = names.read();
    for record in names.records() {
        let owner = record.name.to_ascii();
        let data = table.data(table.find(&labels(owner.trim_end_matches('.'))));
        assert!(data.contains(&record.data), "{record}");
    }
}

#[test]
fn the_master_file_writes_names_of_other_scripts_in_ascii() {
    let names = names();
    let plain = service("xn--bcher-kva", &["192.0.2.1:80"]);
    let elsewhere = external("elsewhere", "xn--bcher-kva.example");
    names.apply([plain, elsewhere].map(|service| NameChange::Service(service.into())));
    let text = render_master_file(names.records());
    assert!(text.is_ascii(), "{text}");
    assert!(text.contains("SRV 0 1 80 192-0-2-1.xn--bcher-kva.alice.svc."), "{text}");
}

#[test]
fn the_longest_names_fit() {
    let long = "a".repeat(63);
    let names = Names::new(&ZoneSettings {
        domain: long.parse().unwrap(),
        gateway: vec![GATEWAY.parse().unwrap()],
        gateway_port: 8080,
        ttl: DEFAULT_TTL,
    });
    let host = format!("{long}.{long}.{long}.{}", "a".repeat(61));
    let port_name: Box<str> = "p".repeat(62).into();
    let service = Service {
        port_name: port_name.clone(),
        ..service(&long, &["[2001:1111:1111:1111:1111:1111:1111:1111]:80"])
    };
    let elsewhere = Service { port_name, ..external("elsewhere", &host) };
    names.apply([service, elsewhere].map(|service| NameChange::Service(service.into())));
    assert_eq!(names.records().count(), 3 + 3 + 2);
}

#[test]
fn the_serial_number_grows_with_each_change_and_over_restarts() {
    let names = alice();
    let before = names.counts();
    assert_eq!((before.services, before.domains, before.addresses), (7, 1, 5));
    names.apply([]);
    assert_eq!(names.counts(), before);
    names.apply([NameChange::NoService("web".parse().unwrap()), NameChange::NoRoute("bob".parse().unwrap())]);
    let after = names.counts();
    assert_eq!((after.services, after.domains, after.addresses), (6, 0, 2));
    assert_eq!(after.serial, before.serial + 2);
    let year_2020 = 1_577_836_800;
    assert!(before.serial > year_2020);
}

fn some_service() -> impl Strategy<Value = Service> {
    let names = prop::sample::select(vec!["web", "db", "cache", "kuscia-dns"]);
    let endpoints = prop::sample::subsequence(
        vec!["192.0.2.1:80", "192.0.2.1:81", "192.0.2.2:80", "[2001:db8::1]:80", "[::ffff:192.0.2.1]:80"],
        0..=5,
    );
    let hosts = prop::sample::select(vec![None, None, Some("db.example.com"), Some("192.0.2.1")]);
    (names, endpoints, hosts, any::<bool>()).prop_map(|(name, endpoints, host, through_gateway)| match host {
        Some(host) => Service { through_gateway, ..external(name, host) },
        None => Service { through_gateway, ..service(name, &endpoints) },
    })
}

fn some_change() -> impl Strategy<Value = NameChange> {
    let domains = prop::sample::select(vec!["bob", "carol", "alice"]);
    prop_oneof![
        4 => some_service().prop_map(|service| NameChange::Service(service.into())),
        2 => some_service().prop_map(|service| NameChange::Pending(service.name)),
        2 => some_service().prop_map(|service| NameChange::NoService(service.name)),
        1 => domains.clone().prop_map(|domain| NameChange::Route(domain.parse().unwrap())),
        1 => domains.prop_map(|domain| NameChange::NoRoute(domain.parse().unwrap())),
    ]
}

proptest! {
    #[test]
    fn changes_one_by_one_lead_to_the_same_as_what_is_left_of_them(
        changes in prop::collection::vec(some_change(), 0..40),
    ) {
        let (mut services, mut pending, mut domains) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let grown = names();
        for change in changes {
            match change.clone() {
                NameChange::Service(service) => {
                    pending.remove(&service.name);
                    services.insert(service.name.clone(), service);
                }
                NameChange::Pending(name) => {
                    services.remove(&name);
                    pending.insert(name);
                }
                NameChange::NoService(name) => {
                    services.remove(&name);
                    pending.remove(&name);
                }
                NameChange::Route(domain) => drop(domains.insert(domain)),
                NameChange::NoRoute(domain) => drop(domains.remove(&domain)),
            }
            grown.apply([change]);
        }
        let built = names();
        built.apply(services.into_values().map(NameChange::Service));
        built.apply(pending.into_iter().map(NameChange::Pending));
        built.apply(domains.into_iter().map(NameChange::Route));
        let (grown, built) = (grown.read(), built.read());
        prop_assert_eq!(&grown.services, &built.services);
        prop_assert_eq!(&grown.pending, &built.pending);
        prop_assert_eq!(&grown.domains, &built.domains);
        prop_assert_eq!(&grown.reverse, &built.reverse);
    }
}
