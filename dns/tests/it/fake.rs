//! Upstreams that answer as a test wants it, over UDP and TCP, and the clock of the tests with them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record};
use networkmesh_dns::{ForwardSettings, Rebinding};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{LOOPBACK, Server, domain, forwarding_to, patiently, reply_to};

/// A running upstream. What it is asked, it keeps.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    asked: watch::Receiver<Vec<Asked>>,
    is_open: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

/// A query as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) from: SocketAddr,
    pub(crate) over_tcp: bool,
    pub(crate) message: Message,
}

impl Fake {
    /// An upstream that sends all that `reply` makes of a query.
    pub(crate) async fn start(reply: impl Fn(&Asked) -> Vec<Message> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = bind_both().await;
        let address = udp.local_addr().unwrap();
        let (is_open, open) = watch::channel(true);
        let (keep, asked) = watch::channel(Vec::new());
        let answer = Arc::new(move |query: Asked| {
            let replies = reply(&query);
            keep.send_modify(|asked| asked.push(query));
            replies
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, Arc::clone(&answer), open.clone()));
        tasks.spawn(serve_tcp(tcp, answer, open));
        Self { address, asked, is_open, _tasks: tasks }
    }

    /// One that always gives this address, for so many seconds.
    pub(crate) async fn with_address(ttl: u32, address: &str) -> Self {
        let address = address.parse().unwrap();
        Self::start(move |query| vec![query.answer([(ttl, RData::A(address))])]).await
    }

    /// One that only ever answers with this code.
    pub(crate) async fn with_code(code: ResponseCode) -> Self {
        Self::start(move |query| vec![query.code(code)]).await
    }

    /// Holds replies back until [`Self::release`].
    pub(crate) fn hold(&self) {
        self.is_open.send_replace(false);
    }

    pub(crate) fn release(&self) {
        self.is_open.send_replace(true);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }

    /// Until so many queries came.
    pub(crate) async fn asked_times(&self, count: usize) {
        let mut asked = self.asked.clone();
        patiently(asked.wait_for(|asked| asked.len() >= count)).await.unwrap();
    }

    /// A server of domain `alice` that asks this upstream alone.
    pub(crate) async fn server(&self) -> Server {
        self.server_with(|_| {}).await
    }

    /// The same without addresses of this network in names of others but those below `except`.
    pub(crate) async fn protected_server(&self, except: &[&str]) -> Server {
        let except = except.iter().map(|zone| name(zone)).collect();
        self.server_with(|forward| forward.rebinding = Rebinding::Refused { except }).await
    }

    /// The same, set up otherwise.
    pub(crate) async fn server_with(&self, change: impl FnOnce(&mut ForwardSettings)) -> Server {
        let mut settings = forwarding_to(&[self.address]);
        change(&mut settings.forward);
        Server::start(domain("alice", &[]), settings).await
    }
}

impl Asked {
    pub(crate) fn name(&self) -> &Name {
        self.message.queries[0].name()
    }

    /// The name in lower case: servers ask with letters of random case.
    pub(crate) fn text(&self) -> String {
        self.name().to_lowercase().to_ascii()
    }

    /// A reply without records.
    pub(crate) fn code(&self, code: ResponseCode) -> Message {
        reply_to(&self.message, code)
    }

    /// A reply with these data of the name that was asked for, each for so many seconds.
    pub(crate) fn answer(&self, data: impl IntoIterator<Item = (u32, RData)>) -> Message {
        let mut reply = self.code(ResponseCode::NoError);
        for (ttl, data) in data {
            reply.add_answer(Record::from_rdata(self.name().clone(), ttl, data));
        }
        reply
    }

    /// A reply with nothing but an SOA.
    pub(crate) fn negative(&self, code: ResponseCode, soa: Record) -> Message {
        let mut reply = self.code(code);
        reply.add_authority(soa);
        reply
    }
}

/// Lets this time pass for everything in this process that is not a socket.
pub(crate) async fn later(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// How long upstreams may take that will answer, even on a busy machine.
pub(crate) const PATIENT: Duration = Duration::from_secs(15);

/// How long those may take that never answer; whoever answers at first may need more.
pub(crate) const IMPATIENT: Duration = Duration::from_millis(300);

pub(crate) fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

/// The SOA of `example.`, with these times in seconds.
pub(crate) fn soa(ttl: u32, minimum: u32) -> Record {
    let data = SOA::new(name("ns.example."), name("root.example."), 1, 2, 3, 4, minimum);
    Record::from_rdata(name("example."), ttl, RData::SOA(data))
}

pub(crate) fn alias(from: &str, to: &str) -> Record {
    Record::from_rdata(name(from), 60, RData::CNAME(CNAME(name(to))))
}

pub(crate) fn address(of: &str, address: &str) -> Record {
    Record::from_rdata(name(of), 60, RData::A(address.parse().unwrap()))
}

async fn bind_both() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind(LOOPBACK).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn serve_udp(
    socket: UdpSocket,
    answer: Arc<impl Fn(Asked) -> Vec<Message>>,
    open: watch::Receiver<bool>,
) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; 65_535];
    let mut sending = JoinSet::new();
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let message = Message::from_vec(&buffer[..length]).unwrap();
        let replies = answer(Asked { from, over_tcp: false, message });
        let (socket, mut open) = (Arc::clone(&socket), open.clone());
        sending.spawn(async move {
            open.wait_for(|is_open| *is_open).await.unwrap();
            for reply in replies {
                socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
            }
        });
    }
}

async fn serve_tcp(
    listener: TcpListener,
    answer: Arc<impl Fn(Asked) -> Vec<Message>>,
    mut open: watch::Receiver<bool>,
) {
    loop {
        let (mut stream, from) = listener.accept().await.unwrap();
        let message = read_message(&mut stream).await;
        let replies = answer(Asked { from, over_tcp: true, message });
        open.wait_for(|is_open| *is_open).await.unwrap();
        for reply in replies {
            let bytes = reply.to_vec().unwrap();
            stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    }
}

async fn read_message(stream: &mut TcpStream) -> Message {
    let length = stream.read_u16().await.unwrap();
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await.unwrap();
    Message::from_vec(&bytes).unwrap()
}
