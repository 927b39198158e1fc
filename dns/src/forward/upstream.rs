//! The servers that are asked, in order of their health.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::{DnsRequestSender as _, FirstAnswer as _};
use hickory_net::{DnsHandle as _, NetError};
use hickory_proto::ProtoError;
use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Message, ResponseCode};
use tokio::time::{Instant, sleep, timeout};

use super::answer::is_referral;
use super::cache::{Question, RECHECK};
use crate::intake::HEADER;
use crate::metrics::{Metrics, UpstreamCounters};

/// The upstreams.
#[derive(Debug)]
pub(super) struct Servers {
    all: Box<[Upstream]>,
    timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("there is no upstream DNS server")]
    NoUpstream,
    #[error("{address} gave no answer: {source}")]
    Network { address: SocketAddr, source: NetError },
    #[error("{address} answers {code}")]
    Code { address: SocketAddr, code: ResponseCode },
    #[error("{0} answers another question")]
    Mismatch(SocketAddr),
    #[error("{0} cuts its answer short over TCP")]
    Truncated(SocketAddr),
    #[error("{0} does not resolve for others")]
    Referral(SocketAddr),
    #[error("the answer cannot be written: {0}")]
    Unwritable(#[from] ProtoError),
}

#[derive(Debug)]
struct Upstream {
    address: SocketAddr,
    counters: Arc<UpstreamCounters>,
    /// Until then it is asked after the others, if it failed last.
    recheck: Mutex<Instant>,
}

/// How often all upstreams are asked before a question is given up.
const ROUNDS: u32 = 2;

/// How often a question is sent over UDP each time, since packets get lost.
const PACKETS: u32 = 3;

/// So many failures one after the other mean that an upstream is down: as many as one question makes.
const DOWN_AFTER: u64 = ROUNDS as u64;

impl Servers {
    /// Upstreams in order of preference, of which each may take so long for an answer.
    pub(super) fn new(addresses: &[SocketAddr], timeout: Duration, metrics: &Metrics) -> Self {
        let upstream = |address: &SocketAddr| Upstream {
            address: *address,
            counters: metrics.upstream(*address),
            recheck: Mutex::new(Instant::now()),
        };
        Self { all: addresses.iter().map(upstream).collect(), timeout }
    }

    /// How long a question may take.
    pub(super) fn patience(&self) -> Duration {
        self.timeout * ROUNDS
    }

    /// Whether it is known that no upstream answers. From time to time it is not, for one question that finds out.
    pub(super) fn are_down(&self) -> bool {
        let is_down = |upstream: &Upstream| {
            upstream.counters.consecutive_failures() >= DOWN_AFTER && Instant::now() < *upstream.recheck()
        };
        self.all.iter().all(is_down)
    }

    /// The first answer that is one: NOERROR, NXDOMAIN or YXDOMAIN, whole, to this question.
    pub(super) async fn ask(&self, question: &Question, deadline: Instant) -> Result<Message, Failure> {
        let mut result = self.ask_each(question, deadline).await;
        for _ in 1..ROUNDS {
            match &result {
                Err(Failure::Network { .. }) if Instant::now() < deadline => {
                    result = self.ask_each(question, deadline).await;
                }
                _ => break,
            }
        }
        result
    }

    /// Asks one upstream after the other. The next one is asked when one fails, and also when it takes long; then the
    /// first answer counts.
    async fn ask_each(&self, question: &Question, deadline: Instant) -> Result<Message, Failure> {
        let mut next = self.by_health().into_iter();
        let mut asked = FuturesUnordered::new();
        let mut failure = Failure::NoUpstream;
        loop {
            match next.next() {
                Some(upstream) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    asked.push(upstream.ask(question, self.timeout.min(left)));
                }
                None if asked.is_empty() => return Err(failure),
                None => {}
            }
            tokio::select! {
                Some(result) = asked.next() => match result {
                    Ok(message) => return Ok(message),
                    Err(error) => failure = error,
                },
                () = sleep(self.timeout / 4), if next.len() > 0 => {}
            }
        }
    }

    /// Those that failed last come last, unless it is time to look after them.
    fn by_health(&self) -> Vec<&Upstream> {
        let mut order: Vec<_> = self.all.iter().map(|upstream| (upstream.demerits(), upstream)).collect();
        order.sort_by_key(|(demerits, _)| *demerits);
        order.into_iter().map(|(_, upstream)| upstream).collect()
    }
}

impl Upstream {
    /// The failures since the last answer; none where this question is to look whether it is still so.
    fn demerits(&self) -> u64 {
        let mut recheck = self.recheck();
        let now = Instant::now();
        match self.counters.consecutive_failures() {
            0 => 0,
            failures if now < *recheck => failures,
            _ => {
                *recheck = now + RECHECK;
                0
            }
        }
    }

    fn recheck(&self) -> MutexGuard<'_, Instant> {
        self.recheck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its answer, which comes within `limit`.
    async fn ask(&self, question: &Question, limit: Duration) -> Result<Message, Failure> {
        let attempt = Attempt { upstream: Some(self), since: Instant::now() };
        let message = timeout(limit, self.exchange(question, limit))
            .await
            .unwrap_or(Err(NetError::Timeout))
            .map_err(|source| Failure::Network { address: self.address, source })?;
        let result = self.check(question, message);
        attempt.answered(result.is_err());
        result
    }

    /// Over UDP, from a random port, with a random id and letters of random case (draft-vixie-dnsext-dns0x20), which a
    /// forger has to guess; over TCP, if the answer does not fit or has other letters.
    async fn exchange(&self, question: &Question, limit: Duration) -> Result<Message, NetError> {
        let mut options = DnsRequestOptions::default();
        options.retry_interval = limit / PACKETS;
        options.case_randomization = true;
        let mut message = question.message();
        for query in &mut message.queries {
            query.name.randomize_label_case();
        }
        let runtime = TokioRuntimeProvider::default();
        let mut udp =
            UdpClientStream::builder(self.address, runtime.clone()).with_timeout(Some(limit)).build();
        match udp.send_message(DnsRequest::new(message, options)).first_answer().await {
            Ok(response) if !response.metadata.truncation => return Ok(in_lower_case(response)?),
            Ok(_) | Err(NetError::QueryCaseMismatch) => {}
            Err(error) => return Err(error),
        }
        let request = DnsRequest::new(question.message(), DnsRequestOptions::default());
        let tcp = TcpClientStream::exchange(self.address, None, limit, None, runtime).await?;
        Ok(tcp.send(request).first_answer().await?.into_message())
    }

    fn check(&self, question: &Question, message: Message) -> Result<Message, Failure> {
        let address = self.address;
        if message.queries != question.message().queries {
            return Err(Failure::Mismatch(address));
        }
        if message.metadata.truncation {
            return Err(Failure::Truncated(address));
        }
        if is_referral(&message) {
            return Err(Failure::Referral(address));
        }
        match message.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain | ResponseCode::YXDomain => Ok(message),
            code => Err(Failure::Code { address, code }),
        }
    }
}

/// The response to a question as if that had been asked in lower case. Names that end like it mostly point there for their
/// own letters; those that are written out stay as they are, which means the same.
fn in_lower_case(response: DnsResponse) -> Result<Message, ProtoError> {
    let (message, mut bytes) = response.into_parts();
    let length = message.queries.iter().map(|query| query.name().len()).sum::<usize>();
    if let Some(name) = bytes.get_mut(HEADER..HEADER + length) {
        // The length of a label is no letter.
        name.make_ascii_lowercase();
    }
    Ok(Message::from_vec(&bytes)?)
}

/// A question to an upstream. Without an answer when it ends, also because another upstream was faster, it counts as
/// a failure.
struct Attempt<'a> {
    upstream: Option<&'a Upstream>,
    since: Instant,
}

impl Attempt<'_> {
    fn answered(mut self, failed: bool) {
        if let Some(upstream) = self.upstream.take() {
            upstream.counters.count_answer(self.since.elapsed(), failed);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(upstream) = self.upstream {
            upstream.counters.count_silence();
            *upstream.recheck() = Instant::now() + RECHECK;
        }
    }
}
