//! Counts the bytes between a client and the API server, TLS included.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::Failure;

/// How long the client must be quiet before it counts as settled.
const QUIET: Duration = Duration::from_secs(3);

/// How often it is looked at.
const SAMPLE: Duration = Duration::from_millis(250);

/// What a client that is quiet may send between two looks: a heartbeat.
const HEARTBEAT_BYTES: u64 = 3 * 1024;

/// How long that is awaited.
const PATIENCE: Duration = Duration::from_secs(900);

/// A way to the API server on which bytes are counted.
#[derive(Clone)]
pub(crate) struct Counter {
    /// The kubeconfig of a client that goes this way.
    pub(crate) kubeconfig: PathBuf,
    bytes: Arc<Bytes>,
}

#[derive(Default)]
struct Bytes {
    to_server: AtomicU64,
    from_server: AtomicU64,
}

/// Numbers of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) to_server: u64,
    pub(crate) from_server: u64,
}

impl Counter {
    /// Opens a way to the API server of this kubeconfig.
    pub(crate) async fn start(kubeconfig: &Path) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut config: Value = serde_json::from_slice(&std::fs::read(kubeconfig)?)?;
        let server = &mut config["clusters"][0]["cluster"]["server"];
        let upstream =
            server.as_str().and_then(|url| url.strip_prefix("https://")).ok_or("no server")?.parse()?;
        // The API server's certificate is for this address, too.
        *server = format!("https://{}", listener.local_addr()?).into();
        let path = kubeconfig.with_file_name("counted.kubeconfig");
        std::fs::write(&path, config.to_string())?;
        let bytes = Arc::new(Bytes::default());
        tokio::spawn(serve(listener, upstream, Arc::clone(&bytes)));
        Ok(Self { kubeconfig: path, bytes })
    }

    /// All bytes so far.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            to_server: self.bytes.to_server.load(Ordering::Relaxed),
            from_server: self.bytes.from_server.load(Ordering::Relaxed),
        }
    }

    /// Waits until the client sends nothing but heartbeats, and answers when that began.
    pub(crate) async fn settled(&self) -> Result<Instant, Failure> {
        let settled = async {
            let (mut before, mut since) = (self.counts(), Instant::now());
            while since.elapsed() < QUIET {
                sleep(SAMPLE).await;
                let now = self.counts();
                if now.to_server - before.to_server > HEARTBEAT_BYTES {
                    since = Instant::now();
                }
                before = now;
            }
            since
        };
        Ok(timeout(PATIENCE, settled).await.map_err(|_| "the mesh does not come to rest")?)
    }

    /// Waits until nothing has come or gone for this long.
    pub(crate) async fn silent(&self, pause: Duration) -> Counts {
        let mut before = self.counts();
        loop {
            sleep(pause).await;
            let now = self.counts();
            if now == before {
                return now;
            }
            before = now;
        }
    }
}

impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            to_server: self.to_server - earlier.to_server,
            from_server: self.from_server - earlier.from_server,
        }
    }
}

async fn serve(listener: TcpListener, upstream: SocketAddr, bytes: Arc<Bytes>) {
    while let Ok((client, _)) = listener.accept().await {
        let bytes = Arc::clone(&bytes);
        tokio::spawn(async move {
            let server = TcpStream::connect(upstream).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            tokio::try_join!(
                pass(client_read, server_write, &bytes.to_server),
                pass(server_read, client_write, &bytes.from_server),
            )
        });
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes: &AtomicU64,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        bytes.fetch_add(read as u64, Ordering::Relaxed);
        to.write_all(&buffer[..read]).await?;
    }
}
