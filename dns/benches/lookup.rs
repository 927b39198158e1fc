//! What a change and a query cost, by the number of services.

#![allow(clippy::unwrap_used, missing_docs)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use model::Service;
use networkmesh_dns::{
    DEFAULT_TTL, ForwardSettings, NameChange, Names, QueryLog, Settings, Upstreams, ZoneSettings,
};
use tokio_util::sync::CancellationToken;

const SIZES: [u32; 4] = [100, 1_000, 10_000, 100_000];

/// Names asked for in turn, spread over all that there are.
const ASKED: u32 = 4096;

fn service(number: u32, port: u16) -> Arc<Service> {
    let address = |side: u32| SocketAddr::from((Ipv4Addr::from(side << 20 | number), port));
    Arc::new(Service::new(format!("service-{number}").parse().unwrap(), [address(1), address(2)].into()))
}

fn alice(services: u32) -> Names {
    let names = Names::new(&ZoneSettings {
        domain: "alice".parse().unwrap(),
        gateway: Vec::new(),
        gateway_port: 80,
        ttl: DEFAULT_TTL,
    });
    names.apply((0..services).map(|number| NameChange::Service(service(number, 80))));
    names
}

fn name(number: u32) -> Name {
    Name::from_ascii(format!("service-{number}.alice.svc.")).unwrap()
}

fn asked(services: u32) -> Vec<Name> {
    (0..ASKED).map(|turn| name(turn.wrapping_mul(2_654_435_761) % services)).collect()
}

/// A service that moved.
fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("change");
    for services in SIZES {
        let names = alice(services);
        let mut port = 0_u16;
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter(|| {
                port = port.wrapping_add(1);
                names.apply([NameChange::Service(service(services / 2, port))]);
            });
        });
    }
    group.finish();
}

/// A query over UDP on loopback, of which the look-up is a part.
fn query(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("query");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for services in SIZES {
        let names = alice(services);
        let bound =
            networkmesh_dns::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), NonZeroUsize::MIN).unwrap();
        let address = bound.local_addr();
        let upstreams = Upstreams::Servers(Vec::new());
        let forward = ForwardSettings { upstreams, ..ForwardSettings::default() };
        let settings = Settings { forward, ..Settings::default() };
        let shutdown = CancellationToken::new();
        let served = runtime.spawn(bound.serve(
            settings,
            names,
            Arc::default(),
            QueryLog::default(),
            shutdown.clone(),
        ));

        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.connect(address).unwrap();
        let queries = asked(services).into_iter().map(|name| {
            let mut message = Message::query();
            message.add_query(Query::query(name, RecordType::A));
            message.to_vec().unwrap()
        });
        let queries: Vec<Vec<u8>> = queries.collect();
        let mut turns = queries.iter().cycle();
        let mut answer = [0; 512];
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter(|| {
                client.send(turns.next().unwrap()).unwrap();
                client.recv(&mut answer).unwrap()
            });
        });
        shutdown.cancel();
        runtime.block_on(served).unwrap().unwrap();
    }
    group.finish();
}

criterion_group!(benches, change, query);
criterion_main!(benches);
