//! What the index and its snapshot cost in memory.

#![allow(clippy::unwrap_used)]

use certs::DomainKey;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use networkmesh_model::{Event, Index, Object};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const SERVICES: u32 = 2_000;

fn service(number: u32) -> Object {
    let labels = json!({
        "kuscia.secretflow/port-scope": "Cluster", "kuscia.secretflow/port-name": "http", "app": "echo",
    });
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": format!("service-{number}"), "namespace": "alice", "labels": labels},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    }))
    .unwrap();
    Object::Service(Box::new(service))
}

fn address(number: u32, side: u32) -> String {
    format!("10.{side}.{}.{}", number / 250, number % 250 + 1)
}

fn endpoints(number: u32) -> Object {
    let endpoints: Endpoints = serde_json::from_value(json!({
        "metadata": {"name": format!("service-{number}"), "namespace": "alice"},
        "subsets": [{
            "addresses": [{"ip": address(number, 0)}, {"ip": address(number, 1)}],
            "ports": [{"name": "http", "port": 8080}],
        }],
    }))
    .unwrap();
    Object::Endpoints(Box::new(endpoints))
}

fn slice(number: u32) -> Object {
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {
            "name": format!("service-{number}-x7k2q"), "namespace": "alice",
            "labels": {"kubernetes.io/service-name": format!("service-{number}")},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address(number, 0)]}, {"addresses": [address(number, 1)]}],
        "ports": [{"name": "http", "port": 8080}],
    }))
    .unwrap();
    Object::EndpointSlice(Box::new(slice))
}

/// Bytes that a service costs whose addresses are told by `addresses`, also after all was told again.
fn cost(addresses: fn(u32) -> Object) -> usize {
    let mut index = Index::new("alice".parse().unwrap(), DomainKey::generate().unwrap(), []);
    let _profiler = dhat::Profiler::builder().testing().trim_backtraces(Some(1)).build();
    for number in 0..SERVICES {
        index.apply(Event::Apply(service(number)));
        index.apply(Event::Apply(addresses(number)));
    }
    let (snapshot, _) = index.commit(Timestamp::UNIX_EPOCH);
    let snapshot = snapshot.unwrap();
    assert!(snapshot.services.values().all(|service| service.endpoints.len() == 2));
    let cost = || dhat::HeapStats::get().curr_bytes / SERVICES as usize;
    let first = cost();
    for number in 0..SERVICES {
        index.apply(Event::Apply(service(number)));
        index.apply(Event::Apply(addresses(number)));
    }
    assert!(index.commit(Timestamp::UNIX_EPOCH).0.is_none());
    first.max(cost())
}

// One test, for a process has one heap.
#[test]
fn a_service_costs_no_more_than_its_share() {
    let with_endpoints = cost(endpoints);
    assert!(with_endpoints <= 430, "a service with Endpoints costs {with_endpoints} bytes");
    let with_slice = cost(slice);
    assert!(with_slice <= 530, "a service with an EndpointSlice costs {with_slice} bytes");
}
