//! Requests as bytes, from an address of choice.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::timeout;

/// An answer has come within this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends `request` to `server` from `address`, one of this machine, and reads until `server` closes the connection.
///
/// # Errors
/// There is no whole answer within half a minute, or it is not UTF-8.
pub async fn ask_from(address: Ipv4Addr, server: SocketAddr, request: &[u8]) -> io::Result<String> {
    let exchange = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((address, 0).into())?;
        let mut stream = socket.connect(server).await?;
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };
    timeout(PATIENCE, exchange).await?
}
