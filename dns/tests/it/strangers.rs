//! What clients that may not ask for names of others can use up.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::RecordType;
use networkmesh_dns::{How, Limited, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::options::{learn_cookie, with_cookie};
use crate::support::{
    LOOPBACK, Server, addresses, alone, ask, domain, exchange_tcp, exchange_udp, patiently, query, with_edns,
};

/// A client that may ask for names of others; all of `LOOPBACK` may not.
const KNOWN: &str = "127.0.0.2:0";

async fn alice(responses_per_second: u32) -> Server {
    let settings = Settings {
        recursion: vec!["127.0.0.2/32".parse().unwrap()].into(),
        responses_per_second: NonZeroU32::new(responses_per_second),
        // Connections stay while many more are made.
        tcp_idle: Duration::from_secs(600),
        ..alone()
    };
    Server::start(domain("alice", &[("web", &["192.0.2.1"])]), settings).await
}

/// Asks until responses are truncated and dropped, and gives a truncated one.
async fn ask_too_often(server: &Server, question: &Message) -> Message {
    let client = UdpSocket::bind(LOOPBACK).await.unwrap();
    client.connect(server.address).await.unwrap();
    let question = question.to_vec().unwrap();
    let mut buffer = [0; 512];
    patiently(async {
        loop {
            // The second of two refused responses is a truncated one.
            client.send(&question).await.unwrap();
            client.send(&question).await.unwrap();
            let length = client.recv(&mut buffer).await.unwrap();
            let reply = Message::from_vec(&buffer[..length]).unwrap();
            if reply.metadata.truncation {
                return reply;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_network_that_asks_too_often_is_sent_to_tcp() {
    let server = alice(1).await;
    // One that is answered fast, and one that the handler answers.
    for record_type in [RecordType::A, RecordType::MX] {
        let question = with_edns(query("web.alice.svc.", record_type), 1232);
        let reply = ask_too_often(&server, &question).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert_eq!(reply.queries, question.queries);
        assert!(reply.answers.is_empty() && reply.authorities.is_empty() && reply.edns.is_some());
    }
    let Limited { truncated, dropped } = server.metrics.limited();
    assert!(truncated >= 2 && dropped >= 2, "{truncated} {dropped}");

    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..10 {
        let reply = exchange_tcp(&mut stream, &query("web.alice.svc.", RecordType::A)).await;
        assert_eq!(addresses(&reply), ["192.0.2.1"]);
    }
}

#[tokio::test]
async fn clients_that_may_recurse_are_not_limited() {
    let server = alice(1).await;
    let client = UdpSocket::bind(KNOWN).await.unwrap();
    client.connect(server.address).await.unwrap();
    let question = query("web.alice.svc.", RecordType::A).to_vec().unwrap();
    for _ in 0..20 {
        client.send(&question).await.unwrap();
        let mut buffer = [0; 512];
        let length = patiently(client.recv(&mut buffer)).await.unwrap();
        assert!(!Message::from_vec(&buffer[..length]).unwrap().metadata.truncation);
    }
    assert_eq!(server.metrics.limited(), Limited::default());
}

#[tokio::test]
async fn clients_with_a_cookie_of_the_server_are_not_limited() {
    let server = alice(1).await;
    let cookie = learn_cookie(&server).await;
    let question = with_cookie(query("web.alice.svc.", RecordType::A), &cookie);
    for _ in 0..20 {
        let reply = exchange_udp(server.address, &question).await;
        assert_eq!(addresses(&reply), ["192.0.2.1"]);
    }
    assert_eq!(server.metrics.limited(), Limited::default());
}

#[tokio::test]
async fn a_network_of_strangers_cannot_take_all_connections() {
    let server = alice(0).await;
    let mut connections = Vec::new();
    let closed = loop {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if !is_served(&mut stream).await {
            break connections.len();
        }
        connections.push(stream);
    };
    assert_eq!(closed, 128);

    for other in [KNOWN, "127.0.1.1:0"] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(other.parse().unwrap()).unwrap();
        let mut stream = socket.connect(server.address).await.unwrap();
        assert!(is_served(&mut stream).await, "{other}");
        connections.push(stream);
    }

    drop(connections.swap_remove(0));
    patiently(async { while !is_served(&mut TcpStream::connect(server.address).await.unwrap()).await {} })
        .await;
}

/// Whether the server answers over this connection, and does not close it.
async fn is_served(stream: &mut TcpStream) -> bool {
    let question = query("web.", RecordType::A).to_vec().unwrap();
    let question = [&[0, u8::try_from(question.len()).unwrap()], &question[..]].concat();
    let mut buffer = [0; 512];
    stream.write_all(&question).await.is_ok()
        && patiently(stream.read(&mut buffer)).await.is_ok_and(|length| length > 0)
}

#[tokio::test]
async fn a_query_longer_than_any_ends_the_connection() {
    let server = alice(0).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_u16(4097).await.unwrap();
    assert_eq!(patiently(stream.read(&mut [0; 16])).await.unwrap(), 0);
}

#[tokio::test]
async fn the_log_tells_names_of_special_use_and_queries_that_are_none_from_others() {
    let server = Server::start(domain("alice", &[]), alone()).await;
    let mut entries = server.queries.subscribe();
    ask(server.address, "localhost.", RecordType::A).await;
    let mut notify = query("web.", RecordType::A);
    notify.metadata.op_code = OpCode::Notify;
    exchange_udp(server.address, &notify).await;
    for told in [(How::Table, Some("NOERROR")), (How::Failed, Some("NOTIMP"))] {
        let entry = patiently(entries.recv()).await.unwrap();
        assert_eq!((entry.how, entry.rcode.as_deref()), told);
    }
}

#[tokio::test]
async fn whoever_subscribes_sees_queries_as_they_come() {
    let server = alice(1).await;
    let mut entries = server.queries.subscribe();
    let client: SocketAddr = LOOPBACK;
    ask(server.address, "WEB.alice.svc.", RecordType::A).await;
    ask_too_often(&server, &query("web.", RecordType::MX)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    exchange_tcp(&mut stream, &query("example.com.", RecordType::AAAA)).await;

    let first = patiently(entries.recv()).await.unwrap();
    assert_eq!(
        (first.client, first.name.as_str(), first.record_type.as_str()),
        (client.ip(), "WEB.alice.svc.", "A")
    );
    assert_eq!((first.rcode.as_deref(), first.how), (Some("NOERROR"), How::Table));
    let mut seen = Vec::new();
    let last = loop {
        let entry = patiently(entries.recv()).await.unwrap();
        if entry.name == "example.com." {
            break entry;
        }
        seen.push((entry.how, entry.rcode.clone()));
    };
    assert!(
        seen.contains(&(How::Limited, None)) && seen.contains(&(How::Limited, Some("NOERROR".into()))),
        "{seen:?}"
    );
    assert_eq!((last.rcode.as_deref(), last.how), (Some("REFUSED"), How::Refused));
    assert_eq!(serde_json::to_value(&*last).unwrap()["transport"], "tcp");
}
