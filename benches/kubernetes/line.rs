//! The parts of the mesh from the API server to Envoy, in this process.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::DomainKey;
use envoy::{AccessLog, ExternalProtocol, KeyMaterial, Settings, Translator};
use jiff::Timestamp;
use model::{Event, Index, Kind, Snapshot, StatusUpdate};
use networkmesh::source::{KubernetesSettings, KubernetesSource, SourceKind, SourceReport};
use tokio::sync::{mpsc, watch};
use tokio::task::block_in_place;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use xds::{Cache, Change, Clients, ListenAddress, Protocol, ResourceType, Version, bind};

use crate::common::envoy::Envoy;
use crate::common::proofs::proofs;
use crate::world::DOMAIN;
use crate::{Failure, Setting};

/// As in the program.
const QUEUE: usize = 1024;

/// How long an ACK is awaited.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long nothing must have changed before changes are measured.
const QUIET: Duration = Duration::from_secs(3);

/// A mesh without sockets to the world, and its Envoy.
pub(crate) struct Line {
    pub(crate) envoy: Envoy,
    clients: Clients,
    published: mpsc::UnboundedReceiver<Published>,
    _folder: tempfile::TempDir,
    _stop: DropGuard,
}

/// A snapshot whose resources stand in the cache.
struct Published {
    snapshot: Arc<Snapshot>,
    /// When the last event was heard that it shows.
    heard: Instant,
    published: Instant,
    /// What is new.
    resources: Vec<(ResourceType, String, Version)>,
}

/// When a change was where.
pub(crate) struct Passage {
    /// The source told of it.
    pub(crate) heard: Instant,
    /// Its resources stood in the cache.
    pub(crate) published: Instant,
    /// Envoy had acknowledged them.
    pub(crate) acknowledged: Instant,
}

impl Line {
    /// Starts everything, and waits until Envoy has acknowledged everything and nothing changes any more.
    pub(crate) async fn start(setting: &Setting) -> Result<Self, Failure> {
        let settings = KubernetesSettings {
            kubeconfig: Some(setting.server.kubeconfig().to_owned()),
            context: None,
            namespace: DOMAIN.to_owned(),
        };
        let source = KubernetesSource::open(settings, DOMAIN.parse()?, "gateway".to_owned()).await?;
        let (events_in, events) = mpsc::channel(QUEUE);
        let (updates_in, updates) = mpsc::channel(QUEUE);
        let (report, _) = watch::channel(SourceReport::new(SourceKind::Kubernetes));
        let stop = CancellationToken::new();
        tokio::spawn(source.run(events_in, updates, report, stop.clone()));

        let (cache, clients) = (Cache::new(), Clients::new());
        let index = Index::new(DOMAIN.parse()?, setting.world.key.clone(), Kind::ALL);
        let (published_in, published) = mpsc::unbounded_channel();
        tokio::spawn(publish(
            index,
            translator(&setting.world.key)?,
            cache.clone(),
            events,
            updates_in,
            published_in,
        ));

        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("xds.sock");
        let bound = bind(&ListenAddress::Unix(socket.clone()))?;
        tokio::spawn(bound.serve(cache, clients.clone(), stop.clone()));
        let envoy = Envoy::start(&setting.envoy, folder.path(), &socket, Protocol::Delta).await?;
        let mut line = Self { envoy, clients, published, _folder: folder, _stop: stop.drop_guard() };
        line.settle().await?;
        Ok(line)
    }

    /// Follows what is published until a snapshot `shows` what is waited for, and Envoy has acknowledged it.
    pub(crate) async fn follow(&mut self, shows: impl Fn(&Snapshot) -> bool) -> Result<Passage, Failure> {
        let passage = async {
            let mut resources = BTreeMap::new();
            loop {
                let next = self.published.recv().await.ok_or("the source has ended")?;
                resources.extend(next.resources.into_iter().map(|(ty, name, version)| ((ty, name), version)));
                if shows(&next.snapshot) {
                    self.acknowledged(resources).await;
                    let (heard, published) = (next.heard, next.published);
                    return Ok(Passage { heard, published, acknowledged: Instant::now() });
                }
            }
        };
        timeout(PATIENCE, passage).await.map_err(|_| "Envoy does not acknowledge a change in time")?
    }

    /// Conditions of routes may have to be written first.
    async fn settle(&mut self) -> Result<(), Failure> {
        let mut resources = BTreeMap::new();
        while let Ok(next) = timeout(QUIET, self.published.recv()).await {
            let next = next.ok_or("the source has ended")?;
            resources.extend(next.resources.into_iter().map(|(ty, name, version)| ((ty, name), version)));
        }
        Ok(timeout(PATIENCE, self.acknowledged(resources))
            .await
            .map_err(|_| "Envoy does not come to rest")?)
    }

    async fn acknowledged(&self, resources: BTreeMap<(ResourceType, String), Version>) {
        for ((ty, name), version) in resources {
            self.clients.acknowledged(ty, &name, version).await;
        }
    }
}

/// Takes events in and fills the cache, as the program does in two tasks.
async fn publish(
    mut index: Index,
    (translator, keys): (Translator, KeyMaterial),
    cache: Cache,
    mut events: mpsc::Receiver<Event>,
    updates: mpsc::Sender<StatusUpdate>,
    told: mpsc::UnboundedSender<Published>,
) -> Result<(), Failure> {
    let mut waiting = VecDeque::new();
    let mut before: Option<Arc<Snapshot>> = None;
    loop {
        tokio::select! {
            event = events.recv() => {
                let Some(event) = event else { return Ok(()) };
                index.apply(event);
                while let Ok(event) = events.try_recv() {
                    index.apply(event);
                }
                let heard = Instant::now();
                let (snapshot, status_updates) = block_in_place(|| index.commit(Timestamp::now()));
                waiting.extend(status_updates);
                let Some(snapshot) = snapshot else { continue };
                let resources = match before.replace(Arc::clone(&snapshot)) {
                    Some(before) => change(&translator, &cache, &before, &snapshot),
                    None => load(&translator, &keys, &cache, &snapshot),
                };
                told.send(Published { snapshot, heard, published: Instant::now(), resources: resources? })?;
            }
            Ok(permit) = updates.reserve(), if !waiting.is_empty() => {
                if let Some(update) = waiting.pop_front() {
                    permit.send(update);
                }
            }
        }
    }
}

fn load(
    translator: &Translator,
    keys: &KeyMaterial,
    cache: &Cache,
    snapshot: &Snapshot,
) -> Result<Vec<(ResourceType, String, Version)>, Failure> {
    let resources = typed(translator.translate(snapshot, keys))?;
    let versions = versions(&resources);
    cache.replace(resources.into_iter().map(|(ty, name, body)| (ty, name, body.into())));
    Ok(versions)
}

fn change(
    translator: &Translator,
    cache: &Cache,
    before: &Snapshot,
    snapshot: &Snapshot,
) -> Result<Vec<(ResourceType, String, Version)>, Failure> {
    let resources = typed(translator.changes(before, snapshot).set)?;
    let versions = versions(&resources);
    cache.apply(resources.into_iter().map(|(ty, name, body)| Change::Set(ty, name, body.into())));
    Ok(versions)
}

fn typed(resources: Vec<envoy::Resource>) -> Result<Vec<(ResourceType, String, Vec<u8>)>, Failure> {
    let typed = |resource: envoy::Resource| {
        let ty = ResourceType::from_type_url(resource.type_url).ok_or(resource.type_url)?;
        Ok((ty, resource.name, resource.body))
    };
    resources.into_iter().map(typed).collect()
}

fn versions(resources: &[(ResourceType, String, Vec<u8>)]) -> Vec<(ResourceType, String, Version)> {
    resources.iter().map(|(ty, name, body)| (*ty, name.clone(), Version::of(body))).collect()
}

/// A translator, and what the gateway proves itself with.
fn translator(key: &DomainKey) -> Result<(Translator, KeyMaterial), Failure> {
    let domain = DOMAIN.parse()?;
    let (authority_pem, keys) = proofs(&domain, key)?;
    let settings = Settings {
        instance: "gateway".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        internal: harness::free_address()?,
        external: harness::free_address()?,
        external_protocol: ExternalProtocol::NoTls,
        authority_pem,
        handshake: SocketAddr::from(([127, 0, 0, 1], 1054)),
        access_log: AccessLog::Off,
        trusted_proxies: Vec::new(),
        tracing: None,
    };
    Ok((Translator::new(&domain, settings), keys))
}
