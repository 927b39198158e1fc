//! Names of others: which upstream is asked, how, and what is taken for its answer.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::NS;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use networkmesh_dns::{UpstreamUse, Upstreams, bind};
use tokio::net::UdpSocket;

use crate::fake::{Asked, Fake, IMPATIENT, SECOND, later, name, soa};
use crate::support::{LOOPBACK, Server, addresses, alone, ask, domain, forwarding_to, patiently};

const NAME: &str = "web.example.";

async fn asking(upstreams: &[&Fake]) -> Server {
    let addresses: Vec<_> = upstreams.iter().map(|fake| fake.address).collect();
    let mut settings = forwarding_to(&addresses);
    // The next one is asked after a quarter of it.
    settings.forward.timeout = 2 * SECOND;
    Server::start(domain("alice", &[]), settings).await
}

/// What the server knows of the upstream.
fn known(server: &Server, fake: &Fake) -> UpstreamUse {
    server.metrics.upstreams().into_iter().find(|upstream| upstream.address == fake.address).unwrap()
}

async fn code(server: &Server) -> ResponseCode {
    ask(server.address, NAME, RecordType::A).await.metadata.response_code
}

fn right(query: &Asked) -> Message {
    query.answer([(60, RData::A("198.51.100.1".parse().unwrap()))])
}

fn forged(query: &Asked) -> Message {
    query.answer([(60, RData::A("198.51.100.66".parse().unwrap()))])
}

#[tokio::test]
async fn ports_and_ids_of_questions_cannot_be_guessed() {
    const QUERIES: usize = 400;
    let fake = Fake::with_address(0, "198.51.100.1").await;
    let server = fake.server().await;
    for _ in 0..QUERIES {
        ask(server.address, NAME, RecordType::A).await;
    }
    let asked = fake.asked();
    let ports: Vec<u16> = asked.iter().map(|asked| asked.from.port()).collect();
    let ids: Vec<u16> = asked.iter().map(|asked| asked.message.metadata.id).collect();
    for values in [ports, ids] {
        let different: HashSet<_> = values.iter().collect();
        assert!(different.len() > QUERIES * 95 / 100, "{} of {QUERIES} are different", different.len());
        // Each bit but those that a lower bound of ports fixes is set about half the time.
        for bit in 0..14 {
            let set = values.iter().filter(|value| **value >> bit & 1 == 1).count();
            assert!((QUERIES / 3..QUERIES * 2 / 3).contains(&set), "bit {bit} is set {set} times");
        }
        let near = values.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 16).count();
        assert!(near < QUERIES / 20, "{near} follow closely on the one before");
    }
}

#[tokio::test]
async fn an_answer_with_another_id_is_not_taken() {
    let fake = Fake::start(|query| {
        let mut wrong = forged(query);
        wrong.metadata.id = wrong.metadata.id.wrapping_add(1);
        vec![wrong, right(query)]
    })
    .await;
    let reply = ask(fake.server().await.address, NAME, RecordType::A).await;
    assert_eq!(addresses(&reply), ["198.51.100.1"]);
}

#[tokio::test]
async fn an_answer_to_another_question_is_not_taken() {
    let fake = Fake::start(|query| {
        let with = |questions: Vec<Query>| {
            let mut wrong = forged(query);
            wrong.queries = questions;
            wrong
        };
        let own = query.message.queries[0].clone();
        vec![
            with(Vec::new()),
            with(vec![Query::query(name("other.example."), RecordType::A)]),
            with(vec![Query::query(own.name().clone(), RecordType::AAAA)]),
            with(vec![own.clone(), own]),
            right(query),
        ]
    })
    .await;
    let reply = ask(fake.server().await.address, NAME, RecordType::A).await;
    assert_eq!(addresses(&reply), ["198.51.100.1"]);
}

#[tokio::test]
async fn the_case_of_letters_cannot_be_guessed() {
    const QUERIES: usize = 400;
    let fake = Fake::with_address(0, "198.51.100.1").await;
    let server = fake.server().await;
    for _ in 0..QUERIES {
        ask(server.address, NAME, RecordType::A).await;
    }
    let asked: Vec<String> = fake.asked().iter().map(|asked| asked.name().to_ascii()).collect();
    for (number, letter) in NAME.char_indices().filter(|(_, letter)| letter.is_ascii_alphabetic()) {
        let capital = asked.iter().filter(|name| name.as_bytes()[number].is_ascii_uppercase()).count();
        assert!((QUERIES / 3..QUERIES * 2 / 3).contains(&capital), "{letter} is a capital {capital} times");
    }
}

#[tokio::test]
async fn an_answer_with_letters_of_another_case_is_asked_for_over_tcp() {
    let fake = Fake::start(|query| {
        let mut reply = if query.over_tcp { right(query) } else { forged(query) };
        reply.queries[0].name = Name::from_ascii("wEbxtEstxwEbxtEst.example.").unwrap();
        vec![reply]
    })
    .await;
    let long = "webxtestxwebxtest.example.";
    let reply = ask(fake.server().await.address, long, RecordType::A).await;
    assert_eq!(addresses(&reply), ["198.51.100.1"]);
    let asked = fake.asked();
    assert_eq!(asked.iter().map(|asked| asked.over_tcp).collect::<Vec<_>>(), [false, true]);
    assert_eq!(asked[1].name().to_ascii(), long);
}

#[tokio::test]
async fn clients_do_not_see_the_case_that_upstreams_were_asked_in() {
    let fake = Fake::start(|query| {
        let mut reply = query.code(ResponseCode::NXDomain);
        let mut soa = soa(60, 60);
        soa.name = query.name().base_name();
        reply.add_authority(soa);
        vec![reply]
    })
    .await;
    let reply = ask(fake.server().await.address, "WeB.ExAmPlE.", RecordType::A).await;
    assert_eq!(reply.queries[0].name().to_ascii(), "WeB.ExAmPlE.");
    assert_eq!(reply.authorities[0].name.to_ascii(), "example.");
}

#[tokio::test]
async fn an_answer_from_another_address_is_not_taken() {
    let upstream = UdpSocket::bind(LOOPBACK).await.unwrap();
    let stranger = UdpSocket::bind(LOOPBACK).await.unwrap();
    let settings = forwarding_to(&[upstream.local_addr().unwrap()]);
    let server = Server::start(domain("alice", &[]), settings).await;
    let address = server.address;
    let client = tokio::spawn(async move { ask(address, NAME, RecordType::A).await });
    let mut buffer = [0; 512];
    let (length, from) = patiently(upstream.recv_from(&mut buffer)).await.unwrap();
    let message = Message::from_vec(&buffer[..length]).unwrap();
    let query = Asked { from, over_tcp: false, message };
    stranger.send_to(&forged(&query).to_vec().unwrap(), from).await.unwrap();
    upstream.send_to(&right(&query).to_vec().unwrap(), from).await.unwrap();
    assert_eq!(addresses(&client.await.unwrap()), ["198.51.100.1"]);
}

#[tokio::test]
async fn an_answer_to_another_question_over_tcp_is_none() {
    let fake = Fake::start(|query| {
        let mut reply = forged(query);
        reply.metadata.truncation = !query.over_tcp;
        if query.over_tcp {
            reply.queries = vec![Query::query(name("other.example."), RecordType::A)];
        }
        vec![reply]
    })
    .await;
    assert_eq!(code(&fake.server().await).await, ResponseCode::ServFail);
}

#[tokio::test]
async fn an_echo_is_no_answer() {
    let fake = Fake::start(|query| vec![query.message.clone()]).await;
    assert_eq!(code(&fake.server().await).await, ResponseCode::ServFail);
}

#[tokio::test]
async fn an_answer_that_is_cut_short_even_over_tcp_is_none() {
    let fake = Fake::start(|query| {
        let mut reply = right(query);
        reply.metadata.truncation = true;
        vec![reply]
    })
    .await;
    assert_eq!(code(&fake.server().await).await, ResponseCode::ServFail);
    assert!(fake.asked().iter().any(|asked| asked.over_tcp));
}

#[tokio::test]
async fn a_silent_upstream_is_tried_again_and_then_a_failure() {
    let fake = Fake::start(|_| Vec::new()).await;
    let server = fake.server_with(|forward| forward.timeout = IMPATIENT).await;
    assert_eq!(code(&server).await, ResponseCode::ServFail);
    assert!(fake.asked().len() >= 2);
    let known = known(&server, &fake);
    assert_eq!((known.queries, known.failures, known.consecutive_failures), (2, 2, 2));
    assert!(!known.answers && known.last_failure.is_some() && known.last_success.is_none());
}

#[tokio::test]
async fn an_upstream_that_refuses_or_fails_is_a_failure() {
    for refusal in
        [ResponseCode::Refused, ResponseCode::ServFail, ResponseCode::NotImp, ResponseCode::FormErr]
    {
        let fake = Fake::with_code(refusal).await;
        let server = fake.server().await;
        assert_eq!(code(&server).await, ResponseCode::ServFail, "{refusal}");
        let known = known(&server, &fake);
        assert!(known.answers && known.failures == known.queries, "{refusal}: {known:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_only_knows_whom_to_ask_is_a_failure() {
    let fake = Fake::start(|query| {
        let mut reply = query.code(ResponseCode::NoError);
        reply.add_authority(Record::from_rdata(name("example."), 60, RData::NS(NS(name("ns.example.")))));
        vec![reply]
    })
    .await;
    assert_eq!(code(&fake.server().await).await, ResponseCode::ServFail);
}

#[tokio::test]
async fn another_upstream_answers_where_one_is_silent_refuses_or_fails() {
    let good = Fake::with_address(60, "198.51.100.1").await;
    for bad in [
        Fake::start(|_| Vec::new()).await,
        Fake::with_code(ResponseCode::Refused).await,
        Fake::with_code(ResponseCode::ServFail).await,
    ] {
        let server = asking(&[&bad, &good]).await;
        assert_eq!(addresses(&ask(server.address, NAME, RecordType::A).await), ["198.51.100.1"]);
        assert!(!bad.asked().is_empty());
    }
}

#[tokio::test]
async fn another_upstream_answers_where_nobody_listens() {
    let free = UdpSocket::bind(LOOPBACK).await.unwrap().local_addr().unwrap();
    let good = Fake::with_address(60, "198.51.100.1").await;
    let mut settings = forwarding_to(&[free, good.address]);
    // As in `asking`.
    settings.forward.timeout = 2 * SECOND;
    let server = Server::start(domain("alice", &[]), settings).await;
    assert_eq!(addresses(&ask(server.address, NAME, RecordType::A).await), ["198.51.100.1"]);
}

#[tokio::test]
async fn the_first_upstream_is_asked_alone_while_it_answers() {
    let first = Fake::with_address(0, "198.51.100.1").await;
    let second = Fake::with_address(0, "198.51.100.2").await;
    let server = asking(&[&first, &second]).await;
    for _ in 0..5 {
        ask(server.address, NAME, RecordType::A).await;
    }
    assert_eq!((first.asked().len(), second.asked().len()), (5, 0));
    let known = known(&server, &first);
    assert_eq!((known.queries, known.failures, known.buckets.iter().sum::<u64>()), (5, 0, 5));
    assert!(known.answers && known.last_success.is_some() && !known.latency.is_zero());
}

#[tokio::test]
async fn an_upstream_that_failed_is_asked_last_until_it_is_time_to_look_after_it() {
    let first = Fake::with_address(0, "198.51.100.1").await;
    let second = Fake::with_address(0, "198.51.100.2").await;
    let server = asking(&[&first, &second]).await;
    first.hold();
    for _ in 0..5 {
        assert_eq!(addresses(&ask(server.address, NAME, RecordType::A).await), ["198.51.100.2"]);
    }
    assert_eq!(first.asked().len(), 1);
    assert!(!known(&server, &first).answers);
    first.release();
    later(31 * SECOND).await;
    for _ in 0..2 {
        assert_eq!(addresses(&ask(server.address, NAME, RecordType::A).await), ["198.51.100.1"]);
    }
}

#[tokio::test]
async fn without_upstreams_names_of_others_fail() {
    let server = Server::start(domain("alice", &[]), alone()).await;
    assert_eq!(code(&server).await, ResponseCode::ServFail);
}

#[tokio::test]
async fn a_server_never_asks_itself() {
    let bound = bind(LOOPBACK, NonZeroUsize::MIN).unwrap();
    let settings = forwarding_to(&[bound.local_addr()]);
    let server = Server::serve(bound, domain("alice", &[]), settings);
    assert_eq!(code(&server).await, ResponseCode::ServFail);
    assert_eq!(server.answered(), 1);
}

#[tokio::test]
async fn servers_that_ask_each_other_give_up() {
    let bounds = [(); 3].map(|()| bind(LOOPBACK, NonZeroUsize::MIN).unwrap());
    let next = [1, 2, 0].map(|number| bounds[number].local_addr());
    let mut servers = Vec::new();
    for (bound, next) in bounds.into_iter().zip(next) {
        let mut settings = forwarding_to(&[next]);
        settings.forward.timeout = IMPATIENT;
        servers.push(Server::serve(bound, domain("alice", &[]), settings));
    }
    assert_eq!(code(&servers[0]).await, ResponseCode::ServFail);
    // Each asks the next one, twice.
    let queries: u64 = servers.iter().map(|server| server.metrics.upstreams()[0].queries).sum();
    assert!(queries <= 6, "{queries} queries went round");
    let answered = servers[0].answered();
    assert!(answered <= 3, "{answered} queries came to the first server");
}

#[tokio::test]
async fn the_servers_of_the_systems_resolv_conf_are_the_upstreams_and_the_file_is_only_read() {
    const PATH: &str = "/etc/resolv.conf";
    let state = || (fs::read(PATH).ok(), fs::metadata(PATH).and_then(|file| file.modified()).ok());
    let before = state();
    let mut settings = alone();
    settings.forward.upstreams = Upstreams::System;
    let server = Server::start(domain("alice", &[("web", &["192.0.2.1"])]), settings).await;
    assert_eq!(addresses(&ask(server.address, "web.", RecordType::A).await), ["192.0.2.1"]);
    assert_eq!(state(), before);

    let content = String::from_utf8(before.0.unwrap_or_default()).unwrap();
    let named = content.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok());
    let named: BTreeSet<SocketAddr> = named.map(|ip: IpAddr| SocketAddr::new(ip, 53)).collect();
    let known: BTreeSet<_> = server.metrics.upstreams().iter().map(|upstream| upstream.address).collect();
    assert_eq!(known, named);
}
