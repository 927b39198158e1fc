//! A Kubernetes API server, as somebody with a kubeconfig and a folder of manifests uses it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use kube::runtime::{conditions, wait};
use kube::{Api, Client, Config, ResourceExt as _};
use model::api::{DomainRoute, DomainRouteStatus, custom_resource_definitions};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The field manager of everything that is applied here. It is another one than the mesh's, so that neither takes away
/// what the other wrote.
const FIELD_MANAGER: &str = "harness";

/// How long the API server may take to know a new kind.
const ESTABLISHED: Duration = Duration::from_secs(60);

/// A Kubernetes API server.
#[derive(Clone)]
pub struct Cluster {
    kubeconfig: PathBuf,
    client: Client,
}

/// A namespace of a Kubernetes API server.
#[derive(Clone)]
pub struct Namespace {
    cluster: Cluster,
    name: String,
    /// What was applied as each file, by its URL.
    files: Arc<Mutex<BTreeMap<String, BTreeMap<String, Place>>>>,
}

/// Where an object stands.
struct Place {
    api: Api<DynamicObject>,
    name: String,
}

/// The API server does not do as it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig is of no use.
    #[error("{}: {error}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        error: KubeconfigError,
    },
    /// The API server refuses, or does not answer.
    #[error("{what}: {error}")]
    Api {
        /// The object.
        what: String,
        /// Why.
        error: Box<kube::Error>,
    },
    /// A new kind is not known in time.
    #[error("the API server does not know {0} within {ESTABLISHED:?} of its definition")]
    NotEstablished(String),
    /// What is to be applied is no object of Kubernetes.
    #[error("no object of Kubernetes: {0}")]
    NoObject(String),
}

impl Cluster {
    /// Reaches the API server of a kubeconfig. Its client works within the present tokio runtime only.
    ///
    /// # Errors
    /// The kubeconfig is of no use.
    pub async fn connect(kubeconfig: &Path) -> Result<Self, Error> {
        let failed = |error| Error::Kubeconfig { path: kubeconfig.to_owned(), error };
        let read = Kubeconfig::read_from(kubeconfig).map_err(failed)?;
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.map_err(failed)?).map_err(api_error("the API server"))?;
        Ok(Self { kubeconfig: kubeconfig.to_owned(), client })
    }

    /// A client with the rights of the kubeconfig.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Defines Kuscia's kinds, and waits until objects of them can be applied.
    ///
    /// # Errors
    /// The API server refuses, or takes longer than a minute.
    pub async fn define_kinds(&self) -> Result<(), Error> {
        let api = Api::all(self.client());
        for definition in custom_resource_definitions() {
            let name = definition.name_any();
            let patch = Patch::Apply(&definition);
            api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &patch)
                .await
                .map_err(api_error(&name))?;
            let established = wait::await_condition(api.clone(), &name, conditions::is_crd_established());
            let is_established = timeout(ESTABLISHED, established).await;
            if !is_established.is_ok_and(|waited| waited.is_ok()) {
                return Err(Error::NotEstablished(name));
            }
        }
        Ok(())
    }

    /// Makes a namespace, unless there is one of this name.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn namespace(&self, name: &str) -> Result<Namespace, Error> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let namespace = Namespace { cluster: self.clone(), name: name.to_owned(), files: Arc::default() };
        namespace.put(object).await?;
        Ok(namespace)
    }
}

impl Namespace {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kubeconfig of whoever fills it.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.cluster.kubeconfig
    }

    /// Its API server.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Applies an object or a `List` of objects; those whose kind belongs to no namespace are the whole cluster's.
    /// Objects that were applied as the same `file` before, and are not in it any more, are deleted.
    ///
    /// # Errors
    /// The API server refuses an object. Those before it are applied.
    pub async fn apply(&self, file: &str, manifest: &Value) -> Result<(), Error> {
        let mut files = self.files.lock().await;
        let objects = match &manifest["items"] {
            Value::Array(items) => items.clone(),
            _ => vec![manifest.clone()],
        };
        let mut places = BTreeMap::new();
        for object in objects {
            let place = self.put(object).await?;
            places.insert(place.url(), place);
        }
        for (url, place) in files.remove(file).unwrap_or_default() {
            if !places.contains_key(&url) {
                place.delete().await?;
            }
        }
        files.insert(file.to_owned(), places);
        Ok(())
    }

    /// Deletes what was applied as `file`.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn remove(&self, file: &str) -> Result<(), Error> {
        let places = self.files.lock().await.remove(file).unwrap_or_default();
        for place in places.values() {
            place.delete().await?;
        }
        Ok(())
    }

    /// The status of a DomainRoute; the empty one where none was written yet.
    ///
    /// # Errors
    /// There is no such DomainRoute.
    pub async fn status_of(&self, route: &str) -> Result<DomainRouteStatus, Error> {
        let route = self.routes().get(route).await.map_err(api_error(route))?;
        Ok(route.status.unwrap_or_default())
    }

    /// The DomainRoutes in it.
    #[must_use]
    pub fn routes(&self) -> Api<DomainRoute> {
        Api::namespaced(self.cluster.client(), &self.name)
    }

    async fn put(&self, object: Value) -> Result<Place, Error> {
        let no_object = |error: &dyn fmt::Display| Error::NoObject(format!("{error}: {object}"));
        let parsed: DynamicObject =
            serde_json::from_value(object.clone()).map_err(|error| no_object(&error))?;
        let types = parsed.types.clone().unwrap_or_default();
        let kind = GroupVersionKind::try_from(types).map_err(|error| no_object(&error))?;
        let name = parsed.name_any();
        let found = discovery::pinned_kind(&self.cluster.client, &kind).await;
        let (resource, capabilities) = found.map_err(api_error(&name))?;
        let place = Place { api: self.api(&resource, &capabilities.scope), name };
        // A field that the API server does not know is an error, as it is with kubectl.
        let parameters = PatchParams::apply(FIELD_MANAGER).force().validation_strict();
        let written = place.api.patch(&place.name, &parameters, &Patch::Apply(parsed)).await;
        written.map_err(api_error(&place.name))?;
        Ok(place)
    }

    fn api(&self, resource: &ApiResource, scope: &Scope) -> Api<DynamicObject> {
        match scope {
            Scope::Namespaced => Api::namespaced_with(self.cluster.client(), &self.name, resource),
            Scope::Cluster => Api::all_with(self.cluster.client(), resource),
        }
    }
}

impl Place {
    fn url(&self) -> String {
        format!("{}/{}", self.api.resource_url(), self.name)
    }

    async fn delete(&self) -> Result<(), Error> {
        let deleted = self.api.delete(&self.name, &DeleteParams::default()).await;
        deleted.map(|_| ()).map_err(api_error(&self.name))
    }
}

fn api_error(what: &str) -> impl FnOnce(kube::Error) -> Error {
    let what = what.to_owned();
    move |error| Error::Api { what, error: Box::new(error) }
}
