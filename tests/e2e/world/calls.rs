//! Calls and queries of applications, and what comes back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use networkmesh::harness::domain::Domain;
use networkmesh::harness::echo::Echoed;
use networkmesh::http::{Limits, Target, send};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use super::{DEADLINE, eventually};

/// Calls a service of any domain as an application of `domain`, with the `Host` header as given.
pub(crate) async fn get(domain: &Domain, host: &str, path: &str) -> Response<Bytes> {
    call(domain, Request::get(path).header("host", host).body(Bytes::new()).unwrap()).await
}

/// Sends a request as an application of `domain`.
pub(crate) async fn call(domain: &Domain, request: Request<Bytes>) -> Response<Bytes> {
    send(&Target::Tcp(domain.addresses.internal), request, Limits::default()).await.unwrap()
}

/// What the echo service saw.
#[track_caller]
pub(crate) fn echoed(response: &Response<Bytes>) -> Echoed {
    assert_eq!(response.status(), StatusCode::OK, "{response:?}");
    serde_json::from_slice(response.body()).unwrap()
}

/// The gateways that an error has passed, each with what it says.
#[track_caller]
pub(crate) fn hops(answer: &Response<Bytes>) -> &str {
    answer.headers()["kuscia-error-message"].to_str().unwrap()
}

/// Waits until a service of any domain answers applications of `domain` with `status`.
pub(crate) async fn answers(domain: &Domain, host: &str, status: u16) -> Response<Bytes> {
    eventually(&format!("{host} answers {status}"), async || {
        let url = format!("http://{host}/");
        let response = domain.call(&url).await.map_err(|error| error.to_string())?;
        if response.status() == status { Ok(response) } else { Err(format!("{response:?}")) }
    })
    .await
}

/// Asks the server at `dns`, over UDP, for an address of `name`.
pub(crate) async fn resolve(dns: SocketAddr, name: &str) -> Option<IpAddr> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), RecordType::A));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.connect(dns).await.unwrap();
    socket.send(&query.to_vec().unwrap()).await.unwrap();
    let mut buffer = [0; 512];
    let size = timeout(DEADLINE, socket.recv(&mut buffer)).await.expect("an answer").unwrap();
    let answer = Message::from_vec(&buffer[..size]).unwrap();
    assert_eq!(answer.metadata.id, query.metadata.id);
    answer.answers.iter().find_map(|record| match &record.data {
        RData::A(address) => Some(address.0.into()),
        _ => None,
    })
}

/// An address at which nobody answers as long as this lives: connections to it are refused.
pub(crate) struct Nobody {
    pub(crate) address: SocketAddr,
    _port: TcpSocket,
}

/// An address at which no service of `domain` listens.
pub(crate) fn nobody_at(domain: &Domain) -> Nobody {
    let ip = domain.home.service_ip().unwrap();
    let port = if ip.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    port.bind((ip, 0).into()).unwrap();
    Nobody { address: port.local_addr().unwrap(), _port: port }
}
