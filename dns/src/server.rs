//! The life of the server on its sockets.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::forward;
use crate::handler::Handler;
use crate::metrics::Metrics;
use crate::query_log::QueryLog;
use crate::recursion::Recursion;
use crate::shares::Shares;
use crate::sockets::Bound;
use crate::table::Names;
use crate::tcp::Acceptor;
use crate::udp::{MAX_FORWARDED, Shared, Worker};

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The clients that may ask for names of others; everyone else gets REFUSED for them.
    pub recursion: Recursion,
    /// How those are resolved.
    pub forward: forward::Settings,
    /// Responses over UDP in a second for each network (/24 of IPv4, /56 of IPv6) of clients that may not ask for names
    /// of others; `None`: as many as they ask for. Clients with a cookie of this server (RFC 7873) are not limited.
    pub responses_per_second: Option<NonZeroU32>,
    /// Which of several servers this is, for clients that may ask for names of others (RFC 5001).
    pub nsid: Option<Box<str>>,
    /// How long a TCP connection may stay without a query.
    pub tcp_idle: Duration,
    /// How long queries at hand may take after the shutdown began.
    pub drain: Duration,
}

/// Why a server ended on its own.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The system has no random numbers for the secret of the cookies.
    #[error("cannot make DNS cookies: {0}")]
    Random(getrandom::Error),
    /// The sockets cannot be set up.
    #[error("cannot set up the DNS sockets: {0}")]
    Sockets(io::Error),
    /// A part of the server panicked.
    #[error("the DNS server failed: {0}")]
    Panic(JoinError),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            recursion: Recursion::default(),
            forward: forward::Settings::default(),
            responses_per_second: NonZeroU32::new(200),
            nsid: None,
            tcp_idle: Duration::from_secs(10),
            drain: Duration::from_secs(5),
        }
    }
}

impl Bound {
    /// Answers from `names` until `shutdown`; then queries at hand are finished within [`Settings::drain`]. Whoever
    /// subscribes to `queries` sees them all. Dropping the future closes the sockets within a moment.
    ///
    /// # Errors
    /// Where the sockets cannot be set up, or the server fails.
    pub async fn serve(
        self,
        settings: Settings,
        names: Names,
        metrics: Arc<Metrics>,
        queries: QueryLog,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        let (idle, drain) = (settings.tcp_idle, settings.drain);
        let handler = Handler::new(settings, self.local_addr(), names, metrics, queries);
        let handler = Arc::new(handler.map_err(ServeError::Random)?);
        let (busy, end, stop) = (TaskTracker::new(), CancellationToken::new(), StopOnDrop::default());
        let _end_on_drop = end.clone().drop_guard();
        let shared = Shared {
            handler: Arc::clone(&handler),
            runtime: Handle::current(),
            busy: busy.clone(),
            room: Shares::new(MAX_FORWARDED),
            end: end.clone(),
            stop: Arc::clone(&stop.0),
        };
        let mut parts = JoinSet::new();
        for socket in self.udp {
            let worker = Worker::new(socket, shared.clone()).map_err(ServeError::Sockets)?;
            parts.spawn_blocking(|| worker.run());
        }
        self.tcp.set_nonblocking(true).map_err(ServeError::Sockets)?;
        let listener = TcpListener::from_std(self.tcp).map_err(ServeError::Sockets)?;
        let acceptor = Acceptor { handler, idle, busy: busy.clone(), end: end.clone() };
        parts.spawn(Arc::new(acceptor).run(listener));

        tokio::select! {
            Some(Err(error)) = parts.join_next() => return Err(ServeError::Panic(error)),
            () = shutdown.cancelled() => {}
        }
        busy.close();
        if timeout(drain, busy.wait()).await.is_err() {
            debug!(queries = busy.len(), "DNS queries were not finished in time");
        }
        end.cancel();
        drop(stop);
        while let Some(ended) = parts.join_next().await {
            ended.map_err(ServeError::Panic)?;
        }
        // What was not finished holds a socket until it is gone.
        busy.wait().await;
        Ok(())
    }
}

/// Ends the workers when it is dropped.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
