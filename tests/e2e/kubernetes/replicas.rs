//! Several gateways of one domain.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ::http::Request;
use bytes::Bytes;
use kube::api::{Patch, PatchParams};
use model::api::DomainRouteToken;
use networkmesh::harness::balancer::Balancer;
use networkmesh::harness::domain::{Domain, Home};
use networkmesh::http::{Limits, Target, send};
use serde_json::json;

use crate::stream::Traffic;
use crate::world::{DEADLINE, PROGRAM, Source, World, confirmed_revision, eventually, set_destination};

/// Alice, and bob with three gateways behind a balancer.
struct Replicas {
    world: World,
    others: Vec<Domain>,
    balancer: Balancer,
}

impl Replicas {
    /// The tokens of alice's route to bob roll every `period` seconds.
    async fn start(period: u64) -> Self {
        let mut world = World::laid_out(Source::Kubernetes, &json!({}), &json!({})).await;
        let mut others: Vec<Domain> =
            ["2", "3"].map(|suffix| world.bob.lay_out_replica(suffix, &json!({})).unwrap()).into();
        let gateways = [&world.bob, &others[0], &others[1]].map(|gateway| gateway.addresses.external);
        let balancer = Balancer::start(gateways.into()).await.unwrap();
        let mut route = world.alice.route_to(&world.bob);
        set_destination(&mut route, "bob", balancer.address());
        route["spec"]["tokenConfig"]["rollingUpdatePeriod"] = json!(period);
        for other in &mut others {
            start(other, &world.envoy).await;
        }
        world.start().await;
        let replicas = Self { world, others, balancer };
        eventually("three gateways are alive", async || {
            let live = replicas.world.bob.status().await.unwrap().gateways;
            if live.len() == 3 { Ok(()) } else { Err(format!("{live:?}")) }
        })
        .await;
        replicas.world.connect(&route).await;
        replicas.revision().await;
        replicas
    }

    /// Where bob's gateways listen.
    fn gateways(&self) -> [SocketAddr; 3] {
        [&self.world.bob, &self.others[0], &self.others[1]].map(|gateway| gateway.addresses.external)
    }

    /// The revision that alice sends.
    async fn revision(&self) -> i64 {
        confirmed_revision(&self.world.alice, &self.world.bob).await
    }

    /// The newest token at bob, which is as it should be.
    async fn newest(&self, what: &str, is: impl Fn(&DomainRouteToken) -> bool) -> DomainRouteToken {
        eventually(what, async || {
            let status = self.world.bob.stored_status("alice-bob").await.unwrap();
            let newest = status.token_status.revision_token;
            if is(&newest) { Ok(newest) } else { Err(format!("{newest:?}")) }
        })
        .await
    }

    /// Alice loses her token, and has to negotiate a new one.
    async fn lose_token(&self) {
        let Home::Namespace(namespace) = &self.world.alice.home else { panic!("in Kubernetes") };
        let nothing = Patch::Merge(json!({"status": null}));
        namespace.routes().patch_status("alice-bob", &PatchParams::default(), &nothing).await.unwrap();
    }
}

async fn start(gateway: &mut Domain, envoy: &Path) {
    gateway.start_mesh(Path::new(PROGRAM)).await.unwrap();
    gateway.start_envoy(Path::new(PROGRAM), envoy).await.unwrap();
}

#[tokio::test]
async fn a_token_is_ready_once_all_live_gateways_have_it() {
    let mut replicas = Replicas::start(0).await;
    let all = ["bob-gateway", "bob-gateway-2", "bob-gateway-3"];
    let newest = replicas.newest("the first token is ready", |token| token.is_ready).await;
    assert_eq!(newest.effective_instances, all);

    // One gateway hears of nothing: it is alive, and keeps the new token from becoming ready. Alice gets to the others, and has
    // no connection to it from before.
    let gateways = replicas.gateways();
    replicas.balancer.set_backends(gateways[..2].into());
    let alice = &mut replicas.world.alice;
    alice.envoy.take().unwrap().stop(DEADLINE).await.unwrap();
    alice.start_envoy(Path::new(PROGRAM), &replicas.world.envoy).await.unwrap();
    replicas.others[1].mesh.as_ref().unwrap().pause().unwrap();
    replicas.lose_token().await;
    let waits = |token: &DomainRouteToken| {
        token.revision > newest.revision && token.effective_instances == all[..2] && !token.is_ready
    };
    replicas.newest("two gateways have the new token", waits).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!replicas.newest("a new token", |token| token.revision > newest.revision).await.is_ready);
    replicas.others[1].mesh.as_ref().unwrap().resume().unwrap();
    let newest = replicas
        .newest("the third one has it too", |token| token.is_ready && token.revision > newest.revision)
        .await;
    assert_eq!(newest.effective_instances, all);
    replicas.balancer.set_backends(gateways.into());
    replicas.revision().await;

    // A gateway that dies is missed after three heartbeats, and then nobody waits for it.
    for process in [replicas.others[1].mesh.take(), replicas.others[1].envoy.take()] {
        process.unwrap().kill9().await.unwrap();
    }
    let traffic = Traffic::start(&replicas.world.alice, "echo.bob.svc").await;
    traffic.more(50).await;
    assert_eq!(traffic.failures().await, Vec::<String>::new());
    replicas.lose_token().await;
    let newest = replicas
        .newest("both others have a new one", |token| token.is_ready && token.revision > newest.revision)
        .await;
    assert_eq!(newest.effective_instances, all[..2]);
    replicas.revision().await;
}

#[tokio::test]
async fn a_rolling_restart_fails_no_request() {
    let mut replicas = Replicas::start(4).await;
    let traffic = Traffic::start(&replicas.world.alice, "echo.bob.svc").await;
    let first = replicas.revision().await;
    let envoy = replicas.world.envoy.clone();
    let gateways = replicas.gateways();
    for number in 0..3 {
        let gateway = match number {
            0 => &mut replicas.world.bob,
            other => &mut replicas.others[other - 1],
        };
        // As a cluster ends a pod: it gets no new connections, is asked to let go of those that it has, and is ended.
        let leaving = gateway.addresses.external;
        replicas
            .balancer
            .set_backends(gateways.iter().copied().filter(|address| *address != leaving).collect());
        drain(gateway).await;
        traffic.more(20).await;
        gateway.envoy.take().unwrap().stop(DEADLINE).await.unwrap();
        gateway.mesh.take().unwrap().stop(DEADLINE).await.unwrap();
        traffic.more(20).await;
        start(gateway, &envoy).await;
        replicas.balancer.set_backends(gateways.into());
        traffic.more(20).await;
    }
    eventually("tokens roll on", async || {
        let revision = replicas.revision().await;
        if revision > first + 1 { Ok(()) } else { Err(format!("revision {revision}")) }
    })
    .await;
    assert_eq!(traffic.failures().await, Vec::<String>::new());
}

/// Asks Envoy to close each connection with its next answer.
async fn drain(gateway: &Domain) {
    let request = Request::post("/healthcheck/fail").body(Bytes::new()).unwrap();
    let admin = Target::Tcp(gateway.addresses.envoy_admin);
    let answer: ::http::Response<Bytes> = send(&admin, request, Limits::default()).await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}
