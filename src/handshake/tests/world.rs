//! Domains in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use certs::DomainKey;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use jiff::Timestamp;
use model::api::DomainRoute;
use model::{
    Document, Event, InboundRoute, Index, Kind, Object, ObjectRef, OutboundRoute, Snapshot, StatusUpdate,
    read_manifests,
};
use proto::handshake::{Ciphertext, HandshakeKind, HandshakeRequest, TokenConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use xds::ResourceType;

use crate::app::Identity;
use crate::handshake::mint::SHARE_BYTES;
use crate::handshake::{Acceptance, Destination, Ledger, Outcomes, serve};
use crate::program::tests::{certificates, translator};
use crate::program::{Gateways, Lingering, Programmer};
use crate::replicas::Replicas;

pub(in crate::handshake) static ALICE: LazyLock<DomainKey> = LazyLock::new(|| DomainKey::generate().unwrap());
pub(in crate::handshake) static BOB: LazyLock<DomainKey> = LazyLock::new(|| DomainKey::generate().unwrap());

fn key(domain: &str) -> &'static DomainKey {
    if domain == "alice" { &ALICE } else { &BOB }
}

pub(in crate::handshake) fn identity(domain: &str) -> Identity {
    Identity {
        domain: domain.parse().unwrap(),
        key: key(domain).clone(),
        instance: format!("{domain}-gateway"),
    }
}

/// A route with tokens, as both sides have it.
pub(in crate::handshake) fn route(source: &str, destination: &str) -> Value {
    json!({
        "apiVersion": "kuscia.secretflow/v1alpha1",
        "kind": "DomainRoute",
        "metadata": {"name": format!("{source}-{destination}")},
        "spec": {
            "source": source,
            "destination": destination,
            "endpoint": {
                "host": format!("{destination}.example.com"),
                "ports": [{"name": "http", "port": 1080, "protocol": "HTTP"}],
            },
            "authenticationType": "Token",
            "tokenConfig": {
                "sourcePublicKey": key(source).public_key().to_base64_pem(),
                "destinationPublicKey": key(destination).public_key().to_base64_pem(),
                "tokenGenMethod": "RSA-GEN",
                "rollingUpdatePeriod": 3600,
            },
        },
    })
}

/// A request of alice to bob with a good share.
pub(in crate::handshake) fn request() -> HandshakeRequest {
    request_with(BOB.public_key().seal(&[7; SHARE_BYTES]).unwrap())
}

pub(in crate::handshake) fn request_with(share: String) -> HandshakeRequest {
    HandshakeRequest {
        domain_id: "alice".to_owned(),
        kind: HandshakeKind::Rsa,
        token_config: Some(TokenConfig {
            token: Ciphertext(share),
            revision: 0,
            pubhash: ALICE.public_key().pubhash(),
        }),
        request_time: 1,
        ..HandshakeRequest::default()
    }
}

/// A source of routes that keeps statuses as Kubernetes does: as JSON.
pub(in crate::handshake) struct Source {
    domain: String,
    index: Index,
    routes: BTreeMap<String, DomainRoute>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    pub(in crate::handshake) updates: mpsc::Receiver<StatusUpdate>,
}

impl Source {
    pub(in crate::handshake) fn new(domain: &str, manifests: &[Value]) -> (Self, Ledger) {
        let id: model::DomainId = domain.parse().unwrap();
        let (snapshots, snapshots_out) = watch::channel(Arc::new(Snapshot::empty(id.clone())));
        let (updates_in, updates) = mpsc::channel(16);
        let index = Index::new(id, key(domain).clone(), []);
        let routes = BTreeMap::new();
        let mut source = Self { domain: domain.to_owned(), index, routes, snapshots, updates };
        for manifest in manifests {
            source.put(manifest);
        }
        (source, Ledger::new(snapshots_out, updates_in))
    }

    pub(in crate::handshake) fn put(&mut self, manifest: &Value) {
        let documents = read_manifests(&manifest.to_string(), &self.domain).unwrap();
        let [Document::Read { object: Object::DomainRoute(route), .. }] = documents.as_slice() else {
            panic!("{manifest} is no route");
        };
        self.set(DomainRoute::clone(route));
    }

    pub(in crate::handshake) fn delete(&mut self, name: &str) {
        self.routes.remove(name);
        let (kind, namespace) = (Kind::DomainRoute, self.domain.clone());
        self.index.apply(Event::Delete(ObjectRef { kind, namespace, name: name.to_owned() }));
        self.publish();
    }

    pub(in crate::handshake) fn store(&mut self, update: &StatusUpdate) {
        let Some(mut route) = self.routes.get(&update.object.name).cloned() else { return };
        let mut status = route.status.take().unwrap_or_default();
        update.change.apply(&mut status);
        route.status = Some(serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap());
        self.set(route);
    }

    /// Stores what is sent, and makes what it is told of all that there is.
    async fn run(mut self, mut events: mpsc::Receiver<Change>) {
        loop {
            tokio::select! {
                Some(update) = self.updates.recv() => self.store(&update),
                Some(change) = events.recv() => match change {
                    Change::Put(manifest) => self.put(&manifest),
                    Change::Delete(name) => self.delete(name),
                },
                else => return,
            }
        }
    }

    fn set(&mut self, route: DomainRoute) {
        self.routes.insert(route.metadata.name.clone().unwrap(), route.clone());
        self.index.apply(Event::Apply(Object::DomainRoute(Box::new(route))));
        self.publish();
    }

    fn publish(&mut self) {
        if let (Some(snapshot), _) = self.index.commit(Timestamp::UNIX_EPOCH) {
            self.snapshots.send_replace(snapshot);
        }
    }
}

/// What a test does to a source that runs.
pub(in crate::handshake) enum Change {
    Put(Value),
    Delete(&'static str),
}

/// A domain whose source runs, and that can be a destination.
pub(in crate::handshake) struct Domain {
    pub(super) identity: Identity,
    pub(super) ledger: Ledger,
    pub(super) gateways: Gateways,
    live: watch::Sender<Arc<BTreeSet<String>>>,
    changes: mpsc::Sender<Change>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Domain {
    /// A domain with these routes, to which no gateway is connected.
    pub(in crate::handshake) fn new(name: &str, manifests: &[Value]) -> Self {
        let (source, ledger) = Source::new(name, manifests);
        let (changes, changes_out) = mpsc::channel(16);
        let (gateways, programmed_in) = Gateways::new(ledger.snapshot());
        let identity = identity(name);
        let translator = translator(&identity.domain);
        let certificates = certificates(&identity);
        let (first, lingering) = (ledger.snapshot(), Lingering::new(Duration::ZERO));
        let programmer =
            Programmer::begin(translator, certificates, &gateways, programmed_in, first, lingering);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(programmer.run(ledger.snapshots(), stop.clone()));
        tasks.spawn(source.run(changes_out));
        let live = watch::Sender::new(Arc::new(BTreeSet::from([identity.instance.clone()])));
        let _stop_on_drop = stop.clone().drop_guard();
        Self { identity, ledger, gateways, live, changes, tasks, stop, _stop_on_drop }
    }

    /// These gateways are alive beside this one, which is the only one otherwise.
    pub(in crate::handshake) fn set_others_alive(&self, others: &[&str]) {
        let others = others.iter().map(|&name| name.to_owned());
        self.live.send_replace(Arc::new(others.chain([self.identity.instance.clone()]).collect()));
    }

    /// Only these gateways are known to be alive.
    pub(in crate::handshake) fn set_alive(&self, gateways: &[&str]) {
        self.live.send_replace(Arc::new(gateways.iter().map(|&name| name.to_owned()).collect()));
    }

    /// What this gateway needs to agree on tokens.
    pub(in crate::handshake) fn acceptance(&self) -> Acceptance {
        let replicas = Replicas::told(&self.identity.instance, self.live.subscribe());
        Acceptance { ledger: self.ledger.clone(), gateways: self.gateways.clone(), replicas }
    }

    pub(in crate::handshake) fn destination(&self) -> Destination {
        Destination::new(self.identity.clone(), self.acceptance())
    }

    /// Connects a gateway that accepts everything, and serves handshakes.
    pub(in crate::handshake) async fn serve(&mut self) -> SocketAddr {
        let xds = xds::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let xds::ListenAddress::Tcp(address) = *xds.address() else { panic!("TCP was asked for") };
        let served = xds.serve(self.gateways.cache.clone(), self.gateways.clients.clone(), self.stop.clone());
        self.tasks.spawn(async move { served.await.unwrap() });
        self.tasks.spawn(accept_everything(address));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.tasks.spawn(serve(listener, self.destination(), Outcomes::default(), self.stop.clone()));
        address
    }

    pub(in crate::handshake) async fn change(&self, change: Change) {
        self.changes.send(change).await.unwrap();
    }

    /// Waits for a snapshot that is as it should be.
    pub(in crate::handshake) async fn until(&self, is: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut snapshots = self.ledger.snapshots();
        let waited =
            tokio::time::timeout(Duration::from_secs(60), snapshots.wait_for(|snapshot| is(snapshot))).await;
        Arc::clone(&waited.expect("it comes in time").unwrap())
    }
}

pub(in crate::handshake) fn inbound(snapshot: &Snapshot) -> &InboundRoute {
    &snapshot.inbound["alice"]
}

pub(in crate::handshake) fn outbound(snapshot: &Snapshot) -> &OutboundRoute {
    &snapshot.outbound["bob"]
}

/// A gateway, as far as tokens concern it: subscribes to them and accepts what comes.
async fn accept_everything(xds: SocketAddr) {
    let (requests, requests_out) = mpsc::channel(8);
    let type_url = ResourceType::RouteConfiguration.type_url();
    let subscription = DeltaDiscoveryRequest {
        node: Some(Node { id: "gateway".to_owned(), ..Node::default() }),
        type_url: type_url.to_owned(),
        resource_names_subscribe: vec![envoy::routes_from(&"alice".parse().unwrap())],
        ..DeltaDiscoveryRequest::default()
    };
    requests.send(subscription).await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::connect(format!("http://{xds}")).await.unwrap();
    let responses = client.delta_aggregated_resources(ReceiverStream::new(requests_out)).await;
    let mut responses = responses.unwrap().into_inner();
    while let Ok(Some(response)) = responses.message().await {
        let ack = DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        if requests.send(ack).await.is_err() {
            return;
        }
    }
}
