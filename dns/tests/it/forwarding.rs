//! Names of others: who gets them, and what belongs to an answer.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{NULL, TXT};
use hickory_proto::rr::{RData, Record, RecordType};
use networkmesh_dns::{Names, Settings};
use tokio::net::TcpStream;

use crate::fake::{Fake, address, alias, name, soa};
use crate::support::{
    Server, addresses, alone, ask, big_domain, domain, exchange_tcp, exchange_udp, forwarding_to, query,
    with_edns,
};

/// A server of `alice` in front of a server of `other`, whose `<service>.other` the former must forward.
async fn in_front_of(other: Names) -> (Server, Server) {
    let behind = Server::start(other, alone()).await;
    let front = Server::start(domain("alice", &[]), forwarding_to(&[behind.address])).await;
    (front, behind)
}

fn types(records: &[Record]) -> Vec<RecordType> {
    records.iter().map(Record::record_type).collect()
}

/// A record of a type that the program does not know, or does not look into.
fn opaque(of: &str, record_type: RecordType, bytes: &[u8]) -> Record {
    let rdata = NULL::with(bytes.to_vec());
    Record::from_rdata(name(of), 60, RData::Unknown { code: record_type, rdata })
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
async fn names_of_special_use_are_never_forwarded() {
    let fake = Fake::with_address(60, "198.51.100.1").await;
    let server = fake.server().await;
    assert_eq!(addresses(&ask(server.address, "localhost.", RecordType::A).await), ["127.0.0.1"]);
    let reply = ask(server.address, "a.invalid.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert!(fake.asked().is_empty());
}

#[tokio::test]
async fn clients_outside_of_the_subnets_are_refused_and_nothing_is_asked_for_them() {
    let fake = Fake::with_address(60, "198.51.100.1").await;
    let settings = Settings {
        recursion: vec!["192.0.2.0/24".parse().unwrap()].into(),
        ..forwarding_to(&[fake.address])
    };
    let front = Server::start(domain("alice", &[]), settings).await;
    let reply = ask(front.address, "web.example.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    assert!(!reply.metadata.recursion_available);
    assert!(fake.asked().is_empty());
}

#[tokio::test]
async fn a_client_that_does_not_want_recursion_gets_none() {
    let fake = Fake::with_address(60, "198.51.100.1").await;
    let mut question = query("web.example.", RecordType::A);
    question.metadata.recursion_desired = false;
    let reply = exchange_udp(fake.server().await.address, &question).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    assert!(fake.asked().is_empty());
}

#[tokio::test]
async fn an_answer_too_big_for_udp_comes_over_tcp_and_passes_whole() {
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
async fn an_answer_of_nearly_the_largest_size_passes_whole() {
    let text = |number: u32| RData::TXT(TXT::new(vec![format!("{number:0>250}")]));
    let fake = Fake::start(move |query| {
        let mut reply = query.answer((0..230).map(|number| (60, text(number))));
        if !query.over_tcp {
            reply.answers.clear();
            reply.metadata.truncation = true;
        }
        vec![reply]
    })
    .await;
    let mut stream = TcpStream::connect(fake.server().await.address).await.unwrap();
    let reply = exchange_tcp(&mut stream, &query("long.example.", RecordType::TXT)).await;
    assert!(!reply.metadata.truncation);
    let texts: Vec<_> = reply.answers.iter().map(|record| record.data.clone()).collect();
    assert_eq!(texts, (0..230).map(text).collect::<Vec<_>>());
}

#[tokio::test]
async fn negative_answers_pass_with_the_upstreams_soa() {
    for code in [ResponseCode::NoError, ResponseCode::NXDomain] {
        let fake = Fake::start(move |query| vec![query.negative(code, soa(60, 60))]).await;
        let reply = ask(fake.server().await.address, "none.example.", RecordType::A).await;
        assert_eq!(reply.metadata.response_code, code);
        assert_eq!(reply.authorities, [soa(60, 60)]);
    }
}

#[tokio::test]
async fn aliases_come_with_what_they_lead_to() {
    let fake = Fake::start(|query| {
        let mut reply = query.code(ResponseCode::NoError);
        // Not in order: the chain is what counts.
        reply.add_answer(address("host.example.", "198.51.100.9"));
        reply.add_answer(alias("edge.example.", "host.example."));
        reply.add_answer(alias("www.example.", "edge.example."));
        vec![reply]
    })
    .await;
    let reply = ask(fake.server().await.address, "www.example.", RecordType::A).await;
    assert_eq!(types(&reply.answers), [RecordType::A, RecordType::CNAME, RecordType::CNAME]);
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn an_alias_that_leads_to_nothing_comes_with_the_proof() {
    let fake = Fake::start(|query| {
        let mut reply = query.negative(ResponseCode::NoError, soa(60, 60));
        reply.add_answer(alias("www.example.", "host.example."));
        vec![reply]
    })
    .await;
    let reply = ask(fake.server().await.address, "www.example.", RecordType::AAAA).await;
    assert_eq!(types(&reply.answers), [RecordType::CNAME]);
    assert_eq!(types(&reply.authorities), [RecordType::SOA]);
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn an_alias_that_the_upstream_does_not_follow_is_followed() {
    let fake = Fake::start(|query| {
        let mut reply = query.code(ResponseCode::NoError);
        reply.add_answer(match query.text().as_str() {
            "www.example." => alias("www.example.", "edge.other."),
            "edge.other." => alias("edge.other.", "host.third."),
            _ => address("host.third.", "198.51.100.9"),
        });
        vec![reply]
    })
    .await;
    let reply = ask(fake.server().await.address, "www.example.", RecordType::A).await;
    assert_eq!(types(&reply.answers), [RecordType::CNAME, RecordType::CNAME, RecordType::A]);
    assert_eq!(fake.asked().len(), 3);
}

#[tokio::test]
async fn aliases_that_go_round_or_never_end_are_not_followed_for_ever() {
    let fake = Fake::start(|query| {
        let mut reply = query.code(ResponseCode::NoError);
        let next = match query.text().as_str() {
            "round.example." => "back.example.".to_owned(),
            "back.example." => "round.example.".to_owned(),
            longer => format!("a.{longer}"),
        };
        reply.add_answer(alias(&query.text(), &next));
        vec![reply]
    })
    .await;
    let server = fake.server().await;
    ask(server.address, "round.example.", RecordType::A).await;
    assert_eq!(fake.asked().len(), 2);
    ask(server.address, "long.example.", RecordType::A).await;
    assert!(fake.asked().len() < 20, "{} queries", fake.asked().len());
}

#[tokio::test]
async fn records_that_were_not_asked_for_are_left_out() {
    let fake = Fake::start(|query| {
        let mut reply = query.answer([(60, RData::A("198.51.100.1".parse().unwrap()))]);
        reply.add_answer(opaque("web.example.", RecordType::from(65_280), b"x"));
        reply.add_answer(opaque("web.example.", RecordType::RRSIG, &[0; 32]));
        reply.add_answer(address("bank.example.", "198.51.100.66"));
        reply.add_answer(alias("mail.example.", "bank.example."));
        reply.add_authority(soa(60, 60));
        reply.add_additional(address("ns.example.", "198.51.100.66"));
        vec![reply]
    })
    .await;
    let server = fake.server().await;
    let reply = ask(server.address, "web.example.", RecordType::A).await;
    assert_eq!(addresses(&reply), ["198.51.100.1"]);
    assert!(reply.authorities.is_empty() && reply.additionals.is_empty());
    ask(server.address, "bank.example.", RecordType::A).await;
    assert_eq!(fake.asked().len(), 2, "what was left out is not known either");
}

#[tokio::test]
async fn unknown_types_pass_unchanged() {
    let record_type = RecordType::from(65_280);
    let fake = Fake::start(move |query| {
        let mut reply = query.code(ResponseCode::NoError);
        reply.add_answer(opaque("new.example.", record_type, &[0, 255, 3, b'a', 192, 12]));
        vec![reply]
    })
    .await;
    let reply = ask(fake.server().await.address, "new.example.", record_type).await;
    assert_eq!(reply.answers, [opaque("new.example.", record_type, &[0, 255, 3, b'a', 192, 12])]);
}

#[tokio::test]
async fn any_passes_as_the_upstream_gives_it() {
    let fake = Fake::start(|query| {
        let mut reply = query.answer([
            (60, RData::A("198.51.100.1".parse().unwrap())),
            (60, RData::TXT(TXT::new(vec!["text".to_owned()]))),
        ]);
        reply.add_answer(alias("all.example.", "other.example."));
        vec![reply]
    })
    .await;
    let reply = ask(fake.server().await.address, "all.example.", RecordType::ANY).await;
    assert_eq!(types(&reply.answers), [RecordType::A, RecordType::TXT, RecordType::CNAME]);
    assert_eq!(fake.asked().len(), 1);
}

/// An upstream that validates, and says so.
async fn validating() -> Fake {
    Fake::start(|query| {
        let mut reply = query.answer([(60, RData::A("198.51.100.1".parse().unwrap()))]);
        reply.metadata.authentic_data = true;
        if query.message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok) {
            reply.add_answer(opaque("signed.example.", RecordType::RRSIG, &[1; 40]));
            reply.add_authority(opaque("a.example.", RecordType::NSEC, &[0, 0, 1, 0]));
        }
        vec![reply]
    })
    .await
}

fn asking_for_signatures() -> Message {
    let mut question = with_edns(query("signed.example.", RecordType::A), 1232);
    if let Some(edns) = &mut question.edns {
        edns.set_dnssec_ok(true);
    }
    question
}

#[tokio::test]
async fn signatures_pass_to_clients_that_take_them_and_nothing_is_called_authentic() {
    let fake = validating().await;
    let server = fake.server().await;
    let plain = ask(server.address, "signed.example.", RecordType::A).await;
    assert_eq!(types(&plain.answers), [RecordType::A]);
    let mut question = asking_for_signatures();
    question.metadata.authentic_data = true;
    let signed = exchange_udp(server.address, &question).await;
    assert_eq!(types(&signed.answers), [RecordType::A, RecordType::RRSIG]);
    assert_eq!(types(&signed.authorities), [RecordType::NSEC]);
    assert!(!plain.metadata.authentic_data && !signed.metadata.authentic_data);
}

#[tokio::test]
async fn upstreams_learn_what_clients_want_of_dnssec_and_answers_are_not_mixed_up() {
    let fake = validating().await;
    let server = fake.server().await;
    let mut unchecked = asking_for_signatures();
    unchecked.metadata.checking_disabled = true;
    for question in [query("signed.example.", RecordType::A), asking_for_signatures(), unchecked] {
        for _ in 0..2 {
            let reply = exchange_udp(server.address, &question).await;
            assert_eq!(reply.metadata.checking_disabled, question.metadata.checking_disabled);
        }
    }
    let wants = |message: &Message| {
        let edns = message.edns.as_ref().expect("upstreams are asked with EDNS(0)");
        assert_eq!(edns.max_payload(), 1232);
        (edns.flags().dnssec_ok, message.metadata.checking_disabled)
    };
    let wanted: Vec<_> = fake.asked().iter().map(|asked| wants(&asked.message)).collect();
    assert_eq!(wanted, [(false, false), (true, false), (true, true)]);
}
