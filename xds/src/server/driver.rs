//! Carries requests and states into a session, and responses out of it.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    task::yield_now,
    time::sleep_until,
};
use tonic::{Status, Streaming};
use tracing::info;

use super::{
    pace::Pace,
    service::{Context, Method},
};
use crate::{
    cache::State,
    node::{Node, Peer},
    session::{Request, Response},
    status::Connection,
};

/// Drives the session of one stream.
pub(super) struct Driver<Req> {
    method: Method,
    peer: Peer,
    requests: Streaming<Req>,
    context: Arc<Context>,
    opened: Instant,
    pace: Pace,
    /// From the first request on, as that tells who the client is.
    session: Option<Served>,
    _slot: OwnedSemaphorePermit,
}

/// A session and the states it is to be brought to.
struct Served {
    connection: Connection,
    states: watch::Receiver<Arc<State>>,
}

impl<Req: Into<Request>> Driver<Req> {
    pub(super) fn new(
        method: Method,
        request: tonic::Request<Streaming<Req>>,
        context: Arc<Context>,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        let opened = Instant::now();
        Self {
            method,
            peer: request.extensions().get().cloned().unwrap_or(Peer::Process(None)),
            requests: request.into_inner(),
            context,
            opened,
            pace: Pace::new(opened),
            session: None,
            _slot: slot,
        }
    }

    /// Waits for the next response. `None` at the end of the stream.
    pub(super) async fn response(&mut self) -> Result<Option<Response>, Status> {
        loop {
            let now = Instant::now();
            let Some(Served { connection, states }) = &mut self.session else {
                if !self.begin().await? {
                    return Ok(None);
                }
                continue;
            };
            let patience_ends = {
                let mut session = connection.session();
                if let Some(response) = session.next(now) {
                    return Ok(Some(response));
                }
                session.wakeup(now)
            };
            let pause = self.pace.pause(now);
            let wakeup = patience_ends.into_iter().chain(pause).min();
            tokio::select! {
                () = self.context.shutdown.cancelled() => return Err(shutting_down()),
                request = self.requests.message(), if pause.is_none() => match request? {
                    None => return Ok(None),
                    Some(request) => {
                        self.receive(request.into())?;
                        // The next request may be there already, so nothing else would let other streams run.
                        yield_now().await;
                    }
                },
                Ok(()) = states.changed() => connection.session().update(states.borrow_and_update().clone()),
                () = sleep_until(wakeup.unwrap_or(now).into()), if wakeup.is_some() => {}
            }
        }
    }

    /// Waits for the first request. `false` if the stream ends before.
    async fn begin(&mut self) -> Result<bool, Status> {
        let deadline = self.opened + self.context.limits.first_request;
        let first = tokio::select! {
            () = self.context.shutdown.cancelled() => return Err(shutting_down()),
            () = sleep_until(deadline.into()) => return Err(Status::deadline_exceeded("no request came")),
            request = self.requests.message() => request?,
        };
        let Some(mut first) = first.map(Into::into) else { return Ok(false) };
        let Context { views, clients, limits, .. } = self.context.as_ref();
        let node = first.node.take().map(|node| Node::parse(node, limits.metadata_bytes)).unwrap_or_default();
        let Some(cache) = views.cache(&node, &self.peer) else {
            info!(node = node.id, peer = %self.peer, "a client that may see nothing is turned away");
            return Err(Status::permission_denied("this node may see nothing"));
        };
        info!(node = node.id, peer = %self.peer, method = ?self.method, "a client connects");
        let connection = clients.connect(node, self.peer.clone(), self.method, limits);
        let mut states = cache.watch();
        connection.session().update(states.borrow_and_update().clone());
        self.session = Some(Served { connection, states });
        self.receive(first)?;
        Ok(true)
    }

    fn receive(&mut self, mut request: Request) -> Result<(), Status> {
        if let Some(ty) = self.method.ty {
            if request.type_url.is_empty() {
                request.type_url = ty.type_url().to_owned();
            } else if request.type_url != ty.type_url() {
                return Err(Status::invalid_argument(format!("this stream serves {} only", ty.type_url())));
            }
        }
        let Some(Served { connection, .. }) = &self.session else { return Ok(()) };
        let begun = Instant::now();
        let taken = connection.session().request(request, Timestamp::now());
        let now = Instant::now();
        self.pace.spend(now - begun, now);
        connection.tick();
        taken.map_err(|violation| Status::resource_exhausted(violation.to_string()))
    }
}

fn shutting_down() -> Status {
    Status::unavailable("the server is shutting down")
}
