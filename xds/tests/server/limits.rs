use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use envoy_types::pb::{
    envoy::{config::core::v3::Node, service::discovery::v3::DeltaDiscoveryRequest},
    google::protobuf::{Struct, Value, value::Kind},
};
use networkmesh_xds::{Cache, Limits, ListenAddress, Peer, ResourceType::Listener, bind};
use tokio::{io::AsyncReadExt, net::UnixStream};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{DeltaClient, Result, Server, connect, hello, hello_for, set, socket};

#[tokio::test]
async fn a_client_that_asks_for_too_much_loses_its_stream_only() -> Result {
    let (address, _folder) = socket()?;
    let limits = Limits { request_bytes: 1024, names_per_request: 3, ..Limits::default() };
    let server = Server::start(bind(&address)?.with_limits(limits));
    let mut good = DeltaClient::open(&address).await?;
    good.send(hello("good")).await?;

    let many = DeltaClient::open(&address).await?;
    many.send(hello_for("greedy", &["a"; 4])).await?;
    assert_eq!(many.end_code().await, Some(Code::ResourceExhausted));
    let large = DeltaClient::open(&address).await?;
    large.send(hello_for("greedy", &["a".repeat(2048).as_str()])).await?;
    assert_eq!(large.end_code().await, Some(Code::OutOfRange));

    server.set(Listener, "web", "1");
    assert_eq!(good.receive().await?.resources.len(), 1);
    Ok(())
}

#[tokio::test]
async fn no_response_is_larger_than_grpc_clients_accept_unless_told_otherwise() -> Result {
    let (address, _folder) = socket()?;
    let server = Server::start(bind(&address)?);
    const COUNT: usize = 6_000;
    let names = (0..COUNT).map(|n| (Listener, format!("listener-{n}"), vec![0; 800].into()));
    server.cache.replace(names);
    let mut client = DeltaClient::open(&address).await?;
    client.send(hello("envoy")).await?;
    let mut received = 0;
    while received < COUNT {
        let response = client.receive().await?;
        client.ack(&response).await?;
        received += response.resources.len();
    }
    assert_eq!(received, COUNT);
    Ok(())
}

#[tokio::test]
async fn a_stream_too_many_is_refused_before_it_says_anything() -> Result {
    let (address, _folder) = socket()?;
    let server = Server::start(bind(&address)?.with_limits(Limits { streams: 2, ..Limits::default() }));
    server.set(Listener, "web", "1");
    let silent = DeltaClient::open(&address).await?;
    let mut good = DeltaClient::open(&address).await?;
    let refused = DeltaClient::open(&address).await.err().ok_or("there is no room")?;
    let refused = refused.downcast::<Status>()?;
    assert_eq!(refused.code(), Code::ResourceExhausted);

    good.send(hello("good")).await?;
    assert_eq!(good.receive().await?.resources.len(), 1);
    drop(silent);
    while DeltaClient::open(&address).await.is_err() {
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test]
async fn streams_of_tools_count_but_a_check_of_health_does_not() -> Result {
    let (address, _folder) = socket()?;
    let _server = Server::start(bind(&address)?.with_limits(Limits { streams: 1, ..Limits::default() }));
    let mut health = HealthClient::new(connect(&address).await?);
    let watched = health.watch(HealthCheckRequest::default()).await?;
    let refused = health.watch(HealthCheckRequest::default()).await.err().ok_or("there is no room")?;
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(DeltaClient::open(&address).await.is_err());
    health.check(HealthCheckRequest::default()).await?;

    drop(watched);
    while health.watch(HealthCheckRequest::default()).await.is_err() {
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_too_many_waits_until_another_ends() -> Result {
    let (address, _folder) = socket()?;
    let server = Server::start(bind(&address)?.with_limits(Limits { connections: 1, ..Limits::default() }));
    server.set(Listener, "web", "1");
    let mut first = DeltaClient::open(&address).await?;
    first.send(hello("first")).await?;
    let mut response = first.receive().await?;

    let first_ended = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&first_ended);
    let second = tokio::spawn(async move {
        let mut second = DeltaClient::open(&address).await?;
        second.send(hello("second")).await?;
        second.receive().await?;
        Result::Ok(ended.load(Ordering::SeqCst))
    });
    for round in 0..100 {
        first.ack(&response).await?;
        server.set(Listener, "web", &format!("round {round}"));
        response = first.receive().await?;
    }
    first_ended.store(true, Ordering::SeqCst);
    drop(first);
    assert!(second.await??, "the second was served although the first was there");
    Ok(())
}

#[tokio::test]
async fn a_connection_that_says_nothing_ends() -> Result {
    let (address, _folder) = socket()?;
    let limits = Limits { first_request: Duration::from_millis(10), ..Limits::default() };
    let _server = Server::start(bind(&address)?.with_limits(limits));
    let ListenAddress::Unix(path) = &address else { return Err("a Unix socket was asked for".into()) };
    let mut silent = UnixStream::connect(path).await?;
    let mut received = Vec::new();
    // Ends, whether or not the server has greeted it.
    silent.read_to_end(&mut received).await?;
    Ok(())
}

#[tokio::test]
async fn a_stream_that_asks_for_nothing_ends() -> Result {
    let (address, _folder) = socket()?;
    let limits = Limits { first_request: Duration::from_millis(500), ..Limits::default() };
    let server = Server::start(bind(&address)?.with_limits(limits));
    let silent = DeltaClient::open(&address).await?;
    assert_eq!(silent.end_code().await, Some(Code::DeadlineExceeded));
    assert_eq!(server.clients.snapshot(), []);
    Ok(())
}

#[tokio::test]
async fn metadata_that_is_too_long_is_left_out() -> Result {
    let (address, _folder) = socket()?;
    let cache = Cache::new();
    set(&cache, Listener, "web", "1");
    let views = {
        let cache = cache.clone();
        move |node: &networkmesh_xds::Node, _: &Peer| node.metadata.fields.is_empty().then(|| cache.clone())
    };
    let limits = Limits { metadata_bytes: 100, ..Limits::default() };
    let _server = Server::start_with(bind(&address)?.with_limits(limits), views, cache);
    let saying = |text: String| {
        let value = Value { kind: Some(Kind::StringValue(text)) };
        let metadata = Some(Struct { fields: [("text".to_owned(), value)].into() });
        let node = Some(Node { metadata, ..Node::default() });
        DeltaDiscoveryRequest { node, ..DeltaDiscoveryRequest::default() }
    };
    let mut long = DeltaClient::open(&address).await?;
    long.send(saying("x".repeat(100))).await?;
    assert_eq!(long.receive().await?.resources.len(), 1);
    let short = DeltaClient::open(&address).await?;
    short.send(saying("x".to_owned())).await?;
    assert_eq!(short.end_code().await, Some(Code::PermissionDenied));
    Ok(())
}
