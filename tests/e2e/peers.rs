//! Servers that do what no mesh does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What a peer does with every request.
#[derive(Clone)]
pub(crate) enum Manner {
    /// It sends bytes that are no HTTP.
    Garbage,
    /// It reads, and never answers.
    Silence,
    /// It answers 200 with 10 MB of zeros.
    Flood,
    /// It answers 200 with a body of its own.
    Body(&'static str),
    /// It sends the first half of a body, and the second once it is told.
    Halves(Arc<Notify>),
}

/// Serves at that IP address until the returned set is dropped.
pub(crate) async fn serve(ip: IpAddr, manner: Manner) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(misbehave(stream, manner.clone()));
        }
    });
    (address, tasks)
}

async fn misbehave(mut stream: TcpStream, manner: Manner) {
    let mut buffer = [0; 4096];
    // The client may go at any time.
    let _ = async {
        if stream.read(&mut buffer).await? == 0 {
            return Ok(());
        }
        match manner {
            Manner::Garbage => stream.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n").await?,
            Manner::Silence => std::future::pending().await,
            Manner::Flood => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n").await?;
                stream.write_all(&vec![b'0'; 10_000_000]).await?;
            }
            Manner::Body(body) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(body.as_bytes()).await?;
            }
            Manner::Halves(go_on) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").await?;
                go_on.notified().await;
                stream.write_all(b"later").await?;
            }
        }
        stream.shutdown().await
    }
    .await;
}
