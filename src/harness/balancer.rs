//! What stands before several gateways of a domain.

use std::io;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A TCP balancer, which gives each connection to the next backend that takes it. It ends when this value is dropped.
///
/// It asks no backend how it does, and a connection stays with its backend to the end.
pub struct Balancer {
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl Balancer {
    /// Listens at a loopback address.
    ///
    /// # Errors
    /// There is no socket.
    pub async fn start(backends: Vec<SocketAddr>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut task = JoinSet::new();
        task.spawn(serve(listener, backends));
        Ok(Self { address, _task: task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(listener: TcpListener, mut backends: Vec<SocketAddr>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if !backends.is_empty() {
            backends.rotate_left(1);
        }
        connections.spawn(carry(client, backends.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Connects a client with the first backend that can be reached; where there is none, it finds its connection closed.
async fn carry(mut client: TcpStream, backends: Vec<SocketAddr>) {
    for backend in backends {
        if let Ok(mut server) = TcpStream::connect(backend).await {
            // Whichever side breaks off, the other one notices.
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Answers each connection with its name.
    async fn backend(name: &'static str) -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address");
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(name.as_bytes()).await.expect("writes");
            }
        });
        (address, task)
    }

    async fn ask(balancer: &Balancer) -> String {
        let mut answer = String::new();
        let mut stream = TcpStream::connect(balancer.address()).await.expect("connects");
        stream.read_to_string(&mut answer).await.expect("reads");
        answer
    }

    #[tokio::test]
    async fn connections_go_round_the_backends_that_live() {
        let [(first, _first), (second, mut second_task)] = [backend("first").await, backend("second").await];
        let balancer = Balancer::start(vec![first, second]).await.expect("starts");
        let answers = [ask(&balancer).await, ask(&balancer).await, ask(&balancer).await];
        assert_eq!(answers, ["second", "first", "second"]);

        second_task.shutdown().await;
        assert_eq!([ask(&balancer).await, ask(&balancer).await], ["first", "first"]);
    }

    #[tokio::test]
    async fn where_no_backend_lives_the_connection_ends() {
        let (gone, mut task) = backend("gone").await;
        task.shutdown().await;
        let balancer = Balancer::start(vec![gone]).await.expect("starts");
        assert_eq!(ask(&balancer).await, "");
        assert_eq!(ask(&Balancer::start(Vec::new()).await.expect("starts")).await, "");
    }
}
