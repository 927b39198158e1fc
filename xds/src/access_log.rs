//! The access log service (`envoy.service.accesslog.v3`): what Envoy says of requests.

use std::sync::Arc;

use envoy_types::pb::envoy::{
    data::accesslog::v3::HttpAccessLogEntry,
    service::accesslog::v3::{
        StreamAccessLogsMessage, StreamAccessLogsResponse, access_log_service_server::AccessLogService,
        stream_access_logs_message::LogEntries,
    },
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// What takes the entries.
pub(crate) type Take = dyn Fn(&HttpAccessLogEntry) + Send + Sync;

/// Hands over the entries of all streams. A stream goes on until its client or the server ends it.
pub(crate) struct AccessLogs {
    pub(crate) take: Arc<Take>,
    pub(crate) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl AccessLogService for AccessLogs {
    async fn stream_access_logs(
        &self,
        request: Request<Streaming<StreamAccessLogsMessage>>,
    ) -> Result<Response<StreamAccessLogsResponse>, Status> {
        let mut messages = request.into_inner();
        let read = async {
            while let Some(message) = messages.message().await? {
                if let Some(LogEntries::HttpLogs(logs)) = &message.log_entries {
                    logs.log_entry.iter().for_each(|entry| (self.take)(entry));
                }
            }
            Ok::<_, Status>(())
        };
        self.shutdown.run_until_cancelled(read).await.unwrap_or(Ok(()))?;
        Ok(Response::new(StreamAccessLogsResponse {}))
    }
}
