//! A proxy between two gateways that hears handshakes, and changes the answers to them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use ::http::header::CONTENT_LENGTH;
use ::http::{Method, Request};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use networkmesh::http::{Limits, Target, send};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::world::{DEADLINE, eventually};

const MAX_BODY_BYTES: usize = 1024 * 1024;

/// What it makes of the answer to a handshake, which is JSON.
pub(crate) type Change = fn(&mut Value);

/// A proxy in front of one gateway. Dropping it ends it.
pub(crate) struct Middle {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

struct Shared {
    gateway: SocketAddr,
    /// The requests for tokens, oldest first.
    heard: Mutex<Vec<String>>,
    /// What is changed now, and how many answers were.
    change: Mutex<(Change, usize)>,
}

impl Middle {
    /// Passes all on to `gateway`, and changes nothing yet.
    pub(crate) async fn start(gateway: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let nothing: Change = |_| ();
        let shared = Arc::new(Shared { gateway, heard: Mutex::default(), change: Mutex::new((nothing, 0)) });
        let app = Router::new().fallback(relay).with_state(Arc::clone(&shared));
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, shared, _task: task }
    }

    /// The requests for tokens that passed, oldest first.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.shared.heard.lock().unwrap().clone()
    }

    /// Changes the answers to all further requests for tokens.
    pub(crate) fn change(&self, change: Change) {
        *self.shared.change.lock().unwrap() = (change, 0);
    }

    /// Waits until so many answers were changed since [`change`](Self::change).
    pub(crate) async fn changed(&self, answers: usize) {
        eventually("answers are changed", async || {
            let (_, changed) = *self.shared.change.lock().unwrap();
            if changed >= answers { Ok(()) } else { Err(format!("{changed} until now")) }
        })
        .await;
    }
}

async fn relay(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES).await.unwrap();
    let is_handshake = head.method == Method::POST && head.uri.path() == "/handshake";
    if is_handshake {
        let text = String::from_utf8(body.to_vec()).unwrap();
        shared.heard.lock().unwrap().push(text);
    }
    let limits = Limits { total: DEADLINE, ..Limits::default() };
    let passed_on = send(&Target::Tcp(shared.gateway), Request::from_parts(head, body), limits).await;
    let (mut head, mut body) = passed_on.unwrap().into_parts();
    if is_handshake && let Ok(mut answer) = serde_json::from_slice(&body) {
        let (change, changed) = &mut *shared.change.lock().unwrap();
        change(&mut answer);
        *changed += 1;
        body = answer.to_string().into();
    }
    head.headers.remove(CONTENT_LENGTH);
    (head, body).into_response()
}
