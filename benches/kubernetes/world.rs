//! The objects of domain `alice`, in the API server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use certs::DomainKey;
use futures_util::{TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use model::api::DomainRoute;
use networkmesh::harness::cluster::{Cluster, Namespace};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{Failure, partners};

/// The domain, and its namespace.
pub(crate) const DOMAIN: &str = "alice";

/// Objects that are written at the same time.
const AT_ONCE: usize = 32;

/// The port of every service's only endpoint.
pub(crate) const PORT: u16 = 8080;

/// A namespace that grows.
pub(crate) struct World {
    pub(crate) key: DomainKey,
    pub(crate) namespace: Namespace,
    pub(crate) services: usize,
    pub(crate) routes: usize,
    /// Where all partners' gateways are.
    partners: SocketAddr,
}

impl World {
    /// The namespace without services and routes.
    pub(crate) async fn new(kubeconfig: &Path) -> Result<Self, Failure> {
        let cluster = Cluster::connect(kubeconfig).await?;
        cluster.define_kinds().await?;
        let namespace = cluster.namespace(DOMAIN).await?;
        let partners = partners::serve().await?;
        Ok(Self { key: DomainKey::generate()?, namespace, services: 0, routes: 0, partners })
    }

    /// Adds objects until there are so many services and routes.
    ///
    /// As Kubernetes' controllers would, every service gets an EndpointSlice, and Endpoints that say the same. Every
    /// second route leads out, the others in; all have a token that never ends.
    pub(crate) async fn grow(&mut self, (services, routes): (usize, usize)) -> Result<(), Failure> {
        let new_services = self.services..services.max(self.services);
        stream::iter(new_services.map(Ok))
            .try_for_each_concurrent(AT_ONCE, |number| self.add_service(number))
            .await?;
        let new_routes = self.routes..routes.max(self.routes);
        stream::iter(new_routes.map(Ok))
            .try_for_each_concurrent(AT_ONCE, |number| self.add_route(number))
            .await?;
        (self.services, self.routes) = (services, routes);
        Ok(())
    }

    async fn add_service(&self, number: usize) -> Result<(), Failure> {
        let (name, ip) = (service_name(number), address(number));
        self.create::<Service>(service(&name)).await?;
        self.create::<EndpointSlice>(slice(&name, ip)).await?;
        self.create::<Endpoints>(endpoints(&name, ip)).await?;
        Ok(())
    }

    async fn add_route(&self, number: usize) -> Result<(), Failure> {
        let route = self.route(number);
        let name = self.create::<DomainRoute>(route).await?.metadata.name.unwrap_or_default();
        self.patch_status(&name, &self.tokens(1, true)?).await?;
        Ok(())
    }

    /// Creates an object, and returns what the API server has stored.
    pub(crate) async fn create<K>(&self, object: Value) -> Result<K, Failure>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug,
        K: DeserializeOwned + Serialize,
    {
        let object: K = serde_json::from_value(object)?;
        Ok(self.api::<K>().create(&PostParams::default(), &object).await?)
    }

    /// Gives a route these tokens.
    pub(crate) async fn patch_status(&self, route: &str, tokens: &Value) -> Result<DomainRoute, Failure> {
        let patch = Patch::Merge(json!({"status": {"tokenStatus": tokens}}));
        Ok(self.api::<DomainRoute>().patch_status(route, &PatchParams::default(), &patch).await?)
    }

    /// Moves the only endpoint of a slice.
    pub(crate) async fn patch_slice(&self, service: &str, ip: Ipv4Addr) -> Result<EndpointSlice, Failure> {
        let patch = Patch::Merge(json!({"endpoints": slice(service, ip)["endpoints"]}));
        Ok(self.api::<EndpointSlice>().patch(&slice_name(service), &PatchParams::default(), &patch).await?)
    }

    /// The objects of one kind.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.namespace.cluster().client(), DOMAIN)
    }

    /// A token status with one token.
    pub(crate) fn tokens(&self, revision: u32, is_ready: bool) -> Result<Value, Failure> {
        let mut secret = [0; 32];
        secret[..4].copy_from_slice(&revision.to_be_bytes());
        let token = json!({
            "revision": revision,
            "isReady": is_ready,
            "token": self.key.public_key().seal(&secret)?,
            "revisionTime": "2026-01-01T00:00:00Z",
            "expirationTime": "2126-01-01T00:00:00Z",
            "effectiveInstances": [],
        });
        Ok(json!({"revisionToken": token, "tokens": if is_ready { vec![token.clone()] } else { Vec::new() }}))
    }

    fn route(&self, number: usize) -> Value {
        let partner = partner(number);
        let (source, destination) =
            if number.is_multiple_of(2) { (DOMAIN, partner.as_str()) } else { (partner.as_str(), DOMAIN) };
        let key = self.key.public_key().to_base64_pem();
        json!({
            "apiVersion": "kuscia.secretflow/v1alpha1",
            "kind": "DomainRoute",
            "metadata": {"name": format!("{source}-{destination}"), "namespace": DOMAIN},
            "spec": {
                "source": source,
                "destination": destination,
                "endpoint": {
                    "host": self.partners.ip(),
                    "ports": [{"name": "http", "protocol": "HTTP", "port": self.partners.port(), "isTLS": false}],
                },
                "authenticationType": "Token",
                "tokenConfig": {
                    "tokenGenMethod": "RSA-GEN",
                    "rollingUpdatePeriod": 0,
                    "sourcePublicKey": key,
                    "destinationPublicKey": key,
                },
            },
        })
    }
}

/// The domain at the other end of a route.
pub(crate) fn partner(number: usize) -> String {
    format!("partner-{number}")
}

/// The name of a service.
pub(crate) fn service_name(number: usize) -> String {
    format!("service-{number}")
}

/// An address of a pod, another one for every number below 2²².
pub(crate) fn address(number: usize) -> Ipv4Addr {
    let [_, high, middle, low] = u32::try_from(number).unwrap_or_default().to_be_bytes();
    Ipv4Addr::new(10, 64 + high, middle, low)
}

/// A headless service.
pub(crate) fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": DOMAIN,
            "labels": {"app": name, "kuscia.secretflow/port-scope": "Cluster"},
        },
        "spec": {
            "clusterIP": "None",
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": PORT}],
        },
    })
}

fn slice_name(service: &str) -> String {
    format!("{service}-x7k2p")
}

/// The slice of a service with one ready pod, as Kubernetes' controller writes it.
pub(crate) fn slice(service: &str, ip: Ipv4Addr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": slice_name(service),
            "generateName": format!("{service}-"),
            "namespace": DOMAIN,
            "labels": {
                "app": service,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": service,
                "service.kubernetes.io/headless": "",
            },
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"},
            "ownerReferences": [{
                "apiVersion": "v1",
                "kind": "Service",
                "name": service,
                "uid": "5a0c6d3e-6c1b-4f0e-9d50-0d8f5b8a7f11",
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": [ip],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": "node-1",
            "targetRef": pod(service),
        }],
        "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
    })
}

fn endpoints(service: &str, ip: Ipv4Addr) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": service,
            "namespace": DOMAIN,
            "labels": {
                "app": service,
                "endpoints.kubernetes.io/managed-by": "endpoint-controller",
                "service.kubernetes.io/headless": "",
            },
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"},
        },
        "subsets": [{
            "addresses": [{"ip": ip, "nodeName": "node-1", "targetRef": pod(service)}],
            "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
        }],
    })
}

fn pod(service: &str) -> Value {
    json!({
        "kind": "Pod",
        "name": format!("{service}-6d4cf56db6-8xk2p"),
        "namespace": DOMAIN,
        "uid": "0b7c1d86-2b2f-4a67-8f0a-3f1d6f1f3c55",
    })
}
