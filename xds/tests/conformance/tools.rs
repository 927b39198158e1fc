//! What a tool like grpcurl learns of the server, which it knows nothing about.

use std::fs;

use harness::free_address;
use networkmesh_xds::ListenAddress;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    grpc::{Client, RESOURCES, python},
    support::{eventually, server::Server, upstream::is_from},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/tools.py");

#[tokio::test]
async fn a_tool_finds_the_services_and_calls_them_by_reflection_alone() {
    let folder = tempfile::tempdir().unwrap();
    let descriptors = folder.path().join("descriptors");
    output(python().await.arg(SCRIPT).arg("descriptors").arg(&descriptors)).await;
    let address = ListenAddress::Tcp(free_address().unwrap());
    let client = Client::of(Server::with_reflection(&address, fs::read(descriptors).unwrap())).await;
    eventually("blue answers", || client.call(), |it| is_from(it, "blue")).await;
    client.server.acknowledged(RESOURCES).await;

    let told = output(python().await.arg(SCRIPT).arg("ask").arg(address.to_string())).await;
    let told: Value = serde_json::from_str(&told).unwrap();
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

/// What a program prints, which must end well.
async fn output(program: &mut Command) -> String {
    let output = program.kill_on_drop(true).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
