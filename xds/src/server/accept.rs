//! Connections, as many at once as may be.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep, timeout},
};
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::{limits::Limits, listen::Listener, node::Peer, tls::Tls};

/// How long to wait after a failure to accept, which is a lack of resources.
const RECOVERY: Duration = Duration::from_millis(100);
/// How long the fixed text is that every HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

/// The connections that come in, those by TLS after their handshakes.
///
/// Another is accepted only once there is a free slot for it. Handshakes wait for nobody but their own client.
pub(super) fn accept(
    listener: Listener,
    tls: Option<Tls>,
    limits: &Limits,
) -> impl Stream<Item = io::Result<Socket>> + Send + use<> {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let (connections, patience) = (limits.connections, limits.first_request);
    let accepted = stream::unfold((listener, slots), |(listener, slots)| async move {
        let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((io, peer)) => return Some(((io, peer, slot), (listener, slots))),
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    sleep(RECOVERY).await;
                }
            }
        }
    });
    let secured = accepted.map(move |(io, peer, slot)| {
        let tls = tls.clone();
        async move {
            let secured = timeout(patience, secure(io, peer.clone(), tls)).await;
            match secured.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok((io, peer)) => Some(Ok(Socket::new(io, peer, slot, patience))),
                Err(error) => {
                    debug!(%peer, %error, "a TLS handshake failed");
                    None
                }
            }
        }
    });
    secured.buffer_unordered(connections).filter_map(std::future::ready)
}

/// Makes a TCP connection a TLS connection, if TLS is asked for.
async fn secure(io: Box<dyn Io>, peer: Peer, tls: Option<Tls>) -> io::Result<(Box<dyn Io>, Peer)> {
    let (Some(tls), Peer::Tcp(address)) = (tls, &peer) else { return Ok((io, peer)) };
    let stream = tls.acceptor().accept(io).await?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = certificates.first().map(|leaf| Bytes::copy_from_slice(leaf)).unwrap_or_default();
    let peer = Peer::Tls { address: *address, certificate };
    Ok((Box::new(stream), peer))
}

/// A connection of any kind.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Listener {
    async fn accept(&self) -> io::Result<(Box<dyn Io>, Peer)> {
        match self {
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let peer = Peer::Process(stream.peer_cred().ok().and_then(|credentials| credentials.pid()));
                Ok((Box::new(stream), peer))
            }
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Fails only for a connection that is gone already.
                stream.set_nodelay(true).ok();
                Ok((Box::new(stream), Peer::Tcp(address)))
            }
        }
    }
}

/// A connection that gives its slot back when it ends, and ends if its client does not begin to speak HTTP/2.
pub(super) struct Socket {
    io: Box<dyn Io>,
    peer: Peer,
    preface_left: usize,
    preface_deadline: Pin<Box<Sleep>>,
    _slot: OwnedSemaphorePermit,
}

impl Socket {
    fn new(io: Box<dyn Io>, peer: Peer, slot: OwnedSemaphorePermit, patience: Duration) -> Self {
        let preface_deadline = Box::pin(sleep(patience));
        Self { io, peer, preface_left: PREFACE_BYTES, preface_deadline, _slot: slot }
    }
}

impl Connected for Socket {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.preface_left = self.preface_left.saturating_sub(buffer.filled().len() - before);
        if read.is_pending() && self.preface_left > 0 && self.preface_deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
