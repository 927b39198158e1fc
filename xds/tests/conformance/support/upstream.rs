//! HTTP servers behind the clients, and requests through them.

use std::{fmt::Write as _, net::SocketAddr};

use axum::{Router, http::HeaderMap};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::DEADLINE;

/// Starts a server that answers with its name and the headers it saw, a line each. It ends with the runtime.
pub(crate) async fn upstream(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = async move |headers: HeaderMap| {
        headers.iter().fold(format!("{name}\n"), |mut body, (header, value)| {
            writeln!(body, "{header}: {}", value.to_str().unwrap()).unwrap();
            body
        })
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    address
}

/// An HTTP answer, or why there is none.
pub(crate) type Answer = Result<(u16, String), String>;

/// Sends a request over a connection of its own, with these headers (`host` among them if it matters).
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    timeout(DEADLINE, async {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let mut request = Request::get(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", address.to_string());
        }
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    })
    .await
    .unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

/// Whether an upstream of this name answered.
pub(crate) fn is_from(answer: &Answer, name: &str) -> bool {
    answer.as_ref().is_ok_and(|(status, body)| *status == 200 && body.lines().next() == Some(name))
}

/// Whether an upstream answered that saw this header.
pub(crate) fn has_line(answer: &Answer, line: &str) -> bool {
    answer.as_ref().is_ok_and(|(status, body)| *status == 200 && body.lines().any(|it| it == line))
}

/// Whether the answer has this status.
pub(crate) fn has_status(answer: &Answer, status: u16) -> bool {
    answer.as_ref().is_ok_and(|(it, _)| *it == status)
}
