//! HTTP/1.1 as it is written, right or wrong.

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::ECHO;
use crate::world::DEADLINE;

/// A request as a gateway writes it, of which a test changes something. Characters are bytes, as in ISO 8859-1.
#[derive(Clone)]
pub(super) struct Draft {
    line: String,
    headers: Vec<String>,
    body: String,
}

impl Draft {
    /// A request of alice's gateway for `echo` of bob. It asks for the connection to be closed.
    pub(super) fn of_alice(token: Option<&str>) -> Self {
        let draft = Self { line: "GET / HTTP/1.1".to_owned(), headers: Vec::new(), body: String::new() };
        let draft = draft.with(&format!("Host: {ECHO}")).with(&format!("Kuscia-Host: {ECHO}"));
        let draft = draft.with("Kuscia-Source: alice");
        let draft = match token {
            Some(token) => draft.with(&format!("Kuscia-Token: {token}")),
            None => draft,
        };
        draft.with("Connection: close")
    }

    /// A request of an application for `host`.
    pub(super) fn of_application(host: &str) -> Self {
        Self::of_alice(None).without("Kuscia-Host").without("Kuscia-Source").set("Host", host)
    }

    pub(super) fn line(mut self, line: &str) -> Self {
        self.line = line.to_owned();
        self
    }

    /// Asks for another path.
    pub(super) fn path(self, path: &str) -> Self {
        self.line(&format!("GET {path} HTTP/1.1"))
    }

    /// Puts lines behind the headers that are there.
    pub(super) fn with(mut self, lines: &str) -> Self {
        self.headers.push(lines.to_owned());
        self
    }

    /// Puts lines before the headers that are there.
    pub(super) fn with_first(mut self, lines: &str) -> Self {
        self.headers.insert(0, lines.to_owned());
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|header| !header.starts_with(&format!("{name}:")));
        self
    }

    pub(super) fn set(self, name: &str, value: &str) -> Self {
        self.without(name).with(&format!("{name}: {value}"))
    }

    /// Makes it a POST, with exactly these headers about the body.
    pub(super) fn post(mut self, headers: &str, body: &str) -> Self {
        self.line = self.line.replacen("GET", "POST", 1);
        self.body = body.to_owned();
        self.with(headers)
    }

    pub(super) fn text(&self) -> String {
        format!("{}\r\n{}\r\n\r\n{}", self.line, self.headers.join("\r\n"), self.body)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.text().chars().map(|character| u8::try_from(character).unwrap()).collect()
    }
}

/// One answer of those on a connection.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Sends each draft on a connection of its own, all at once, and answers what came back on each until it was closed.
pub(super) async fn ask_all(server: SocketAddr, drafts: Vec<Draft>) -> Vec<Vec<Answer>> {
    join_all(drafts.into_iter().map(async |draft| answers(&exchange(server, &draft.bytes()).await))).await
}

/// All that comes back until the server closes the connection.
pub(super) async fn exchange(server: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(server).await;
    // Who refuses early need not read all.
    let _ = stream.write_all(request).await;
    until_closed(&mut stream).await
}

/// A connection from an address that proxies like to trust.
pub(super) async fn connect(server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    socket.connect(server).await.unwrap()
}

/// What comes until the server closes the connection, with characters for bytes.
pub(super) async fn until_closed(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut seen)).await;
    let text: String = seen.into_iter().map(char::from).collect();
    // A reset is an end, too.
    let _ = read.unwrap_or_else(|_| panic!("the server does not close the connection after {text}"));
    text
}

/// The answers in what a server sent. Interim ones are left out.
pub(super) fn answers(mut text: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some((head, rest)) = text.split_once("\r\n\r\n") {
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.filter(|_| head.starts_with("HTTP/1.1 "));
        let status: u16 = status.unwrap_or_else(|| panic!("no answer: {text}"));
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        let end = rest.char_indices().nth(length).map_or(rest.len(), |(end, _)| end);
        let (body, behind) = rest.split_at(end);
        assert_eq!(body.chars().count(), length, "the body of {text}");
        if status >= 200 {
            answers.push(Answer { status, body: body.to_owned() });
        }
        text = behind;
    }
    assert_eq!(text, "", "behind the last answer");
    answers
}
