//! Sockets, and the life of the server on them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use hickory_server::net::NetError;
use ipnet::IpNet;
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::forward::{self, Forwarder};
use crate::handler::{Handler, Rotation};
use crate::metrics::Metrics;
use crate::table::Names;

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The clients that may ask for names of others; everyone else gets REFUSED for them.
    pub recursion_subnets: Vec<IpNet>,
    /// How those are resolved.
    pub forward: forward::Settings,
    /// How long a TCP connection may stay without a query.
    pub tcp_idle: Duration,
    /// How long queries at hand may take after the shutdown began.
    pub drain: Duration,
}

/// Why a server ended on its own.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The sockets failed for good.
    #[error("the DNS sockets failed: {0}")]
    Sockets(NetError),
}

/// Sockets that are bound and not served yet.
#[derive(Debug)]
pub struct Bound {
    address: SocketAddr,
    udp: UdpSocket,
    tcp: TcpListener,
}

/// With port 0, the system chooses a port for UDP, which may be taken for TCP: so many are tried.
const PORT_TRIES: usize = 16;

/// Responses that wait for a TCP client to read; it is then not read from either.
const TCP_RESPONSES: usize = 32;

/// The server library sends from a queue which its shutdown drops: time for the last responses to leave it.
const FLUSH: Duration = Duration::from_millis(10);

impl Default for Settings {
    fn default() -> Self {
        Self {
            recursion_subnets: loopback_subnets(),
            forward: forward::Settings::default(),
            tcp_idle: Duration::from_secs(10),
            drain: Duration::from_secs(5),
        }
    }
}

/// Binds `address` for UDP and TCP. Port 0 means any port that is free for both.
///
/// # Errors
/// Where the port is taken, not allowed, or the address is not of this host.
pub async fn bind(address: SocketAddr) -> Result<Bound, BindError> {
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        match bind_both(address).await {
            Err(BindError { transport: "TCP", source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && tries > 1 =>
            {
                tries -= 1;
            }
            result => return result,
        }
    }
}

/// The subnets of loopback addresses.
#[must_use]
pub fn loopback_subnets() -> Vec<IpNet> {
    let subnet = |ip, bits| IpNet::new_assert(ip, bits);
    vec![subnet(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8), subnet(IpAddr::V6(Ipv6Addr::LOCALHOST), 128)]
}

impl Bound {
    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers from `names` until `shutdown`; then queries at hand are finished within
    /// [`Settings::drain`]. Dropping the future closes the sockets at once.
    ///
    /// # Errors
    /// Where the sockets fail.
    pub async fn serve(
        self,
        settings: Settings,
        names: Names,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        let in_flight = TaskTracker::new();
        let mut server = Server::new(Handler {
            names,
            forwarder: Forwarder::new(settings.forward, self.address, Arc::clone(&metrics)),
            recursion_subnets: settings.recursion_subnets,
            rotation: Rotation::default(),
            metrics,
            in_flight: in_flight.clone(),
        });
        server.register_socket(self.udp);
        server.register_listener(self.tcp, settings.tcp_idle, TCP_RESPONSES);

        tokio::select! {
            result = server.block_until_done() => return result.map_err(ServeError::Sockets),
            () = shutdown.cancelled() => {}
        }
        in_flight.close();
        if timeout(settings.drain, in_flight.wait()).await.is_err() {
            debug!(queries = in_flight.len(), "DNS queries were not finished in time");
        }
        sleep(FLUSH).await;
        server.shutdown_gracefully().await.map_err(ServeError::Sockets)
    }
}

async fn bind_both(address: SocketAddr) -> Result<Bound, BindError> {
    let udp_error = |source| BindError { address, transport: "UDP", source };
    let udp = UdpSocket::bind(address).await.map_err(udp_error)?;
    let address = udp.local_addr().map_err(udp_error)?;
    let tcp =
        TcpListener::bind(address).await.map_err(|source| BindError { address, transport: "TCP", source })?;
    Ok(Bound { address, udp, tcp })
}
