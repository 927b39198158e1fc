//! How a request is followed through the gateways.

use std::sync::{Arc, Mutex};

use ::http::{Request, Response};
use bytes::Bytes;
use networkmesh::harness::domain::Domain;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as AttributeValue;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic::{Status, async_trait};

use super::world::{Source, World, answers, call, confirmed_revision, echoed, eventually, token};

scenes!(identifiers_of_requests_and_traces_pass_unchanged, both_gateways_tell_a_collector_of_a_request,);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

async fn call_with(domain: &Domain, headers: &[(&str, &str)]) -> Response<Bytes> {
    let request = Request::get("http://echo.bob.svc/");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    call(domain, request.body(Bytes::new()).unwrap()).await
}

async fn identifiers_of_requests_and_traces_pass_unchanged(on: Source) {
    let world = World::two_domains(on).await;
    answers(&world.alice, "echo.bob.svc", 200).await;
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let given = [
        ("x-request-id", "9e1f3c5a-0000-4000-8000-00000000abcd"),
        ("traceparent", traceparent.as_str()),
        ("tracestate", "vendor=1"),
        ("x-b3-traceid", TRACE),
        ("x-b3-spanid", PARENT),
        ("x-b3-sampled", "1"),
        ("b3", "0"),
    ];
    let answer = call_with(&world.alice, &given).await;
    let seen = echoed(&answer);
    for (name, value) in given {
        assert_eq!(seen.headers.get(name).map(String::as_str), Some(value), "{name}: {seen:?}");
    }
    assert_eq!(answer.headers()["x-b3-traceid"], TRACE);
    assert_eq!(answer.headers()["x-b3-spanid"], PARENT);

    // A request without an ID is given one, and no trace.
    let seen = echoed(&call_with(&world.alice, &[]).await);
    assert_eq!(seen.headers["x-request-id"].len(), 36, "{seen:?}");
    assert_eq!(seen.headers.get("traceparent"), None, "{seen:?}");
}

/// A collector that keeps what it is told.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ResourceSpans>>>);

#[async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().extend(request.into_inner().resource_spans);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, u16, AbortOnDropHandle<()>) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = TraceServiceServer::new(collector.clone());
        let serve =
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async { serve.await.unwrap() });
        (collector, port, AbortOnDropHandle::new(task))
    }

    /// The spans of a trace, each with the name of the service that tells it.
    fn spans_of(&self, trace: &[u8]) -> Vec<(String, Span)> {
        let told = self.0.lock().unwrap();
        let spans = told.iter().flat_map(|told| {
            let service = service_of(told);
            let spans = told.scope_spans.iter().flat_map(|scope| &scope.spans);
            spans.map(move |span| (service.clone(), span.clone()))
        });
        spans.filter(|(_, span)| span.trace_id == trace).collect()
    }
}

fn service_of(told: &ResourceSpans) -> String {
    let attributes = told.resource.iter().flat_map(|resource| &resource.attributes);
    let mut names = attributes.filter(|attribute| attribute.key == "service.name");
    match names.next().and_then(|name| name.value.as_ref()?.value.as_ref()) {
        Some(AttributeValue::StringValue(name)) => name.clone(),
        _ => String::new(),
    }
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = |from| u8::from_str_radix(&hexadecimal[from..from + 2], 16).unwrap();
    (0..hexadecimal.len()).step_by(2).map(digits).collect()
}

async fn both_gateways_tell_a_collector_of_a_request(on: Source) {
    let (collector, port, _running) = Collector::start().await;
    let config = json!({
        "envoy": {"tracing": {"collector": format!("http://127.0.0.1:{port}"), "samplingPercent": 100}},
    });
    let mut world = World::laid_out(on, &config, &config).await;
    world.connect(&world.alice.route_to(&world.bob)).await;
    world.start().await;
    confirmed_revision(&world.alice, &world.bob).await;
    answers(&world.alice, "echo.bob.svc", 200).await;

    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let seen = echoed(&call_with(&world.alice, &[("traceparent", &traceparent)]).await);
    let passed: Vec<&str> = seen.headers["traceparent"].split('-').collect();
    assert_eq!(passed[1], TRACE, "{seen:?}");
    assert_ne!(passed[2], PARENT, "{seen:?}");
    let spans = eventually("each gateway has told of the request", async || {
        let spans = collector.spans_of(&bytes(TRACE));
        let names = ["alice", "bob"].map(|name| spans.iter().any(|(service, _)| service == name));
        if names == [true, true] { Ok(spans) } else { Err(format!("{spans:?}")) }
    })
    .await;
    // One gateway's span is the child of the other's, which is the child of the application's.
    assert!(spans.iter().any(|(service, span)| service == "alice" && span.parent_span_id == bytes(PARENT)));
    let alices: Vec<&[u8]> = spans
        .iter()
        .filter(|(service, _)| service == "alice")
        .map(|(_, span)| span.span_id.as_slice())
        .collect();
    let is_below = |(service, span): &(String, Span)| {
        service == "bob" && alices.contains(&span.parent_span_id.as_slice())
    };
    assert!(spans.iter().any(is_below), "{spans:?}");
    // No token is told.
    let told = format!("{:?}", collector.0.lock().unwrap());
    assert!(!told.contains(&token(&world.alice, "bob").await), "{told}");
}
