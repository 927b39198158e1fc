//! Snapshot → Envoy resources → xDS, and the way back: what the Envoys accepted.

mod told;

use std::collections::BTreeSet;
use std::sync::Arc;

use certs::CertState;
use envoy::{Certificate, KeyMaterial, Owner, Resource, Translator};
use model::{DomainId, InboundAuth, OutboundAuth, Snapshot, Token};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::error;
use xds::{Cache, Change, Clients, ResourceType};

use self::told::Told;

pub(crate) use self::told::Lingering;

/// What the domain proves itself with.
pub(crate) struct Certificates {
    /// The domain's own authority, as PEM.
    pub(crate) authority_pem: String,
    /// The newest certificate of the external listener, where that speaks TLS.
    pub(crate) external: Option<watch::Receiver<CertState>>,
    /// The newest certificate that gateways of other domains are shown.
    pub(crate) client: watch::Receiver<CertState>,
}

/// What keeps the gateways' configuration in step with the snapshots.
pub(crate) struct Programmer {
    translator: Translator,
    certificates: Certificates,
    cache: Cache,
    programmed: watch::Sender<Arc<Snapshot>>,
    told: Told,
}

impl Programmer {
    /// Translates the `first` snapshot as a whole, for the cache of `gateways`. `programmed` tells which snapshot that
    /// shows; what is gone from it lingers there.
    pub(crate) fn begin(
        translator: Translator,
        mut certificates: Certificates,
        gateways: &Gateways,
        programmed: watch::Sender<Arc<Snapshot>>,
        first: Arc<Snapshot>,
        lingering: Lingering,
    ) -> Self {
        let cache = gateways.cache.clone();
        let resources = translator.translate(&first, &certificates.newest());
        cache.replace(resources.into_iter().filter_map(|Resource { type_url, name, body }| {
            Some((resource_type(type_url)?, name, body.into()))
        }));
        let told = Told::new(&first, lingering);
        programmed.send_replace(first);
        Self { translator, certificates, cache, programmed, told }
    }

    /// Translates what changes with every later one of the `snapshots`, until `shutdown`.
    pub(crate) async fn run(
        mut self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        shutdown: CancellationToken,
    ) {
        loop {
            let end = self.told.lingering().next_end();
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let snapshot = Arc::clone(&snapshots.borrow_and_update());
                    let old = Arc::clone(&self.programmed.borrow());
                    self.tell(|told| told.follow(&old, &snapshot, Instant::now()));
                    self.programmed.send_replace(snapshot);
                }
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                    self.tell(|told| told.expire(Instant::now()));
                }
                () = self.certificates.renewed() => {
                    let secrets = self.translator.own_secrets(&self.certificates.newest());
                    self.cache.apply(secrets.into_iter().filter_map(set));
                }
            }
        }
    }

    fn tell(&mut self, change: impl FnOnce(&mut Told)) {
        let before = self.told.snapshot().clone();
        change(&mut self.told);
        let changes = self.translator.changes(&before, self.told.snapshot());
        let removed = changes.removed.into_iter();
        let removed =
            removed.filter_map(|(type_url, name)| Some(Change::Remove(resource_type(type_url)?, name)));
        self.cache.apply(changes.set.into_iter().filter_map(set).chain(removed));
    }
}

impl Certificates {
    fn newest(&mut self) -> KeyMaterial {
        let newest = |states: &mut watch::Receiver<CertState>| {
            let leaf = &states.borrow_and_update().leaf;
            Certificate { chain_pem: leaf.chain_pem.clone(), key_pem: leaf.key_pem.clone() }
        };
        KeyMaterial { external: self.external.as_mut().map(newest), client: newest(&mut self.client) }
    }

    /// Returns once there is a new certificate.
    async fn renewed(&mut self) {
        tokio::select! {
            () = renewed(self.external.as_mut()) => {}
            () = renewed(Some(&mut self.client)) => {}
        }
    }
}

fn set(Resource { type_url, name, body }: Resource) -> Option<Change> {
    Some(Change::Set(resource_type(type_url)?, name, body.into()))
}

fn resource_type(type_url: &'static str) -> Option<ResourceType> {
    let ty = ResourceType::from_type_url(type_url);
    if ty.is_none() {
        error!(type_url, "no discovery service serves this type");
    }
    ty
}

/// Returns once there is a new certificate.
async fn renewed(leaf: Option<&mut watch::Receiver<CertState>>) {
    if let Some(leaf) = leaf
        && leaf.changed().await.is_ok()
    {
        return;
    }
    // There is none of this kind, or the mesh is shutting down.
    std::future::pending::<()>().await;
}

/// What this domain's gateways are told, and what they have accepted of it.
#[derive(Clone)]
pub(crate) struct Gateways {
    /// The newest configuration.
    pub(crate) cache: Cache,
    /// The Envoys that are connected.
    pub(crate) clients: Clients,
    /// The snapshot that the configuration was made from. Of what is gone from it, some may [linger](Lingering).
    pub(crate) programmed: watch::Receiver<Arc<Snapshot>>,
}

impl Gateways {
    /// Gateways that are told nothing yet, and where to say which snapshot they are told of.
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> (Self, watch::Sender<Arc<Snapshot>>) {
        let (programmed_in, programmed) = watch::channel(snapshot);
        (Self { cache: Cache::new(), clients: Clients::new(), programmed }, programmed_in)
    }

    /// Returns once every connected gateway, and at least one, accepts the `token` from `source`. Where another domain's
    /// gateway brings the source's requests, the token lets nobody in, and no gateway is told of it.
    pub(crate) async fn accept_token(&self, source: &DomainId, token: &Token) {
        let has_token = |snapshot: &Snapshot| accepts(snapshot, source, token);
        let is_carried = |snapshot: &Snapshot| {
            snapshot.inbound.get(source).is_some_and(|route| route.carrier.is_some()) && has_token(snapshot)
        };
        let mut programmed = self.programmed.clone();
        let routes = envoy::routes_from(source);
        tokio::select! {
            Ok(_) = programmed.wait_for(|snapshot| is_carried(snapshot)) => {}
            () = self.hold(ResourceType::RouteConfiguration, &routes, has_token) => {}
        }
    }

    /// Returns once every connected gateway, and at least one, sends the `token` to `destination`.
    pub(crate) async fn send_token(&self, destination: &DomainId, token: &Token) {
        let has_token = |snapshot: &Snapshot| sends(snapshot, destination, token);
        self.hold(ResourceType::RouteConfiguration, &envoy::routes_to(destination), has_token).await;
    }

    /// Returns once every connected gateway, and at least one, has a route to `destination`.
    pub(crate) async fn lead_to(&self, destination: &DomainId) {
        let has_route = |snapshot: &Snapshot| snapshot.outbound.contains_key(destination);
        self.hold(ResourceType::RouteConfiguration, &envoy::routes_to(destination), has_route).await;
    }

    /// Whether every connected gateway, and at least one, holds the newest version of these.
    pub(crate) fn is_held(&self, resources: &[(ResourceType, String)]) -> bool {
        let state = self.cache.state();
        resources.iter().all(|(ty, name)| {
            let version = state.resource(*ty, name).map(xds::Resource::version);
            version.is_some_and(|version| self.clients.is_acknowledged(*ty, name, version))
        })
    }

    /// The connected gateways that do not hold the newest versions of those of these that they ask for.
    pub(crate) fn behind(&self, resources: &[(ResourceType, String)]) -> BTreeSet<String> {
        let state = self.cache.state();
        let newest = resources.iter().filter_map(|(ty, name)| state.resource(*ty, name).map(|it| (ty, it)));
        newest.flat_map(|(ty, newest)| self.clients.behind(*ty, newest.name(), newest.version())).collect()
    }

    /// Returns once the gateways hold a resource as it was made from a snapshot that `shows` what is waited for.
    async fn hold(&self, ty: ResourceType, name: &str, shows: impl Fn(&Snapshot) -> bool) {
        let mut programmed = self.programmed.clone();
        if programmed.wait_for(|snapshot| shows(snapshot)).await.is_err() {
            // The mesh is shutting down, and the caller's time limit ends this.
            return std::future::pending().await;
        }
        let mut states = self.cache.watch();
        loop {
            let version = states.borrow_and_update().resource(ty, name).map(xds::Resource::version);
            let Some(version) = version else { return std::future::pending().await };
            tokio::select! {
                () = self.clients.acknowledged(ty, name, version) => return,
                // A newer version, which shows it too, took its place.
                Ok(()) = states.changed() => {}
            }
        }
    }
}

/// The types and names of what a gateway needs for what `owner` is in `snapshot`. Requests of a detour go by the route to
/// its first gateway, and come by the route of its last one.
pub(crate) fn needs(
    translator: &Translator,
    owner: &Owner,
    snapshot: &Snapshot,
) -> Vec<(ResourceType, String)> {
    let beside = match owner {
        Owner::Outbound(destination) => {
            let route = snapshot.outbound.get(destination);
            route.map(|route| Owner::Outbound(route.first_hop().0.destination.clone()))
        }
        Owner::Inbound(source) => {
            let carrier = snapshot.inbound.get(source).and_then(|route| route.carrier.clone());
            carrier.map(Owner::Inbound)
        }
        Owner::Service(_) => None,
    };
    let owners = [Some(owner), beside.as_ref().filter(|beside| *beside != owner)];
    let resources = owners.into_iter().flatten().flat_map(|owner| translator.resources_of(owner, snapshot));
    resources.filter_map(|(type_url, name)| Some((ResourceType::from_type_url(type_url)?, name))).collect()
}

fn accepts(snapshot: &Snapshot, source: &DomainId, token: &Token) -> bool {
    let Some(route) = snapshot.inbound.get(source) else { return false };
    match &route.auth {
        InboundAuth::Token { accepted, .. } => accepted.iter().any(|known| is_same(known, token)),
        InboundAuth::Mtls { .. } | InboundAuth::None => true,
    }
}

fn sends(snapshot: &Snapshot, destination: &DomainId, token: &Token) -> bool {
    let Some(route) = snapshot.outbound.get(destination) else { return false };
    match &route.auth {
        OutboundAuth::Token { sending, .. } => sending.as_ref().is_some_and(|known| is_same(known, token)),
        OutboundAuth::Mtls | OutboundAuth::None => true,
    }
}

/// The number alone is not enough: who has lost a status counts from one again.
fn is_same(known: &Token, token: &Token) -> bool {
    known.revision == token.revision && known.value == token.value
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::SystemTime;

    use certs::{DomainAuthority, LeafRequest, LeafUsage};
    use jiff::Timestamp;
    use model::{Document, Event, Index, read_manifests};
    use serde_json::{Value, json};

    use super::*;
    use crate::app::Identity;
    use crate::harness::domain::service_manifest;

    /// What a gateway that nobody starts proves itself with.
    pub(crate) fn certificates(identity: &Identity) -> Certificates {
        let domain = identity.domain.as_str();
        let authority = DomainAuthority::new(domain, &identity.key, SystemTime::now()).expect("an authority");
        let request = LeafRequest {
            common_name: domain.to_owned(),
            subject_alt_names: Vec::new(),
            usage: LeafUsage::Client,
            lifetime: certs::DEFAULT_LEAF_LIFETIME,
        };
        let authority_pem = authority.certificate_pem().to_owned();
        let (client, _) = certs::maintain(Arc::new(authority), request).expect("a certificate");
        Certificates { authority_pem, external: None, client }
    }

    /// Translates for a gateway that nobody starts.
    pub(crate) fn translator(domain: &DomainId) -> Translator {
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let settings = envoy::Settings {
            instance: format!("{domain}-gateway"),
            version: "test".to_owned(),
            internal: any,
            external: any,
            external_protocol: envoy::ExternalProtocol::NoTls,
            authority_pem: String::new(),
            handshake: any,
            access_log: envoy::AccessLog::Off,
            trusted_proxies: Vec::new(),
            tracing: None,
        };
        Translator::new(domain, settings)
    }

    /// A route without tokens, by way of the domain `transit` if it is given.
    pub(crate) fn open_route(source: &str, destination: &str, transit: Option<&str>) -> Value {
        json!({
            "apiVersion": "kuscia.secretflow/v1alpha1",
            "kind": "DomainRoute",
            "metadata": {"name": format!("{source}-{destination}")},
            "spec": {
                "source": source,
                "destination": destination,
                "endpoint": {"host": "gateway.example.com", "ports": [{"name": "http", "protocol": "HTTP", "port": 1080}]},
                "authenticationType": "None",
                "transit": transit.map(|domain| json!({"domain": {"domainID": domain}})),
            },
        })
    }

    /// A service at this address, with or without the label for which its name leads to the gateway.
    pub(crate) fn service(name: &str, through_gateway: bool, address: &str) -> Value {
        let mut manifest = service_manifest(name, &[address.parse().expect("an address")]);
        if through_gateway {
            let label = "kuscia.secretflow/loadbalancer";
            manifest["items"][0]["metadata"]["labels"][label] = "domainroute".into();
        }
        manifest
    }

    /// What `domain` makes of the manifests.
    pub(crate) fn snapshot(domain: &str, manifests: &[Value]) -> Arc<Snapshot> {
        let id: DomainId = domain.parse().expect("a domain ID");
        let mut index = Index::new(id, certs::DomainKey::generate().expect("a key"), []);
        for manifest in manifests {
            for document in read_manifests(&manifest.to_string(), domain).expect("a manifest") {
                let Document::Read { object, .. } = document else { panic!("{manifest}") };
                index.apply(Event::Apply(object));
            }
        }
        index.commit(Timestamp::UNIX_EPOCH).0.expect("a snapshot")
    }
}
