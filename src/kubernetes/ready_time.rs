//! The annotation `kuscia.secretflow/ready-time` of services: whoever starts applications waits for it.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use envoy::{Owner, Translator};
use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::{Timestamp, Unit};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use model::{Changed, ServiceName, Snapshot};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use xds::ResourceType;

use super::{FIELD_MANAGER, words};
use crate::program::Gateways;
use crate::replicas::Replicas;

/// Pause between two looks at what Envoy holds.
const PAUSE: Duration = Duration::from_millis(100);

/// Pause after an annotation could not be written.
const RETRY: Duration = Duration::from_secs(5);

/// Annotations that are written at once. After a first start there are thousands, and routes come first.
const AT_ONCE: usize = 4;

/// After how many failures the others wait too: so many are no matter of single services.
const MOST_FAILURES: usize = 16;

/// Notes when this domain's gateways had each service for the first time, until `shutdown`. One gateway of the domain
/// does it. Tells `problem` why it cannot.
pub(crate) async fn note_ready_times(
    (client, namespace): (Client, String),
    translator: Translator,
    gateways: Gateways,
    replicas: Replicas,
    problem: watch::Sender<Option<String>>,
    shutdown: CancellationToken,
) {
    let api: Api<Service> = Api::namespaced(client, &namespace);
    let mut snapshots = gateways.programmed.clone();
    let mut answers = gateways.clients.changes();
    let mut others = replicas.clone();
    let empty = Snapshot::empty(snapshots.borrow().domain.clone());
    let mut watch = Unnoted { translator, gateways, snapshot: Arc::new(empty), open: BTreeMap::new() };
    loop {
        watch.follow(Arc::clone(&snapshots.borrow_and_update()));
        answers.borrow_and_update();
        let served = if replicas.is_chosen("") { watch.served() } else { Vec::new() };
        let failed = tokio::select! {
            () = shutdown.cancelled() => return,
            failed = note_all(&api, served, |name| drop(watch.open.remove(name))) => failed,
        };
        let pause = if failed.is_some() { RETRY } else { PAUSE };
        tell(&problem, failed);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(pause) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = snapshots.changed() => if changed.is_err() { return },
            _ = answers.changed(), if !watch.open.is_empty() => {}
            () = others.changed() => {}
            () = sleep(RETRY), if !watch.open.is_empty() => {}
        }
    }
}

/// The services without the annotation.
struct Unnoted {
    translator: Translator,
    gateways: Gateways,
    snapshot: Arc<Snapshot>,
    /// With their resources.
    open: BTreeMap<ServiceName, Vec<(ResourceType, String)>>,
}

impl Unnoted {
    fn follow(&mut self, snapshot: Arc<Snapshot>) {
        let old = std::mem::replace(&mut self.snapshot, snapshot);
        for changed in self.snapshot.changes_since(&old) {
            let Changed::Service(name, service) = changed else { continue };
            if service.is_none_or(|service| service.has_ready_time) {
                self.open.remove(name);
                continue;
            }
            let owner = Owner::Service(name.clone());
            let resources = self.translator.resources_of(&owner, &self.snapshot).into_iter();
            let resources = resources
                .filter_map(|(type_url, name)| Some((ResourceType::from_type_url(type_url)?, name)))
                .collect();
            self.open.insert(name.clone(), resources);
        }
    }

    /// Those of which every connected Envoy holds all.
    fn served(&self) -> Vec<ServiceName> {
        let is_held = |(_, resources): &(_, &Vec<_>)| self.gateways.is_held(resources);
        self.open.iter().filter(is_held).map(|(name, _)| name.clone()).collect()
    }
}

/// Notes that these services are ready, and tells `noted` of each. Answers why it cannot.
async fn note_all(
    api: &Api<Service>,
    services: Vec<ServiceName>,
    mut noted: impl FnMut(&ServiceName),
) -> Option<String> {
    let writes = stream::iter(services).map(|name| async move { (note(api, name.as_str()).await, name) });
    let mut writes = pin!(writes.buffer_unordered(AT_ONCE));
    let mut failures = Vec::new();
    while failures.len() < MOST_FAILURES
        && let Some((outcome, name)) = writes.next().await
    {
        match outcome {
            Ok(()) => noted(&name),
            Err(error) => failures.push(words(&error, "patch services")),
        }
    }
    failures.pop()
}

async fn note(api: &Api<Service>, name: &str) -> Result<(), kube::Error> {
    let now = Timestamp::now();
    let now = now.round(Unit::Second).unwrap_or(now).to_string();
    let patch = json!({"metadata": {"annotations": {model::READY_TIME: now}}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_metadata(name, &params, &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            debug!(name, "the service went before its ready time was noted");
            Ok(())
        }
        patched => patched.map(drop),
    }
}

fn tell(problem: &watch::Sender<Option<String>>, failed: Option<String>) {
    let now = failed.map(|words| format!("the ready times of services cannot be written: {words}"));
    super::tell(problem, now);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use tower::service_fn;

    use super::*;

    #[tokio::test]
    async fn a_server_that_refuses_some_is_not_asked_about_thousands() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let refuse = service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            let status = json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden"});
            let response = Response::builder().status(403).body(Body::from(status.to_string().into_bytes()));
            std::future::ready(response)
        });
        let api = Api::namespaced(Client::new(refuse, "alice"), "alice");
        let services = (0..1000).map(|number| format!("s{number}").parse().expect("a name")).collect();
        let failed = note_all(&api, services, |name| panic!("{name:?} is not noted")).await;
        assert!(failed.is_some_and(|words| words.contains("the right to patch services")));
        assert!(asked.load(Ordering::Relaxed) < MOST_FAILURES + AT_ONCE);
    }
}
