//! Names of others.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use networkmesh_dns::{Names, Settings, bind};
use tokio::net::TcpStream;

use crate::support::{
    LOOPBACK, Server, addresses, alone, ask, big_domain, domain, exchange_tcp, exchange_udp, forwarding_to,
    query, reply_to, upstream, with_edns,
};

/// A server of `alice` in front of a server of `other`, whose `<service>.other` the former must forward.
async fn in_front_of(other: Names) -> (Server, Server) {
    let behind = Server::start(other, alone()).await;
    let front = Server::start(domain("alice", &[]), forwarding_to(&[behind.address])).await;
    (front, behind)
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn soa() -> Record {
    let data = SOA::new(name("ns.example."), name("root.example."), 1, 2, 3, 4, 60);
    Record::from_rdata(name("example."), 60, RData::SOA(data))
}

#[tokio::test]
async fn names_of_others_come_from_an_upstream_without_authority() {
    let (front, _behind) = in_front_of(domain("other", &[("web", &["198.51.100.1"])])).await;
    let reply = ask(front.address, "web.other.", RecordType::A).await;
    assert_eq!(addresses(&reply), ["198.51.100.1"]);
    assert!(!reply.metadata.authoritative);
    assert!(reply.metadata.recursion_available);
}

#[tokio::test]
async fn unknown_single_labels_are_forwarded() {
    let (front, _behind) = in_front_of(domain("other", &[("host", &["198.51.100.2"])])).await;
    assert_eq!(addresses(&ask(front.address, "host.", RecordType::A).await), ["198.51.100.2"]);
}

#[tokio::test]
async fn the_rest_of_our_zone_is_never_forwarded() {
    let (front, behind) = in_front_of(domain("other", &[("web", &["198.51.100.1"])])).await;
    let reply = ask(front.address, "web.other.svc.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(behind.answered(), 0);
}

#[tokio::test]
async fn answers_are_cached_and_still_have_the_case_of_each_question() {
    let (front, behind) = in_front_of(domain("other", &[("web", &["198.51.100.1"])])).await;
    for question in ["web.other.", "WEB.other.", "web.OTHER."] {
        let reply = ask(front.address, question, RecordType::A).await;
        assert_eq!(reply.answers[0].name.to_ascii(), question);
    }
    assert_eq!(behind.answered(), 1);
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let (front, behind) = in_front_of(big_domain("other", 200)).await;
    let question = query("big.other.", RecordType::A);
    let mut stream = TcpStream::connect(front.address).await.unwrap();
    let whole = exchange_tcp(&mut stream, &question).await;
    assert_eq!(whole.answers.len(), 200);
    assert_eq!(behind.answered(), 2, "once over UDP, once over TCP");

    let cut = exchange_udp(front.address, &with_edns(question, 1232)).await;
    assert!(cut.metadata.truncation && cut.edns.is_some());
}

#[tokio::test]
async fn no_data_passes_with_the_upstreams_soa() {
    let (front, _behind) = in_front_of(domain("other", &[("down", &[])])).await;
    let reply = ask(front.address, "down.other.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert_eq!(reply.authorities.len(), 1);
    assert_eq!(reply.authorities[0].name, name("svc."));
}

#[tokio::test]
async fn nxdomain_passes_with_the_upstreams_soa() {
    let (upstream, _task) = upstream(|query| {
        let mut reply = reply_to(&query, ResponseCode::NXDomain);
        reply.add_authority(soa());
        Some(reply)
    })
    .await;
    let server = Server::start(domain("alice", &[]), forwarding_to(&[upstream])).await;
    let reply = ask(server.address, "none.example.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(reply.authorities, [soa()]);
}

#[tokio::test]
async fn aliases_come_with_what_they_lead_to() {
    let (upstream, _task) = upstream(|query| {
        let mut reply = reply_to(&query, ResponseCode::NoError);
        reply.add_answer(Record::from_rdata(
            name("www.example."),
            60,
            RData::CNAME(CNAME(name("host.example."))),
        ));
        let address = RData::A(Ipv4Addr::new(198, 51, 100, 9).into());
        reply.add_answer(Record::from_rdata(name("host.example."), 60, address));
        Some(reply)
    })
    .await;
    let server = Server::start(domain("alice", &[]), forwarding_to(&[upstream])).await;
    let reply = ask(server.address, "www.example.", RecordType::A).await;
    let types: Vec<_> = reply.answers.iter().map(Record::record_type).collect();
    assert_eq!(types, [RecordType::CNAME, RecordType::A]);
}

#[tokio::test]
async fn a_silent_upstream_is_tried_again_and_then_a_failure() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let (upstream, _task) = upstream(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        None
    })
    .await;
    let server = Server::start(domain("alice", &[]), forwarding_to(&[upstream])).await;
    let reply = ask(server.address, "example.com.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert!(asked.load(Ordering::Relaxed) >= 2);
}

#[tokio::test]
async fn an_upstream_that_refuses_or_fails_is_a_failure() {
    for code in [ResponseCode::Refused, ResponseCode::ServFail, ResponseCode::NotImp, ResponseCode::FormErr] {
        let (upstream, _task) = upstream(move |query| Some(reply_to(&query, code))).await;
        let server = Server::start(domain("alice", &[]), forwarding_to(&[upstream])).await;
        let reply = ask(server.address, "example.com.", RecordType::A).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail, "{code}");
    }
}

#[tokio::test]
async fn another_upstream_answers_where_one_is_silent() {
    let (silent, _task) = upstream(|_| None).await;
    let (front, behind) = in_front_of(domain("other", &[("web", &["198.51.100.1"])])).await;
    drop(front);
    let server = Server::start(domain("alice", &[]), forwarding_to(&[silent, behind.address])).await;
    assert_eq!(addresses(&ask(server.address, "web.other.", RecordType::A).await), ["198.51.100.1"]);
}

#[tokio::test]
async fn without_upstreams_names_of_others_fail() {
    let server = Server::start(domain("alice", &[]), alone()).await;
    let reply = ask(server.address, "example.com.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn a_server_never_asks_itself() {
    let bound = bind(LOOPBACK).await.unwrap();
    let settings = forwarding_to(&[bound.local_addr()]);
    let server = Server::serve(bound, domain("alice", &[]), settings);
    let reply = ask(server.address, "example.com.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(server.answered(), 1);
}

#[tokio::test]
async fn clients_outside_of_the_subnets_are_refused_and_nothing_is_asked_for_them() {
    let behind = Server::start(domain("other", &[("web", &["198.51.100.1"])]), alone()).await;
    let settings = Settings {
        recursion_subnets: vec!["192.0.2.0/24".parse().unwrap()],
        ..forwarding_to(&[behind.address])
    };
    let front = Server::start(domain("alice", &[]), settings).await;
    let reply = ask(front.address, "web.other.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    assert!(!reply.metadata.recursion_available);
    assert_eq!(behind.answered(), 0);
}

#[tokio::test]
async fn a_client_that_does_not_want_recursion_gets_none() {
    let (front, behind) = in_front_of(domain("other", &[("web", &["198.51.100.1"])])).await;
    let mut question = query("web.other.", RecordType::A);
    question.metadata.recursion_desired = false;
    let reply = exchange_udp(front.address, &question).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    assert_eq!(behind.answered(), 0);
}
