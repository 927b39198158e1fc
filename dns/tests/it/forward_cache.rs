//! Names of others: what is kept of them, for how long, and what is given when nobody knows better.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{RData, RecordType};
use networkmesh_dns::CacheUse;
use tokio::task::JoinSet;

use crate::fake::{Fake, SECOND, later, soa};
use crate::support::{Server, addresses, ask, exchange_udp, patiently, query, with_edns};

const NAME: &str = "web.example.";

/// How long an upstream may take that becomes silent: enough for its first answers on a busy machine, and twice as long
/// is still less than a client waits.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The reply to a client that speaks EDNS(0), and its extended error (RFC 8914), if it has one.
async fn ask_why(server: &Server) -> (Message, Option<u16>) {
    let reply = exchange_udp(server.address, &with_edns(query(NAME, RecordType::A), 1232)).await;
    let edns = reply.edns.as_ref().expect("an answer to EDNS(0) has it too");
    let code = edns.option(EdnsCode::from(15)).map(|option| match option {
        EdnsOption::Unknown(15, bytes) => u16::from_be_bytes([bytes[0], bytes[1]]),
        other => panic!("{other:?}"),
    });
    (reply, code)
}

fn ttl(reply: &Message) -> u32 {
    reply.answers[0].ttl
}

/// What a question gets while its upstream is silent for as long as it is asked, which is twice.
async fn in_vain<T>(fake: &Fake, asking: impl Future<Output = T>) -> T {
    let before = fake.asked().len();
    let silence = async {
        for queries in 1..=2 {
            fake.asked_times(before + queries).await;
            later(TIMEOUT + SECOND).await;
        }
    };
    tokio::join!(asking, silence).0
}

/// A server that had an answer for 10 s, 20 s ago, and an upstream that is silent since then.
async fn with_old_answer() -> (Fake, Server) {
    let fake = Fake::with_address(10, "198.51.100.1").await;
    let server = fake.server_with(|forward| forward.timeout = TIMEOUT).await;
    ask(server.address, NAME, RecordType::A).await;
    fake.hold();
    later(20 * SECOND).await;
    (fake, server)
}

#[tokio::test]
async fn answers_are_cached_and_still_have_the_case_of_each_question() {
    let fake = Fake::with_address(60, "198.51.100.1").await;
    let server = fake.server().await;
    for question in [NAME, "WEB.example.", "web.EXAMPLE."] {
        let reply = ask(server.address, question, RecordType::A).await;
        assert_eq!(reply.answers[0].name.to_ascii(), question);
        assert_eq!(reply.queries[0].name().to_ascii(), question);
    }
    assert_eq!(fake.asked().len(), 1);
    assert_eq!(server.metrics.cache(), CacheUse { hits: 2, misses: 1, stale: 0 });
}

#[tokio::test]
async fn times_to_live_count_down_to_the_next_question() {
    let fake = Fake::start(|query| {
        vec![query.answer([
            (60, RData::A("198.51.100.1".parse().unwrap())),
            (90, RData::A("198.51.100.2".parse().unwrap())),
        ])]
    })
    .await;
    let server = fake.server().await;
    ask(server.address, NAME, RecordType::A).await;
    later(10 * SECOND).await;
    let reply = ask(server.address, NAME, RecordType::A).await;
    let mut ttls: Vec<_> = reply.answers.iter().map(|record| record.ttl).collect();
    ttls.sort_unstable();
    assert_eq!(ttls, [50, 80]);
    assert_eq!(fake.asked().len(), 1);
    later(50 * SECOND).await;
    assert_eq!(addresses(&ask(server.address, NAME, RecordType::A).await).len(), 2);
    assert_eq!(fake.asked().len(), 2);
}

#[tokio::test]
async fn types_are_cached_on_their_own() {
    let fake = Fake::with_address(60, "198.51.100.1").await;
    let server = fake.server().await;
    for record_type in [RecordType::A, RecordType::TXT, RecordType::A, RecordType::TXT] {
        ask(server.address, NAME, record_type).await;
    }
    let asked: Vec<_> = fake.asked().iter().map(|asked| asked.message.queries[0].query_type()).collect();
    // The answer to TXT is no answer, nor is there an SOA by which to keep it.
    assert_eq!(asked, [RecordType::A, RecordType::TXT, RecordType::TXT]);
}

#[tokio::test]
async fn negative_answers_are_kept_as_long_as_their_soa_says() {
    for (code, soa) in [(ResponseCode::NXDomain, soa(60, 30)), (ResponseCode::NoError, soa(30, 60))] {
        let fake = Fake::start(move |query| vec![query.negative(code, soa.clone())]).await;
        let server = fake.server().await;
        assert_eq!(ask(server.address, NAME, RecordType::A).await.authorities[0].ttl, 30);
        later(10 * SECOND).await;
        let reply = ask(server.address, NAME, RecordType::A).await;
        assert_eq!((reply.metadata.response_code, reply.authorities[0].ttl), (code, 20));
        assert_eq!(fake.asked().len(), 1);
        later(20 * SECOND).await;
        ask(server.address, NAME, RecordType::A).await;
        assert_eq!(fake.asked().len(), 2);
    }
}

#[tokio::test]
async fn what_has_no_time_to_live_is_not_kept() {
    for ttl in [0, 1 << 31, u32::MAX] {
        let fake = Fake::with_address(ttl, "198.51.100.1").await;
        let server = fake.server().await;
        for _ in 0..2 {
            let reply = ask(server.address, NAME, RecordType::A).await;
            assert_eq!((addresses(&reply).len(), reply.answers[0].ttl), (1, 0));
        }
        assert_eq!(fake.asked().len(), 2, "{ttl}");
    }
    let fake = Fake::with_code(ResponseCode::NXDomain).await;
    let server = fake.server().await;
    ask(server.address, NAME, RecordType::A).await;
    ask(server.address, NAME, RecordType::A).await;
    assert_eq!(fake.asked().len(), 2, "without SOA");
}

#[tokio::test]
async fn failures_are_kept_for_a_few_seconds() {
    let fake = Fake::with_code(ResponseCode::ServFail).await;
    let server = fake.server().await;
    let (reply, why) = ask_why(&server).await;
    assert_eq!((reply.metadata.response_code, why), (ResponseCode::ServFail, Some(22)));
    let asked = fake.asked().len();
    let (reply, why) = ask_why(&server).await;
    assert_eq!((reply.metadata.response_code, why), (ResponseCode::ServFail, Some(13)));
    assert_eq!(fake.asked().len(), asked);
    later(5 * SECOND).await;
    ask_why(&server).await;
    assert_eq!(fake.asked().len(), 2 * asked);
}

#[tokio::test]
async fn equal_questions_at_one_time_are_one_question_upstream() {
    let fake = Fake::with_address(60, "198.51.100.1").await;
    fake.hold();
    let server = fake.server().await;
    let address = server.address;
    let mut clients: JoinSet<_> = (0..50).map(|_| ask(address, NAME, RecordType::A)).collect();
    fake.asked_times(1).await;
    fake.release();
    while let Some(reply) = clients.join_next().await {
        assert_eq!(addresses(&reply.unwrap()), ["198.51.100.1"]);
    }
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn while_no_upstream_answers_the_old_answer_is_given_and_says_so() {
    let (fake, server) = with_old_answer().await;
    let (reply, why) = in_vain(&fake, ask_why(&server)).await;
    assert_eq!(addresses(&reply), ["198.51.100.1"]);
    assert_eq!((ttl(&reply), why), (30, Some(3)));
    let plain = ask(server.address, NAME, RecordType::A).await;
    assert_eq!(addresses(&plain), ["198.51.100.1"]);
    assert!(plain.edns.is_none());
    assert_eq!(server.metrics.cache(), CacheUse { hits: 0, misses: 1, stale: 2 });
}

#[tokio::test]
async fn an_upstream_that_says_it_failed_leaves_the_old_answer_for_a_while() {
    let is_well = Arc::new(AtomicBool::new(true));
    let well = Arc::clone(&is_well);
    let fake = Fake::start(move |query| {
        let good = query.answer([(10, RData::A("198.51.100.1".parse().unwrap()))]);
        vec![if well.load(Ordering::Relaxed) { good } else { query.code(ResponseCode::ServFail) }]
    })
    .await;
    let server = fake.server().await;
    ask(server.address, NAME, RecordType::A).await;
    is_well.store(false, Ordering::Relaxed);
    later(20 * SECOND).await;
    for _ in 0..3 {
        assert_eq!(ttl(&ask(server.address, NAME, RecordType::A).await), 30);
    }
    assert_eq!(fake.asked().len(), 2, "it is asked again only after a while");
    is_well.store(true, Ordering::Relaxed);
    later(31 * SECOND).await;
    assert_eq!(ttl(&ask(server.address, NAME, RecordType::A).await), 10);
}

#[tokio::test]
async fn upstreams_known_to_be_down_are_asked_but_not_waited_for() {
    let fake = Fake::with_address(10, "198.51.100.1").await;
    let server = fake.server_with(|forward| forward.timeout = TIMEOUT).await;
    ask(server.address, NAME, RecordType::A).await;
    ask(server.address, "other.example.", RecordType::A).await;
    fake.hold();
    later(20 * SECOND).await;
    in_vain(&fake, ask(server.address, NAME, RecordType::A)).await;
    for name in [NAME, "other.example."] {
        assert_eq!(ttl(&ask(server.address, name, RecordType::A).await), 30, "{name}");
    }
    // The first name was asked for in vain a moment ago; the upstream may know the other one.
    fake.asked_times(5).await;
    assert_eq!(fake.asked()[4].text(), "other.example.");
    fake.release();
    let is_fresh = async || ttl(&ask(server.address, "other.example.", RecordType::A).await) <= 10;
    patiently(async { while !is_fresh().await {} }).await;
    later(31 * SECOND).await;
    assert_eq!(ttl(&ask(server.address, NAME, RecordType::A).await), 10);
}

#[tokio::test]
async fn a_client_does_not_wait_long_for_a_slow_upstream_and_the_next_one_has_its_answer() {
    let fake = Fake::with_address(10, "198.51.100.1").await;
    let server = fake.server().await;
    ask(server.address, NAME, RecordType::A).await;
    fake.hold();
    later(15 * SECOND).await;
    let address = server.address;
    let client = tokio::spawn(ask(address, NAME, RecordType::A));
    fake.asked_times(2).await;
    later(2 * SECOND).await;
    assert_eq!(ttl(&client.await.unwrap()), 30);
    fake.release();
    // This one waits for the same lookup, or finds what it found.
    assert_eq!(ttl(&ask(address, NAME, RecordType::A).await), 10);
}

#[tokio::test]
async fn a_name_that_did_not_exist_still_does_not() {
    let fake = Fake::start(|query| vec![query.negative(ResponseCode::NXDomain, soa(10, 10))]).await;
    let server = fake.server_with(|forward| forward.timeout = TIMEOUT).await;
    ask(server.address, NAME, RecordType::A).await;
    fake.hold();
    later(20 * SECOND).await;
    let (reply, why) = in_vain(&fake, ask_why(&server)).await;
    assert_eq!((reply.metadata.response_code, why), (ResponseCode::NXDomain, Some(19)));
    assert_eq!(reply.authorities[0].ttl, 30);
}

#[tokio::test]
async fn an_answer_that_is_too_old_or_not_wanted_is_not_given() {
    for stale in [None, Some(5 * SECOND)] {
        let fake = Fake::with_address(10, "198.51.100.1").await;
        let server = fake.server_with(|forward| (forward.timeout, forward.stale) = (TIMEOUT, stale)).await;
        ask(server.address, NAME, RecordType::A).await;
        fake.hold();
        later(20 * SECOND).await;
        let reply = in_vain(&fake, ask(server.address, NAME, RecordType::A)).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail, "{stale:?}");
    }
}
