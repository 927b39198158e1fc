//! Objects as their owners write them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::SystemTime;

use certs::{DomainAuthority, DomainKey};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::watch::{Kind, Object};
use crate::world::Place;

/// The time at which all of this happens.
const NOW: i64 = 1_800_000_000;

pub(super) fn at(seconds_ago: i64) -> Timestamp {
    Timestamp::from_second(NOW - seconds_ago).unwrap()
}

pub(super) fn place_of(object: &Value) -> Place {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    Place { namespace: text("namespace"), name: text("name") }
}

pub(super) fn parse(kind: Kind, mut object: Value) -> Object {
    object["apiVersion"] = json!("kuscia.secretflow/v1alpha1");
    object["kind"] = json!(kind.to_string());
    match kind {
        Kind::Domain => Object::Domain(serde_json::from_value(object).unwrap()),
        Kind::Namespace => Object::Namespace(serde_json::from_value(object).unwrap()),
        Kind::ClusterDomainRoute => Object::ClusterDomainRoute(serde_json::from_value(object).unwrap()),
        Kind::DomainRoute => Object::DomainRoute(serde_json::from_value(object).unwrap()),
        Kind::Gateway => Object::Gateway(serde_json::from_value(object).unwrap()),
    }
}

/// The certificate of a domain, made once per name.
pub(super) fn key_of(name: &str) -> Certified {
    static KEYS: Mutex<BTreeMap<String, Certified>> = Mutex::new(BTreeMap::new());
    let mut keys = KEYS.lock().unwrap();
    keys.entry(name.to_owned()).or_insert_with(|| Certified::new(name)).clone()
}

#[derive(Clone)]
pub(super) struct Certified {
    pub(super) public_key: String,
    certificate: String,
}

impl Certified {
    fn new(name: &str) -> Self {
        let key = DomainKey::generate().unwrap();
        let authority = DomainAuthority::new(name, &key, SystemTime::now()).unwrap();
        Self { public_key: key.public_key().to_base64_pem(), certificate: authority.certificate_base64_pem() }
    }
}

pub(super) fn domain(name: &str, key: Option<&Certified>) -> Value {
    let cert = key.map(|key| key.certificate.clone()).unwrap_or_default();
    json!({"metadata": {"name": name}, "spec": {"cert": cert}})
}

pub(super) fn gateway(namespace: &str, name: &str, seconds_ago: i64) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name},
        "status": {"address": "192.0.2.1", "heartbeatTime": at(seconds_ago).to_string()},
    })
}

pub(super) fn cluster_route(source: &str, destination: &str) -> Value {
    json!({
        "metadata": {"name": format!("{source}-{destination}"), "labels": {"team": "blue"}},
        "spec": {
            "source": source,
            "destination": destination,
            "endpoint": {"host": "gateway.example", "ports": [{"name": "http", "protocol": "HTTP", "port": 1080}]},
            "authenticationType": "Token",
            "tokenConfig": {"tokenGenMethod": "RSA-GEN", "rollingUpdatePeriod": 86400},
        },
    })
}

pub(super) fn token(revision: i64, ready: bool, gateways: &[&str]) -> Value {
    json!({"revision": revision, "token": format!("sealed-{revision}"), "isReady": ready,
           "effectiveInstances": gateways, "heartBeatTime": at(1).to_string()})
}

pub(super) fn route_status(newest: &Value, tokens: &[Value]) -> Value {
    json!({"isDestinationAuthorized": true, "tokenStatus": {
        "revisionInitializer": "gw-1", "revisionToken": newest, "tokens": tokens}})
}
