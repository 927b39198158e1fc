//! Many clients, some of which misbehave.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use networkmesh_xds::{
    Limits, ListenAddress,
    ResourceType::{self, Cluster, Listener, Secret},
    State, bind,
};
use tokio::{
    sync::mpsc,
    task::{JoinSet, yield_now},
};
use tokio_util::sync::CancellationToken;

use crate::support::{DeltaClient, Result, Server, endpoint, hello, hello_for, socket};

const CLIENTS: usize = 200;
const GOOD: usize = CLIENTS - 4;
const ROUNDS: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_get_every_update_whatever_some_of_them_do() -> Result {
    let (address, _folder) = socket()?;
    // Nobody is waited for any shorter than for ever, so that what happens does not depend on time.
    let limits = Limits { patience: Duration::from_secs(3600), ..Limits::default() };
    let server = Server::start(bind(&address)?.with_limits(limits));
    let mut generations = vec![publish(&server, 0)];

    let (reports, mut reported) = mpsc::channel(CLIENTS);
    let mut good = JoinSet::new();
    for id in 0..GOOD {
        good.spawn(report_updates(address.clone(), id, reports.clone()));
    }
    let stalled = stall(&address).await?;
    // One response fills the window, and another waits behind it. No more are made.
    while sent(&server, "stalled") < 2 {
        yield_now().await;
    }
    let mut slow = DeltaClient::open(&address).await?;
    slow.send(hello_for("slow", &["hot"])).await?;
    let unanswered = slow.receive().await?;
    let stop = CancellationToken::new();
    let garbage = tokio::spawn(stop.clone().run_until_cancelled_owned(send_garbage(address.clone())));
    let storm = tokio::spawn(stop.clone().run_until_cancelled_owned(reconnect(address.clone())));

    let mut misbehaving = Some((garbage, storm));
    for round in 0..ROUNDS {
        if round > 0 {
            generations.push(publish(&server, round));
        }
        if round == ROUNDS - 2
            && let Some((garbage, storm)) = misbehaving.take()
        {
            stop.cancel();
            assert!(garbage.await?.is_none() && storm.await?.is_none(), "they go on until they are stopped");
            while server.clients.snapshot().len() > GOOD + 2 {
                yield_now().await;
            }
        }
        let mut missing = GOOD;
        while missing > 0 {
            let (id, body) = tokio::select! {
                report = reported.recv() => report.ok_or("all clients have failed")?,
                Some(failed) = good.join_next() => return failed?,
            };
            assert_eq!(body, round.to_string(), "client {id} has missed an update, or got it twice");
            missing -= 1;
        }
    }
    // The newest, and that of which the stalled client was being sent something.
    assert_eq!(generations.iter().filter(|state| state.strong_count() > 0).count(), 2);

    slow.ack(&unanswered).await?;
    let update = slow.receive().await?;
    let body = update.resources[0].resource.as_ref().map(|any| any.value.clone());
    assert_eq!(body, Some((ROUNDS - 1).to_string().into_bytes()), "what it missed comes as one");
    drop(stalled);
    drop(good);
    server.stop().await
}

/// Sets what all but the stalled client ask for, and large resources for that one.
fn publish(server: &Server, round: usize) -> Weak<State> {
    server.cache.apply([
        change(Cluster, "ballast", format!("{round} {}", "x".repeat(256 << 10))),
        change(Secret, "ballast", format!("{round} {}", "x".repeat(256 << 10))),
        change(Listener, "hot", round.to_string()),
    ]);
    Arc::downgrade(&server.cache.state())
}

fn change(ty: ResourceType, name: &str, body: String) -> networkmesh_xds::Change {
    networkmesh_xds::Change::Set(ty, name.to_owned(), body.into())
}

/// A client that answers each update and reports it.
async fn report_updates(address: ListenAddress, id: usize, reports: mpsc::Sender<(usize, String)>) -> Result {
    let mut client = DeltaClient::open(&address).await?;
    client.send(hello_for(&format!("good-{id}"), &["hot"])).await?;
    loop {
        let response = client.receive().await?;
        client.ack(&response).await?;
        for any in response.resources.into_iter().filter_map(|resource| resource.resource) {
            reports.send((id, String::from_utf8(any.value)?)).await?;
        }
    }
}

/// A client that never reads what it has asked for, which is more than fits into its window.
async fn stall(address: &ListenAddress) -> Result<DeltaClient> {
    let endpoint =
        endpoint(address)?.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let mut client = DeltaClient::open_on(endpoint.connect().await?).await?;
    for ty in [Cluster, Secret] {
        client.ty = ty;
        client.send(hello_for("stalled", &["ballast"])).await?;
    }
    Ok(client)
}

/// How many resources a node was sent.
fn sent(server: &Server, node: &str) -> usize {
    let clients = server.clients.snapshot();
    let types = clients.iter().filter(|client| client.node == node).flat_map(|client| client.types.values());
    types.map(|status| status.sent).sum()
}

/// A client that sends requests without sense, as fast as it can, and again when it is thrown out.
async fn send_garbage(address: ListenAddress) {
    let mut seed = 1_u32;
    let mut random = move |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % below
    };
    loop {
        let Ok(DeltaClient { requests, mut responses, .. }) = DeltaClient::open(&address).await else {
            continue;
        };
        let reads = tokio::spawn(async move { while let Ok(Some(_)) = responses.message().await {} });
        loop {
            let ty = ResourceType::ALL[random(8) as usize];
            let type_url = if random(4) == 0 { "nonsense".to_owned() } else { ty.type_url().to_owned() };
            let names = |random: &mut dyn FnMut(u32) -> u32| match random(4) {
                0 => vec!["*".to_owned()],
                1 => vec!["x".repeat(random(1024) as usize)],
                2 => (0..random(100)).map(|n| format!("name {n}")).collect(),
                _ => vec!["x".repeat(if random(100) == 0 { 4096 } else { 1 })],
            };
            let request = DeltaDiscoveryRequest {
                type_url,
                response_nonce: random(1000).to_string(),
                resource_names_subscribe: names(&mut random),
                resource_names_unsubscribe: names(&mut random),
                initial_resource_versions: HashMap::from([("hot".to_owned(), "nonsense".to_owned())]),
                ..hello("garbage")
            };
            if requests.send(request).await.is_err() {
                break;
            }
        }
        reads.abort();
    }
}

/// A client that goes as soon as it is served, and comes back.
async fn reconnect(address: ListenAddress) {
    loop {
        let Ok(mut client) = DeltaClient::open(&address).await else { continue };
        if client.send(hello("storm")).await.is_ok() {
            client.receive().await.ok();
        }
    }
}
