//! A namespace of a Kubernetes API server as source: how several gateways of a domain share its state.
//!
//! ```text
//!              Raw                    Event
//! API server ───────► Intake ──────────────────► index
//!   ▲  ▲      (one for    │  │
//!   │  │       each kind) │  └─ Gateways ──► live gateways
//!   │  │                  ▼                    │
//!   │  └── statuses ── StatusWriter ◄──────────┘◄── StatusUpdate
//!   └───── Events ──── Announcer ◄─┘
//! ```
//!
//! Whatever cannot be had keeps its last good version: an API server that does not answer, a missing right, an object
//! that cannot be read. An error is never a deletion.

mod announcer;
mod apply;
mod backoff;
mod board;
mod connect;
mod decide;
mod gateways;
mod intake;
mod raw;
mod routes;
#[cfg(test)]
mod tests;
mod trouble;
mod watch;
mod writer;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;
use model::{DomainId, Event, Kind, StatusUpdate};
use tokio::sync::{mpsc, watch as latest};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::announcer::Announcer;
use self::board::Board;
use self::connect::{Server, connect};
use self::gateways::Gateways;
use self::intake::{Follower, Intake};
use self::watch::watch;
use self::writer::StatusWriter;
use super::{SourceError, SourceReport};

/// The kinds that are read. What a `ClusterDomainRoute` means to this domain stands in a `DomainRoute`, which the
/// controller makes.
const KINDS: [Kind; 6] =
    [Kind::DomainRoute, Kind::Service, Kind::Endpoints, Kind::EndpointSlice, Kind::Gateway, Kind::Domain];

/// How many news of routes may wait for the writer of statuses.
const NEWS: usize = 256;

/// Which API server and namespace a Kubernetes source uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesSettings {
    /// The kubeconfig. `None`: the service account of the pod, or else the default kubeconfig (`$KUBECONFIG`,
    /// `~/.kube/config`).
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig, where that is not its current one.
    pub context: Option<String>,
    /// The namespace that holds the objects of the domain.
    pub namespace: String,
}

impl KubernetesSettings {
    /// A client of the API server, which need not answer yet.
    ///
    /// # Errors
    /// Nothing says where the API server is, or the credentials for it cannot be used.
    pub async fn client(&self) -> Result<Client, SourceError> {
        connect(self).await.map(|server| server.client)
    }
}

/// The source that reads a namespace of a Kubernetes API server.
pub struct KubernetesSource {
    server: Server,
    namespace: String,
    domain: DomainId,
    instance: String,
    live: latest::Sender<Arc<BTreeSet<String>>>,
}

impl KubernetesSource {
    /// Finds the API server for the gateway `instance` of `domain`. It need not answer yet.
    ///
    /// # Errors
    /// Nothing says where the API server is, or the credentials for it cannot be used.
    pub async fn open(
        settings: KubernetesSettings,
        domain: DomainId,
        instance: String,
    ) -> Result<Self, SourceError> {
        let server = connect(&settings).await?;
        Ok(Self::new(server, settings.namespace, domain, instance))
    }

    fn new(server: Server, namespace: String, domain: DomainId, instance: String) -> Self {
        let (live, _) = latest::channel(Arc::new(BTreeSet::from([instance.clone()])));
        Self { server, namespace, domain, instance, live }
    }

    /// The client of the API server.
    pub(crate) fn client(&self) -> Client {
        self.server.client.clone()
    }

    /// The namespace that holds the objects of the domain.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The names of the domain's gateways that are alive, as their heartbeats say; this one always is. They are known
    /// before the index has read everything.
    pub(crate) fn replicas(&self) -> latest::Receiver<Arc<BTreeSet<String>>> {
        self.live.subscribe()
    }

    /// Sends all objects to `events`, then every change of them, and writes the statuses of `updates`, until `shutdown`
    /// or until nobody listens to `events`. Updates that are in the channel by then are still written, if the API
    /// server answers.
    pub async fn run(
        self,
        events: mpsc::Sender<Event>,
        updates: mpsc::Receiver<StatusUpdate>,
        report: latest::Sender<SourceReport>,
        shutdown: CancellationToken,
    ) {
        let Self { server, namespace, domain, instance, live } = self;
        let board = Arc::new(Board::new(server.url, &namespace, report));
        let mut parts = JoinSet::new();
        let (news_in, news) = mpsc::channel(NEWS);
        let (announcer, announcements) =
            Announcer::new(server.client.clone(), instance.clone(), &namespace, Arc::clone(&board));
        parts.spawn(announcer.run());
        let writer = StatusWriter::new(
            server.client.clone(),
            namespace.clone(),
            instance.clone(),
            live.subscribe(),
            announcements,
            Arc::clone(&board),
        );
        if events.send(Event::Init(Kind::ClusterDomainRoute)).await.is_err()
            || events.send(Event::InitDone(Kind::ClusterDomainRoute)).await.is_err()
        {
            return;
        }
        for kind in KINDS {
            let follower = match kind {
                Kind::DomainRoute => Follower::Routes(news_in.clone()),
                Kind::Gateway => Follower::Gateways(Gateways::new(instance.clone(), live.clone())),
                _ => Follower::None,
            };
            let (events, board) = (events.clone(), Arc::clone(&board));
            let intake = Intake::new(kind, &namespace, domain.clone(), follower, events, Arc::clone(&board));
            parts.spawn(watch(intake, raw::api(kind, server.client.clone(), &namespace), board));
        }
        drop((events, news_in));
        tokio::select! {
            () = writer.run(domain, news, updates, shutdown) => {}
            // Only when nobody listens does a part end by itself.
            Some(ended) = parts.join_next() => {
                if let Err(panic) = ended.map_err(tokio::task::JoinError::try_into_panic)
                    && let Ok(panic) = panic
                {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}
