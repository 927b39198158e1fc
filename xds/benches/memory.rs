//! The live memory of a cache, and of each client that has all of it.

#![allow(missing_docs, clippy::print_stdout)]

mod mesh;

use networkmesh_xds::{Cache, Protocol, ResourceType};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// What the allocator takes for each piece of memory (glibc), at least.
const HEADER: usize = 8;

fn main() {
    let _profiler = dhat::Profiler::builder().testing().build();
    println!("Bytes for each service, in heap blocks and what the allocator takes for these:");
    println!("services  content   cache  a wildcard client  one by names  all three after all has changed");
    for services in [1_000, 10_000, 100_000] {
        let before = live();
        let cache = mesh::cache(services);
        let with_cache = live();
        let mut wildcard = mesh::client_of(&cache, Protocol::Delta, vec!["*".to_owned()]);
        let with_wildcard = live();
        let mut by_names = mesh::client(&cache, services, Protocol::Delta);
        let with_names = live();
        for service in 0..services {
            cache.apply([mesh::cluster(service, 1)]);
            wildcard.take();
            by_names.take();
        }
        let changed = live();
        let each = |bytes: usize| bytes / services;
        println!(
            "{services:>8} {:>8} {:>7} {:>18} {:>13} {:>32}",
            each(content(&cache)),
            each(with_cache - before),
            each(with_wildcard - with_cache),
            each(with_names - with_wildcard),
            each(changed - before),
        );
    }
}

fn live() -> usize {
    let heap = dhat::HeapStats::get();
    heap.curr_bytes + heap.curr_blocks * HEADER
}

fn content(cache: &Cache) -> usize {
    let state = cache.state();
    let bodies = |ty| state.resources(ty).map(|resource| resource.body().len()).sum::<usize>();
    bodies(ResourceType::Cluster) + bodies(ResourceType::ClusterLoadAssignment)
}
