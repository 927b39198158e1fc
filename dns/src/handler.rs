//! From a query to a reply.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, LowerName, RData, Record, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use ipnet::IpNet;
use model::Snapshot;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::forward::Forwarder;
use crate::metrics::Metrics;
use crate::reply::Reply;
use crate::zone::{Answer, Zone};

/// Answers from the newest snapshot, or asks the upstreams for clients that may.
pub(crate) struct Handler {
    pub(crate) zone: Zone,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
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
        self.metrics.count(reply.code);
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
        let (name, record_type) = (query.name(), query.query_type());
        let is_transfer = matches!(record_type, RecordType::AXFR | RecordType::IXFR);
        if query.query_class() != DNSClass::IN || is_transfer {
            return Reply::error(ResponseCode::Refused);
        }
        let snapshot = Arc::clone(&self.snapshots.borrow());
        match self.zone.lookup(&snapshot, name, record_type) {
            Answer::Addresses(mut addresses) => {
                let first = self.rotation.next(name, record_type) % addresses.len();
                addresses.rotate_left(first);
                // The name as the client wrote it: some check its case to detect forgeries.
                let record = |address| {
                    Record::from_rdata(query.original().name().clone(), self.zone.ttl(), RData::from(address))
                };
                let answers = addresses.into_iter().map(record).collect();
                Reply { authoritative: true, answers, ..Reply::default() }
            }
            Answer::NoData => self.negative(ResponseCode::NoError),
            Answer::NameError => self.negative(ResponseCode::NXDomain),
            Answer::NotOurs if may_recurse && request.metadata.recursion_desired => {
                self.forwarder.resolve(query.original()).await
            }
            Answer::NotOurs => Reply::error(ResponseCode::Refused),
        }
    }

    fn negative(&self, code: ResponseCode) -> Reply {
        Reply { code, authoritative: true, authority: vec![self.zone.soa().clone()], ..Reply::default() }
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
