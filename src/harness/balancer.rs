//! What stands before several gateways of a domain.

use std::io;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A TCP balancer, which gives each connection to the next backend that takes it. It ends when this value is dropped.
///
/// It asks no backend how it does, and a connection stays with its backend to the end.
pub struct Balancer {
    address: SocketAddr,
    backends: watch::Sender<Vec<SocketAddr>>,
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
        let (backends, followed) = watch::channel(backends);
        let mut task = JoinSet::new();
        task.spawn(serve(listener, followed));
        Ok(Self { address, backends, _task: task })
    }

    /// Gives new connections to these backends from now on.
    pub fn set_backends(&self, backends: Vec<SocketAddr>) {
        self.backends.send_replace(backends);
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(listener: TcpListener, followed: watch::Receiver<Vec<SocketAddr>>) {
    let mut connections = JoinSet::new();
    let mut turn = 0;
    while let Ok((client, _)) = listener.accept().await {
        let mut backends = followed.borrow().clone();
        turn += 1;
        if !backends.is_empty() {
            let first = turn % backends.len();
            backends.rotate_left(first);
        }
        connections.spawn(carry(client, backends));
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

        let (third, _third) = backend("third").await;
        balancer.set_backends(vec![third]);
        assert_eq!(ask(&balancer).await, "third");
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
