//! The in-domain DNS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::explain::Forwarding;

/// State of the in-domain DNS. Numbers count since the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsStatus {
    /// Where it listens.
    pub address: String,
    /// Services of this domain and other domains whose names are answered.
    #[serde(default)]
    pub names: usize,
    /// Answers by response code.
    pub responses: BTreeMap<String, u64>,
    /// Queries of strangers that asked too often.
    #[serde(default)]
    pub limited: ::dns::Limited,
    /// How names of others were found.
    #[serde(default)]
    pub cache: ::dns::CacheUse,
    /// The servers that are asked for names of others.
    #[serde(default)]
    pub upstreams: Vec<UpstreamStatus>,
}

/// A server that is asked for names of others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamStatus {
    /// Where it is.
    pub address: String,
    /// Whether it answered when it was last asked, or was never asked yet (`queries` is 0 then).
    pub answers: bool,
    /// Queries sent to it.
    pub queries: u64,
    /// Queries that it did not answer, or answered with a failure.
    pub failures: u64,
    /// How long its answers took on average, if there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_milliseconds: Option<f64>,
    /// Queries since its last answer that got none.
    #[serde(default)]
    pub consecutive_failures: u64,
    /// When its last answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// When it last gave no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Timestamp>,
}

/// Where the state of the DNS comes from.
#[derive(Clone)]
pub(crate) struct DnsObserver {
    pub(crate) address: SocketAddr,
    /// The clients for which names of others are looked up.
    pub(crate) recursion: ::dns::Recursion,
    /// Whether private addresses are taken out of the answers.
    pub(crate) is_protected: bool,
    pub(crate) names: ::dns::Names,
    pub(crate) metrics: Arc<::dns::Metrics>,
    pub(crate) queries: ::dns::QueryLog,
}

impl DnsObserver {
    /// The state at this moment.
    pub(super) fn status(&self) -> DnsStatus {
        let counts = self.names.counts();
        let responses = self.metrics.by_rcode().into_iter();
        DnsStatus {
            address: self.address.to_string(),
            names: counts.services + counts.domains,
            responses: responses.map(|(rcode, count)| (rcode.to_owned(), count)).collect(),
            limited: self.metrics.limited(),
            cache: self.metrics.cache(),
            upstreams: self.metrics.upstreams().iter().map(upstream).collect(),
        }
    }

    /// What becomes of names of others.
    pub(super) fn forwarding(&self) -> Forwarding {
        let upstreams = self.metrics.upstreams();
        Forwarding {
            upstreams: upstreams.iter().map(upstream).map(|known| (known.address, known.answers)).collect(),
            clients: self.recursion.subnets().iter().map(ToString::to_string).collect(),
            is_protected: self.is_protected,
        }
    }
}

fn upstream(known: &::dns::UpstreamUse) -> UpstreamStatus {
    let answers: u64 = known.buckets.iter().sum();
    let mean = known.latency.as_secs_f64() * 1000.0 / answers as f64;
    UpstreamStatus {
        address: known.address.to_string(),
        answers: known.answers,
        queries: known.queries,
        failures: known.failures,
        mean_milliseconds: (answers > 0).then(|| (mean * 1000.0).round() / 1000.0),
        consecutive_failures: known.consecutive_failures,
        last_success: known.last_success,
        last_failure: known.last_failure,
    }
}
