//! What the controller does, and how the API server is told.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ObjectMeta;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource as _};
use model::api::{
    ClusterDomainRoute, ClusterDomainRouteStatus, Condition, DomainRoute, DomainRouteStatus, Gateway,
};
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::{debug, info};

use crate::FIELD_MANAGER;
use crate::world::Place;

/// The field manager of gateways. The controller writes in its name what gateways write whole: a field that both had
/// written could not be removed by either.
const GATEWAY_MANAGER: &str = "networkmesh";

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Most bytes of an Event's note: what Kubernetes allows.
const MAX_NOTE: usize = 1024;

/// A change to be made. Those with a version are made only to the object as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Creates a namespace.
    CreateNamespace { name: String, labels: BTreeMap<String, String> },
    /// Sets labels of a namespace, and removes those without value.
    LabelNamespace { name: String, labels: BTreeMap<String, Option<String>> },
    /// Creates a `DomainRoute`. One that was made by hand meanwhile is not overwritten.
    CreateRoute(Box<DomainRoute>),
    /// Makes labels, owner and spec of a `DomainRoute` what they are here.
    ApplyRoute(Box<DomainRoute>),
    /// Deletes a `DomainRoute`.
    DeleteRoute { place: Place, uid: Option<String> },
    /// Names the gateway that starts the negotiations of a route.
    SetInitializer { place: Place, version: Option<String>, gateway: String },
    /// Writes the status of a `DomainRoute`, as one of its gateways would.
    WriteRouteStatus { place: Place, version: Option<String>, status: Box<DomainRouteStatus> },
    /// Writes the status of a `ClusterDomainRoute`; `warning` is to be an Event too.
    WriteClusterRouteStatus {
        name: String,
        uid: Option<String>,
        version: Option<String>,
        status: Box<ClusterDomainRouteStatus>,
        warning: Option<Condition>,
    },
    /// Deletes a gateway.
    DeleteGateway { place: Place, uid: Option<String>, version: Option<String> },
}

/// Why an action was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The object has changed since it was seen.
    Conflict,
    /// The API server refuses, or is not reached.
    Refused { what: String, error: Box<kube::Error> },
    /// The API server does not answer.
    Late { what: String },
}

/// Does actions.
#[derive(Clone)]
pub(crate) struct Hands {
    client: Client,
    recorder: Recorder,
}

impl Hands {
    /// The hands of the controller `identity`.
    pub(crate) fn new(client: Client, identity: String) -> Self {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(identity) };
        Self { recorder: Recorder::new(client.clone(), reporter), client }
    }

    /// Does all of `actions`, and answers the first failure.
    ///
    /// # Errors
    /// An action was not done; the others were tried.
    pub(crate) async fn perform(&self, actions: Vec<Action>) -> Result<(), Failure> {
        let mut outcome = Ok(());
        for action in actions {
            let what = action.to_string();
            let done = match timeout(REQUEST_TIMEOUT, self.perform_one(action)).await {
                Ok(Ok(())) => {
                    info!("{what}");
                    Ok(())
                }
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Failure::Conflict),
                Ok(Err(error)) => Err(Failure::Refused { what, error: Box::new(error) }),
                Err(_) => Err(Failure::Late { what }),
            };
            outcome = outcome.and(done);
        }
        outcome
    }

    async fn perform_one(&self, action: Action) -> Result<(), kube::Error> {
        match action {
            Action::CreateNamespace { name, labels } => {
                let metadata = ObjectMeta { name: Some(name), labels: Some(labels), ..ObjectMeta::default() };
                let namespace = Namespace { metadata, ..Namespace::default() };
                Api::all(self.client.clone()).create(&by(FIELD_MANAGER), &namespace).await.map(drop)
            }
            Action::LabelNamespace { name, labels } => {
                let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
                let namespaces = Api::<Namespace>::all(self.client.clone());
                gone(namespaces.patch(&name, &patched_by(FIELD_MANAGER), &patch).await.map(drop))
            }
            Action::CreateRoute(route) => {
                let routes = self.routes(&Place::of(route.meta()));
                routes.create(&by(FIELD_MANAGER), &route).await.map(drop)
            }
            Action::ApplyRoute(route) => self.apply_route(*route).await,
            Action::DeleteRoute { place, uid } => {
                let preconditions = Preconditions { uid, resource_version: None };
                gone(self.routes(&place).delete(&place.name, &if_still(preconditions)).await.map(drop))
            }
            Action::SetInitializer { place, version, gateway } => {
                let patch = json!({
                    "apiVersion": DomainRoute::api_version(&()),
                    "kind": DomainRoute::kind(&()),
                    "metadata": {"resourceVersion": version},
                    "status": {"tokenStatus": {"revisionInitializer": gateway}},
                });
                let params = PatchParams::apply(FIELD_MANAGER).force();
                gone(
                    self.routes(&place)
                        .patch_status(&place.name, &params, &Patch::Apply(patch))
                        .await
                        .map(drop),
                )
            }
            Action::WriteRouteStatus { place, version, status } => {
                let patch = json!({
                    "apiVersion": DomainRoute::api_version(&()),
                    "kind": DomainRoute::kind(&()),
                    "metadata": {"resourceVersion": version},
                    "status": status,
                });
                let params = PatchParams::apply(GATEWAY_MANAGER).force();
                gone(
                    self.routes(&place)
                        .patch_status(&place.name, &params, &Patch::Apply(patch))
                        .await
                        .map(drop),
                )
            }
            Action::WriteClusterRouteStatus { name, uid, version, status, warning } => {
                gone(self.write_cluster_route_status(&name, version, *status).await)?;
                if let Some(warning) = warning {
                    self.warn(&name, uid, &warning).await;
                }
                Ok(())
            }
            Action::DeleteGateway { place, uid, version } => {
                let gateways = Api::<Gateway>::namespaced(self.client.clone(), &place.namespace);
                let preconditions = Preconditions { uid, resource_version: version };
                gone(gateways.delete(&place.name, &if_still(preconditions)).await.map(drop))
            }
        }
    }

    async fn apply_route(&self, route: DomainRoute) -> Result<(), kube::Error> {
        let place = Place::of(route.meta());
        let routes = self.routes(&place);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied = routes.patch(&place.name, &params, &Patch::Apply(&route)).await?;
        if applied.spec == route.spec && applied.metadata.labels == route.metadata.labels {
            return Ok(());
        }
        // What others have added is not taken back by applying.
        let values = [("/spec", json!(route.spec)), ("/metadata/labels", json!(route.metadata.labels))];
        let exact = exactly(applied.meta(), &values)?;
        routes.patch(&place.name, &patched_by(FIELD_MANAGER), &exact).await.map(drop)
    }

    async fn write_cluster_route_status(
        &self,
        name: &str,
        version: Option<String>,
        status: ClusterDomainRouteStatus,
    ) -> Result<(), kube::Error> {
        let cluster_routes = Api::<ClusterDomainRoute>::all(self.client.clone());
        let patch = json!({
            "apiVersion": ClusterDomainRoute::api_version(&()),
            "kind": ClusterDomainRoute::kind(&()),
            "metadata": {"resourceVersion": version},
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied = cluster_routes.patch_status(name, &params, &Patch::Apply(patch)).await?;
        if applied.status.as_ref() == Some(&status) {
            return Ok(());
        }
        // What Kuscia's controller has left is not taken back by applying.
        let exact = exactly(applied.meta(), &[("/status", json!(status))])?;
        cluster_routes.patch_status(name, &patched_by(FIELD_MANAGER), &exact).await.map(drop)
    }

    /// Publishes an Event; it is an extra, so nothing fails by it.
    async fn warn(&self, name: &str, uid: Option<String>, warning: &Condition) {
        let mut note = warning.message.clone();
        note.truncate(note.floor_char_boundary(MAX_NOTE));
        let event = Event {
            type_: EventType::Warning,
            reason: warning.reason.clone(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let metadata = ObjectMeta { name: Some(name.to_owned()), uid, ..ObjectMeta::default() };
        let regarding =
            ClusterDomainRoute { metadata, spec: Default::default(), status: None }.object_ref(&());
        if let Err(error) = self.recorder.publish(&event, &regarding).await {
            debug!(%error, name, "no Event was published");
        }
    }

    fn routes(&self, place: &Place) -> Api<DomainRoute> {
        Api::namespaced(self.client.clone(), &place.namespace)
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CreateNamespace { name, .. } => write!(f, "create the namespace {name}"),
            Self::LabelNamespace { name, .. } => write!(f, "label the namespace {name}"),
            Self::CreateRoute(route) => write!(f, "create the DomainRoute {}", Place::of(route.meta())),
            Self::ApplyRoute(route) => write!(f, "apply the DomainRoute {}", Place::of(route.meta())),
            Self::DeleteRoute { place, .. } => write!(f, "delete the DomainRoute {place}"),
            Self::SetInitializer { place, gateway, .. } => {
                write!(f, "make {gateway} the initializer of the DomainRoute {place}")
            }
            Self::WriteRouteStatus { place, .. } => write!(f, "write the status of the DomainRoute {place}"),
            Self::WriteClusterRouteStatus { name, .. } => {
                write!(f, "write the status of the ClusterDomainRoute {name}")
            }
            Self::DeleteGateway { place, .. } => {
                write!(f, "delete the Gateway {place}, which is silent for long")
            }
        }
    }
}

fn by(manager: &str) -> PostParams {
    PostParams { field_manager: Some(manager.to_owned()), ..PostParams::default() }
}

fn patched_by(manager: &str) -> PatchParams {
    PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() }
}

/// Replaces `values` as they are, in the object of which this is the metadata, if it has not changed since.
fn exactly(metadata: &ObjectMeta, values: &[(&str, Value)]) -> Result<Patch<()>, kube::Error> {
    let version = ("/metadata/resourceVersion", json!(metadata.resource_version));
    let operations: Vec<Value> = [&version]
        .into_iter()
        .chain(values)
        .map(|(path, value)| json!({"op": "replace", "path": path, "value": value}))
        .collect();
    serde_json::from_value(Value::Array(operations)).map(Patch::Json).map_err(kube::Error::SerdeError)
}

fn if_still(preconditions: Preconditions) -> DeleteParams {
    DeleteParams::default().preconditions(preconditions)
}

/// What was to be changed or deleted may be gone already.
fn gone(outcome: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        outcome => outcome,
    }
}
