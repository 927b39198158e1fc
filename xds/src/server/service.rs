//! Which path of the server is which variant of the protocol.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use futures_util::stream;
use http_body_util::BodyExt;
use prost::Message;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status, Streaming,
    body::Body,
    codegen::{BoxFuture, BoxStream, Service, http},
    server::{Grpc, StreamingService},
    service::Routes,
};

use super::{codec::Dialect, driver::Driver};
use crate::{
    limits::Limits,
    resource::ResourceType,
    session::{Protocol, Request, Response},
    status::Clients,
    view::Views,
};

/// The services of xDS, what their methods are called after `Delta` or `Stream`, and the type of their resources.
pub(super) const SERVICES: [(&str, &str, Option<ResourceType>); 9] = [
    ("envoy.service.discovery.v3.AggregatedDiscoveryService", "AggregatedResources", None),
    ("envoy.service.cluster.v3.ClusterDiscoveryService", "Clusters", Some(ResourceType::Cluster)),
    (
        "envoy.service.endpoint.v3.EndpointDiscoveryService",
        "Endpoints",
        Some(ResourceType::ClusterLoadAssignment),
    ),
    ("envoy.service.secret.v3.SecretDiscoveryService", "Secrets", Some(ResourceType::Secret)),
    (
        "envoy.service.extension.v3.ExtensionConfigDiscoveryService",
        "ExtensionConfigs",
        Some(ResourceType::TypedExtensionConfig),
    ),
    ("envoy.service.listener.v3.ListenerDiscoveryService", "Listeners", Some(ResourceType::Listener)),
    ("envoy.service.route.v3.RouteDiscoveryService", "Routes", Some(ResourceType::RouteConfiguration)),
    (
        "envoy.service.route.v3.ScopedRoutesDiscoveryService",
        "ScopedRoutes",
        Some(ResourceType::ScopedRouteConfiguration),
    ),
    ("envoy.service.route.v3.VirtualHostDiscoveryService", "VirtualHosts", Some(ResourceType::VirtualHost)),
];

/// Answers at once, and is not counted as a stream.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// A way to ask for resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Method {
    pub(crate) protocol: Protocol,
    /// The only type that may be asked for, unless the stream is aggregated.
    pub(crate) ty: Option<ResourceType>,
}

impl Method {
    /// The method that a path like `/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes` names.
    fn of(path: &str) -> Option<Self> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let (_, resources, ty) = SERVICES.into_iter().find(|(name, ..)| *name == service)?;
        let protocol = match method.strip_suffix(resources)? {
            "Delta" => Protocol::Delta,
            "Stream" if ty != Some(ResourceType::VirtualHost) => Protocol::StateOfTheWorld,
            _ => return None,
        };
        Some(Self { protocol, ty })
    }
}

/// What all streams of a server share.
pub(super) struct Context {
    pub(super) views: Arc<dyn Views>,
    pub(super) clients: Clients,
    pub(super) limits: Limits,
    pub(super) streams: Arc<Semaphore>,
    pub(super) shutdown: CancellationToken,
}

/// Serves the methods of xDS, and leaves all others to `others`.
#[derive(Clone)]
pub(super) struct Xds {
    pub(super) context: Arc<Context>,
    pub(super) others: Routes,
}

impl Service<http::Request<Body>> for Xds {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Service::<http::Request<Body>>::poll_ready(&mut self.others, cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Some(method) = Method::of(request.uri().path()) else { return self.call_other(request) };
        let open = Open { method, context: Arc::clone(&self.context) };
        Box::pin(async move {
            Ok(match method.protocol {
                Protocol::Delta => open.answer::<DeltaDiscoveryRequest>(request).await,
                Protocol::StateOfTheWorld => open.answer::<DiscoveryRequest>(request).await,
            })
        })
    }
}

impl Xds {
    /// Other methods' streams count too, to the end of their responses.
    fn call_other(&mut self, request: http::Request<Body>) -> <Self as Service<http::Request<Body>>>::Future {
        // Whoever restarts a server that does not say that it is healthy must not do so because it is busy.
        if request.uri().path() == HEALTH_CHECK {
            return Box::pin(self.others.call(request));
        }
        let Ok(slot) = Arc::clone(&self.context.streams).try_acquire_owned() else {
            return Box::pin(ready(Ok(too_many_streams().into_http())));
        };
        let response = self.others.call(request);
        Box::pin(async move {
            let hold = move |body: Body| {
                Body::new(body.map_frame(move |frame| {
                    let _held = &slot;
                    frame
                }))
            };
            Ok(response.await?.map(hold))
        })
    }
}

/// Opens a stream.
struct Open {
    method: Method,
    context: Arc<Context>,
}

impl Open {
    async fn answer<Req>(self, request: http::Request<Body>) -> http::Response<Body>
    where
        Req: Message + Default + Into<Request> + 'static,
    {
        let codec = Dialect::<Req>::new(self.method.protocol);
        let request_bytes = self.context.limits.request_bytes;
        Grpc::new(codec).max_decoding_message_size(request_bytes).streaming(self, request).await
    }
}

impl<Req: Into<Request> + Send + 'static> StreamingService<Req> for Open {
    type Response = Response;
    type ResponseStream = BoxStream<Response>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    /// Answers with responses that are made as the client takes them: nothing queues up for a slow one, and dropping
    /// them ends the session.
    fn call(&mut self, request: tonic::Request<Streaming<Req>>) -> Self::Future {
        let Ok(slot) = Arc::clone(&self.context.streams).try_acquire_owned() else {
            return ready(Err(too_many_streams()));
        };
        let driver = Driver::new(self.method, request, Arc::clone(&self.context), slot);
        let responses = stream::try_unfold(driver, |mut driver| async move {
            let response = driver.response().await?;
            Ok(response.map(|response| (response, driver)))
        });
        ready(Ok(tonic::Response::new(Box::pin(responses))))
    }
}

fn too_many_streams() -> Status {
    Status::resource_exhausted("too many streams")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_variant_and_a_type() {
        let delta = Method { protocol: Protocol::Delta, ty: None };
        let ads = "/envoy.service.discovery.v3.AggregatedDiscoveryService/";
        assert_eq!(Method::of(&format!("{ads}DeltaAggregatedResources")), Some(delta));
        let routes =
            Method { protocol: Protocol::StateOfTheWorld, ty: Some(ResourceType::RouteConfiguration) };
        assert_eq!(Method::of("/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes"), Some(routes));
    }

    #[test]
    fn what_does_not_exist_in_envoys_api_does_not_exist_here() {
        for path in [
            "",
            "/",
            "/envoy.service.route.v3.RouteDiscoveryService",
            "/envoy.service.route.v3.RouteDiscoveryService/FetchRoutes",
            "/envoy.service.route.v3.RouteDiscoveryService/DeltaClusters",
            "/envoy.service.route.v3.RouteDiscoveryService/Delta",
            "/envoy.service.route.v3.VirtualHostDiscoveryService/StreamVirtualHosts",
        ] {
            assert_eq!(Method::of(path), None, "{path}");
        }
    }

    #[test]
    fn every_type_has_a_service() {
        for ty in ResourceType::ALL {
            assert!(SERVICES.iter().any(|(.., served)| *served == Some(ty)), "{ty}");
        }
    }
}
