//! The mesh of one domain: parts, started and stopped together.
//!
//! ```text
//!  source ──Event──► index ──Snapshot──┬─► program ──► xDS ──► Envoys
//!    ▲                                 ├─► DNS ◄── applications
//!    └──StatusUpdate───────────────────┴─► negotiation ◄──► other domains
//! ```

mod bind;
mod index;
mod settings;
mod source;
mod xds_server;

use std::sync::Arc;
use std::time::Duration;

use certs::{CertError, DomainKey};
use envoy::Translator;
use model::{DomainId, FieldError, Index, Kind, Snapshot};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet, block_in_place};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use xds::{Cache, Store};

use self::bind::{bind_dns, bind_error, create_socket_folder};
use self::index::keep_index;
use self::settings::{certificates, dns_settings, gateway_settings, zone_settings};
use self::source::Source;
use self::xds_server::XdsServer;
use crate::admin;
use crate::config::{Config, Mode, Protocol, reachable};
use crate::handshake::{self, Acceptance, Destination, Ledger, Outcomes, negotiate_all};
use crate::names::{Keeper, States};
use crate::program::{Certificates, Gateways, Lingering, Programmer};
use crate::programmed::keep_programmed;
use crate::source::{SourceError, SourceReport};
use crate::status::{Complaints, DnsObserver, Observer};
use crate::usage::{Usage, keep_proofs};

/// Events and updates that may wait before their senders do.
const QUEUE: usize = 1024;

/// How long handshakes that have begun may take to end after the shutdown began, and then all other parts.
const DRAIN: Duration = Duration::from_secs(6);

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
    /// The sockets for DNS that the service manager gave cannot be used.
    #[error("{0}; see docs/dns.md for a socket unit that fits")]
    Sockets(#[from] dns::BindError),
    /// The source cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No certificate for the external listener.
    #[error("certificates: {0}")]
    Certificate(#[from] CertError),
    /// The certificates, the key or the CAs of the xDS server cannot be used.
    #[error("{0}")]
    XdsTls(FieldError),
}

/// A part of a running mesh ended although nobody had told it to.
#[derive(Debug, thiserror::Error)]
#[error("{0} failed, and the mesh with it; see the log above, and start it again")]
pub struct RunError(String);

/// Parts that run at the same time. Each answers its name once it has ended.
type Parts = JoinSet<&'static str>;

/// A mesh whose sockets are bound, ready to run.
pub struct App {
    config: Config,
    identity: Identity,
    source: Source,
    certificates: Certificates,
    xds: XdsServer,
    handshake: TcpListener,
    dns: dns::Bound,
    admin: xds::Listener,
    parts: Parts,
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
        let xds = XdsServer::bind(&config)?;
        let handshake = TcpListener::bind(config.listen.handshake)
            .await
            .map_err(|error| bind_error("listen.handshake", &config.listen.handshake, &error))?;
        let dns = bind_dns(&config)?;
        create_socket_folder("listen.admin", &config.listen.admin)?;
        let admin = xds::Listener::bind(&config.listen.admin)
            .map_err(|error| bind_error("listen.admin", &config.listen.admin, &error))?;
        let source = Source::open(&config).await?;
        let mut parts = Parts::new();
        let (certificates, renewals) = certificates(&config)?;
        for renewal in renewals {
            parts.spawn(named("the renewal of a certificate", renewal));
        }
        Ok(Self { config, identity, source, certificates, xds, handshake, dns, admin, parts })
    }

    /// Runs the mesh until `shutdown`, and then until its parts have ended. Envoy keeps its configuration. Needs a
    /// multi-threaded runtime.
    ///
    /// # Errors
    /// A part ended by itself. The others are ended then too: a mesh that does half of its work is not ready, and
    /// whoever supervises it can start it again.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self { config, identity, source, certificates, xds, handshake, dns, admin, mut parts } = self;
        // Negotiation ends first, with `shutdown`; what it writes last is still stored, and seen by Envoy.
        let stop = CancellationToken::new();
        let _stop_on_drop = stop.clone().drop_guard();
        let mut negotiation = Parts::new();

        let (events_in, events) = mpsc::channel(QUEUE);
        let (updates_in, updates) = mpsc::channel(QUEUE);
        let (report_in, report) = watch::channel(SourceReport::new(source.kind()));
        let (snapshots_in, mut snapshots) =
            watch::channel(Arc::new(Snapshot::empty(identity.domain.clone())));
        let index = Index::new(identity.domain.clone(), identity.key.clone(), Kind::ALL)
            .with_client_certificates(config.protocol != Protocol::NoTls);
        let (gateways, programmed_in) = Gateways::new(Arc::clone(&snapshots.borrow()));
        let translator = Translator::new(&identity.domain, gateway_settings(&config, &certificates));
        let zone = zone_settings(&config);
        let lingering = Lingering::new(zone.ttl);
        let names = dns::Names::new(&zone);
        let states = States::new(translator.clone(), gateways.clone(), lingering.clone());
        let replicas = source.replicas(&identity.instance, &gateways.clients, &mut parts, &stop);
        let mut complaints = Complaints::default();
        let told = (&translator, &gateways, &replicas);
        source.companions(&config, &identity, told, &mut complaints, &mut parts, &stop);
        parts.spawn(named("the source", source.run(events_in, updates, report_in, stop.clone())));
        parts.spawn(named("the index", keep_index(index, events, snapshots_in, updates_in.clone())));

        let dns_metrics = Arc::new(dns::Metrics::default());
        let queries = dns::QueryLog::default();
        let dns_settings = dns_settings(&config);
        let handshakes = Outcomes::default();
        let observer = Observer {
            identity: identity.clone(),
            translator: translator.clone(),
            source: report,
            gateways: gateways.clone(),
            replicas: replicas.clone(),
            complaints,
            dns: DnsObserver {
                address: dns.local_addr(),
                recursion: dns_settings.recursion.clone(),
                is_protected: config.dns.rebinding != dns::Rebinding::Allowed,
                names: names.clone(),
                metrics: Arc::clone(&dns_metrics),
                queries: queries.clone(),
            },
            names: states.clone(),
            handshakes: handshakes.clone(),
            certificate: certificates.external.clone(),
            client_certificate: certificates.client.clone(),
        };
        parts.spawn(named("the admin interface", admin::serve(admin, observer, stop.clone())));
        let store = Store::open(config.source.state().join("envoy"));
        block_in_place(|| begin_with_last_state(&gateways.cache, &store));
        parts.spawn(named("the keeping of the state", store.keep(gateways.cache.clone(), stop.clone())));
        let usage = Usage::default();
        let serve_xds =
            xds.serve(gateways.cache.clone(), gateways.clients.clone(), usage.clone(), stop.clone());
        parts.spawn(named("the xDS server", async { log_error(serve_xds.await) }));

        // Nothing is answered from an index that has not read everything once.
        let mut ended = tokio::select! {
            biased;
            Ok(()) = snapshots.changed() => None,
            () = shutdown.cancelled() => None,
            Some(ended) = parts.join_next() => Some(ended),
        };
        if ended.is_none() && !shutdown.is_cancelled() {
            info!(domain = %identity.domain, "configuration loaded");
            // A query sees all the names that can be there.
            let (programmer, keeper) = block_in_place(|| {
                let first = Arc::clone(&snapshots.borrow_and_update());
                let translator = translator.clone();
                let programmer =
                    Programmer::begin(translator, certificates, &gateways, programmed_in, first, lingering);
                (programmer, Keeper::begin(names.clone(), states))
            });
            parts.spawn(named("the translation", programmer.run(snapshots.clone(), stop.clone())));
            parts.spawn(named("the names", keeper.run(stop.clone())));
            let serve_dns = dns.serve(dns_settings, names, dns_metrics, queries, stop.clone());
            parts.spawn(named("the DNS server", async { log_error(serve_dns.await) }));

            let ledger = Ledger::new(snapshots, updates_in);
            let instance = identity.instance.clone();
            let programmed =
                keep_programmed(translator, gateways.clone(), ledger.clone(), instance, stop.clone());
            parts.spawn(named("the conditions of routes", programmed));
            let tokens = Acceptance { ledger, gateways, replicas };
            let proofs = keep_proofs(tokens.clone(), usage, shutdown.clone());
            negotiation.spawn(named("the proofs of tokens", proofs));
            let destination = Destination::new(identity.clone(), tokens.clone());
            let serve = handshake::serve(handshake, destination, handshakes, shutdown.clone());
            negotiation.spawn(named("the handshake server", serve));
            let address = reachable(config.listen.internal);
            let negotiate = negotiate_all(identity, tokens, address, shutdown.clone());
            negotiation.spawn(named("the negotiation", negotiate));
            ended = tokio::select! {
                // Parts that end on shutdown have not failed.
                biased;
                () = shutdown.cancelled() => None,
                Some(ended) = parts.join_next() => Some(ended),
                Some(ended) = negotiation.join_next() => Some(ended),
            };
        } else {
            // Their renewal ends once nobody has them.
            drop(certificates);
        }
        info!("shutting down; Envoy keeps its configuration");
        shutdown.cancel();
        drain(negotiation).await;
        stop.cancel();
        drain(parts).await;
        ended.map_or(Ok(()), |ended| Err(failure(ended)))
    }
}

async fn named(part: &'static str, run: impl Future<Output = ()>) -> &'static str {
    run.await;
    part
}

fn log_error(result: Result<(), impl std::error::Error>) {
    if let Err(error) = result {
        error!(%error, "a server failed");
    }
}

async fn drain(mut parts: Parts) {
    if timeout(DRAIN, async { while parts.join_next().await.is_some() {} }).await.is_err() {
        warn!("some parts did not end within {DRAIN:?}");
    }
}

fn failure(ended: Result<&'static str, JoinError>) -> RunError {
    RunError(ended.map_or_else(|panic| format!("a part ({panic})"), ToOwned::to_owned))
}

/// Lets Envoys that hold nothing have what the last run left, until the source has answered.
fn begin_with_last_state(cache: &Cache, store: &Store) {
    match store.load() {
        Ok(Some(resources)) => {
            info!(
                resources = resources.len(),
                "serving the last run's configuration until the source has answered"
            );
            cache.restore(resources);
        }
        Ok(None) => {}
        Err(error) => warn!(%error, "starting without the last run's configuration"),
    }
}

#[cfg(test)]
mod tests;
