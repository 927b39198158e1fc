//! The gRPC server.

mod accept;
#[cfg(feature = "bench")]
pub mod bench;
mod codec;
mod driver;
mod health;
mod message;
mod pace;
mod service;

use std::{sync::Arc, time::Duration};

use envoy_types::pb::envoy::{
    data::accesslog::v3::HttpAccessLogEntry,
    service::{
        accesslog::v3::access_log_service_server::AccessLogServiceServer,
        status::v3::client_status_discovery_service_server::ClientStatusDiscoveryServiceServer,
    },
};
use tokio::{sync::Semaphore, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};
use tonic_health::{ServingStatus, server::health_reporter};
use tonic_reflection::server::Builder as Reflection;
use tracing::info;

pub(crate) use self::service::Method;
use self::service::{Context, SERVICES, Xds};
use crate::{
    access_log::{AccessLogs, Take},
    csds::{self, Contents, Csds},
    limits::Limits,
    listen::{BindError, ListenAddress, Listener},
    resource::ResourceType,
    status::Clients,
    tls::Tls,
    view::Views,
};

/// How often an idle connection is probed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// After what silence a probed connection is given up.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long connections may take to end after the shutdown began.
const SHUTDOWN: Duration = Duration::from_secs(3);
/// How many bytes of requests that are not read yet may wait in a stream, and in a connection with all its streams.
/// Beyond that the client has to wait (HTTP/2 flow control).
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Listens on an address, without accepting connections yet. Call it within a Tokio runtime.
pub fn bind(address: &ListenAddress) -> Result<Bound, BindError> {
    let error = |error| BindError { address: address.clone(), error };
    let listener = Listener::bind(address).map_err(error)?;
    let address = listener.address().map_err(error)?;
    let routes = Routes::default();
    Ok(Bound {
        listener,
        address,
        limits: Limits::default(),
        tls: None,
        contents: Contents::default(),
        access_log: None,
        routes,
    })
}

/// A bound address, ready to serve.
pub struct Bound {
    listener: Listener,
    address: ListenAddress,
    limits: Limits,
    tls: Option<Tls>,
    contents: Contents,
    access_log: Option<Arc<Take>>,
    routes: Routes,
}

/// The transport failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve xDS on {address}")]
pub struct ServeError {
    /// The address that was served.
    pub address: ListenAddress,
    #[source]
    source: tonic::transport::Error,
}

/// The bytes are no `google.protobuf.FileDescriptorSet`, or one without names.
#[derive(Debug, thiserror::Error)]
#[error("the descriptors cannot be used for reflection")]
pub struct InvalidDescriptors(#[from] tonic_reflection::server::Error);

impl Bound {
    /// Replaces the default limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Serves TLS only, and only clients with a certificate, if the address is a TCP port. A Unix socket is served
    /// as ever: its file lets nobody in but the server's own user.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Shows resources in the status of clients (CSDS), where `redact` returns what may be shown of one.
    ///
    /// It is given a resource's type, name and encoded message, and returns an encoded message of the same type, or
    /// `None` to show nothing. Without it nothing is shown, as resources may hold keys and tokens.
    #[must_use]
    pub fn with_contents(
        self,
        redact: impl Fn(ResourceType, &str, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self { contents: Contents::new(redact), ..self }
    }

    /// Gives every entry of the access logs that clients send to `take`, which must not wait for anything.
    ///
    /// What clients say is bounded in size ([`Limits`]), and otherwise not checked. Without it nobody can send logs.
    #[must_use]
    pub fn with_access_log(self, take: impl Fn(&HttpAccessLogEntry) + Send + Sync + 'static) -> Self {
        Self { access_log: Some(Arc::new(take)), ..self }
    }

    /// Serves reflection (`grpc.reflection.v1` and `v1alpha`), so that tools like grpcurl know the services.
    ///
    /// `descriptors` is an encoded `google.protobuf.FileDescriptorSet` of Envoy's API, all imports included.
    pub fn with_reflection(self, descriptors: &[u8]) -> Result<Self, InvalidDescriptors> {
        let names = SERVICES.into_iter().map(|(name, ..)| name);
        let reflection = || {
            let all = Reflection::configure()
                .register_encoded_file_descriptor_set(descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET);
            let others = [csds::SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"];
            names.clone().chain(others).fold(all, Reflection::with_service_name)
        };
        let routes =
            self.routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?);
        Ok(Self { routes, ..self })
    }

    /// The address, with the port that was chosen if it was asked for as 0.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Serves until the shutdown, then ends all streams, and removes a Unix socket's file.
    ///
    /// Each client is served what `views` shows to it: all of a [`Cache`](crate::Cache), if that is given. Connected
    /// clients are listed in `clients`. Several servers may share a cache and a list of clients.
    pub async fn serve(
        self,
        views: impl Views,
        clients: Clients,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        info!(address = %self.address, "serving xDS");
        let (reporter, health) = health_reporter();
        health::set(&reporter, ServingStatus::NotServing).await;
        let health_changes = health::report(reporter, views.required(), shutdown.clone());

        let views: Arc<dyn Views> = Arc::new(views);
        let csds = Csds {
            views: Arc::clone(&views),
            clients: clients.clone(),
            contents: self.contents,
            report_bytes: self.limits.report_bytes,
            turn: Arc::new(Semaphore::new(1)),
            shutdown: shutdown.clone(),
        };
        let access_logs = self.access_log.map(|take| {
            let logs = AccessLogs { take, shutdown: shutdown.clone() };
            AccessLogServiceServer::new(logs).max_decoding_message_size(self.limits.access_log_bytes)
        });
        let others =
            self.routes.add_service(health).add_service(ClientStatusDiscoveryServiceServer::new(csds));
        let others = match access_logs {
            Some(access_logs) => others.add_service(access_logs),
            None => others,
        };
        let incoming = accept::accept(self.listener, self.tls, &self.limits);
        let streams_per_connection = self.limits.streams_per_connection;
        let streams = Arc::new(Semaphore::new(self.limits.streams));
        let stop = shutdown.clone().cancelled_owned();
        let context = Context { views, clients, limits: self.limits, streams, shutdown };
        let service = Xds { context: Arc::new(context), others: others.prepare() };
        let serve = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(streams_per_connection)
            .serve_with_incoming_shutdown(service, incoming, stop);
        let overdue = async {
            health_changes.await;
            sleep(SHUTDOWN).await;
        };
        tokio::select! {
            served = serve => served.map_err(|source| ServeError { address: self.address, source }),
            () = overdue => Ok(()),
        }
    }
}
