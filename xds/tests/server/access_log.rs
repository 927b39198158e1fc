//! What Envoy says of requests.

use envoy_types::pb::envoy::{
    data::accesslog::v3::{HttpAccessLogEntry, HttpRequestProperties},
    service::accesslog::v3::{
        StreamAccessLogsMessage,
        access_log_service_client::AccessLogServiceClient,
        stream_access_logs_message::{HttpAccessLogEntries, LogEntries, TcpAccessLogEntries},
    },
};
use networkmesh_xds::{Bound, Limits, ListenAddress, bind};
use tokio::sync::mpsc;
use tokio_stream::{iter, wrappers::ReceiverStream};
use tonic::Code;

use crate::support::{Result, Server, connect, socket};

/// Sends the paths of requests that are told of to a channel.
fn with_paths(bound: Bound) -> (Bound, mpsc::UnboundedReceiver<String>) {
    let (paths_in, paths) = mpsc::unbounded_channel();
    let bound = bound.with_access_log(move |entry| {
        let path = entry.request.as_ref().map(|request| request.path.clone());
        paths_in.send(path.unwrap_or_default()).ok();
    });
    (bound, paths)
}

fn message(paths: &[&str]) -> StreamAccessLogsMessage {
    let entry = |path: &&str| HttpAccessLogEntry {
        request: Some(HttpRequestProperties { path: (*path).to_owned(), ..Default::default() }),
        ..HttpAccessLogEntry::default()
    };
    let log_entry = paths.iter().map(entry).collect();
    let entries = LogEntries::HttpLogs(HttpAccessLogEntries { log_entry });
    StreamAccessLogsMessage { log_entries: Some(entries), ..StreamAccessLogsMessage::default() }
}

async fn send_all(address: &ListenAddress, messages: Vec<StreamAccessLogsMessage>) -> Result<Option<Code>> {
    let mut client = AccessLogServiceClient::new(connect(address).await?);
    Ok(client.stream_access_logs(iter(messages)).await.err().map(|status| status.code()))
}

#[tokio::test]
async fn entries_of_requests_are_handed_over_and_no_others() -> Result {
    let (address, _folder) = socket()?;
    let (bound, mut paths) = with_paths(bind(&address)?);
    let _server = Server::start(bound);
    let tcp = StreamAccessLogsMessage {
        log_entries: Some(LogEntries::TcpLogs(TcpAccessLogEntries::default())),
        ..StreamAccessLogsMessage::default()
    };
    let messages = vec![StreamAccessLogsMessage::default(), message(&["/1", "/2"]), tcp, message(&["/3"])];
    assert_eq!(send_all(&address, messages).await?, None);
    for path in ["/1", "/2", "/3"] {
        assert_eq!(paths.recv().await.as_deref(), Some(path));
    }
    assert!(paths.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_its_stream_only() -> Result {
    let (address, _folder) = socket()?;
    let limits = Limits { access_log_bytes: 100, ..Limits::default() };
    let (bound, mut paths) = with_paths(bind(&address)?.with_limits(limits));
    let _server = Server::start(bound);
    let large = "/".repeat(200);
    assert_eq!(send_all(&address, vec![message(&[&large])]).await?, Some(Code::OutOfRange));
    assert_eq!(send_all(&address, vec![message(&["/small"])]).await?, None);
    assert_eq!(paths.recv().await.as_deref(), Some("/small"));
    Ok(())
}

#[tokio::test]
async fn a_stream_counts_among_all_streams_and_ends_with_the_server() -> Result {
    let (address, _folder) = socket()?;
    let limits = Limits { streams: 1, ..Limits::default() };
    let (bound, mut paths) = with_paths(bind(&address)?.with_limits(limits));
    let server = Server::start(bound);
    let (messages, stream) = mpsc::channel(1);
    let mut client = AccessLogServiceClient::new(connect(&address).await?);
    let open = tokio::spawn(async move { client.stream_access_logs(ReceiverStream::new(stream)).await });
    messages.send(message(&["/first"])).await?;
    assert_eq!(paths.recv().await.as_deref(), Some("/first"));
    assert_eq!(send_all(&address, vec![message(&["/second"])]).await?, Some(Code::ResourceExhausted));
    server.stop().await?;
    assert!(open.await?.is_ok());
    assert!(paths.is_empty());
    Ok(())
}

#[tokio::test]
async fn nobody_sends_logs_to_a_server_that_does_not_take_them() -> Result {
    let (address, _folder) = socket()?;
    let _server = Server::start(bind(&address)?);
    assert_eq!(send_all(&address, vec![message(&["/"])]).await?, Some(Code::Unimplemented));
    Ok(())
}
