//! The configured source, and what comes with it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;

use envoy::Translator;
use model::{Event, StatusUpdate};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Identity, Parts, named};
use crate::config::{self, Config};
use crate::kubernetes::{Heart, beat, note_ready_times};
use crate::program::Gateways;
use crate::replicas::Replicas;
use crate::source::{
    DirectorySettings, DirectorySource, KubernetesSettings, KubernetesSource, SourceError, SourceKind,
    SourceReport,
};
use crate::status::Complaints;

/// A source that is open.
pub(super) enum Source {
    Directory(Box<DirectorySource>),
    Kubernetes(Box<KubernetesSource>),
}

impl Source {
    pub(super) async fn open(config: &Config) -> Result<Self, SourceError> {
        let domain = config.domain.clone();
        Ok(match &config.source {
            config::Source::Directory(directory) => {
                let settings =
                    DirectorySettings { path: directory.path.clone(), state: directory.state.clone() };
                Self::Directory(Box::new(DirectorySource::open(settings, domain)?))
            }
            config::Source::Kubernetes(kubernetes) => {
                let state = &kubernetes.state;
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(state)
                    .map_err(|cause| SourceError::State { path: state.clone(), cause })?;
                let namespace = kubernetes.namespace.clone();
                let settings = KubernetesSettings {
                    kubeconfig: kubernetes.kubeconfig.clone(),
                    context: kubernetes.context.clone(),
                    namespace: namespace.unwrap_or_else(|| domain.to_string()),
                };
                let source = KubernetesSource::open(settings, domain, config.instance.clone()).await?;
                Self::Kubernetes(Box::new(source))
            }
        })
    }

    pub(super) fn kind(&self) -> SourceKind {
        match self {
            Self::Directory(_) => SourceKind::Directory,
            Self::Kubernetes(_) => SourceKind::Kubernetes,
        }
    }

    /// The gateways that share the source, of which this one is `own` and has `envoys`.
    pub(super) fn replicas(
        &self,
        own: &str,
        envoys: &xds::Clients,
        parts: &mut Parts,
        stop: &CancellationToken,
    ) -> Replicas {
        let own = own.to_owned();
        match self {
            Self::Directory(_) => Replicas::alone(own),
            Self::Kubernetes(source) => {
                let (replicas, keep) = Replicas::among(own, source.replicas(), envoys.clone(), stop.clone());
                parts.spawn(named("the list of gateways", keep));
                replicas
            }
        }
    }

    pub(super) async fn run(
        self,
        events: mpsc::Sender<Event>,
        updates: mpsc::Receiver<StatusUpdate>,
        report: watch::Sender<SourceReport>,
        shutdown: CancellationToken,
    ) {
        match self {
            Self::Directory(source) => source.run(events, updates, report, shutdown).await,
            Self::Kubernetes(source) => source.run(events, updates, report, shutdown).await,
        }
    }

    /// What this gateway does at the API server beside writing statuses, if there is one: runs as parts of the mesh.
    pub(super) fn companions(
        &self,
        config: &Config,
        identity: &Identity,
        (translator, gateways, replicas): (&Translator, &Gateways, &Replicas),
        complaints: &mut Complaints,
        parts: &mut Parts,
        stop: &CancellationToken,
    ) {
        let Self::Kubernetes(source) = self else { return };
        let heart = Heart {
            client: source.client(),
            namespace: source.namespace().to_owned(),
            identity: identity.clone(),
            address: config.listen.external.ip(),
        };
        let beat = beat(heart, gateways.clone(), complaints.add(), stop.clone());
        parts.spawn(named("the heartbeat", beat));
        let ready_times = note_ready_times(
            (source.client(), source.namespace().to_owned()),
            translator.clone(),
            gateways.clone(),
            replicas.clone(),
            complaints.add(),
            stop.clone(),
        );
        parts.spawn(named("the ready times of services", ready_times));
        if let config::Source::Kubernetes(config::Kubernetes { lease_namespace, .. }) = &config.source
            && config.controller
        {
            let (state_in, state) = watch::channel(controller::State::default());
            complaints.controller = Some(state);
            let settings = controller::Settings::new(&identity.instance, lease_namespace.clone());
            let run = controller::run(source.client(), settings, state_in, stop.clone());
            parts.spawn(named("the controller", run));
        }
    }
}
