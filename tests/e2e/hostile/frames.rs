//! HTTP/2 frame by frame (RFC 9113), with heads that no library would encode.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::ECHO;
use super::wire::connect;
use crate::world::DEADLINE;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const WHOLE: u8 = END_STREAM | END_HEADERS;

/// Setting of the window that streams begin with.
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The head of a frame: 24 bits of length, kind, flags and stream.
const FRAME_HEAD_BYTES: usize = 9;

/// What became of stream 1.
#[derive(Debug)]
pub(super) enum Fate {
    /// It was answered with this body.
    Answered(String),
    /// The server reset it, or closed the whole connection.
    Cut,
}

/// The fields of a head, in order.
pub(super) type Fields = Vec<(String, String)>;

/// The head of a request of alice's gateway for `echo` of bob.
pub(super) fn of_alice(token: Option<&str>) -> Fields {
    let all = [
        (":method", Some("GET")),
        (":scheme", Some("http")),
        (":path", Some("/")),
        (":authority", Some(ECHO)),
        ("kuscia-host", Some(ECHO)),
        ("kuscia-source", Some("alice")),
        ("kuscia-token", token),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect()
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(super) fn setting(name: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

/// A block of fields as HPACK's literals without indexing and without Huffman's code (RFC 7541, 6.2.2).
pub(super) fn block(fields: &[(String, String)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            push_length(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of 7 bits (RFC 7541, 5.1).
fn push_length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        block.push(u8::try_from(length).unwrap());
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128 + 128).unwrap());
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// Opens a connection, sends these frames, and waits for the end of stream 1.
pub(super) async fn ask(server: SocketAddr, frames: &[u8]) -> Fate {
    let mut stream = connect(server).await;
    let begin = [PREFACE, &frame(SETTINGS, 0, 0, &[]), frames].concat();
    // Who refuses early need not read all.
    let _ = stream.write_all(&begin).await;
    timeout(DEADLINE, fate(&mut stream)).await.expect("stream 1 ends")
}

async fn fate(stream: &mut (impl AsyncRead + Unpin)) -> Fate {
    let mut body = Vec::new();
    let mut head = [0; FRAME_HEAD_BYTES];
    while stream.read_exact(&mut head).await.is_ok() {
        let [length @ .., kind, flags, _, _, _, number] = head;
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        if stream.read_exact(&mut payload).await.is_err() || kind == RST_STREAM || kind == GOAWAY {
            break;
        }
        if kind == DATA {
            body.extend(payload);
        }
        if number == 1 && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            return Fate::Answered(String::from_utf8_lossy(&body).into_owned());
        }
    }
    Fate::Cut
}
