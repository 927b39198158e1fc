//! What a name, a change and a query cost, by the number of services.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{LowerName, Name, RecordType};
use model::{Access, Affinity, PortScope, Protocol, Service, Snapshot};
use networkmesh_dns::{Answer, DEFAULT_TTL, Settings, Upstreams, Zone};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const SIZES: [u32; 4] = [100, 1_000, 10_000, 100_000];

/// Names asked for in turn, spread over all that there are.
const ASKED: u32 = 4096;

fn service(number: u32, port: u16) -> Arc<Service> {
    let address = |side: u32| SocketAddr::from((Ipv4Addr::from(side << 20 | number), port));
    Arc::new(Service {
        name: format!("service-{number}").parse().unwrap(),
        scope: PortScope::Cluster,
        access: Access::Anyone,
        protocol: Protocol::Http,
        tls: None,
        affinity: Affinity::None,
        external: None,
        through_gateway: false,
        has_ready_time: false,
        port_name: Box::default(),
        endpoints: [address(1), address(2)].into(),
    })
}

fn alice(services: u32) -> Snapshot {
    let mut snapshot = Snapshot::empty("alice".parse().unwrap());
    for service in (0..services).map(|number| service(number, 80)) {
        snapshot.services.insert(service.name.clone(), service);
    }
    snapshot
}

fn name(number: u32) -> LowerName {
    LowerName::from(Name::from_ascii(format!("service-{number}.alice.svc.")).unwrap())
}

fn asked(services: u32) -> Vec<LowerName> {
    (0..ASKED).map(|turn| name(turn.wrapping_mul(2_654_435_761) % services)).collect()
}

/// A look-up in the snapshot, beside one in a hash table of addresses that somebody would have to keep in step.
fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    let zone = Zone::new(&[], DEFAULT_TTL);
    for services in SIZES {
        let snapshot = alice(services);
        let names = asked(services);
        let mut turns = names.iter().cycle();
        group.bench_function(BenchmarkId::new("snapshot", services), |bencher| {
            bencher.iter(|| black_box(zone.lookup(&snapshot, turns.next().unwrap(), RecordType::A)));
        });
        let table: HashMap<Box<[u8]>, Box<[IpAddr]>> = snapshot
            .services
            .values()
            .map(|service| {
                let addresses = service.endpoints.iter().map(SocketAddr::ip);
                (service.name.as_str().as_bytes().into(), addresses.collect())
            })
            .collect();
        group.bench_function(BenchmarkId::new("hash table", services), |bencher| {
            bencher.iter(|| {
                let label = turns.next().unwrap().iter().next().unwrap();
                black_box(Answer::Addresses(table[label].to_vec()))
            });
        });
    }
    group.finish();
}

/// From a service that moved to the first answer that shows it.
fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("change");
    let zone = Zone::new(&[], DEFAULT_TTL);
    for services in SIZES {
        let (snapshots, newest) = watch::channel(Arc::new(alice(services)));
        let moved = services / 2;
        let name = name(moved);
        let mut port = 0_u16;
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter(|| {
                port = port.wrapping_add(1);
                let service = service(moved, port);
                let mut next = Snapshot::clone(&newest.borrow());
                next.services.insert(service.name.clone(), service);
                snapshots.send_replace(Arc::new(next));
                black_box(zone.lookup(&newest.borrow(), &name, RecordType::A))
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
        let (_snapshots, newest) = watch::channel(Arc::new(alice(services)));
        let bound =
            runtime.block_on(networkmesh_dns::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).unwrap();
        let address = bound.local_addr();
        let settings = Settings { upstreams: Upstreams::Servers(Vec::new()), ..Settings::default() };
        let shutdown = CancellationToken::new();
        let served = runtime.spawn(bound.serve(settings, newest, Arc::default(), shutdown.clone()));

        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.connect(address).unwrap();
        let queries = asked(services).into_iter().map(|name| {
            let mut message = Message::query();
            message.add_query(Query::query(name.into(), RecordType::A));
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

criterion_group!(benches, lookup, change, query);
criterion_main!(benches);
