//! Names of others: asked from upstream servers, with a cache.
//!
//! ```text
//! question ─► special use? ─► cache ─fresh──────────────────────────────────────────────► reply
//!                               ├─too old─► asked anew, waited for a while ─no answer─► the old reply (RFC 8767)
//!                               └─nothing─► asked, waited for ─no answer─► SERVFAIL, kept for a few seconds
//! ```
//!
//! Equal questions wait for one lookup, which goes on when its clients are gone, so that the cache gets what it finds.
//! This also ends loops: a question that comes back through other servers waits for itself until the time is over.

mod answer;
mod cache;
mod rebinding;
mod special;
mod system;
mod upstream;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Query, ResponseCode};
use hickory_server::server::Request;
use ipnet::IpNet;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::debug;

pub use self::rebinding::Rebinding;
pub use self::system::Upstreams;

use self::answer::{Answer, Packed, dangling_alias};
use self::cache::{Cache, Found, Question};
use self::system::upstream_addresses;
use self::upstream::{Failure, Servers};
use crate::client::Client;
use crate::metrics::Metrics;
use crate::query_log::How;
use crate::reply::{ExtendedError, Reply};
use crate::shares::{Share, Shares};

/// How names of others are resolved.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whom to ask.
    pub upstreams: Upstreams,
    /// How long an upstream may take. A question is given up after twice this time.
    pub timeout: Duration,
    /// How long after its end an answer may still be given while no upstream answers (RFC 8767); `None`: never.
    pub stale: Option<Duration>,
    /// Whether names of others may have addresses of this network.
    pub rebinding: Rebinding,
}

/// What a client tells of DNSSEC. Both go to the upstreams as they are: this server validates nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct DnssecFlags {
    /// The client takes signatures and denials of existence (RFC 3225).
    pub(crate) dnssec_ok: bool,
    /// The client wants data that fails validation as well (RFC 4035, 3.2.2).
    pub(crate) checking_disabled: bool,
}

impl From<&Request> for DnssecFlags {
    fn from(request: &Request) -> Self {
        let dnssec_ok = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        Self { dnssec_ok, checking_disabled: request.metadata.checking_disabled }
    }
}

/// A caching client of upstream servers.
pub(crate) struct Forwarder {
    shared: Arc<Shared>,
    /// For queries that wait for upstreams; further ones get SERVFAIL, so that they cannot pile up memory.
    waiting: Shares,
    /// For lookups, each held by whoever asked first.
    lookups: Shares,
}

/// What lookups need, which outlive their clients.
struct Shared {
    cache: Cache,
    servers: Servers,
    rebinding: Rebinding,
    lookups: Mutex<HashMap<Question, Lookup>>,
    metrics: Arc<Metrics>,
}

/// What a lookup will find; nothing for a failure.
type Lookup = watch::Receiver<Option<Option<Arc<Packed>>>>;

const MAX_WAITING: usize = 1024;

/// Lookups at one time. While no upstream answers, each holds a few sockets, and a process may have 1024 files open
/// unless its service manager allows more.
const MAX_LOOKUPS: usize = 256;

/// How long a client waits before it gets an answer whose time is over: less than the time after which most clients
/// ask again (RFC 8767, 5).
const CLIENT_PATIENCE: Duration = Duration::from_millis(1800);

/// Aliases that are followed for an upstream that does not do so itself.
const MAX_FOLLOWED: usize = 8;

impl Default for Settings {
    fn default() -> Self {
        Self {
            upstreams: Upstreams::System,
            timeout: Duration::from_secs(2),
            stale: Some(Duration::from_secs(86_400)),
            rebinding: Rebinding::Allowed,
        }
    }
}

impl Forwarder {
    /// A client of the upstreams, but for `own`, the address of this server itself.
    pub(crate) fn new(settings: Settings, own: SocketAddr, metrics: Arc<Metrics>) -> Self {
        let addresses = upstream_addresses(&settings.upstreams, own);
        let shared = Shared {
            cache: Cache::new(settings.stale.unwrap_or_default()),
            servers: Servers::new(&addresses, settings.timeout, &metrics),
            rebinding: settings.rebinding,
            lookups: Mutex::default(),
            metrics,
        };
        Self {
            shared: Arc::new(shared),
            waiting: Shares::new(MAX_WAITING),
            lookups: Shares::new(MAX_LOOKUPS),
        }
    }

    /// What is known, or what the upstreams say. Every failure is SERVFAIL.
    pub(crate) async fn resolve(&self, query: &Query, flags: DnssecFlags, client: &Client) -> Reply {
        if let Some(reply) = special::reply(query) {
            return Reply { how: How::Table, ..reply };
        }
        let question = Question::new(query, flags);
        let (name, network) = (query.name(), client.network());
        let old = match self.shared.cache.find(&question) {
            Found::Fresh(packed) => return self.counted(How::Cache, packed.reply(name)),
            Found::Failed => return self.counted(How::Cache, failure(ExtendedError::CachedError)),
            Found::Old { packed, failed_lately: true } => {
                return self.counted(How::Stale, packed.stale_reply(name));
            }
            Found::Old { packed, .. } if self.shared.servers.are_down() => {
                // Upstreams may only be silent about other names: whoever asks next gets what this finds.
                self.lookup(question, network);
                return self.counted(How::Stale, packed.stale_reply(name));
            }
            Found::Old { packed, .. } => Some(packed),
            Found::Nothing => None,
        };
        let new = match self.lookup(question, network) {
            Some(lookup) if old.is_some() => {
                timeout(CLIENT_PATIENCE, self.outcome(lookup, network)).await.ok().flatten()
            }
            Some(lookup) => self.outcome(lookup, network).await,
            None => None,
        };
        match (new, old) {
            (Some(packed), _) => self.counted(How::Upstream, packed.reply(name)),
            (None, Some(packed)) => self.counted(How::Stale, packed.stale_reply(name)),
            (None, None) => self.counted(How::Upstream, failure(ExtendedError::NoReachableAuthority)),
        }
    }

    fn counted(&self, how: How, reply: Reply) -> Reply {
        let metrics = &self.shared.metrics;
        match how {
            How::Cache => metrics.count_hit(),
            How::Stale => metrics.count_stale(),
            _ => metrics.count_miss(),
        }
        Reply { how, ..reply }
    }

    async fn outcome(&self, mut lookup: Lookup, network: IpNet) -> Option<Arc<Packed>> {
        let _share = self.waiting.take(network)?;
        lookup.wait_for(Option::is_some).await.ok()?.clone().flatten()
    }

    /// The lookup of this question that is under way, or a new one; `None`: this network has its share of them.
    fn lookup(&self, question: Question, network: IpNet) -> Option<Lookup> {
        let mut lookups = self.shared.lookups();
        if let Some(lookup) = lookups.get(&question) {
            return Some(lookup.clone());
        }
        let share = self.lookups.take(network)?;
        let (sender, lookup) = watch::channel(None);
        lookups.insert(question.clone(), lookup.clone());
        let running = Running { shared: Arc::clone(&self.shared), question, _share: share };
        // A runtime that ends drops the task at once, which then takes itself off the list.
        drop(lookups);
        tokio::spawn(async move {
            let found = running.shared.look_up(&running.question).await;
            // Who asks between the end of this lookup and its outcome finds it in the cache.
            drop(running);
            sender.send_replace(Some(found));
        });
        Some(lookup)
    }
}

/// A lookup that is taken off the list when it ends, however that is.
struct Running {
    shared: Arc<Shared>,
    question: Question,
    _share: Share,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.lookups().remove(&self.question);
    }
}

impl Shared {
    fn lookups(&self) -> MutexGuard<'_, HashMap<Question, Lookup>> {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the upstreams, and keeps what they say.
    async fn look_up(&self, question: &Question) -> Option<Arc<Packed>> {
        let packed = self.ask(question).await.and_then(|mut answer| {
            self.rebinding.filter(question.name(), &mut answer);
            Ok(Arc::new(answer.pack()?))
        });
        match packed {
            Ok(packed) => {
                self.cache.store(question, &packed);
                Some(packed)
            }
            Err(error) => {
                debug!(%error, name = question.name().to_ascii(), "upstreams gave no answer");
                self.cache.store_failure(question);
                None
            }
        }
    }

    /// The answer with everything that its aliases lead to.
    async fn ask(&self, question: &Question) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.servers.patience();
        let mut whole = self.servers.ask(question, deadline).await?;
        for _ in 0..MAX_FOLLOWED {
            let Some(target) = dangling_alias(question, &whole) else { break };
            let mut rest = self.servers.ask(&question.at(&target), deadline).await?;
            whole.answers.append(&mut rest.answers);
            whole.authorities = rest.authorities;
            whole.metadata.response_code = rest.metadata.response_code;
        }
        Ok(Answer::new(question, whole))
    }
}

fn failure(why: ExtendedError) -> Reply {
    Reply { extended_error: Some(why), ..Reply::error(ResponseCode::ServFail) }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Name, RecordType};
    use tokio::net::UdpSocket;

    use super::*;

    fn question(name: &str) -> Query {
        Query::query(Name::from_ascii(name).unwrap(), RecordType::A)
    }

    fn client(number: u8) -> Client {
        Client { address: [192, 0, 2, number].into(), may_recurse: true }
    }

    /// A forwarder, and its upstream, which never answers.
    async fn forwarder() -> (Arc<Forwarder>, UdpSocket) {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let upstreams = Upstreams::Servers(vec![silent.local_addr().unwrap()]);
        let settings = Settings { upstreams, ..Settings::default() };
        let own = "127.0.0.1:53".parse().unwrap();
        (Arc::new(Forwarder::new(settings, own, Arc::default())), silent)
    }

    #[tokio::test(start_paused = true)]
    async fn queries_of_a_client_beyond_those_that_may_wait_fail_at_once() {
        let (forwarder, _silent) = forwarder().await;
        let ask = |name: &str, client: Client| {
            let (forwarder, question) = (Arc::clone(&forwarder), question(name));
            async move { forwarder.resolve(&question, DnssecFlags::default(), &client).await.code }
        };
        for _ in 0..MAX_WAITING / 2 {
            // All of them wait for one lookup.
            tokio::spawn(ask("a.example.", client(1)));
        }
        while forwarder.waiting.take(client(1).network()).is_some() {
            tokio::task::yield_now().await;
        }
        let before = Instant::now();
        let code = ask("b.example.", client(1)).await;
        assert_eq!((code, before.elapsed()), (ResponseCode::ServFail, Duration::ZERO));
        ask("c.example.", client(2)).await;
        assert!(before.elapsed() > Duration::ZERO, "another client is waited with");
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_only_so_many_lookups_of_a_client_at_one_time() {
        let (forwarder, _silent) = forwarder().await;
        let lookup = |number: usize, client: Client| {
            let query = question(&format!("{number}.example."));
            forwarder.lookup(Question::new(&query, DnssecFlags::default()), client.network())
        };
        assert!((0..MAX_LOOKUPS / 2).all(|number| lookup(number, client(1)).is_some()));
        assert!(lookup(MAX_LOOKUPS, client(1)).is_none());
        assert!(lookup(0, client(1)).is_some(), "one that is under way can be waited for");
        let other = lookup(MAX_LOOKUPS, client(2));
        assert!(other.is_some());
        // All of them end without an answer, and leave their places.
        other.unwrap().wait_for(Option::is_some).await.unwrap();
        while !forwarder.shared.lookups().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!((0..MAX_LOOKUPS / 2).all(|number| lookup(number, client(1)).is_some()));
    }
}
