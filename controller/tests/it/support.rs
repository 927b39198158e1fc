//! One API server for all tests, which take turns, and controllers to run against it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use controller::{Settings, State};
use harness::api_server::ApiServer;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// How long anything may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// The namespace of the lease.
pub(crate) const NAMESPACE: &str = "networkmesh";

/// The turn of a test: only its controllers run.
pub(crate) struct Turn {
    pub(crate) server: OwnedMutexGuard<ApiServer>,
    pub(crate) client: Client,
}

/// Waits for the turn of a test, and for the API server.
pub(crate) async fn turn() -> Turn {
    static SERVER: OnceLock<Arc<Mutex<ApiServer>>> = OnceLock::new();
    let start = || std::thread::spawn(start_server).join().unwrap();
    let server = tokio::task::spawn_blocking(move || Arc::clone(SERVER.get_or_init(start))).await.unwrap();
    let server = server.lock_owned().await;
    let client = client(server.kubeconfig()).await;
    Turn { server, client }
}

/// Starts the API server in a runtime that outlives every test.
fn start_server() -> Arc<Mutex<ApiServer>> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("controller");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let runtime: &Runtime = Box::leak(Box::new(Runtime::new().unwrap()));
    runtime.block_on(async {
        let server = ApiServer::start(&folder, &|_| ()).await.unwrap();
        let client = client(server.kubeconfig()).await;
        create(
            &client,
            "",
            &serde_json::json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
            }),
        )
        .await;
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for definition in model::api::custom_resource_definitions() {
            definitions.create(&PostParams::default(), &definition).await.unwrap();
            let name = definition.name_any();
            until(&definitions, &name, "to be established", |definition| {
                let status = definition.status.as_ref();
                let conditions = status.and_then(|status| status.conditions.as_ref());
                conditions
                    .into_iter()
                    .flatten()
                    .any(|condition| condition.type_ == "Established" && condition.status == "True")
            })
            .await;
        }
        Arc::new(Mutex::new(server))
    })
}

/// A client for a kubeconfig.
pub(crate) async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// A running controller. It ends without a word when this is dropped.
pub(crate) struct Controller {
    pub(crate) identity: String,
    pub(crate) state: watch::Receiver<State>,
    shutdown: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Controller {
    /// Starts a controller that competes for the lease `lease`.
    pub(crate) fn start(client: &Client, lease: &str) -> Self {
        let settings =
            Settings { lease_name: lease.to_owned(), ..Settings::new("test", NAMESPACE.to_owned()) };
        let identity = settings.identity.clone();
        let (state, shown) = watch::channel(State::default());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(controller::run(client.clone(), settings, state, shutdown.clone()));
        Self { identity, state: shown, shutdown, task: AbortOnDropHandle::new(task) }
    }

    /// Starts a controller that leads.
    pub(crate) async fn leading(client: &Client, lease: &str) -> Self {
        let mut controller = Self::start(client, lease);
        controller.until("to lead", |state| state.is_leader).await;
        controller
    }

    /// Returns once the state is so.
    pub(crate) async fn until(&mut self, what: &str, is_so: impl FnMut(&State) -> bool) {
        let state = self.state.clone();
        let waited = timeout(LONG, self.state.wait_for(is_so)).await;
        assert!(
            matches!(waited, Ok(Ok(_))),
            "waited for the controller {what}; it shows {:?}",
            state.borrow()
        );
    }

    /// Whether it leads.
    pub(crate) fn leads(&self) -> bool {
        self.state.borrow().is_leader
    }

    /// Stops it as SIGTERM does.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        timeout(LONG, self.task).await.expect("it ends").unwrap();
    }
}

/// Waits until an object is as it should be.
pub(crate) async fn until<K>(api: &Api<K>, name: &str, what: &str, is_so: impl Fn(&K) -> bool) -> K
where
    K: Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let mut last = None;
    let waited = timeout(LONG, async {
        loop {
            last = api.get_opt(name).await.unwrap();
            if let Some(object) = last.clone().filter(&is_so) {
                return object;
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    match waited.await {
        Ok(object) => object,
        Err(_) => {
            let mut last = serde_json::to_value(last).unwrap();
            last["metadata"]["managedFields"] = Value::Null;
            panic!("waited for {name} {what}; it is {last:#}")
        }
    }
}

/// Waits until an object is gone.
pub(crate) async fn until_gone<K: Clone + DeserializeOwned + std::fmt::Debug>(api: &Api<K>, name: &str) {
    let gone = timeout(LONG, async {
        while api.get_opt(name).await.unwrap().is_some() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    gone.await.unwrap_or_else(|_| panic!("{name} is still there"));
}

/// Creates an object of any kind.
pub(crate) async fn create(client: &Client, namespace: &str, object: &Value) -> DynamicObject {
    let text = |field: &str| object[field].as_str().unwrap().to_owned();
    let (group, version) = match text("apiVersion").split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), text("apiVersion")),
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind { group, version, kind: text("kind") });
    let api: Api<DynamicObject> = if namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    };
    let object = serde_json::from_value(object.clone()).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

/// Changes an object as `kubectl patch` does.
pub(crate) async fn patch<K>(api: &Api<K>, name: &str, patch: &impl Serialize)
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let params = PatchParams { field_manager: Some("kubectl".to_owned()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::Merge(serde_json::to_value(patch).unwrap())).await.unwrap();
}
