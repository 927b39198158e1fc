use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use hickory_proto::op::{Edns as ProtoEdns, Message, Query as ProtoQuery};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RData};
use hickory_server::net::xfer::Protocol;
use model::{Host, HostPort, Service};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::client::Client;
use crate::forward;
use crate::handler::{Handler, Outcome};
use crate::intake::{Received, read};
use crate::query_log::QueryLog;
use crate::reply::MAX_UDP_PAYLOAD;
use crate::server::Settings;
use crate::table::{NameChange, Names};
use crate::testing::service;
use crate::zone::{DEFAULT_TTL, ZoneSettings};

const CLIENT: &str = "192.0.2.77:4242";

/// Domain `alice`, with a route to `bob`, where `late` is still to come.
fn alice() -> Names {
    let names = Names::new(&ZoneSettings {
        domain: "alice".parse().unwrap(),
        gateway: vec!["10.0.0.1".parse().unwrap()],
        gateway_port: 80,
        // Longer than negative answers live.
        ttl: DEFAULT_TTL * 2,
    });
    let many: Vec<String> = (0..100).map(|last| format!("198.51.100.{last}:80")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let external = HostPort { host: Host::Name("db.example.com".to_owned()), port: 443 };
    let services = [
        service(
            "web",
            &["192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80", "[2001:db8::1]:80", "[2001:db8::2]:80"],
        ),
        service("four", &["192.0.2.9:80"]),
        service("down", &[]),
        service("many", &many),
        Service { external: Some(external.into()), ..service("db", &[]) },
    ];
    names.apply(services.map(|service| NameChange::Service(Arc::new(service))));
    names.apply([NameChange::Route("bob".parse().unwrap()), NameChange::Pending("late".parse().unwrap())]);
    names
}

fn handler(names: &Names) -> Handler {
    let own: SocketAddr = "127.0.0.1:53".parse().unwrap();
    let forward = forward::Settings {
        upstreams: forward::Upstreams::Servers(Vec::new()),
        ..forward::Settings::default()
    };
    let settings =
        Settings { recursion: Vec::new().into(), forward, responses_per_second: None, ..Settings::default() };
    Handler::new(settings, own, names.clone(), Arc::default(), QueryLog::default()).unwrap()
}

fn fast(names: &Names, packet: &[u8], may_recurse: bool) -> Option<Vec<u8>> {
    let table = names.read();
    let mut out = [0; MAX_UDP_PAYLOAD as usize];
    let query = Query::read(packet)?;
    let written = Responder::new(&table).answer(&query, &table, may_recurse, &mut out)?;
    let answer = out[..written.length].to_vec();
    assert_eq!(message(&answer).metadata.response_code, written.code);
    Some(answer)
}

fn slow(names: &Names, packet: &[u8], may_recurse: bool) -> Vec<u8> {
    let source: SocketAddr = CLIENT.parse().unwrap();
    let client = Client { address: source.ip(), may_recurse };
    let Received::Request(request) = read(packet, source, Protocol::Udp) else {
        panic!("{packet:?} cannot be read")
    };
    let handler = handler(names);
    let Outcome::Reply(reply) = handler.outcome(&request, &client) else { panic!("a name of others") };
    handler.finish(&request, &client, reply, Instant::now())
}

/// The message, with the records of each section in a fixed order.
fn message(bytes: &[u8]) -> Message {
    let mut message = Message::from_vec(bytes).unwrap();
    message.answers.sort_by_key(|record| record.data.to_string());
    message
}

fn assert_alike(fast: &[u8], slow: &[u8]) {
    let (fast, slow) = (message(fast), message(slow));
    assert_eq!(fast, slow);
    // Names compare without regard to case, which clients look at in what they asked for.
    let names = |message: &Message| -> Vec<String> {
        let asked = message.queries.iter().map(|query| query.name().to_string());
        asked.chain(message.answers.iter().map(|record| record.name.to_string())).collect()
    };
    assert_eq!(names(&fast), names(&slow));
}

fn query(name: &str, record_type: RecordType) -> Message {
    let mut query = Message::query();
    query.add_query(ProtoQuery::query(Name::from_ascii(name).unwrap(), record_type));
    query
}

fn with_edns(mut query: Message, payload: u16, dnssec_ok: bool) -> Message {
    let mut edns = ProtoEdns::new();
    edns.set_max_payload(payload).set_dnssec_ok(dnssec_ok);
    query.edns = Some(edns);
    query
}

fn with_some_edns(query: Message, edns: Option<(u16, bool)>) -> Message {
    match edns {
        Some((payload, dnssec_ok)) => with_edns(query, payload, dnssec_ok),
        None => query,
    }
}

/// Names of every kind.
const NAMES: [&str; 27] = [
    "web.alice.svc.",
    "wEb.AlIcE.sVc.",
    "web.alice.",
    "web.",
    "WEB.",
    "four.alice.svc.",
    "down.alice.svc.",
    "many.alice.svc.",
    "db.alice.svc.",
    "db.",
    "late.alice.svc.",
    "Late.alice.",
    "late.",
    "kuscia-dns.alice.svc.",
    "web.bob.svc.",
    "web.carol.svc.",
    "none.alice.svc.",
    "a.b.c.d.e.f.alice.svc.",
    "a.b.c.d.e.f.g.h.alice.svc.",
    "alice.svc.",
    "Bob.SVC.",
    "svc.",
    "_tcp.web.alice.svc.",
    "192-0-2-1.web.alice.svc.",
    "_http._tcp.web.alice.svc.",
    "1.2.0.192.in-addr.arpa.",
    "example.com.",
];

const TYPES: [RecordType; 8] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::MX,
    RecordType::SRV,
    RecordType::ANY,
    RecordType::AXFR,
    RecordType::OPT,
    RecordType::Unknown(0xff00),
];

#[test]
fn plain_queries_for_hosts_and_names_that_do_not_exist_are_answered() {
    let names = alice();
    for (name, record_type) in [
        ("web.alice.svc.", RecordType::A),
        ("web.", RecordType::AAAA),
        ("down.", RecordType::A),
        ("four.alice.", RecordType::AAAA),
        ("web.bob.svc.", RecordType::A),
        ("none.alice.svc.", RecordType::A),
        ("none.alice.svc.", RecordType::MX),
        ("alice.svc.", RecordType::A),
        ("late.alice.svc.", RecordType::A),
        ("late.", RecordType::AAAA),
    ] {
        for edns in [None, Some(512), Some(1232), Some(4096)] {
            let query = with_some_edns(query(name, record_type), edns.map(|payload| (payload, false)));
            assert!(fast(&names, &query.to_vec().unwrap(), true).is_some(), "{query}");
        }
    }
}

#[test]
fn what_is_out_of_the_ordinary_is_left_to_the_handler() {
    let names = alice();
    let plain = query("web.alice.svc.", RecordType::A);
    let packet = plain.to_vec().unwrap();
    assert!(fast(&names, &packet, true).is_some());

    let mut options = with_edns(plain.clone(), 1232, false);
    let cookie = EdnsOption::Unknown(10, vec![0; 8]);
    options.edns.as_mut().unwrap().options_mut().insert(cookie);
    let mut version = with_edns(plain.clone(), 1232, false);
    version.edns.as_mut().unwrap().set_version(1);
    let mut double = plain.clone();
    double.add_query(plain.queries[0].clone());
    for message in [
        options,
        version,
        double,
        Message::query(),
        query("web.alice.svc.", RecordType::ANY),
        query("web.alice.svc.", RecordType::MX),
        query("none.alice.svc.", RecordType::AXFR),
        query("svc.", RecordType::A),
        query("db.", RecordType::A),
        query("example.com.", RecordType::A),
        query(".", RecordType::A),
        query("many.", RecordType::A),
        query("a.b.c.d.e.f.g.h.alice.svc.", RecordType::A),
    ] {
        assert_eq!(fast(&names, &message.to_vec().unwrap(), true), None, "{message}");
    }
    let changed = |at: usize, byte: u8| {
        let mut packet = packet.clone();
        packet[at] = byte;
        packet
    };
    let class = packet.len() - 1;
    let odd = [
        changed(2, 0x80),
        changed(2, 0x10),
        changed(2, 2),
        changed(3, 0x40),
        changed(class, 3),
        changed(12, 0xC0),
    ];
    for packet in odd.into_iter().chain([[&packet[..], &[0]].concat(), packet[..class].to_vec()]) {
        assert_eq!(fast(&names, &packet, true), None, "{packet:?}");
    }
}

#[test]
fn the_handler_would_say_the_same() {
    let names = alice();
    let mut answered = 0;
    for name in NAMES {
        for record_type in TYPES {
            let plain = query(name, record_type);
            let mut flags = plain.clone();
            flags.metadata.recursion_desired = true;
            flags.metadata.checking_disabled = true;
            flags.metadata.authentic_data = true;
            for query in
                [flags, with_edns(plain.clone(), 0, true), with_edns(plain.clone(), 4096, false), plain]
            {
                for may_recurse in [false, true] {
                    let packet = query.to_vec().unwrap();
                    if let Some(fast) = fast(&names, &packet, may_recurse) {
                        assert_alike(&fast, &slow(&names, &packet, may_recurse));
                        answered += 1;
                    }
                }
            }
        }
    }
    assert!(answered > 300, "{answered}");
}

#[test]
fn each_address_comes_first_in_turn() {
    let names = alice();
    let table = names.read();
    let mut responder = Responder::new(&table);
    let mut first = |name: &str, record_type| {
        let packet = query(name, record_type).to_vec().unwrap();
        let mut out = [0; 512];
        let written = responder.answer(&Query::read(&packet).unwrap(), &table, true, &mut out).unwrap();
        Message::from_vec(&out[..written.length]).unwrap().answers[0].data.to_string()
    };
    let mut firsts = Vec::new();
    for _ in 0..4 {
        firsts.push(first("web.", RecordType::A));
        first("web.", RecordType::AAAA);
    }
    assert_eq!(firsts, ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1"]);
}

#[test]
fn a_serial_number_is_that_of_now() {
    let names = alice();
    let mut responder = Responder::new(&names.read());
    let packet = query("none.alice.svc.", RecordType::A).to_vec().unwrap();
    let mut serial = || {
        let mut out = [0; 512];
        let query = Query::read(&packet).unwrap();
        let length = responder.answer(&query, &names.read(), true, &mut out).unwrap().length;
        match &Message::from_vec(&out[..length]).unwrap().authorities[0].data {
            RData::SOA(soa) => soa.serial,
            other => panic!("{other}"),
        }
    };
    let before = serial();
    names.apply([NameChange::NoRoute("bob".parse().unwrap())]);
    assert_eq!(serial(), before.wrapping_add(1));
}

#[test]
fn a_truncated_response_keeps_the_question_and_edns() {
    let query = with_edns(query("wEb.alice.svc.", RecordType::A), 1232, true).to_vec().unwrap();
    let mut out = [0; 512];
    let length = Query::read(&query).unwrap().truncate(false, &mut out).unwrap();
    let response = Message::from_vec(&out[..length]).unwrap();
    assert!(response.metadata.truncation && !response.metadata.authoritative);
    assert_eq!(response.queries[0].name().to_string(), "wEb.alice.svc.");
    assert!(response.answers.is_empty() && response.edns.unwrap().flags().dnssec_ok);
}

/// A valid query of some kind.
fn some_query() -> impl Strategy<Value = Vec<u8>> {
    let edns = proptest::option::of((any::<u16>(), any::<bool>()));
    (select(&NAMES[..]), select(&TYPES[..]), edns, any::<bool>()).prop_map(
        |(name, record_type, edns, desired)| {
            let mut query = query(name, record_type);
            query.metadata.recursion_desired = desired;
            with_some_edns(query, edns).to_vec().unwrap()
        },
    )
}

/// Whatever is answered is answered as the handler would.
fn check(packet: &[u8]) {
    let names = alice();
    if let Some(fast) = fast(&names, packet, true) {
        assert_alike(&fast, &slow(&names, packet, true));
    }
    let mut small = [0; 40];
    if let Some(query) = Query::read(packet) {
        let table = names.read();
        let _ = Responder::new(&table).answer(&query, &table, true, &mut small);
        let _ = query.truncate(true, &mut small);
    }
}

proptest! {
    #[test]
    fn any_bytes_do_no_harm(packet in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&packet);
    }

    #[test]
    fn changed_queries_are_answered_as_the_handler_would_or_not_at_all(
        packet in some_query(),
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        cut in proptest::option::weighted(0.2, any::<Index>()),
    ) {
        let mut packet = packet;
        for (index, byte) in changes {
            let at = index.index(packet.len());
            packet[at] = byte;
        }
        packet.truncate(cut.map_or(packet.len(), |cut| cut.index(packet.len())));
        check(&packet);
    }
}
