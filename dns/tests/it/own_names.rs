//! Names that the server speaks for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use model::{HostPort, Service};
use networkmesh_dns::{NameChange, Names, Settings};
use tokio::net::TcpStream;

use crate::support::{
    Server, addresses, alone, ask, big_domain, domain, exchange_bytes, exchange_tcp, exchange_udp,
    forwarding_to, query, reply_to, service, upstream, with_edns,
};

async fn alice() -> Server {
    let services: &[(&str, &[&str])] =
        &[("web", &["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"]), ("down", &[])];
    Server::start(domain("alice", services), alone()).await
}

#[tokio::test]
async fn a_service_is_answered_with_authority_over_udp_and_tcp() {
    let server = alice().await;
    let question = query("web.alice.svc.", RecordType::AAAA);
    let over_udp = exchange_udp(server.address, &question).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let over_tcp = exchange_tcp(&mut stream, &question).await;
    for reply in [over_udp, over_tcp] {
        assert_eq!(addresses(&reply), ["2001:db8::1"]);
        assert_eq!(reply.answers[0].ttl, 5);
        assert_eq!(reply.queries, question.queries);
        assert!(reply.metadata.authoritative);
        assert!(reply.metadata.recursion_available);
    }
}

#[tokio::test]
async fn one_tcp_connection_carries_many_queries() {
    let server = alice().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..3 {
        let reply = exchange_tcp(&mut stream, &query("web.", RecordType::A)).await;
        assert_eq!(reply.answers.len(), 3);
    }
}

#[tokio::test]
async fn each_address_comes_first_in_turn_also_for_clients_that_ask_for_both_families() {
    let ips: &[&str] = &["192.0.2.1", "192.0.2.2", "2001:db8::1"];
    let server = Server::start(domain("alice", &[("web", ips)]), alone()).await;
    let mut first = Vec::new();
    for _ in 0..4 {
        first.push(addresses(&ask(server.address, "web.alice.svc.", RecordType::A).await).remove(0));
        ask(server.address, "web.alice.svc.", RecordType::AAAA).await;
    }
    assert_eq!(first, ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"]);
}

#[tokio::test]
async fn negative_answers_carry_the_soa() {
    let server = alice().await;
    server.names.apply([NameChange::Pending("late".parse().unwrap())]);
    for (name, record_type, code) in [
        ("down.alice.svc.", RecordType::A, ResponseCode::NoError),
        ("web.alice.svc.", RecordType::MX, ResponseCode::NoError),
        ("late.alice.svc.", RecordType::A, ResponseCode::NoError),
        ("late.alice.", RecordType::MX, ResponseCode::NoError),
        ("late.", RecordType::AAAA, ResponseCode::NoError),
        ("none.alice.svc.", RecordType::A, ResponseCode::NXDomain),
        ("web.carol.svc.", RecordType::A, ResponseCode::NXDomain),
    ] {
        let reply = ask(server.address, name, record_type).await;
        assert_eq!(reply.metadata.response_code, code, "{name}");
        assert!(reply.metadata.authoritative, "{name}");
        assert!(reply.answers.is_empty(), "{name}");
        let authority: Vec<_> = reply.authorities.iter().map(Record::record_type).collect();
        assert_eq!(authority, [RecordType::SOA], "{name}");
    }
}

#[tokio::test]
async fn the_case_of_the_question_is_kept() {
    let server = alice().await;
    let reply = ask(server.address, "wEb.AlIcE.sVc.", RecordType::A).await;
    assert_eq!(reply.queries[0].name().to_ascii(), "wEb.AlIcE.sVc.");
    assert_eq!(reply.answers.len(), 3);
    for record in &reply.answers {
        assert_eq!(record.name.to_ascii(), "wEb.AlIcE.sVc.");
    }
}

#[tokio::test]
async fn changes_of_the_names_are_answered_from_at_once() {
    let server = alice().await;
    let before = ask(server.address, "late.alice.svc.", RecordType::A).await;
    assert_eq!(before.metadata.response_code, ResponseCode::NXDomain);
    let gone = NameChange::NoService("web".parse().unwrap());
    server.names.apply([NameChange::Service(service("late", &["192.0.2.7"])), gone]);
    assert_eq!(addresses(&ask(server.address, "late.alice.svc.", RecordType::A).await), ["192.0.2.7"]);
    let gone = ask(server.address, "web.alice.svc.", RecordType::A).await;
    assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn an_answer_too_large_for_udp_is_truncated_and_whole_over_tcp() {
    let server = Server::start(big_domain("alice", 200), alone()).await;
    let plain = query("big.alice.svc.", RecordType::A);
    // Many sizes, so that in some of them no room for OPT would be left after filling the message with records.
    let mut questions: Vec<Message> =
        (512..600).step_by(5).map(|size| with_edns(plain.clone(), size)).collect();
    questions.extend([plain.clone(), with_edns(plain.clone(), 4096)]);
    for question in questions {
        let bytes = exchange_bytes(server.address, &question.to_vec().unwrap()).await;
        let reply = Message::from_vec(&bytes).unwrap();
        assert!(reply.metadata.truncation);
        assert_eq!(reply.edns.is_some(), question.edns.is_some());
        assert!(bytes.len() <= 512, "{}", bytes.len());
    }
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let whole = exchange_tcp(&mut stream, &plain).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(addresses(&whole).iter().collect::<BTreeSet<_>>().len(), 200);
}

#[tokio::test]
async fn edns_lets_a_client_take_larger_answers() {
    let server = Server::start(big_domain("alice", 60), alone()).await;
    let question = query("big.alice.svc.", RecordType::A);
    assert!(exchange_udp(server.address, &question).await.metadata.truncation);
    let reply = exchange_udp(server.address, &with_edns(question, 4096)).await;
    assert!(!reply.metadata.truncation);
    assert_eq!(reply.answers.len(), 60);
    assert_eq!(reply.edns.unwrap().max_payload(), 1232);
}

#[tokio::test]
async fn an_unknown_version_of_edns_is_refused_as_rfc_6891_says() {
    let server = alice().await;
    let mut question = with_edns(query("web.", RecordType::A), 1232);
    question.edns.as_mut().unwrap().set_version(1);
    let reply = exchange_udp(server.address, &question).await;
    // The codec reads this number, which TSIG has given a second meaning, as BADSIG.
    assert_eq!(u16::from(reply.metadata.response_code), 16);
    assert_eq!(server.count("BADVERS"), 1);
    assert_eq!(reply.edns.unwrap().version(), 0);
}

#[tokio::test]
async fn what_is_not_a_plain_query_gets_the_code_that_says_so() {
    let server = alice().await;
    let mut update = query("web.", RecordType::A);
    update.metadata.op_code = OpCode::Status;
    let empty = Message::query();
    let mut double = query("web.", RecordType::A);
    double.add_query(Query::query(Name::root(), RecordType::A));
    let mut chaos = query("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    for (question, code) in [
        (update, ResponseCode::NotImp),
        (empty, ResponseCode::FormErr),
        (double, ResponseCode::FormErr),
        (chaos, ResponseCode::Refused),
        (query("alice.svc.", RecordType::AXFR), ResponseCode::Refused),
    ] {
        let reply = exchange_udp(server.address, &question).await;
        assert_eq!(reply.metadata.response_code, code, "{question}");
    }
    let counted = [("NOTIMP", 1), ("FORMERR", 2), ("REFUSED", 2), ("NOERROR", 0)];
    for (code, count) in counted {
        assert_eq!(server.count(code), count, "{code}");
    }
}

#[tokio::test]
async fn malformed_packets_do_no_harm() {
    let server = alice().await;
    let good = query("web.alice.svc.", RecordType::A).to_vec().unwrap();
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for length in 0..good.len() {
        client.send_to(&good[..length], server.address).await.unwrap();
        let mut broken = good.clone();
        broken[length] ^= 0xff;
        client.send_to(&broken, server.address).await.unwrap();
    }
    let mut response = query("web.alice.svc.", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    client.send_to(&response.to_vec().unwrap(), server.address).await.unwrap();

    let cut = exchange_bytes(server.address, &good[..good.len() - 1]).await;
    let cut = Message::from_vec(&cut).unwrap();
    assert_eq!(cut.metadata.response_code, ResponseCode::FormErr);
    assert_eq!(ask(server.address, "web.alice.svc.", RecordType::A).await.answers.len(), 3);
}

#[tokio::test]
async fn everyone_may_ask_for_names_of_the_domain() {
    let settings = Settings { recursion: Vec::new().into(), ..alone() };
    let server = Server::start(domain("alice", &[("web", &["192.0.2.1"])]), settings).await;
    let reply = ask(server.address, "web.alice.svc.", RecordType::A).await;
    assert_eq!(addresses(&reply), ["192.0.2.1"]);
    assert!(!reply.metadata.recursion_available);
}

/// Domain `alice`: the port of service `web` is named, and the others are really other hosts.
fn with_ports_and_aliases(aliases: &[(&str, &str)]) -> Names {
    let names = domain("alice", &[]);
    let web = service("web", &["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    let web = Service { port_name: "http".into(), ..Service::clone(&web) };
    let aliases = aliases.iter().map(|(name, host)| {
        let external = HostPort { host: host.parse().unwrap(), port: 443 };
        Service { external: Some(external.into()), ..Service::clone(&service(name, &[])) }
    });
    names.apply(aliases.chain([web]).map(|service| NameChange::Service(service.into())));
    names
}

/// The records as text, sorted.
fn lines(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<String> = records.iter().map(ToString::to_string).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn a_named_port_comes_with_the_addresses_of_its_hosts() {
    let server = Server::start(with_ports_and_aliases(&[]), alone()).await;
    let reply = ask(server.address, "_http._tcp.web.alice.svc.", RecordType::SRV).await;
    assert!(reply.metadata.authoritative);
    assert_eq!(
        lines(&reply.answers),
        [
            "_http._tcp.web.alice.svc. 5 IN SRV 0 1 80 192-0-2-1.web.alice.svc.",
            "_http._tcp.web.alice.svc. 5 IN SRV 0 1 80 192-0-2-2.web.alice.svc.",
            "_http._tcp.web.alice.svc. 5 IN SRV 0 1 80 2001-db8-0-0-0-0-0-1.web.alice.svc.",
        ]
    );
    assert_eq!(
        lines(&reply.additionals),
        [
            "192-0-2-1.web.alice.svc. 5 IN A 192.0.2.1",
            "192-0-2-2.web.alice.svc. 5 IN A 192.0.2.2",
            "2001-db8-0-0-0-0-0-1.web.alice.svc. 5 IN AAAA 2001:db8::1",
        ]
    );
    let endpoint = ask(server.address, "192-0-2-2.web.alice.svc.", RecordType::A).await;
    assert_eq!(addresses(&endpoint), ["192.0.2.2"]);
}

#[tokio::test]
async fn names_above_and_beside_ports_are_no_hosts() {
    let server = Server::start(with_ports_and_aliases(&[]), alone()).await;
    for (name, record_type, code) in [
        ("_http._tcp.web.alice.svc.", RecordType::A, ResponseCode::NoError),
        ("_tcp.web.alice.svc.", RecordType::SRV, ResponseCode::NoError),
        ("192-0-2-2.web.alice.svc.", RecordType::AAAA, ResponseCode::NoError),
        ("_grpc._tcp.web.alice.svc.", RecordType::SRV, ResponseCode::NXDomain),
        ("192-0-2-3.web.alice.svc.", RecordType::A, ResponseCode::NXDomain),
    ] {
        let reply = ask(server.address, name, record_type).await;
        assert_eq!(reply.metadata.response_code, code, "{name}");
        assert!(reply.answers.is_empty(), "{name}");
        assert_eq!(reply.authorities.len(), 1, "{name}");
    }
}

#[tokio::test]
async fn an_address_leads_back_to_its_services_and_other_addresses_are_not_ours() {
    let server = Server::start(with_ports_and_aliases(&[]), alone()).await;
    let reply = ask(server.address, "2.2.0.192.IN-ADDR.arpa.", RecordType::PTR).await;
    assert!(reply.metadata.authoritative);
    assert_eq!(lines(&reply.answers), ["2.2.0.192.IN-ADDR.arpa. 5 IN PTR web.alice.svc."]);
    let mut other = query("9.2.0.192.in-addr.arpa.", RecordType::PTR);
    other.metadata.recursion_desired = false;
    assert_eq!(exchange_udp(server.address, &other).await.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn the_zone_names_its_server_with_its_address() {
    let server = alice().await;
    let reply = ask(server.address, "svc.", RecordType::NS).await;
    assert!(reply.metadata.authoritative);
    assert_eq!(lines(&reply.answers), ["svc. 5 IN NS kuscia-dns.alice.svc."]);
    assert_eq!(lines(&reply.additionals), ["kuscia-dns.alice.svc. 5 IN A 10.0.0.1"]);
    let glue = ask(server.address, "kuscia-dns.alice.svc.", RecordType::A).await;
    assert_eq!(addresses(&glue), ["10.0.0.1"]);
}

#[tokio::test]
async fn the_serial_number_of_the_zone_grows_with_each_change() {
    let server = alice().await;
    let mut serials = Vec::new();
    for last in 1..4 {
        let reply = ask(server.address, "svc.", RecordType::SOA).await;
        let [Record { data: RData::SOA(soa), .. }] = &reply.answers[..] else { panic!("{reply}") };
        serials.push(soa.serial);
        let moved = service("web", &[&format!("192.0.2.{last}")]);
        server.names.apply([NameChange::Service(moved)]);
    }
    assert_eq!(serials, [serials[0], serials[0] + 1, serials[0] + 2]);
    let negative = ask(server.address, "none.alice.svc.", RecordType::A).await;
    let RData::SOA(soa) = &negative.authorities[0].data else { panic!("{negative}") };
    assert_eq!(soa.serial, serials[0] + 3);
}

#[tokio::test]
async fn aliases_of_services_are_followed_within_the_zone() {
    let aliases = [("first", "second.alice.svc"), ("second", "web.alice.svc"), ("lost", "none.alice.svc")];
    let server = Server::start(with_ports_and_aliases(&aliases), alone()).await;
    let reply = ask(server.address, "First.alice.svc.", RecordType::AAAA).await;
    assert!(reply.metadata.authoritative);
    let answers: Vec<String> = reply.answers.iter().map(ToString::to_string).collect();
    assert_eq!(
        answers,
        [
            "First.alice.svc. 5 IN CNAME second.alice.svc.",
            "second.alice.svc. 5 IN CNAME web.alice.svc.",
            "web.alice.svc. 5 IN AAAA 2001:db8::1",
        ]
    );
    let no_data = ask(server.address, "first.", RecordType::MX).await;
    assert_eq!(no_data.metadata.response_code, ResponseCode::NoError);
    assert_eq!((no_data.answers.len(), no_data.authorities.len()), (2, 1));

    let lost = ask(server.address, "lost.alice.svc.", RecordType::A).await;
    assert_eq!(lost.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!((lost.answers.len(), lost.authorities.len()), (1, 1));
}

#[tokio::test]
async fn a_question_for_the_alias_itself_is_not_followed() {
    let server = Server::start(with_ports_and_aliases(&[("alias", "web.alice.svc")]), alone()).await;
    for record_type in [RecordType::CNAME, RecordType::ANY] {
        let reply = ask(server.address, "alias.alice.svc.", record_type).await;
        assert_eq!(lines(&reply.answers), ["alias.alice.svc. 5 IN CNAME web.alice.svc."], "{record_type}");
    }
}

#[tokio::test]
async fn aliases_in_a_circle_are_a_failure() {
    let aliases = [("one", "other.alice.svc"), ("other", "one.alice.svc")];
    let server = Server::start(with_ports_and_aliases(&aliases), alone()).await;
    let reply = ask(server.address, "one.alice.svc.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert!(reply.answers.is_empty());
}

/// A service that is really a host which an upstream knows.
async fn alias_of_an_upstreams_host(recursion: bool) -> Server {
    let (upstream, _task) = upstream(|query| {
        let mut reply = reply_to(&query, ResponseCode::NoError);
        let address = RData::from(IpAddr::from([198, 51, 100, 9]));
        reply.add_answer(Record::from_rdata(query.queries[0].name().clone(), 60, address));
        Some(reply)
    })
    .await;
    let mut settings = forwarding_to(&[upstream]);
    if !recursion {
        settings.recursion = Vec::new().into();
    }
    Server::start(with_ports_and_aliases(&[("db", "db.example.com")]), settings).await
}

#[tokio::test]
async fn an_alias_for_a_host_of_others_comes_with_what_an_upstream_knows_of_it() {
    let server = alias_of_an_upstreams_host(true).await;
    for name in ["db.", "db.alice.", "DB.alice.svc."] {
        let reply = ask(server.address, name, RecordType::A).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        let answers: Vec<String> = reply.answers.iter().map(ToString::to_string).collect();
        assert_eq!(answers.len(), 2, "{answers:?}");
        assert_eq!(answers[0], format!("{name} 5 IN CNAME db.example.com."));
        assert!(answers[1].starts_with("db.example.com. ") && answers[1].ends_with(" A 198.51.100.9"));
    }
}

#[tokio::test]
async fn a_client_without_recursion_follows_an_alias_for_a_host_of_others_by_itself() {
    let server = alias_of_an_upstreams_host(false).await;
    let reply = ask(server.address, "db.alice.svc.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert!(reply.metadata.authoritative);
    assert_eq!(lines(&reply.answers), ["db.alice.svc. 5 IN CNAME db.example.com."]);

    let server = alias_of_an_upstreams_host(true).await;
    let mut question = query("db.alice.svc.", RecordType::A);
    question.metadata.recursion_desired = false;
    let reply = exchange_udp(server.address, &question).await;
    assert_eq!(lines(&reply.answers), ["db.alice.svc. 5 IN CNAME db.example.com."]);
}

#[tokio::test]
async fn an_alias_for_a_host_that_no_upstream_tells_of_is_a_failure() {
    let server = Server::start(with_ports_and_aliases(&[("db", "db.example.com")]), alone()).await;
    let reply = ask(server.address, "db.alice.svc.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn any_is_answered_with_records_of_one_type() {
    let server = Server::start(with_ports_and_aliases(&[]), alone()).await;
    for (name, record_type, count) in [
        ("web.alice.svc.", RecordType::A, 2),
        ("svc.", RecordType::SOA, 1),
        ("_http._tcp.web.alice.svc.", RecordType::SRV, 3),
        ("1.2.0.192.in-addr.arpa.", RecordType::PTR, 1),
        ("2001-db8-0-0-0-0-0-1.web.alice.svc.", RecordType::AAAA, 1),
    ] {
        let reply = ask(server.address, name, RecordType::ANY).await;
        assert_eq!(reply.answers.len(), count, "{name}");
        assert!(reply.answers.iter().all(|record| record.record_type() == record_type), "{name}");
    }
    let nothing = ask(server.address, "alice.svc.", RecordType::ANY).await;
    assert_eq!((nothing.answers.len(), nothing.authorities.len()), (0, 1));
}

#[tokio::test]
async fn addresses_of_ports_are_left_out_where_there_is_no_room_for_them() {
    let ips: Vec<String> = (0..20).map(|last| format!("192.0.2.{last}")).collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    let web = Service { port_name: "http".into(), ..Service::clone(&service("web", &ips)) };
    let names = domain("alice", &[]);
    names.apply([NameChange::Service(web.into())]);
    let server = Server::start(names, alone()).await;
    let question = query("_http._tcp.web.alice.svc.", RecordType::SRV);

    let cut = exchange_udp(server.address, &question).await;
    assert!(cut.metadata.truncation);
    let without = exchange_udp(server.address, &with_edns(question.clone(), 1232)).await;
    assert!(!without.metadata.truncation);
    assert_eq!((without.answers.len(), without.additionals.len()), (20, 0));
    assert!(without.edns.is_some());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let whole = exchange_tcp(&mut stream, &question).await;
    assert_eq!((whole.answers.len(), whole.additionals.len()), (20, 20));
}

#[tokio::test]
async fn no_name_is_written_twice_where_it_may_be_compressed() {
    let server = Server::start(with_ports_and_aliases(&[("alias", "web.alice.svc")]), alone()).await;
    server.names.apply([NameChange::Service(service("other", &["192.0.2.1"]))]);
    for (name, record_type, times) in [
        ("web.alice.svc.", RecordType::A, 1),
        ("_http._tcp.web.alice.svc.", RecordType::MX, 1),
        ("alias.alice.svc.", RecordType::A, 1),
        ("svc.", RecordType::NS, 1),
        ("1.2.0.192.in-addr.arpa.", RecordType::PTR, 1),
        // Targets of SRV are written out (RFC 2782), three here.
        ("_http._tcp.web.alice.svc.", RecordType::SRV, 4),
    ] {
        let question = with_edns(query(name, record_type), 1232).to_vec().unwrap();
        let reply = exchange_bytes(server.address, &question).await;
        let written = reply.windows(6).filter(|bytes| bytes == b"\x05alice").count();
        assert_eq!(written, times, "{name}");
    }
}
