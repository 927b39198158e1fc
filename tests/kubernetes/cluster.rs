//! The API server that all tests share. Each test has namespaces of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::api_server::ApiServer;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::runtime::{conditions, wait};
use kube::{Api, Client, Config, ResourceExt as _, discovery};
use serde_json::json;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// How long anything may take that happens by itself, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Who writes in these tests.
pub(crate) const TEST: &str = "test";

/// The API server and the lock of its folder. Both end with the process.
struct Shared {
    server: ApiServer,
    _lock: File,
}

/// The API server, with the definitions of `deploy/crds` in force.
pub(crate) async fn server() -> &'static ApiServer {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    &SHARED.get_or_init(start).await.server
}

/// Who may do everything.
pub(crate) async fn admin() -> Client {
    client(server().await.kubeconfig()).await
}

/// A new namespace.
pub(crate) async fn namespace(admin: &Client, name: &str) {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    apply(admin, &serde_json::from_value(object).unwrap()).await.unwrap();
}

/// The client of a service account, with a token that the API server has issued.
pub(crate) async fn account(admin: &Client, namespace: &str, name: &str) -> Client {
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
    let asked = TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() };
    let issued = accounts.create_token_request(name, &PostParams::default(), &asked).await.unwrap();
    let token = issued.status.unwrap().token.unwrap();
    client(&server().await.kubeconfig_for(&format!("{namespace}-{name}"), &token).unwrap()).await
}

/// A file or folder of `deploy`.
pub(crate) fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// The objects of a file.
pub(crate) fn objects(file: &Path) -> Vec<DynamicObject> {
    parse(&fs::read_to_string(file).unwrap())
}

/// The objects of a YAML text.
pub(crate) fn parse(yaml: &str) -> Vec<DynamicObject> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

/// Applies an object as it stands; a field that the server does not know is an error.
pub(crate) async fn apply(client: &Client, object: &DynamicObject) -> Result<DynamicObject, kube::Error> {
    apply_with(client, object, &PatchParams::apply(TEST).force()).await
}

/// As [`apply`], except that nothing is stored.
pub(crate) async fn try_apply(client: &Client, object: &DynamicObject) -> Result<DynamicObject, kube::Error> {
    apply_with(client, object, &PatchParams::apply(TEST).force().dry_run()).await
}

async fn apply_with(
    client: &Client,
    object: &DynamicObject,
    params: &PatchParams,
) -> Result<DynamicObject, kube::Error> {
    let params = params.clone().validation_strict();
    api(client, object).await?.patch(&object.name_any(), &params, &Patch::Apply(object)).await
}

/// The API of the object's kind, in its namespace if it has one.
pub(crate) async fn api(client: &Client, object: &DynamicObject) -> Result<Api<DynamicObject>, kube::Error> {
    let kind = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
    let (resource, _) = discovery::pinned_kind(client, &kind).await?;
    Ok(match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}

async fn start() -> Shared {
    // Nothing drops what is static, so the data of the last run are still there.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubernetes");
    let lock = File::create(folder.with_extension("lock")).unwrap();
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap().unwrap();
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    let server = ApiServer::start(&folder, &|_| ()).await.unwrap_or_else(|error| panic!("{error}"));
    let admin = client(server.kubeconfig()).await;
    for file in fs::read_dir(deployed("crds")).unwrap() {
        for definition in objects(&file.unwrap().path()) {
            apply(&admin, &definition).await.unwrap();
            let (name, established) = (definition.name_any(), conditions::is_crd_established());
            let wait = wait::await_condition(Api::all(admin.clone()), &name, established);
            timeout(PATIENCE, wait).await.expect("is established").unwrap();
        }
    }
    Shared { server, _lock: lock }
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}
