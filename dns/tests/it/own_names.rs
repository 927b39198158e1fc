//! Names that the server speaks for.

use std::collections::BTreeSet;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use networkmesh_dns::{NameChange, Settings};
use tokio::net::TcpStream;

use crate::support::{
    Server, addresses, alone, ask, big_domain, domain, exchange_bytes, exchange_tcp, exchange_udp, query,
    service, with_edns,
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
    for (name, record_type, code) in [
        ("down.alice.svc.", RecordType::A, ResponseCode::NoError),
        ("web.alice.svc.", RecordType::MX, ResponseCode::NoError),
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
    let settings = Settings { recursion_subnets: Vec::new(), ..alone() };
    let server = Server::start(domain("alice", &[("web", &["192.0.2.1"])]), settings).await;
    let reply = ask(server.address, "web.alice.svc.", RecordType::A).await;
    assert_eq!(addresses(&reply), ["192.0.2.1"]);
    assert!(!reply.metadata.recursion_available);
}
