//! What was asked and what came of it, for those who watch.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, Receiver};

/// Queries as they are answered; nothing is kept of them while nobody subscribes. Clones are the same log.
#[derive(Clone, Debug)]
pub struct QueryLog {
    entries: broadcast::Sender<Arc<QueryEntry>>,
    /// Whether somebody may have subscribed; asking the channel itself takes a lock.
    wanted: Arc<AtomicBool>,
}

/// A query that was dealt with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryEntry {
    /// When that was.
    pub time: Timestamp,
    /// Who asked.
    pub client: IpAddr,
    /// How it came.
    pub transport: Transport,
    /// The name as the client wrote it.
    pub name: String,
    /// The type, such as `AAAA`.
    #[serde(rename = "type")]
    pub record_type: String,
    /// The name of the response code in IANA's registry; `None`: the client got no response.
    pub rcode: Option<Cow<'static, str>>,
    /// Where the response comes from.
    pub how: How,
    /// From the arrival of the query to its response, in microseconds.
    pub micros: u64,
}

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// In a packet of its own.
    Udp,
    /// Over a connection.
    Tcp,
}

/// Where a response comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// From the names of the domain and those of special use (RFC 6761).
    Table,
    /// From what an upstream said before.
    Cache,
    /// From what an upstream said too long ago, since none says anything now (RFC 8767).
    Stale,
    /// From an upstream.
    Upstream,
    /// The server does not answer such queries of this client.
    Refused,
    /// The query is not one that can be answered, or the server has too much to do.
    #[default]
    Failed,
    /// The client's network asks too often.
    Limited,
}

impl Transport {
    /// Its name in lower case, as in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

impl How {
    /// Its name in lower case, as in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Cache => "cache",
            Self::Stale => "stale",
            Self::Upstream => "upstream",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Limited => "limited",
        }
    }
}

/// Entries that a subscriber may be behind before it misses some.
const BACKLOG: usize = 1024;

impl QueryLog {
    /// The queries from now on. Who is too slow misses some, and learns how many.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<Arc<QueryEntry>> {
        let receiver = self.entries.subscribe();
        self.wanted.store(true, Ordering::Release);
        receiver
    }

    /// Whether an entry is worth making.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    pub(crate) fn tell(&self, entry: QueryEntry) {
        if self.entries.send(Arc::new(entry)).is_err() {
            self.wanted.store(false, Ordering::Release);
            // Somebody may have come between the two lines above.
            if self.entries.receiver_count() > 0 {
                self.wanted.store(true, Ordering::Release);
            }
        }
    }
}

impl Default for QueryLog {
    fn default() -> Self {
        Self { entries: broadcast::Sender::new(BACKLOG), wanted: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn entry(name: &str) -> QueryEntry {
        QueryEntry {
            time: Timestamp::UNIX_EPOCH,
            client: Ipv4Addr::LOCALHOST.into(),
            transport: Transport::Udp,
            name: name.to_owned(),
            record_type: "A".to_owned(),
            rcode: Some("NOERROR".into()),
            how: How::Table,
            micros: 7,
        }
    }

    #[test]
    fn names_are_as_they_are_written_in_entries() {
        for transport in [Transport::Udp, Transport::Tcp] {
            assert_eq!(serde_json::to_value(transport).unwrap(), transport.name());
        }
        for how in
            [How::Table, How::Cache, How::Stale, How::Upstream, How::Refused, How::Failed, How::Limited]
        {
            assert_eq!(serde_json::to_value(how).unwrap(), how.name());
        }
    }

    #[test]
    fn entries_are_wanted_while_somebody_subscribes() {
        let log = QueryLog::default();
        assert!(!log.is_wanted());
        let mut first = log.clone().subscribe();
        assert!(log.is_wanted());
        log.tell(entry("web."));
        assert_eq!(first.try_recv().unwrap().name, "web.");
        drop(first);
        log.tell(entry("web."));
        assert!(!log.is_wanted());
        let mut second = log.subscribe();
        assert!(log.is_wanted());
        log.tell(entry("db."));
        assert_eq!(second.try_recv().unwrap().name, "db.");
    }
}
