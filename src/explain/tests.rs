use dns::{NameChange, Names, ZoneSettings};
use serde_json::{Value, json};

use super::*;
use crate::program::tests::{open_route, snapshot};

fn service(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut manifest = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"kuscia.secretflow/port-scope": "Cluster"}},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    });
    change(&mut manifest);
    manifest
}

fn endpoints(name: &str, addresses: &[&str]) -> Value {
    let addresses: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": name},
        "subsets": [{"addresses": addresses, "ports": [{"name": "http", "port": 8080}]}],
    })
}

/// What is said of `name` in a domain with some services and a route to bob, all of which the gateways know.
fn explain(name: &str, change: impl FnOnce(&mut Facts<'_>)) -> Explanation {
    let external = |manifest: &mut Value| {
        manifest["spec"]["type"] = "ExternalName".into();
        manifest["spec"]["externalName"] = "db.example.com".into();
    };
    let labelled = |manifest: &mut Value| {
        manifest["metadata"]["labels"]["kuscia.secretflow/loadbalancer"] = "domainroute".into();
    };
    let snapshot = snapshot(
        "alice",
        &[
            service("web", |_| ()),
            endpoints("web", &["192.0.2.1", "192.0.2.2"]),
            service("down", |_| ()),
            service("db", external),
            service("inner", labelled),
            service("broken", |manifest| {
                manifest["metadata"]["labels"]["kuscia.secretflow/port-scope"] = "Everywhere".into();
            }),
            open_route("alice", "bob", None),
        ],
    );
    let names = names(&snapshot);
    names.apply(snapshot.services.values().cloned().map(NameChange::Service));
    names.apply(snapshot.outbound.keys().cloned().map(NameChange::Route));
    explain_in(&snapshot, &names, name, change)
}

fn names(snapshot: &Snapshot) -> Names {
    Names::new(&ZoneSettings {
        domain: snapshot.domain.clone(),
        gateway: vec!["192.0.2.9".parse().expect("an address")],
        gateway_port: 80,
        ttl: dns::DEFAULT_TTL,
    })
}

fn explain_in(
    snapshot: &Snapshot,
    names: &Names,
    name: &str,
    change: impl FnOnce(&mut Facts<'_>),
) -> Explanation {
    let mut name = Name::from_ascii(name).expect("a name");
    name.set_fqdn(true);
    let found = names.explain(&name);
    let mut facts = Facts { snapshot, found, state: None, forwarding: Forwarding::default(), response: None };
    change(&mut facts);
    Explanation::new(&name, &facts)
}

/// Whether `explanation` has a reason with these words.
#[track_caller]
fn assert_says(explanation: &Explanation, words: &str) {
    assert!(explanation.reasons.iter().any(|reason| reason.contains(words)), "{words}: {explanation:?}");
}

#[test]
fn services_are_explained_by_what_their_objects_say() {
    for (name, meaning, reason, record) in [
        (
            "web.alice.svc",
            "service web of this domain",
            "2 ready endpoints",
            "web.alice.svc. 5 IN A 192.0.2.1",
        ),
        ("Web.Alice.", "service web of this domain", "2 ready endpoints", "Web.Alice. 5 IN A 192.0.2.2"),
        ("web", "service web of this domain", "2 ready endpoints", "web. 5 IN A 192.0.2.1"),
        ("inner.alice.svc", "service inner of this domain", "loadbalancer: domainroute", "A 192.0.2.9"),
        (
            "_http._tcp.web.alice.svc",
            "the port of service web of this domain",
            "2 ready endpoints",
            "SRV 0 1 8080",
        ),
        ("x.bob.svc", "service x of domain bob", "there is a route to bob (alice-bob)", "A 192.0.2.9"),
    ] {
        let explanation = explain(name, |_| ());
        assert!(explanation.resolves && explanation.near.is_empty(), "{explanation:?}");
        assert_eq!(explanation.name, format!("{}.", name.trim_end_matches('.').to_lowercase()));
        assert_eq!(explanation.meaning, meaning);
        assert_says(&explanation, reason);
        assert!(explanation.records.iter().any(|known| known.contains(record)), "{record}: {explanation:?}");
    }
}

#[test]
fn what_does_not_resolve_says_what_is_missing() {
    for (name, reason, near) in [
        ("down.alice.svc", "none of its endpoints is ready", ""),
        ("wbe.alice.svc", "this domain has no service wbe", "web.alice.svc"),
        ("broken.alice.svc", "the newest Service alice/broken is not in force", ""),
        ("_grpc._tcp.web.alice.svc", "the port of service web is _http._tcp", ""),
        ("192-0-2-7.web.alice.svc", "service web has no such address", ""),
        ("_http._tcp.zzz.alice.svc", "this domain has no service zzz", ""),
        ("web.bbo.svc", "no route to bbo is in force (DomainRoute alice-bbo)", "web.bob.svc"),
        ("alice.svc", "only names below it", ""),
    ] {
        let explanation = explain(name, |_| ());
        assert!(!explanation.resolves, "{explanation:?}");
        assert_says(&explanation, reason);
        assert_eq!(explanation.near.join(" "), near, "{explanation:?}");
    }
}

#[test]
fn what_waits_for_gateways_says_for_which() {
    let snapshot = snapshot("alice", &[service("web", |_| ()), open_route("alice", "bob", None)]);
    let names = names(&snapshot);
    names.apply(snapshot.services.keys().cloned().map(NameChange::Pending));
    let explain = |name: &str, state: State| {
        let explanation = explain_in(&snapshot, &names, name, |facts| facts.state = Some(state));
        assert!(!explanation.resolves && explanation.records.is_empty(), "{explanation:?}");
        explanation
    };
    let since = "2026-11-22T12:00:00.7Z".parse().expect("a time");
    let waiting = |envoys: &[&str], is_shown_as_before| State::Waiting {
        since,
        envoys: envoys.iter().map(|&envoy| envoy.to_owned()).collect(),
        is_shown_as_before,
    };
    let explanation = explain("web.alice.svc", waiting(&["one", "two"], true));
    assert_says(&explanation, "since 2026-11-22T12:00:00Z, until these Envoys have taken it: one, two");
    assert_says(&explanation, "answered as before");
    for name in ["web", "web.alice", "web.alice.svc"] {
        let explanation = explain(name, waiting(&["one"], false));
        assert_eq!(explanation.meaning, "service web of this domain");
        assert_says(&explanation, "until these Envoys have taken it: one");
        let speaks_of_upstreams = explanation.reasons.iter().any(|reason| reason.contains("upstream"));
        assert!(!speaks_of_upstreams, "{explanation:?}");
    }
    assert_says(&explain("x.bob.svc", waiting(&[], false)), "until an Envoy is connected");

    assert_says(&explain("zzz.alice.svc", State::Lingering { until: since }), "until 2026-11-22T12:00:00Z");
}

fn upstreams(upstreams: &[(&str, bool)], clients: &[&str]) -> Forwarding {
    Forwarding {
        upstreams: upstreams.iter().map(|&(address, is_well)| (address.to_owned(), is_well)).collect(),
        clients: clients.iter().map(|&client| client.to_owned()).collect(),
        is_protected: true,
    }
}

#[test]
fn names_of_others_are_for_the_upstreams_to_tell() {
    let servers = [("192.0.2.53:53", false), ("192.0.2.54:53", true)];
    for (forwarding, reason) in [
        (upstreams(&servers, &["127.0.0.0/8"]), "192.0.2.53:53 (does not answer), 192.0.2.54:53"),
        (upstreams(&servers, &["127.0.0.0/8", "10.0.0.0/8"]), "127.0.0.0/8, 10.0.0.0/8"),
        (upstreams(&servers, &["10.0.0.0/8"]), "dns.rebinding"),
        (upstreams(&servers, &["10.0.0.0/8"]), "this host is not in dns.recursion"),
        (upstreams(&servers, &[]), "dns.recursion is empty"),
        (upstreams(&[], &["127.0.0.0/8"]), "dns.upstreams"),
    ] {
        let explanation = explain("wbe", |facts| facts.forwarding = forwarding);
        assert_eq!((explanation.resolves, explanation.meaning.as_str()), (false, "a name of others"));
        assert_says(&explanation, reason);
        assert_eq!(explanation.near, ["web"], "it was meant to be the short form of a service");
    }
}

#[test]
fn names_of_others_resolve_if_a_client_is_told_so() {
    let response = |code, records| Some(Ok(Response { code, records }));
    for (response, resolves, reason) in [
        (response(ResponseCode::NoError, vec![address("example.com.")]), true, "the records below"),
        (response(ResponseCode::NoError, Vec::new()), false, "it has no addresses"),
        (response(ResponseCode::NXDomain, Vec::new()), false, "is told: Non-Existent Domain"),
        (Some(Err(io::ErrorKind::TimedOut.into())), false, "timed out"),
    ] {
        let explanation = explain("example.com", |facts| {
            facts.forwarding = upstreams(&[("192.0.2.53:53", true)], &["127.0.0.0/8"]);
            facts.response = response;
        });
        assert_eq!(explanation.resolves, resolves, "{explanation:?}");
        assert_says(&explanation, reason);
        let records = if resolves { &["example.com. 300 IN A 198.51.100.7"][..] } else { &[] };
        assert_eq!(explanation.records, records);
    }
}

#[test]
fn a_service_that_is_another_host_resolves_if_that_host_does() {
    let alias = "db.alice.svc. 5 IN CNAME db.example.com.";
    let target = "db.example.com. 300 IN A 198.51.100.7";
    for (code, has_address, reason) in [
        (ResponseCode::NoError, true, "the records below"),
        (ResponseCode::NoError, false, "it has no addresses"),
        (ResponseCode::NXDomain, false, "is told: Non-Existent Domain"),
        (ResponseCode::ServFail, false, "is told: Server Failure"),
    ] {
        let explanation = explain("db.alice.svc", |facts| {
            facts.forwarding = upstreams(&[("192.0.2.53:53", true)], &["127.0.0.0/8"]);
            let mut records = facts.found.records.clone();
            records.extend(has_address.then(|| address("db.example.com.")));
            // A failure comes without records.
            records.retain(|_| code != ResponseCode::ServFail);
            facts.response = Some(Ok(Response { code, records }));
        });
        assert_eq!(explanation.meaning, "service db of this domain");
        assert_eq!(explanation.resolves, has_address, "{explanation:?}");
        for words in ["really db.example.com", "192.0.2.53:53", "others get the alias alone", reason] {
            assert_says(&explanation, words);
        }
        assert_eq!(explanation.records, if has_address { vec![alias, target] } else { vec![alias] });
    }
    let explanation = explain("db.alice.svc", |_| ());
    assert!(!explanation.resolves, "{explanation:?}");
    assert_says(&explanation, "there is no upstream to ask");
}

#[test]
fn a_service_that_is_another_service_bothers_no_upstream() {
    let other = service("other", |manifest| {
        manifest["spec"]["type"] = "ExternalName".into();
        manifest["spec"]["externalName"] = "x.bob.svc".into();
    });
    let snapshot = snapshot("alice", &[other]);
    let names = names(&snapshot);
    names.apply(snapshot.services.values().cloned().map(NameChange::Service));
    let explanation = explain_in(&snapshot, &names, "other.alice.svc", |facts| {
        facts.response = Some(Ok(Response { code: ResponseCode::NXDomain, records: Vec::new() }));
    });
    assert!(!explanation.resolves, "{explanation:?}");
    assert_says(&explanation, "is told: Non-Existent Domain");
    assert!(!explanation.reasons.iter().any(|reason| reason.contains("upstream")), "{explanation:?}");
}

/// An address of `name`.
fn address(name: &str) -> Record {
    let address: std::net::IpAddr = "198.51.100.7".parse().expect("an address");
    Record::from_rdata(name.parse().expect("a name"), 300, address.into())
}
