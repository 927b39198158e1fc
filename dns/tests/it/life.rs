//! Binding, draining, ending.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use networkmesh_dns::{BindError, Recursion, Settings, bind};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::support::{
    LOOPBACK, Server, addresses, alone, ask, domain, exchange_tcp, forwarding_to, patiently, query, reply_to,
    upstream,
};

const ONE: NonZeroUsize = NonZeroUsize::MIN;

#[tokio::test]
async fn a_port_taken_for_either_transport_is_an_error_that_names_it() {
    let udp = UdpSocket::bind(LOOPBACK).await.unwrap();
    let error = bind(udp.local_addr().unwrap(), ONE).unwrap_err();
    assert_eq!(refusal(&error), ("UDP", ErrorKind::AddrInUse));
    assert!(error.to_string().contains(&udp.local_addr().unwrap().to_string()), "{error}");

    let tcp = TcpListener::bind(LOOPBACK).await.unwrap();
    let error = bind(tcp.local_addr().unwrap(), ONE).unwrap_err();
    assert_eq!(refusal(&error), ("TCP", ErrorKind::AddrInUse));
}

#[tokio::test]
async fn several_workers_answer_on_one_port() {
    let bound = bind(LOOPBACK, NonZeroUsize::new(3).unwrap()).unwrap();
    assert_eq!(bound.workers(), 3);
    let server = Server::serve(bound, domain("alice", &[("web", &["192.0.2.1"])]), alone());
    // The port of a client decides on its worker.
    for _ in 0..50 {
        assert_eq!(addresses(&ask(server.address, "web.", RecordType::A).await), ["192.0.2.1"]);
    }
    assert_eq!(server.count("NOERROR"), 50);
    server.shutdown.cancel();
    patiently(server.task).await.unwrap().unwrap();
    bind(server.address, ONE).expect("the port is free again");
}

#[tokio::test]
async fn a_server_on_all_addresses_answers_over_both_families() {
    let bound = bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), ONE).unwrap();
    let server = Server::serve(bound, domain("alice", &[("web", &["192.0.2.1"])]), alone());
    let question = query("web.", RecordType::A);
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let address = SocketAddr::new(ip, server.address.port());
        let client = UdpSocket::bind((ip, 0)).await.unwrap();
        client.send_to(&question.to_vec().unwrap(), address).await.unwrap();
        let mut buffer = [0; 512];
        let (length, _) = patiently(client.recv_from(&mut buffer)).await.unwrap();
        let over_udp = Message::from_vec(&buffer[..length]).unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        for reply in [over_udp, exchange_tcp(&mut stream, &question).await] {
            assert_eq!(addresses(&reply), ["192.0.2.1"]);
            assert!(reply.metadata.recursion_available, "the address of IPv4 is known for what it is");
        }
    }
}

#[tokio::test]
async fn clients_in_networks_of_this_host_may_ask_for_names_of_others_where_that_is_set() {
    let here = own_address();
    for (recursion, may_ask) in [(Recursion::default(), false), (Recursion::with_host_networks(), true)] {
        let bound = bind(SocketAddr::new(here, 0), ONE).unwrap();
        let settings = Settings { recursion, ..alone() };
        let server = Server::serve(bound, domain("alice", &[]), settings);
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let reply = exchange_tcp(&mut stream, &query("www.example.", RecordType::A)).await;
        assert_eq!(reply.metadata.recursion_available, may_ask, "{here}");
        assert_eq!(reply.metadata.response_code == ResponseCode::Refused, !may_ask, "{here}");
    }
}

/// An address of this host beside those of loopback. To find it, nothing is sent.
fn own_address() -> IpAddr {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 53)).expect("this host is in a network");
    socket.local_addr().unwrap().ip()
}

#[tokio::test]
async fn on_all_addresses_answers_come_from_the_one_that_was_asked() {
    let (other, _task) = upstream(|query| Some(reply_to(&query, ResponseCode::NXDomain))).await;
    for all in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        let bound = bind(SocketAddr::new(all, 0), ONE).unwrap();
        let names = domain("alice", &[("web", &["192.0.2.1"])]);
        let server = Server::serve(bound, names, forwarding_to(&[other]));
        for last in 1..=3 {
            let address = SocketAddr::from(([127, 0, 0, last], server.address.port()));
            // The client takes nothing from another address.
            assert_eq!(addresses(&ask(address, "web.", RecordType::A).await), ["192.0.2.1"]);
            let odd = ask(address, "web.", RecordType::TXT).await;
            assert_eq!(odd.metadata.response_code, ResponseCode::NoError);
            let forwarded = ask(address, "other.example.", RecordType::A).await;
            assert_eq!(forwarded.metadata.response_code, ResponseCode::NXDomain);
        }
    }
}

#[tokio::test]
async fn a_query_at_hand_is_answered_before_the_server_ends() {
    let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = UdpSocket::bind(LOOPBACK).await.unwrap();
    let slow_address = slow.local_addr().unwrap();
    let (signal, wait) = (Arc::clone(&asked), Arc::clone(&go_on));
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        let (length, client) = slow.recv_from(&mut buffer).await.unwrap();
        signal.notify_one();
        wait.notified().await;
        let query = Message::from_vec(&buffer[..length]).unwrap();
        let reply = reply_to(&query, ResponseCode::NXDomain).to_vec().unwrap();
        slow.send_to(&reply, client).await.unwrap();
    });
    let mut settings = forwarding_to(&[slow_address]);
    settings.forward.timeout = Duration::from_secs(10);
    let mut server = Server::start(domain("alice", &[]), settings).await;

    let client = tokio::spawn(async move { ask(server.address, "example.com.", RecordType::A).await });
    patiently(asked.notified()).await;
    server.shutdown.cancel();
    let ended = timeout(Duration::from_millis(100), &mut server.task).await;
    assert!(ended.is_err(), "the server does not wait for the query");
    go_on.notify_one();

    let reply = client.await.unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    patiently(server.task).await.unwrap().unwrap();
    bind(server.address, ONE).expect("the port is free again");
}

#[tokio::test]
async fn a_query_that_takes_too_long_does_not_hold_the_server_up() {
    let asked = Arc::new(Notify::new());
    let signal = Arc::clone(&asked);
    let (silent, _task) = upstream(move |_| {
        signal.notify_one();
        None
    })
    .await;
    let mut settings = Settings { drain: Duration::from_millis(10), ..forwarding_to(&[silent]) };
    settings.forward.timeout = Duration::from_secs(600);
    let server = Server::start(domain("alice", &[]), settings).await;
    let client = UdpSocket::bind(LOOPBACK).await.unwrap();
    client.send_to(&query("example.com.", RecordType::A).to_vec().unwrap(), server.address).await.unwrap();
    patiently(asked.notified()).await;
    server.shutdown.cancel();
    patiently(server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_idle_tcp_connection_is_closed() {
    let settings = Settings { tcp_idle: Duration::from_millis(50), ..alone() };
    let server = Server::start(domain("alice", &[]), settings).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(patiently(stream.read(&mut [0; 16])).await.unwrap(), 0);
}

fn refusal(error: &BindError) -> (&'static str, ErrorKind) {
    match error {
        BindError::Socket { transport, source, .. } => (transport, source.kind()),
        other => panic!("{other}"),
    }
}
