//! Manifests of domains.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::Domain;

/// The manifests of a service with these addresses.
#[must_use]
pub fn service_manifest(service: &str, addresses: &[SocketAddr]) -> Value {
    let subset = |address: &SocketAddr| json!({"addresses": [{"ip": address.ip()}], "ports": [{"name": "http", "port": address.port()}]});
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": service, "labels": {"kuscia.secretflow/port-scope": "Cluster"}},
                "spec": {"ports": [{"name": "http", "port": 80}]},
            },
            {
                "apiVersion": "v1",
                "kind": "Endpoints",
                "metadata": {"name": service},
                "subsets": addresses.iter().map(subset).collect::<Vec<_>>(),
            },
        ],
    })
}

/// A route with token authentication.
pub(super) fn route(source: &Domain, destination: &Domain) -> Value {
    json!({
        "apiVersion": "kuscia.secretflow/v1alpha1",
        "kind": "DomainRoute",
        "metadata": {"name": format!("{}-{}", source.name, destination.name)},
        "spec": {
            "source": source.name,
            "destination": destination.name,
            "endpoint": {
                "host": destination.addresses.external.ip(),
                "ports": [{
                    "name": "http",
                    "protocol": "HTTP",
                    "port": destination.addresses.external.port(),
                    "isTLS": false,
                }],
            },
            "authenticationType": "Token",
            "tokenConfig": {
                "tokenGenMethod": "RSA-GEN",
                "rollingUpdatePeriod": 0,
                "sourcePublicKey": source.public_key.to_base64_pem(),
                "destinationPublicKey": destination.public_key.to_base64_pem(),
            },
        },
    })
}
