//! From a query to a reply.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hickory_proto::op::{LowerQuery, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, LowerName, Record, RecordType};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;
use jiff::Timestamp;

use crate::answer::Answer;
use crate::client::Client;
use crate::cookies::Cookies;
use crate::edns::{Options, cookie};
use crate::forward::Forwarder;
use crate::metrics::{Metrics, rcode_name};
use crate::query_log::{How, QueryEntry, QueryLog, Transport};
use crate::rate_limit::{RateLimiter, Verdict};
use crate::recursion::Recursion;
use crate::reply::Reply;
use crate::server::Settings;
use crate::table::Names;

/// Answers from the table of names, or asks the upstreams for clients that may.
pub(crate) struct Handler {
    pub(crate) names: Names,
    forwarder: Forwarder,
    recursion: Recursion,
    /// For all other clients.
    limiter: Option<RateLimiter>,
    pub(crate) options: Options,
    rotation: Rotation,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log: QueryLog,
}

/// What becomes of a request.
pub(crate) enum Outcome {
    /// It gets this.
    Reply(Reply),
    /// The upstreams have to be asked.
    Forward(Forward),
}

/// What the upstreams have to be asked.
pub(crate) struct Forward {
    question: Query,
    /// The records that lead from the name that was asked for to that of the question.
    aliases: Vec<Record>,
}

impl Handler {
    /// For a server at the address `own`.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub(crate) fn new(
        settings: Settings,
        own: SocketAddr,
        names: Names,
        metrics: Arc<Metrics>,
        log: QueryLog,
    ) -> Result<Self, getrandom::Error> {
        Ok(Self {
            names,
            forwarder: Forwarder::new(settings.forward, own, Arc::clone(&metrics)),
            recursion: settings.recursion,
            limiter: settings.responses_per_second.map(RateLimiter::new),
            options: Options { cookies: Cookies::random()?, nsid: settings.nsid },
            rotation: Rotation::default(),
            metrics,
            log,
        })
    }

    pub(crate) fn client(&self, source: SocketAddr) -> Client {
        Client::at(source, &self.recursion)
    }

    /// What becomes of a response over UDP to this client.
    pub(crate) fn verdict(&self, client: &Client) -> Verdict {
        let verdict = match &self.limiter {
            Some(limiter) if !client.may_recurse => limiter.check(client.address, Instant::now()),
            _ => Verdict::Send,
        };
        match verdict {
            Verdict::Send => {}
            Verdict::Truncate => self.metrics.count_truncated(),
            Verdict::Drop => self.metrics.count_dropped(),
        }
        verdict
    }

    /// The response to a request that came at `start`, ready to be sent.
    pub(crate) async fn respond(&self, request: &Request, client: &Client, start: Instant) -> Vec<u8> {
        let reply = match self.outcome(request, client) {
            Outcome::Reply(reply) => reply,
            Outcome::Forward(forward) => self.forward(request, client, forward).await,
        };
        self.finish(request, client, reply, start)
    }

    /// All that can be said without asking anyone.
    pub(crate) fn outcome(&self, request: &Request, client: &Client) -> Outcome {
        match self.own_reply(request) {
            Ok(reply) => Outcome::Reply(reply),
            Err(forward) if client.may_recurse && request.metadata.recursion_desired => {
                Outcome::Forward(forward)
            }
            Err(forward) if forward.aliases.is_empty() => Outcome::Reply(Reply::error(ResponseCode::Refused)),
            Err(forward) => {
                Outcome::Reply(Reply { how: How::Table, ..Reply::default() }.behind(forward.aliases))
            }
        }
    }

    pub(crate) async fn forward(&self, request: &Request, client: &Client, forward: Forward) -> Reply {
        let Forward { question, aliases } = forward;
        self.forwarder.resolve(&question, request.into(), client).await.behind(aliases)
    }

    /// Counts and logs a reply, and gives the response.
    pub(crate) fn finish(&self, request: &Request, client: &Client, reply: Reply, start: Instant) -> Vec<u8> {
        self.metrics.count(reply.code, asked_type(request), transport(request));
        self.tell(request, client, Some(reply.code), reply.how, start);
        let edns = request.edns.as_ref().map(|asked| self.options.answer(asked, client));
        reply.encode(request, client.may_recurse, edns)
    }

    /// Logs a request that got a response with this code, or none.
    pub(crate) fn tell(
        &self,
        request: &Request,
        client: &Client,
        code: Option<ResponseCode>,
        how: How,
        start: Instant,
    ) {
        if !self.log.is_wanted() {
            return;
        }
        let question = request.queries.queries().first();
        self.log.tell(QueryEntry {
            time: Timestamp::now(),
            client: client.address,
            transport: transport(request),
            name: question.map(|question| question.original().name().to_ascii()).unwrap_or_default(),
            record_type: asked_type(request).to_string(),
            rcode: code.map(|code| rcode_name(code).into()),
            how,
            micros: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
        });
    }

    /// What this server itself says; otherwise what others have to be asked.
    fn own_reply(&self, request: &Request) -> Result<Reply, Forward> {
        if request.metadata.op_code != OpCode::Query {
            return Ok(Reply::error(ResponseCode::NotImp));
        }
        if request.version() > 0 {
            return Ok(Reply::error(ResponseCode::BADVERS));
        }
        let Ok(cookie) = request.edns.as_ref().map_or(Ok(None), cookie) else {
            return Ok(Reply::error(ResponseCode::FormErr));
        };
        let query = match request.queries.queries() {
            [query] => query,
            // The client asks for a cookie only (RFC 7873, 5.4).
            [] if cookie.is_some() => return Ok(Reply { how: How::Table, ..Reply::default() }),
            _ => return Ok(Reply::error(ResponseCode::FormErr)),
        };
        let is_transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if query.query_class() != DNSClass::IN || is_transfer {
            return Ok(Reply::error(ResponseCode::Refused));
        }
        match Answer::of(&self.names.read(), query, &self.rotation) {
            Answer::Whole(reply) => Ok(Reply { how: How::Table, ..reply }),
            Answer::Elsewhere { aliases, name } => {
                Err(Forward { question: Query::query(name, query.query_type()), aliases })
            }
        }
    }
}

fn asked_type(request: &Request) -> RecordType {
    request.queries.queries().first().map_or(RecordType::ZERO, LowerQuery::query_type)
}

fn transport(request: &Request) -> Transport {
    match request.protocol() {
        Protocol::Udp => Transport::Udp,
        _ => Transport::Tcp,
    }
}

/// Which address comes first.
///
/// Names count on their own, and so do their families, so that a client that always asks for A and AAAA, or for two
/// names in turn, does not get the same A first every time. There is a fixed number of counters, which outlive the
/// names; a few names share one.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    hasher: RandomState,
    ipv4: [AtomicUsize; 32],
    ipv6: [AtomicUsize; 32],
}

impl Rotation {
    pub(crate) fn next(&self, name: &LowerName, record_type: RecordType) -> usize {
        let counters = if record_type == RecordType::AAAA { &self.ipv6 } else { &self.ipv4 };
        let slot = self.hasher.hash_one(name) as usize % counters.len();
        counters[slot].fetch_add(1, Ordering::Relaxed)
    }
}
