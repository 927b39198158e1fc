//! What one change costs with few resources and with many, and what an up-to-date client costs that comes back.

#![allow(missing_docs)]

mod mesh;

use std::{collections::HashMap, hint::black_box, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use networkmesh_xds::{Cache, Protocol, ResourceType, Version, bench::Client};

const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];

/// One cluster changes: the cache takes it, and a client is sent and acknowledges it and, again, its endpoints.
fn single_change(criterion: &mut Criterion) {
    for (protocol, label) in [(Protocol::Delta, "delta"), (Protocol::StateOfTheWorld, "state_of_the_world")] {
        let mut group = criterion.benchmark_group(format!("single_change/{label}"));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2));
        for services in SIZES {
            let cache = mesh::cache(services);
            let mut client = mesh::client(&cache, services, protocol);
            let mut revision = 0;
            group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
                bencher.iter(|| {
                    revision += 1;
                    // A prime stride, so that the changes are spread over all services.
                    cache.apply([mesh::cluster(revision as usize * 7919 % services, revision)]);
                    let sent = client.take();
                    assert!(sent > 0);
                    black_box(sent)
                });
            });
        }
    }
}

/// The same change, taken by the cache alone.
fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for services in SIZES {
        let cache = mesh::cache(services);
        let mut revision = 0;
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter(|| {
                revision += 1;
                cache.apply([mesh::cluster(revision as usize * 7919 % services, revision)])
            });
        });
    }
}

/// A delta client comes back with all it holds: nothing is sent.
fn reconnect(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reconnect");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for services in SIZES {
        let cache = mesh::cache(services);
        let names: Vec<String> = (0..services).map(mesh::name).collect();
        let versions =
            [ResourceType::Cluster, ResourceType::ClusterLoadAssignment].map(|ty| held(&cache, ty));
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter_batched(
                || (names.clone(), versions.clone()),
                |(names, [clusters, endpoints])| {
                    let mut client = Client::new(&cache, Protocol::Delta);
                    client.ask(ResourceType::Cluster, Vec::new(), clusters);
                    client.ask(ResourceType::ClusterLoadAssignment, names, endpoints);
                    assert_eq!(client.take(), 0);
                    client
                },
                BatchSize::LargeInput,
            );
        });
    }
}

/// What a client that has everything says to hold when it comes back.
fn held(cache: &Cache, ty: ResourceType) -> HashMap<String, String> {
    let state = cache.state();
    let version = |body: &[u8]| Version::of(body).to_string();
    state.resources(ty).map(|held| (held.name().to_owned(), version(held.body()))).collect()
}

criterion_group!(benches, apply, single_change, reconnect);
criterion_main!(benches);
