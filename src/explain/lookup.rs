//! A look-up as a client of the mesh's own DNS server does it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long it may take: longer than the server waits for its upstreams, and less than commands wait for an answer.
const PATIENCE: Duration = Duration::from_secs(8);

/// What a client is told.
pub(crate) struct Response {
    /// The response code.
    pub(crate) code: ResponseCode,
    /// All that came with it, aliases included.
    pub(crate) records: Vec<Record>,
}

/// The addresses of `name`, as the `server` tells them over TCP, where no answer is cut.
///
/// # Errors
/// No answer came.
pub(crate) async fn addresses(server: SocketAddr, name: &Name) -> io::Result<Response> {
    let look_up = async {
        let (mut response, other) =
            tokio::try_join!(ask(server, name, RecordType::A), ask(server, name, RecordType::AAAA))?;
        let new: Vec<Record> =
            other.records.into_iter().filter(|record| !response.records.contains(record)).collect();
        response.records.extend(new);
        Ok(response)
    };
    timeout(PATIENCE, look_up).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn ask(server: SocketAddr, name: &Name, record_type: RecordType) -> io::Result<Response> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name.clone(), record_type));
    let packet = query.to_vec().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(server).await?;
    // Each message has its length in front (RFC 1035, 4.2.2).
    let length = u16::try_from(packet.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &packet].concat()).await?;
    let mut packet = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut packet).await?;
    let answer = Message::from_vec(&packet).map_err(io::Error::other)?;
    Ok(Response { code: answer.metadata.response_code, records: answer.answers })
}
