//! The mesh of one domain: parts, started and stopped together.
//!
//! ```text
//!  source ──Event──► index ──Snapshot──┬─► program ──► xDS ──► Envoys
//!    ▲                                 ├─► DNS ◄── applications
//!    └──StatusUpdate───────────────────┴─► negotiation ◄──► other domains
//! ```

use std::collections::VecDeque;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certs::{CertError, DomainAuthority, DomainKey, LeafRequest, LeafUsage};
use dns::RecordTable;
use envoy::ExternalProtocol;
use jiff::Timestamp;
use model::{DomainId, Event, Index, Kind, Snapshot, StatusUpdate};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use xds::{Cache, Clients, ListenAddress};

use crate::admin;
use crate::config::{Config, Mode, reachable};
use crate::handshake::{self, HandshakeServer, Ledger, negotiate_all};
use crate::program::{ExternalCertificate, Gateways, Programmer};
use crate::source::{DirectorySettings, DirectorySource, SourceError, SourceKind, SourceReport};
use crate::status::Observer;

/// Events and updates that may wait before their senders do.
const QUEUE: usize = 1024;

/// How long parts may take to end after the shutdown began.
const DRAIN: Duration = Duration::from_secs(10);

/// Who this mesh is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The domain.
    pub(crate) domain: DomainId,
    /// Its private key.
    pub(crate) key: DomainKey,
    /// Name of this gateway.
    pub(crate) instance: String,
}

/// Why a mesh cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The mode is not supported.
    #[error("mode: {0:?} is not supported yet in this version; use autonomy")]
    Mode(Mode),
    /// An address cannot be listened on.
    #[error("{setting}: cannot listen on {address}: {cause}; {remedy}")]
    Bind {
        /// The setting that holds the address.
        setting: &'static str,
        /// The address.
        address: String,
        /// The system's answer.
        cause: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The source cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No certificate for the external listener.
    #[error("certificates: {0}")]
    Certificate(#[from] CertError),
}

/// A mesh whose sockets are bound, ready to run.
pub struct App {
    config: Config,
    identity: Identity,
    source: DirectorySource,
    certificate: Option<ExternalCertificate>,
    xds: xds::Bound,
    handshake: TcpListener,
    dns: dns::Bound,
    admin: xds::Listener,
    tasks: JoinSet<()>,
}

impl App {
    /// Binds every address and opens the source, so that whatever is wrong shows before anything runs.
    ///
    /// # Errors
    /// An address, the source or the certificate cannot be had.
    pub async fn build(config: Config) -> Result<Self, StartError> {
        if config.mode != Mode::Autonomy {
            return Err(StartError::Mode(config.mode));
        }
        let identity = Identity {
            domain: config.domain.clone(),
            key: config.key.clone(),
            instance: config.instance.clone(),
        };
        create_socket_folder("listen.xds", &config.listen.xds)?;
        create_socket_folder("listen.admin", &config.listen.admin)?;
        let xds = xds::bind(&config.listen.xds)
            .map_err(|error| bind_error("listen.xds", &error.address, &error.error))?;
        let handshake = TcpListener::bind(config.listen.handshake)
            .await
            .map_err(|error| bind_error("listen.handshake", &config.listen.handshake, &error))?;
        let dns = dns::bind(config.listen.dns)
            .await
            .map_err(|error| bind_error("listen.dns", &error.address, &error.source))?;
        let admin = xds::Listener::bind(&config.listen.admin)
            .map_err(|error| bind_error("listen.admin", &config.listen.admin, &error))?;
        let source = &config.source;
        let settings = DirectorySettings { path: source.path.clone(), state: source.state.clone() };
        let source = DirectorySource::open(settings, config.domain.clone())?;
        let mut tasks = JoinSet::new();
        let certificate = external_certificate(&config, &mut tasks)?;
        Ok(Self { config, identity, source, certificate, xds, handshake, dns, admin, tasks })
    }

    /// Runs the mesh until `shutdown`, and then until its parts have ended. Envoy keeps its configuration.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { config, identity, source, certificate, xds, handshake, dns, admin, mut tasks } = self;
        let (events_in, events) = mpsc::channel(QUEUE);
        let (updates_in, updates) = mpsc::channel(QUEUE);
        let (report_in, report) = watch::channel(SourceReport::new(SourceKind::Directory));
        let (snapshots_in, mut snapshots) =
            watch::channel(Arc::new(Snapshot::empty(identity.domain.clone())));
        let index = Index::new(identity.domain.clone(), identity.key.clone(), Kind::ALL);
        tasks.spawn(source.run(events_in, updates, report_in, shutdown.clone()));
        tasks.spawn(keep_index(index, events, snapshots_in, updates_in.clone()));

        let (programmed_in, programmed) = watch::channel(Arc::clone(&snapshots.borrow()));
        let gateways = Gateways { cache: Cache::new(), clients: Clients::new(), programmed };
        let dns_metrics = Arc::new(dns::Metrics::default());
        let observer = Observer {
            identity: identity.clone(),
            source: report,
            gateways: gateways.clone(),
            dns_address: dns.local_addr(),
            dns: Arc::clone(&dns_metrics),
            certificate: certificate.as_ref().map(|certificate| certificate.leaf.clone()),
        };
        tasks.spawn(admin::serve(admin, observer, shutdown.clone()));
        let serve_xds = xds.serve(gateways.cache.clone(), gateways.clients.clone(), shutdown.clone());
        tasks.spawn(async move { log_end("xDS", serve_xds.await) });

        // Nothing is answered from an index that has not read everything once.
        let loaded = tokio::select! {
            changed = snapshots.changed() => changed.is_ok(),
            () = shutdown.cancelled() => false,
        };
        if loaded {
            info!(domain = %identity.domain, "configuration loaded");
            let settings = gateway_settings(&config);
            let cache = gateways.cache.clone();
            let programmer = Programmer { settings, certificate, cache, programmed: programmed_in };
            tasks.spawn(programmer.run(snapshots.clone(), shutdown.clone()));

            let (tables_in, tables) = watch::channel(Arc::new(record_table(&config, &snapshots.borrow())));
            let serve_dns = dns.serve(dns_settings(&config), tables, dns_metrics, shutdown.clone());
            tasks.spawn(async move { log_end("DNS", serve_dns.await) });
            tasks.spawn(keep_records(config.clone(), snapshots.clone(), tables_in, shutdown.clone()));

            let ledger = Ledger::new(snapshots, updates_in);
            let server = HandshakeServer::new(identity.clone(), ledger.clone(), gateways);
            tasks.spawn(handshake::serve(handshake, server, shutdown.clone()));
            tasks.spawn(negotiate_all(identity, reachable(config.listen.internal), ledger, shutdown.clone()));
            shutdown.cancelled().await;
        }
        info!("shutting down; Envoy keeps its configuration");
        let drained = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} });
        if drained.await.is_err() {
            error!("some parts did not end within {DRAIN:?}");
        }
    }
}

/// Makes the folder of a Unix socket where it is missing, for this user alone.
fn create_socket_folder(setting: &'static str, address: &ListenAddress) -> Result<(), StartError> {
    let ListenAddress::Unix(socket) = address else { return Ok(()) };
    let Some(folder) = socket.parent() else { return Ok(()) };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| bind_error(setting, address, &error))
}

fn bind_error(setting: &'static str, address: &dyn std::fmt::Display, cause: &io::Error) -> StartError {
    let remedy = match cause.kind() {
        io::ErrorKind::AddrInUse => "stop what listens there, or choose another address for this setting",
        io::ErrorKind::PermissionDenied => {
            "choose a port above 1023 or another folder, or give the program CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "choose an address of this host",
        io::ErrorKind::NotFound => "create the folder of the socket",
        _ => "choose another address for this setting",
    };
    StartError::Bind { setting, address: address.to_string(), cause: cause.to_string(), remedy }
}

/// The certificate of the external listener, kept fresh by a task, where that listener speaks TLS.
fn external_certificate(
    config: &Config,
    tasks: &mut JoinSet<()>,
) -> Result<Option<ExternalCertificate>, StartError> {
    if config.protocol == ExternalProtocol::NoTls {
        return Ok(None);
    }
    let domain = &config.domain;
    let authority = DomainAuthority::new(domain.as_str(), &config.key, SystemTime::now())?;
    let authority_pem = authority.certificate_pem().to_owned();
    let own_names = [format!("{domain}.svc"), format!("*.{domain}.svc")];
    let external = config.listen.external.ip();
    let address = (!external.is_unspecified()).then(|| external.to_string());
    let request = LeafRequest {
        common_name: format!("{domain}_ENVOY_EXTERNAL"),
        subject_alt_names: own_names
            .into_iter()
            .chain(address)
            .chain(config.certificates.hosts.clone())
            .collect(),
        usage: LeafUsage::Server,
        lifetime: config.certificates.lifetime,
    };
    let (leaf, renewal) = certs::maintain(authority, request)?;
    tasks.spawn(renewal);
    Ok(Some(ExternalCertificate { authority_pem, leaf }))
}

/// How the Envoy of this mesh is set up.
fn gateway_settings(config: &Config) -> envoy::Settings {
    envoy::Settings {
        instance: config.instance.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        internal: config.listen.internal,
        external: config.listen.external,
        external_protocol: config.protocol,
        handshake: reachable(config.listen.handshake),
        access_log: config.envoy.access_log.clone(),
    }
}

fn dns_settings(config: &Config) -> dns::Settings {
    let upstreams = &config.dns.upstreams;
    dns::Settings {
        recursion_subnets: config.dns.recursion.clone(),
        upstreams: if upstreams.is_empty() {
            dns::Upstreams::System
        } else {
            dns::Upstreams::Servers(upstreams.clone())
        },
        ..dns::Settings::default()
    }
}

fn record_table(config: &Config, snapshot: &Snapshot) -> RecordTable {
    RecordTable::new(snapshot, &config.dns.gateway, Duration::from_secs(config.dns.ttl.into()))
}

/// Owns the index: takes all events at hand in, then publishes once.
///
/// The source sends events here and takes updates from here. Updates wait in a queue of their own, so that neither
/// side ever waits for the other.
async fn keep_index(
    mut index: Index,
    mut events: mpsc::Receiver<Event>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    updates: mpsc::Sender<StatusUpdate>,
) {
    let mut waiting = VecDeque::new();
    loop {
        tokio::select! {
            event = events.recv() => {
                let Some(event) = event else { return };
                index.apply(event);
                while let Ok(event) = events.try_recv() {
                    index.apply(event);
                }
                let (snapshot, status_updates) = index.commit(Timestamp::now());
                if let Some(snapshot) = snapshot {
                    snapshots.send_replace(snapshot);
                }
                waiting.extend(status_updates);
            }
            Ok(permit) = updates.reserve(), if !waiting.is_empty() => {
                if let Some(update) = waiting.pop_front() {
                    permit.send(update);
                }
            }
        }
    }
}

/// Makes a new record table of every snapshot.
async fn keep_records(
    config: Config,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    tables: watch::Sender<Arc<RecordTable>>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
        let table = record_table(&config, &snapshots.borrow_and_update());
        tables.send_replace(Arc::new(table));
    }
}

fn log_end<E: std::error::Error>(part: &str, result: Result<(), E>) {
    if let Err(error) = result {
        error!(%error, part, "a part of the mesh failed");
    }
}
