//! What else passes the gateways beside plain HTTP and gRPC.

use std::net::SocketAddr;

use ::http::{Method, Request, StatusCode};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use networkmesh::harness::domain::{Domain, service_manifest};
use networkmesh::harness::echo::Echoed;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, client_async};

use super::partner::headers;
use super::world::{DEADLINE, Source, World, answers, apply_route, eventually, set_source, token};

scenes!(
    websockets_pass_both_gateways,
    plain_tcp_passes_both_gateways_by_connect,
    connect_opens_nothing_that_a_request_does_not,
    clients_of_http_1_0_are_answered,
);

/// A server that answers each connection with `serve`, until the returned set is dropped.
async fn listen<F>(
    domain: &Domain,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> (SocketAddr, JoinSet<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((domain.home.service_ip().unwrap(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream));
        }
    });
    (address, tasks)
}

/// Sends back what it gets.
async fn repeat(stream: TcpStream) {
    let (mut reader, mut writer) = stream.into_split();
    let _ = tokio::io::copy(&mut reader, &mut writer).await;
}

/// The same, message by message.
async fn repeat_messages(stream: TcpStream) {
    let Ok(mut socket) = accept_async(stream).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        if message.is_close() || socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn websockets_pass_both_gateways(on: Source) {
    let world = World::two_domains(on).await;
    let (address, _server) = listen(&world.bob, repeat_messages).await;
    world.bob.apply("chat.json", &service_manifest("chat", &[address])).await.unwrap();
    let mut socket = eventually("the service is there", async || {
        let stream = TcpStream::connect(world.alice.addresses.internal).await.unwrap();
        let connected = client_async("ws://chat.bob.svc/room?name=alice", stream).await;
        connected.map(|(socket, _)| socket).map_err(|error| error.to_string())
    })
    .await;
    for message in [Message::text("hello"), Message::binary(vec![7; 1 << 20]), Message::text("good bye")] {
        socket.send(message.clone()).await.unwrap();
        let answer = timeout(DEADLINE, socket.next()).await.unwrap().unwrap().unwrap();
        assert!(answer == message, "{answer:?}");
    }
    socket.close(None).await.unwrap();
}

/// Asks the gateway for a connection to `host` in plain HTTP/1.1. Answers the first line, and the connection.
async fn connect(gateway: SocketAddr, host: &str, more: &[(&str, &str)]) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    let more: String = more.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    stream
        .write_all(format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n").as_bytes())
        .await
        .unwrap();
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
    };
    timeout(DEADLINE, read).await.unwrap();
    let head = String::from_utf8(head).unwrap();
    (head.lines().next().unwrap_or_default().to_owned(), stream)
}

async fn plain_tcp_passes_both_gateways_by_connect(on: Source) {
    let world = World::two_domains(on).await;
    let (address, _server) = listen(&world.bob, repeat).await;
    world.bob.apply("database.json", &service_manifest("database", &[address])).await.unwrap();
    let gateway = world.alice.addresses.internal;
    let mut stream = eventually("the service is there", async || {
        let (status, stream) = connect(gateway, "database.bob.svc:5432", &[]).await;
        if status.contains(" 200 ") { Ok(stream) } else { Err(status) }
    })
    .await;
    for bytes in [&b"\x00\x00\x00\x08\x04\xd2\x16\x2f"[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 100_000]] {
        let (mut reader, mut writer) = stream.split();
        let mut answer = vec![0; bytes.len()];
        let exchange = async { tokio::join!(writer.write_all(bytes), reader.read_exact(&mut answer)) };
        let (written, read) = timeout(DEADLINE, exchange).await.unwrap();
        written.unwrap();
        read.unwrap();
        assert!(answer == bytes);
    }

    // By HTTP/2 too.
    let stream = TokioIo::new(TcpStream::connect(gateway).await.unwrap());
    let (mut sender, connection) =
        http2::handshake::<_, _, http_body_util::Empty<Bytes>>(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(Method::CONNECT).uri("database.bob.svc:5432");
    let answer = sender.send_request(request.body(http_body_util::Empty::new()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
    let mut tunnel = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    tunnel.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    timeout(DEADLINE, tunnel.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(&heard, b"hello");
}

async fn connect_opens_nothing_that_a_request_does_not(on: Source) {
    let world = World::two_domains(on).await;
    let mut route = world.alice.route_to(&world.bob);
    set_source(&mut route, "carol", &super::partner::Partner::new("carol").public_key());
    apply_route(&world.bob, &route).await;
    let (address, _server) = listen(&world.bob, repeat).await;
    let limits = [
        ("everybodys", json!({"kuscia.secretflow/port-scope": "Cluster"}), json!({})),
        ("own", json!({"kuscia.secretflow/port-scope": "Domain"}), json!({})),
        ("local", json!({"kuscia.secretflow/port-scope": "Local"}), json!({})),
        ("carols", json!({}), json!({"kuscia.secretflow/access-domain": "carol"})),
        ("alices", json!({}), json!({"kuscia.secretflow/access-domain": "alice"})),
    ];
    for (name, labels, annotations) in &limits {
        let mut manifest = service_manifest(name, &[address]);
        manifest["items"][0]["metadata"]["labels"] = labels.clone();
        manifest["items"][0]["metadata"]["annotations"] = annotations.clone();
        world.bob.apply(&format!("{name}.json"), &manifest).await.unwrap();
    }
    let gateway = world.alice.addresses.internal;
    for open in ["everybodys.bob.svc:1", "alices.bob.svc:1"] {
        eventually(open, async || {
            let (status, _) = connect(gateway, open, &[]).await;
            if status.contains(" 200 ") { Ok(()) } else { Err(status) }
        })
        .await;
    }
    for closed in ["own", "local", "carols", "missing", "kuscia-handshake"] {
        let (status, _) = connect(gateway, &format!("{closed}.bob.svc:1"), &[]).await;
        assert!(status.contains(" 40"), "{closed}: {status}");
    }
    let (mine, external) = (token(&world.alice, "bob").await, world.bob.addresses.external);
    let knock = async |source: &str, host: &str, token: Option<&str>| {
        let sent = headers(source, host, token);
        let sent: Vec<(&str, &str)> = sent
            .iter()
            .filter(|(name, _)| *name != "host")
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        connect(external, &format!("{host}:1"), &sent).await.0
    };
    assert!(knock("alice", "everybodys.bob.svc", Some(&mine)).await.contains(" 200 "));
    for (what, source, host, token) in [
        ("no token", "alice", "everybodys.bob.svc", None),
        ("another source", "carol", "everybodys.bob.svc", Some(mine.as_str())),
        ("an unknown source", "mallory", "everybodys.bob.svc", Some(&mine)),
        ("this domain itself", "bob", "own.bob.svc", Some(&mine)),
        ("a service of bob's own", "alice", "own.bob.svc", Some(&mine)),
        ("a service for carol", "alice", "carols.bob.svc", Some(&mine)),
        ("the handshake", "alice", "kuscia-handshake.bob.svc", Some(&mine)),
        ("the handshake without token", "alice", "kuscia-handshake.bob.svc", None),
    ] {
        let status = knock(source, host, token).await;
        assert!(status.contains(" 40") || status.is_empty(), "{what}: {status}");
    }
}

async fn clients_of_http_1_0_are_answered(on: Source) {
    let world = World::two_domains(on).await;
    answers(&world.alice, "echo.bob.svc", 200).await;
    let mut stream = TcpStream::connect(world.alice.addresses.internal).await.unwrap();
    stream.write_all(b"GET /old HTTP/1.0\r\nHost: echo.bob.svc\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    // The connection is closed without being asked for.
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 ") || head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    let seen: Echoed = serde_json::from_str(body).unwrap();
    assert_eq!((seen.service.as_str(), seen.path.as_str()), ("echo.bob", "/old"));
}

const GIGABYTE: u64 = 1 << 30;
const CHUNK: usize = 256 << 10;

/// Both gateways may hold some buffers of the connections, but no part of a body that is worth speaking of.
const MAX_GROWTH_MEGABYTES: u64 = 100;

#[tokio::test]
async fn a_gigabyte_passes_in_each_direction_and_is_nowhere_held() {
    let world = World::two_domains(Source::Directory).await;
    answers(&world.alice, "echo.bob.svc", 200).await;
    let envoys = [&world.alice, &world.bob].map(|domain| domain.envoy.as_ref().unwrap().pid().unwrap());
    let before = envoys.map(resident_megabytes);

    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    let chunks = GIGABYTE / CHUNK as u64;
    let frames = stream::iter(0..chunks).map(move |_| Ok::<_, std::io::Error>(Frame::data(chunk.clone())));
    let stream = TokioIo::new(TcpStream::connect(world.alice.addresses.internal).await.unwrap());
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("/").header("host", "echo.bob.svc").body(StreamBody::new(frames)).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
    let seen: Echoed =
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(seen.body_bytes, GIGABYTE);

    let stream = TokioIo::new(TcpStream::connect(world.alice.addresses.internal).await.unwrap());
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("/bytes/{GIGABYTE}")).header("host", "echo.bob.svc");
    let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
    let (mut body, mut received) = (answer.into_body(), 0);
    while let Some(frame) = body.frame().await {
        received += frame.unwrap().into_data().unwrap().len() as u64;
    }
    assert_eq!(received, GIGABYTE);
    for (pid, before) in envoys.into_iter().zip(before) {
        let grown = resident_megabytes(pid).saturating_sub(before);
        assert!(grown < MAX_GROWTH_MEGABYTES, "an Envoy has grown by {grown} MB");
    }
}

/// The most memory that was ever resident (`VmHWM` of proc(5)).
fn resident_megabytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() / 1024
}
