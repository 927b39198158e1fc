//! Keys, objects and an index of the domain `alice`.

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use certs::{DomainAuthority, DomainKey};
use jiff::Timestamp;
use networkmesh_model::{
    Document, Event, InboundRoute, Index, Kind, Object, ObjectRef, OutboundRoute, Service, Snapshot,
    StatusUpdate, read_manifests,
};
use serde_json::{Value, json};

pub(crate) static ALICE: LazyLock<DomainKey> = LazyLock::new(|| DomainKey::generate().unwrap());
pub(crate) static BOB: LazyLock<DomainKey> = LazyLock::new(|| DomainKey::generate().unwrap());
pub(crate) static BOB_CERTIFICATE: LazyLock<String> = LazyLock::new(|| certificate("bob", &BOB));

/// A domain's certificate as it stands in `Domain.spec.cert`.
pub(crate) fn certificate(domain: &str, key: &DomainKey) -> String {
    DomainAuthority::new(domain, key, SystemTime::now()).unwrap().certificate_base64_pem()
}

/// The one object of a manifest.
pub(crate) fn object(manifest: &str) -> Object {
    match read_manifests(manifest, "alice").unwrap().as_slice() {
        [Document::Read { object, .. }] => object.clone(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn object_of(manifest: &Value) -> Object {
    object(&manifest.to_string())
}

/// Paths and problems of errors, in their order.
pub(crate) fn listed(errors: &networkmesh_model::FieldErrors) -> Vec<(&str, &str)> {
    errors.iter().map(|error| (error.path.as_str(), error.problem.as_str())).collect()
}

pub(crate) fn paths(errors: &networkmesh_model::FieldErrors) -> Vec<&str> {
    errors.iter().map(|error| error.path.as_str()).collect()
}

/// A good route of the namespace alice, with tokens and both keys.
pub(crate) fn route(source: &str, destination: &str) -> Value {
    let key_of = |domain| if domain == "alice" { ALICE.public_key() } else { BOB.public_key() };
    json!({
        "apiVersion": "kuscia.secretflow/v1alpha1",
        "kind": "DomainRoute",
        "metadata": {"name": format!("{source}-{destination}"), "namespace": "alice"},
        "spec": {
            "source": source,
            "destination": destination,
            "endpoint": {
                "host": format!("{destination}.example.com"),
                "ports": [{"name": "http", "port": 1080, "protocol": "HTTP"}],
            },
            "authenticationType": "Token",
            "tokenConfig": {
                "sourcePublicKey": key_of(source).to_base64_pem(),
                "destinationPublicKey": key_of(destination).to_base64_pem(),
                "tokenGenMethod": "RSA-GEN",
                "rollingUpdatePeriod": 3600,
            },
        },
    })
}

/// `manifest` with another value at a JSON pointer.
pub(crate) fn with(mut manifest: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    match manifest.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[field.parse::<usize>().unwrap()] = value,
        parent => parent[field] = value,
    }
    manifest
}

/// `manifest` without the field at a JSON pointer.
pub(crate) fn without(mut manifest: Value, pointer: &str) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    manifest.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field).unwrap();
    manifest
}

pub(crate) fn domain(name: &str, cert: &str) -> Value {
    json!({
        "apiVersion": "kuscia.secretflow/v1alpha1",
        "kind": "Domain",
        "metadata": {"name": name},
        "spec": {"role": "partner", "cert": cert},
    })
}

pub(crate) fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "alice", "labels": {}, "annotations": {}},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    })
}

pub(crate) fn endpoints(name: &str, ip: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": name, "namespace": "alice"},
        "subsets": [{"addresses": [{"ip": ip}], "ports": [{"name": "http", "port": port}]}],
    })
}

pub(crate) fn slice(name: &str, service: &str, ip: &str, port: u16) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": "alice", "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": if ip.contains(':') { "IPv6" } else { "IPv4" },
        "endpoints": [{"addresses": [ip]}],
        "ports": [{"name": "http", "port": port}],
    })
}

pub(crate) fn reference(kind: Kind, name: &str) -> ObjectRef {
    let namespace = if kind.is_namespaced() { "alice" } else { "" };
    ObjectRef { kind, namespace: namespace.into(), name: name.into() }
}

/// The index of alice, which has read everything, and what it published last.
pub(crate) struct Mesh {
    pub(crate) index: Index,
    pub(crate) snapshot: Arc<Snapshot>,
}

impl Mesh {
    pub(crate) fn empty() -> Self {
        let index = Index::new("alice".parse().unwrap(), ALICE.clone(), []);
        let mut mesh = Self { index, snapshot: Arc::new(Snapshot::empty("alice".parse().unwrap())) };
        assert!(mesh.commit().0, "the first snapshot is published even if it is empty");
        mesh
    }

    pub(crate) fn of(manifests: &[Value]) -> Self {
        let mut mesh = Self::empty();
        for manifest in manifests {
            mesh.index.apply(Event::Apply(object_of(manifest)));
        }
        mesh.commit();
        mesh
    }

    /// Answers whether a snapshot was published, and the updates.
    pub(crate) fn put(&mut self, manifest: &Value) -> (bool, Vec<StatusUpdate>) {
        self.index.apply(Event::Apply(object_of(manifest)));
        self.commit()
    }

    pub(crate) fn delete(&mut self, kind: Kind, name: &str) -> (bool, Vec<StatusUpdate>) {
        self.index.apply(Event::Delete(reference(kind, name)));
        self.commit()
    }

    /// Makes `manifests` all that there are of `kind`.
    pub(crate) fn read_again(&mut self, kind: Kind, manifests: &[Value]) -> (bool, Vec<StatusUpdate>) {
        self.index.apply(Event::Init(kind));
        for manifest in manifests {
            self.index.apply(Event::InitApply(object_of(manifest)));
        }
        self.index.apply(Event::InitDone(kind));
        self.commit()
    }

    pub(crate) fn commit(&mut self) -> (bool, Vec<StatusUpdate>) {
        let (snapshot, updates) = self.index.commit(Timestamp::UNIX_EPOCH);
        let published = snapshot.is_some();
        self.snapshot = snapshot.unwrap_or_else(|| Arc::clone(&self.snapshot));
        (published, updates)
    }

    pub(crate) fn outbound(&self, destination: &str) -> &OutboundRoute {
        &self.snapshot.outbound[destination]
    }

    pub(crate) fn inbound(&self, source: &str) -> &InboundRoute {
        &self.snapshot.inbound[source]
    }

    pub(crate) fn service(&self, name: &str) -> &Service {
        &self.snapshot.services[name]
    }

    /// Paths and problems of why an object is rejected.
    pub(crate) fn rejection(&self, kind: Kind, name: &str) -> Vec<(&str, &str)> {
        listed(&self.snapshot.rejected[&reference(kind, name)])
    }
}
