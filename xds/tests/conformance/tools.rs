//! What a tool like grpcurl learns of the server, which it knows nothing about.

use std::fs;

use harness::{free_address, grpc_tool};
use networkmesh_xds::ListenAddress;
use serde_json::json;

use crate::{
    grpc::{Client, RESOURCES, python},
    support::{eventually, server::Server, upstream::is_from},
};

const DESCRIPTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/descriptors.py");

#[tokio::test]
async fn a_tool_finds_the_services_and_calls_them_by_reflection_alone() {
    let folder = tempfile::tempdir().unwrap();
    let descriptors = folder.path().join("descriptors");
    let written = python().await.arg(DESCRIPTORS).arg(&descriptors).output().await.unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let address = ListenAddress::Tcp(free_address().unwrap());
    let client = Client::of(Server::with_reflection(&address, &fs::read(descriptors).unwrap())).await;
    eventually("blue answers", || client.call(), |it| is_from(it, "blue")).await;
    client.server.acknowledged(RESOURCES).await;

    let told = grpc_tool::ask(&address.to_string(), None, &|step| eprintln!("{step}")).await;
    let told = told.unwrap_or_else(|error| panic!("{error}"));
    let services = told["services"].as_array().unwrap();
    for service in [
        "envoy.service.cluster.v3.ClusterDiscoveryService",
        "envoy.service.discovery.v3.AggregatedDiscoveryService",
        "envoy.service.endpoint.v3.EndpointDiscoveryService",
        "envoy.service.extension.v3.ExtensionConfigDiscoveryService",
        "envoy.service.listener.v3.ListenerDiscoveryService",
        "envoy.service.route.v3.RouteDiscoveryService",
        "envoy.service.route.v3.ScopedRoutesDiscoveryService",
        "envoy.service.route.v3.VirtualHostDiscoveryService",
        "envoy.service.secret.v3.SecretDiscoveryService",
        "envoy.service.status.v3.ClientStatusDiscoveryService",
        "grpc.health.v1.Health",
    ] {
        assert!(services.contains(&json!(service)), "{service} is not among {services:?}");
    }
    assert_eq!(told["health"], json!({"status": "SERVING"}));

    let clients = told["clients"]["config"].as_array().unwrap();
    assert_eq!(clients.len(), 1, "{told}");
    assert_eq!(clients[0]["node"]["id"], "grpc");
    let resources = clients[0]["genericXdsConfigs"].as_array().unwrap();
    assert_eq!(resources.len(), RESOURCES.len(), "{told}");
    for (ty, name) in RESOURCES {
        let resource = resources.iter().find(|resource| resource["typeUrl"] == ty.type_url()).unwrap();
        assert_eq!(resource["name"], name);
        assert_eq!(resource["versionInfo"], client.server.version(ty, name).to_string());
        assert_eq!(
            (&resource["configStatus"], &resource["clientStatus"]),
            (&json!("SYNCED"), &json!("ACKED"))
        );
    }
}
