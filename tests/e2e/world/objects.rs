//! Routes and services as tests need them.

use std::net::SocketAddr;

use networkmesh::harness::domain::Domain;
use serde_json::{Value, json};

pub(crate) async fn apply_route(domain: &Domain, route: &Value) {
    let file = format!("{}.json", route["metadata"]["name"].as_str().unwrap());
    domain.apply(&file, route).await.unwrap_or_else(|error| panic!("{error}"));
}

/// Turns a route into one from the domain `source`, whose public key is `key`.
pub(crate) fn set_source(route: &mut Value, source: &str, key: &str) {
    let destination = route["spec"]["destination"].as_str().unwrap().to_owned();
    route["metadata"]["name"] = format!("{source}-{destination}").into();
    route["spec"]["source"] = source.into();
    route["spec"]["tokenConfig"]["sourcePublicKey"] = key.into();
}

/// Turns a route into one to the domain `destination`, whose gateway is at `endpoint`.
pub(crate) fn set_destination(route: &mut Value, destination: &str, endpoint: SocketAddr) {
    let source = route["spec"]["source"].as_str().unwrap().to_owned();
    route["metadata"]["name"] = format!("{source}-{destination}").into();
    route["spec"]["destination"] = destination.into();
    route["spec"]["endpoint"]["host"] = endpoint.ip().to_string().into();
    route["spec"]["endpoint"]["ports"][0]["port"] = endpoint.port().into();
}

/// Turns a route into one without token authentication.
pub(crate) fn set_unauthenticated(route: &mut Value) {
    route["spec"]["authenticationType"] = "None".into();
    route["spec"].as_object_mut().unwrap().remove("tokenConfig");
}

/// A service that is another host.
pub(crate) fn external(name: &str, host: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [{
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": {}},
            "spec": {"type": "ExternalName", "externalName": host, "ports": [{"name": "http", "port": 80}]},
        }],
    })
}

/// The same service, but its clients are to go through the gateway.
pub(crate) fn labelled(mut manifest: Value) -> Value {
    manifest["items"][0]["metadata"]["labels"]["kuscia.secretflow/loadbalancer"] = "domainroute".into();
    manifest
}
