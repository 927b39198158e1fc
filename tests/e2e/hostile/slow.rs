//! Clients that take their time.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::frames::{
    HEADERS, INITIAL_WINDOW_SIZE, PREFACE, WHOLE, WINDOW_UPDATE, block, frame, of_alice, setting,
};
use super::wire::{Answer, Draft, answers, ask_all, connect};
use super::{HANDSHAKE, assert_from_alice, only_echo};
use crate::figures::figure;
use crate::stream::Traffic;
use crate::world::{DEADLINE, Source, World, eventually, token};

const PAUSE: Duration = Duration::from_millis(50);

/// Connections on which nothing comes.
const IDLE: usize = 500;

/// Connections that let answers wait, and the requests on each: as many as a gateway takes at once.
const STALLED: usize = 20;
const STREAMS: u32 = 100;

/// What Envoy may need for one request that waits.
const MAX_BYTES_OF_A_STREAM: u64 = 64 << 10;

#[tokio::test]
async fn clients_that_dawdle_are_cut_off_or_wait_alone() {
    let world = World::two_domains(Source::Directory).await;
    let right = token(&world.alice, "bob").await;
    let server = world.bob.addresses.external;
    let traffic = Traffic::start(&world.alice, "echo.bob.svc").await;

    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(connect(server).await);
    }
    let allocated = figure(&world.bob, "server.memory_allocated").await;
    let stalled = join_all((0..STALLED).map(|_| stall(server))).await;
    eventually("the requests wait", async || {
        let active = figure(&world.bob, "http.external_http.downstream_rq_active").await;
        let all = STALLED as u64 * u64::from(STREAMS);
        if active >= all { Ok(()) } else { Err(format!("{active} of {all}")) }
    })
    .await;

    // All but the empty line at the end.
    let head = Draft::of_alice(None).text();
    let head = head.strip_suffix("\r\n").unwrap();
    let handshake = |headers| {
        Draft::of_alice(None).path("/handshake").set("Kuscia-Host", HANDSHAKE).post(headers, "").text()
    };
    let slow = [
        ("a header byte by byte", 408, format!("{head}x: "), "x"),
        ("headers without end", 408, head.to_owned(), "x: x\r\n"),
        ("a body for a service", 401, Draft::of_alice(None).post("Content-Length: 1000", "").text(), "x"),
        ("a body for the handshake", 408, handshake("Content-Length: 1000"), "x"),
        ("chunks for the handshake", 408, handshake("Transfer-Encoding: chunked"), "1\r\nx\r\n"),
    ];
    let dawdled = slow.iter().map(|(_, _, begin, more)| dawdle(server, begin, more));
    let meanwhile = async {
        traffic.more(10).await;
        let both = vec![Draft::of_alice(None), Draft::of_alice(Some(&right))];
        let [stranger, alice] = &ask_all(server, both).await[..] else { panic!("two were asked") };
        assert!(matches!(stranger[..], [Answer { status: 401, .. }]), "{stranger:?}");
        assert_from_alice("a new connection meanwhile", &only_echo("a new connection meanwhile", alice));
    };
    let (seen, ()) = tokio::join!(join_all(dawdled), meanwhile);
    for ((case, status, ..), seen) in slow.iter().zip(seen) {
        let statuses: Vec<u16> = answers(&seen).iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [*status], "{case}: {seen}");
    }

    traffic.more(10).await;
    assert_eq!(traffic.failures().await, Vec::<String>::new());
    let grown = figure(&world.bob, "server.memory_allocated").await.saturating_sub(allocated);
    let most = STALLED as u64 * u64::from(STREAMS) * MAX_BYTES_OF_A_STREAM;
    assert!(grown < most, "{grown} of {most} bytes");
    drop((idle, stalled));
}

/// Begins a request and goes on in small parts, until the server closes the connection. Answers what came back.
async fn dawdle(server: SocketAddr, begin: &str, more: &str) -> String {
    let (mut from, mut to) = connect(server).await.into_split();
    let write = async move {
        let mut next = begin;
        while to.write_all(next.as_bytes()).await.is_ok() {
            next = more;
            sleep(PAUSE).await;
        }
    };
    let mut seen = Vec::new();
    // A reset is an end, too.
    let both = async { tokio::join!(write, from.read_to_end(&mut seen)).1 };
    let _ =
        timeout(DEADLINE, both).await.unwrap_or_else(|_| panic!("the connection lives on behind {begin}"));
    String::from_utf8_lossy(&seen).into_owned()
}

/// Asks as a stranger on as many streams as there may be, and lets the answers wait: the window of all is closed. That
/// of the first opens byte by byte.
async fn stall(server: SocketAddr) -> TcpStream {
    let mut stream = connect(server).await;
    let head = block(&of_alice(None));
    let requests = (0..STREAMS).flat_map(|number| frame(HEADERS, WHOLE, 2 * number + 1, &head));
    let begin = [PREFACE, &setting(INITIAL_WINDOW_SIZE, 0)].concat();
    let bytes: Vec<u8> = begin.into_iter().chain(requests).collect();
    stream.write_all(&bytes).await.unwrap();
    for _ in 0..10 {
        stream.write_all(&frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())).await.unwrap();
    }
    stream
}
