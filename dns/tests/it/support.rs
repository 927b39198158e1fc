//! Servers, clients and faulty upstreams.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use dns::{
    DEFAULT_TTL, ForwardSettings, Metrics, NameChange, Names, QueryLog, ServeError, Settings, Upstreams,
    ZoneSettings,
};
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use model::Service;
use networkmesh_dns as dns;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake::PATIENT;

pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What a test waits for before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server of a domain.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) names: Names,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) queries: QueryLog,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    pub(crate) async fn start(names: Names, settings: Settings) -> Self {
        let bound = dns::bind(LOOPBACK, NonZeroUsize::MIN).unwrap();
        Self::serve(bound, names, settings)
    }

    pub(crate) fn serve(bound: dns::Bound, names: Names, settings: Settings) -> Self {
        let address = bound.local_addr();
        let metrics = Arc::<Metrics>::default();
        let shutdown = CancellationToken::new();
        let queries = QueryLog::default();
        let task = tokio::spawn(bound.serve(
            settings,
            names.clone(),
            Arc::clone(&metrics),
            queries.clone(),
            shutdown.clone(),
        ));
        Self { address, names, metrics, queries, shutdown, task }
    }

    /// Queries that were answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.metrics.by_rcode().iter().map(|(_, count)| count).sum()
    }

    pub(crate) fn count(&self, rcode: &str) -> u64 {
        self.metrics.by_rcode().iter().find(|(name, _)| *name == rcode).unwrap().1
    }
}

/// Settings that ask `upstreams`, patiently.
pub(crate) fn forwarding_to(upstreams: &[SocketAddr]) -> Settings {
    let forward = ForwardSettings {
        upstreams: Upstreams::Servers(upstreams.to_vec()),
        timeout: PATIENT,
        ..ForwardSettings::default()
    };
    Settings { forward, ..Settings::default() }
}

/// Settings without upstreams.
pub(crate) fn alone() -> Settings {
    forwarding_to(&[])
}

/// A domain with these services, each at these IP addresses.
pub(crate) fn domain(name: &str, services: &[(&str, &[&str])]) -> Names {
    let names = Names::new(&ZoneSettings {
        domain: name.parse().unwrap(),
        gateway: vec!["10.0.0.1".parse().unwrap()],
        gateway_port: 80,
        ttl: DEFAULT_TTL,
    });
    names.apply(services.iter().map(|(name, ips)| NameChange::Service(service(name, ips))));
    names
}

/// A service at port 80 of these IP addresses.
pub(crate) fn service(name: &str, ips: &[&str]) -> Arc<Service> {
    Arc::new(Service::new(
        name.parse().unwrap(),
        ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 80)).collect(),
    ))
}

/// A service `big` with `count` addresses.
pub(crate) fn big_domain(name: &str, count: u8) -> Names {
    let ips: Vec<String> = (0..count).map(|last| format!("192.0.2.{last}")).collect();
    domain(name, &[("big", &ips.iter().map(String::as_str).collect::<Vec<_>>())])
}

pub(crate) fn query(name: &str, record_type: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    message
}

pub(crate) fn with_edns(mut message: Message, max_payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(max_payload);
    message.edns = Some(edns);
    message
}

pub(crate) async fn ask(server: SocketAddr, name: &str, record_type: RecordType) -> Message {
    exchange_udp(server, &query(name, record_type)).await
}

pub(crate) async fn exchange_udp(server: SocketAddr, query: &Message) -> Message {
    let reply = Message::from_vec(&exchange_bytes(server, &query.to_vec().unwrap()).await).unwrap();
    assert_eq!(reply.metadata.id, query.metadata.id);
    reply
}

pub(crate) async fn exchange_bytes(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(query).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let length = patiently(socket.recv(&mut buffer)).await.unwrap();
    buffer.truncate(length);
    buffer
}

pub(crate) async fn exchange_tcp(stream: &mut TcpStream, query: &Message) -> Message {
    let bytes = query.to_vec().unwrap();
    stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let length = patiently(stream.read_u16()).await.unwrap();
    let mut reply = vec![0; usize::from(length)];
    patiently(stream.read_exact(&mut reply)).await.unwrap();
    Message::from_vec(&reply).unwrap()
}

/// The addresses of an answer, as text.
pub(crate) fn addresses(reply: &Message) -> Vec<String> {
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    reply.answers.iter().map(|record| record.data.ip_addr().unwrap().to_string()).collect()
}

/// An upstream that sends whatever `reply` makes of a query, if anything.
pub(crate) async fn upstream(
    reply: impl Fn(Message) -> Option<Message> + Send + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            if let Some(reply) = reply(Message::from_vec(&buffer[..length]).unwrap()) {
                socket.send_to(&reply.to_vec().unwrap(), client).await.unwrap();
            }
        }
    });
    (address, task)
}

/// The beginning of a reply to `query`.
pub(crate) fn reply_to(query: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.response_code = code;
    reply.queries.clone_from(&query.queries);
    reply
}

pub(crate) async fn patiently<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing came in time")
}
