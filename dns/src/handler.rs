//! From a query to a reply.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{LowerQuery, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, LowerName, RData, Record, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use ipnet::IpNet;
use tokio_util::task::TaskTracker;

use crate::forward::Forwarder;
use crate::metrics::Metrics;
use crate::reply::Reply;
use crate::table::{Addresses, Found, Names, Table};

/// Answers from the table of names, or asks the upstreams for clients that may.
pub(crate) struct Handler {
    pub(crate) names: Names,
    pub(crate) forwarder: Forwarder,
    /// The clients that may ask for names of others.
    pub(crate) recursion_subnets: Vec<IpNet>,
    pub(crate) rotation: Rotation,
    pub(crate) metrics: Arc<Metrics>,
    /// Knows whether queries are being worked on.
    pub(crate) in_flight: TaskTracker,
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        handle: R,
    ) -> ResponseInfo {
        let _busy = self.in_flight.token();
        let client = request.src().ip().to_canonical();
        let may_recurse = self.recursion_subnets.iter().any(|subnet| subnet.contains(&client));
        let reply = self.reply(request, may_recurse).await;
        let record_type = request.queries.queries().first().map_or(RecordType::ZERO, |query| query.query_type());
        let transport = if request.protocol() == hickory_server::net::xfer::Protocol::Udp { crate::query_log::Transport::Udp } else { crate::query_log::Transport::Tcp };
        self.metrics.count(reply.code, record_type, transport);
        reply.send(request, may_recurse, handle).await
    }
}

impl Handler {
    async fn reply(&self, request: &Request, may_recurse: bool) -> Reply {
        if request.metadata.op_code != OpCode::Query {
            return Reply::error(ResponseCode::NotImp);
        }
        if request.version() > 0 {
            return Reply::error(ResponseCode::BADVERS);
        }
        let [query] = request.queries.queries() else {
            return Reply::error(ResponseCode::FormErr);
        };
        let is_transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if query.query_class() != DNSClass::IN || is_transfer {
            return Reply::error(ResponseCode::Refused);
        }
        match self.own_reply(query) {
            Some(reply) => reply,
            None if may_recurse && request.metadata.recursion_desired => {
                self.forwarder.resolve(query.original()).await
            }
            None => Reply::error(ResponseCode::Refused),
        }
    }

    /// What the table tells; `None`: the name belongs to others.
    fn own_reply(&self, query: &LowerQuery) -> Option<Reply> {
        let table = self.names.read();
        let labels: Vec<&[u8]> = query.name().iter().collect();
        let reply = match table.find(&labels) {
            Found::Host(addresses) => {
                let mut found = of_type(addresses, query.query_type());
                if found.is_empty() {
                    return Some(negative(&table, ResponseCode::NoError));
                }
                let first = self.rotation.next(query.name(), query.query_type()) % found.len();
                found.rotate_left(first);
                // The name as the client wrote it: some check its case to detect forgeries.
                let name = query.original().name();
                let answers =
                    found.into_iter().map(|data| Record::from_rdata(name.clone(), table.ttl(), data));
                Reply { authoritative: true, answers: answers.collect(), ..Reply::default() }
            }
            Found::Empty => negative(&table, ResponseCode::NoError),
            Found::Missing => negative(&table, ResponseCode::NXDomain),
            Found::NotOurs => return None,
        };
        Some(reply)
    }
}

fn negative(table: &Table, code: ResponseCode) -> Reply {
    Reply { code, authoritative: true, authority: vec![table.soa()], ..Reply::default() }
}

/// The addresses that records of this type can hold; all of them for `ANY`.
fn of_type(addresses: &Addresses, record_type: RecordType) -> Vec<RData> {
    let v4 = addresses.v4.iter().map(|address| RData::A((*address).into()));
    let v6 = addresses.v6.iter().map(|address| RData::AAAA((*address).into()));
    match record_type {
        RecordType::A => v4.collect(),
        RecordType::AAAA => v6.collect(),
        RecordType::ANY => v4.chain(v6).collect(),
        _ => Vec::new(),
    }
}

/// Which address comes first.
///
/// Names count on their own, and so do their families, so that a client that always asks for A and AAAA, or for two
/// names in turn, does not get the same A first every time. There is a fixed number of counters, which outlive the
/// snapshots; a few names share one.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    hasher: RandomState,
    ipv4: [AtomicUsize; 32],
    ipv6: [AtomicUsize; 32],
}

impl Rotation {
    fn next(&self, name: &LowerName, record_type: RecordType) -> usize {
        let counters = if record_type == RecordType::AAAA { &self.ipv6 } else { &self.ipv4 };
        let slot = self.hasher.hash_one(name) as usize % counters.len();
        counters[slot].fetch_add(1, Ordering::Relaxed)
    }
}
