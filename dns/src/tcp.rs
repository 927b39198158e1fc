//! Queries over TCP (RFC 7766).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use hickory_server::net::xfer::Protocol;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::client::Client;
use crate::handler::Handler;
use crate::intake::{MAX_REQUEST, Received, is_answerable, read};
use crate::query_log::Transport;
use crate::shares::Shares;

/// Takes connections.
pub(crate) struct Acceptor {
    pub(crate) handler: Arc<Handler>,
    /// How long a connection may stay without a query, and a query or a response on its way.
    pub(crate) idle: Duration,
    /// Queries at hand.
    pub(crate) busy: TaskTracker,
    /// Ends the connections.
    pub(crate) end: CancellationToken,
}

/// Connections of clients that may ask for names of others at one time, and as many of strangers, who so cannot keep
/// them out. Those over the share of a client, or of the network of strangers, are closed at once.
const MAX_CONNECTIONS: usize = 256;

/// After an error, which may come again at once: the process has too many descriptors, or the system no memory.
const PAUSE: Duration = Duration::from_millis(50);

impl Acceptor {
    /// Serves connections until the end of all.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener) {
        let (known, strangers) = (Shares::new(MAX_CONNECTIONS), Shares::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.end.cancelled() => return,
            };
            let (stream, source) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    debug!(%error, "cannot accept a connection");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let client = self.handler.client(source);
            let shares = if client.may_recurse { &known } else { &strangers };
            let Some(share) = shares.take(client.network()) else { continue };
            let acceptor = Arc::clone(&self);
            tokio::spawn(self.end.clone().run_until_cancelled_owned(async move {
                if let Err(error) = acceptor.serve(stream, source, &client).await {
                    debug!(%error, client = %source, "a connection ended");
                }
                drop(share);
            }));
        }
    }

    /// Answers one query after the other, so that a client that does not read is not read from either.
    async fn serve(&self, stream: TcpStream, source: SocketAddr, client: &Client) -> io::Result<()> {
        if !is_answerable(source) {
            return Ok(());
        }
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        loop {
            let length = match timeout(self.idle, stream.read_u16()).await? {
                Ok(length) => usize::from(length),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            };
            if length > MAX_REQUEST {
                return Err(io::Error::other("the query is too long"));
            }
            let mut query = vec![0; length];
            timeout(self.idle, stream.read_exact(&mut query)).await??;
            let _busy = self.busy.token();
            let Some(response) = self.respond(&query, source, client).await else { return Ok(()) };
            // In one piece, as some clients expect (RFC 7766, 8).
            let length = u16::try_from(response.len()).map_err(io::Error::other)?;
            let response = [&length.to_be_bytes()[..], &response].concat();
            timeout(self.idle, stream.write_all(&response)).await??;
        }
    }

    async fn respond(&self, query: &[u8], source: SocketAddr, client: &Client) -> Option<Vec<u8>> {
        let start = Instant::now();
        match read(query, source, Protocol::Tcp) {
            Received::Request(request) => Some(self.handler.respond(&request, client, start).await),
            Received::Malformed(response) => {
                self.handler.metrics.count(ResponseCode::FormErr, RecordType::ZERO, Transport::Tcp);
                Some(response.into())
            }
            Received::Noise => None,
        }
    }
}
