//! Names of others: addresses of this network in them.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::HTTPS;
use hickory_proto::rr::rdata::opt::EdnsCode;
use hickory_proto::rr::rdata::svcb::{IpHint, SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::fake::Fake;
use crate::support::{addresses, ask, exchange_udp, query, with_edns};

/// An upstream that gives all these addresses to every name.
async fn with_addresses(all: &[&'static str]) -> Fake {
    let all = all.to_vec();
    Fake::start(move |query| {
        let data = |address: &&str| (60, RData::from(address.parse::<std::net::IpAddr>().unwrap()));
        let record_type = query.message.queries[0].query_type();
        let data = all.iter().map(data).filter(|(_, data)| data.record_type() == record_type);
        vec![query.answer(data.collect::<Vec<_>>())]
    })
    .await
}

#[tokio::test]
async fn without_protection_private_addresses_pass() {
    let fake = with_addresses(&["192.168.1.1", "198.51.100.1"]).await;
    let reply = ask(fake.server().await.address, "web.example.", RecordType::A).await;
    assert_eq!(addresses(&reply), ["192.168.1.1", "198.51.100.1"]);
}

#[tokio::test]
async fn private_addresses_are_taken_out() {
    let fake =
        with_addresses(&["192.168.1.1", "198.51.100.1", "fe80::1", "::ffff:127.0.0.1", "2001:db8::1"]).await;
    let server = fake.protected_server(&[]).await;
    let reply = ask(server.address, "web.example.", RecordType::A).await;
    assert_eq!(addresses(&reply), ["198.51.100.1"]);
    let reply = ask(server.address, "web.example.", RecordType::AAAA).await;
    assert_eq!(addresses(&reply), ["2001:db8::1"]);
}

#[tokio::test]
async fn where_nothing_is_left_the_answer_is_refused_and_says_why() {
    let fake = with_addresses(&["127.0.0.1", "10.0.0.1"]).await;
    let server = fake.protected_server(&[]).await;
    for _ in 0..2 {
        let question = with_edns(query("web.example.", RecordType::A), 1232);
        let reply = exchange_udp(server.address, &question).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
        assert!(reply.answers.is_empty());
        let edns = reply.edns.unwrap();
        assert!(edns.option(EdnsCode::from(15)).is_some(), "{edns:?}");
    }
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn excepted_names_keep_their_private_addresses() {
    let fake = with_addresses(&["10.0.0.1"]).await;
    let server = fake.protected_server(&["lan.example"]).await;
    for name in ["lan.example.", "db.LAN.example."] {
        assert_eq!(addresses(&ask(server.address, name, RecordType::A).await), ["10.0.0.1"], "{name}");
    }
    let reply = ask(server.address, "plan.example.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn hints_of_addresses_count_like_addresses() {
    let fake = Fake::start(|query| {
        let hint = SvcParamValue::Ipv4Hint(IpHint(vec!["192.168.1.1".parse().unwrap()]));
        let service = SVCB::new(1, Name::root(), vec![(SvcParamKey::Ipv4Hint, hint)]);
        vec![query.answer([(60, RData::HTTPS(HTTPS(service)))])]
    })
    .await;
    let server = fake.protected_server(&["lan.example"]).await;
    let reply = ask(server.address, "web.example.", RecordType::HTTPS).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    assert_eq!(ask(server.address, "lan.example.", RecordType::HTTPS).await.answers.len(), 1);
}

#[tokio::test]
async fn answers_without_addresses_are_left_alone() {
    let fake = with_addresses(&["10.0.0.1"]).await;
    let reply = ask(fake.protected_server(&[]).await.address, "web.example.", RecordType::AAAA).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
}
