//! The log of DNS queries, for those who follow it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use dns::QueryEntry;
use futures_util::stream::{self, Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Admin;
use crate::queries::Suffix;
use crate::serve::Open;

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    name: String,
}

/// One JSON object a line for each query from now on, until the client goes or the mesh ends. Who reads too slowly
/// misses some, and is told how many.
pub(super) async fn follow(
    State(admin): State<Admin>,
    Extension(open): Extension<Open>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let Ok(place) = Arc::clone(&admin.followers).try_acquire_owned() else {
        let message = "too many follow the queries; end one of these first\n";
        return (StatusCode::TOO_MANY_REQUESTS, message).into_response();
    };
    let lines = lines(admin.observer.dns.queries.subscribe(), Suffix::new(&wanted.name));
    let lines = lines.take_until(admin.shutdown.cancelled_owned()).map(move |line| {
        let _held_while_lines_come = (&place, &open);
        Ok::<_, Infallible>(line)
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

fn lines(entries: Receiver<Arc<QueryEntry>>, wanted: Suffix) -> impl Stream<Item = Bytes> + Send {
    stream::unfold((entries, wanted), async |(mut entries, wanted)| {
        loop {
            let line = match entries.recv().await {
                Ok(entry) if wanted.is_of(&entry.name) => line(&*entry),
                Ok(_) => continue,
                Err(RecvError::Lagged(lost)) => line(&json!({"lost": lost})),
                Err(RecvError::Closed) => return None,
            };
            return Some((line, (entries, wanted)));
        }
    })
}

fn line(value: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    text.into()
}
