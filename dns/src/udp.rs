//! Queries over UDP: threads that answer what they can at once, and leave what takes time to tasks.

mod socket;

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use self::socket::{Inbox, Peer, Socket};
use crate::client::Client;
use crate::fast::{Query, Responder};
use crate::handler::{Handler, Outcome};
use crate::intake::{Received, is_answerable, read};
use crate::metrics::ResponseCounters;
use crate::query_log::{How, Transport};
use crate::rate_limit::Verdict;
use crate::reply::{MAX_UDP_PAYLOAD, Reply};
use crate::shares::Shares;

/// What the workers of a server share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) handler: Arc<Handler>,
    pub(crate) runtime: Handle,
    /// Queries at hand.
    pub(crate) busy: TaskTracker,
    /// For queries that are left to tasks.
    pub(crate) room: Shares,
    /// Ends queries that take too long.
    pub(crate) end: CancellationToken,
    /// Ends the workers.
    pub(crate) stop: Arc<AtomicBool>,
}

/// Answers the packets of one socket.
pub(crate) struct Worker {
    socket: Arc<Socket>,
    shared: Shared,
    responder: Responder,
    counters: Arc<ResponseCounters>,
}

/// Queries that are left to tasks at one time; further ones get SERVFAIL. The forwarder lets fewer of them wait for
/// upstreams: this is about those that no task came to yet, of which the cache can answer many.
pub(crate) const MAX_FORWARDED: usize = 2048;

/// After an error of the socket, which may come again at once.
const PAUSE: Duration = Duration::from_millis(10);

impl Worker {
    /// # Errors
    /// Where the socket cannot be set up.
    pub(crate) fn new(socket: UdpSocket, shared: Shared) -> io::Result<Self> {
        let responder = Responder::new(&shared.handler.names.read());
        let counters = shared.handler.metrics.worker();
        Ok(Self { socket: Arc::new(Socket::new(socket)?), shared, responder, counters })
    }

    /// Answers until it is told to stop. This blocks the thread.
    pub(crate) fn run(mut self) {
        let mut response = [0; MAX_UDP_PAYLOAD as usize];
        let (socket, mut inbox) = (Arc::clone(&self.socket), Inbox::new());
        while !self.shared.stop.load(Ordering::Relaxed) {
            let received = inbox.receive(&socket, |packet, peer| {
                if is_answerable(peer.address) {
                    self.serve(packet, peer, &mut response);
                }
            });
            match received {
                Err(error) if !is_no_failure(&error) => {
                    debug!(%error, "cannot receive over UDP");
                    sleep(PAUSE);
                }
                _ => {}
            }
        }
    }

    fn serve(&mut self, packet: &[u8], peer: Peer, response: &mut [u8]) {
        let client = self.shared.handler.client(peer.address);
        if !self.serve_fast(packet, peer, &client, response) {
            self.serve_slowly(packet, peer, &client);
        }
    }

    /// Whether it was a plain query, and all is done.
    fn serve_fast(&mut self, packet: &[u8], peer: Peer, client: &Client, response: &mut [u8]) -> bool {
        let handler = &*self.shared.handler;
        let Some(query) = Query::read(packet) else { return false };
        let start = handler.log.is_wanted().then(Instant::now);
        let written = self.responder.answer(&query, &handler.names.read(), client.may_recurse, response);
        let Some(written) = written else { return false };
        let (length, code, how) = match handler.verdict(client) {
            Verdict::Send => (Some(written.length), written.code, How::Table),
            Verdict::Truncate => {
                (query.truncate(client.may_recurse, response), ResponseCode::NoError, How::Limited)
            }
            Verdict::Drop => (None, ResponseCode::NoError, How::Limited),
        };
        if let Some(response) = length.and_then(|length| response.get(..length)) {
            self.counters.count(code, query.record_type, Transport::Udp);
            send(&self.socket, response, peer);
        }
        if let Some(start) = start
            && let Received::Request(request) = read(packet, peer.address, Protocol::Udp)
        {
            handler.tell(&request, client, length.map(|_| code), how, start);
        }
        true
    }

    fn serve_slowly(&self, packet: &[u8], peer: Peer, client: &Client) {
        let start = Instant::now();
        match read(packet, peer.address, Protocol::Udp) {
            Received::Malformed(response) if self.shared.handler.verdict(client) == Verdict::Send => {
                self.counters.count(ResponseCode::FormErr, RecordType::ZERO, Transport::Udp);
                send(&self.socket, &response, peer);
            }
            Received::Noise | Received::Malformed(_) => {}
            Received::Request(request) => self.serve_request(request, peer, *client, start),
        }
    }

    fn serve_request(&self, request: Box<Request>, peer: Peer, client: Client, start: Instant) {
        let handler = &self.shared.handler;
        let verdict = if handler.options.knows(request.edns.as_ref(), client.address) {
            Verdict::Send
        } else {
            handler.verdict(&client)
        };
        let reply = match verdict {
            Verdict::Send => match handler.outcome(&request, &client) {
                Outcome::Reply(reply) => reply,
                Outcome::Forward(forward) => {
                    let Some(room) = self.shared.room.take(client.network()) else {
                        let reply = Reply::error(ResponseCode::ServFail);
                        let response = handler.finish(&request, &client, reply, start);
                        return send(&self.socket, &response, peer);
                    };
                    let (handler, socket) = (Arc::clone(handler), Arc::clone(&self.socket));
                    let task = async move {
                        let reply = handler.forward(&request, &client, forward).await;
                        send(&socket, &handler.finish(&request, &client, reply, start), peer);
                        drop(room);
                    };
                    let task = self.shared.end.clone().run_until_cancelled_owned(task);
                    self.shared.runtime.spawn(self.shared.busy.track_future(task));
                    return;
                }
            },
            Verdict::Truncate => Reply::limited(),
            Verdict::Drop => return handler.tell(&request, &client, None, How::Limited, start),
        };
        send(&self.socket, &handler.finish(&request, &client, reply, start), peer);
    }
}

/// A packet that cannot be sent is lost, as packets are; clients ask again.
fn send(socket: &Socket, response: &[u8], peer: Peer) {
    if let Err(error) = socket.send(response, peer) {
        debug!(%error, client = %peer.address, "cannot send a response");
    }
}

/// Nothing came in time, or an earlier response did not arrive.
fn is_no_failure(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), ConnectionRefused | Interrupted | TimedOut | WouldBlock)
}
