//! The API server as its clients see it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Namespace, ServiceAccount},
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, Client, Config,
    api::{ListParams, Patch, PatchParams, PostParams, VersionMatch, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use networkmesh_harness::api_server::ApiServer;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn everybody_is_answered_according_to_their_rights() {
    let (_folder, server) = start().await;
    let admin = client(server.kubeconfig()).await;
    assert_eq!(admin.apiserver_version().await.expect("says").git_version, "v1.35.4");
    let names = namespaces(&admin).await.expect("may list");
    assert!(names.contains(&"default".to_owned()), "{names:?}");

    let stranger = server.kubeconfig_for("stranger", "guessed").expect("writes");
    assert_eq!(fs::metadata(&stranger).expect("is there").permissions().mode() & 0o777, 0o600);
    assert_eq!(refusal(&client(&stranger).await).await, 401);
    let nobody = server.kubeconfig_for("nobody", "").expect("writes");
    assert_eq!(refusal(&client(&nobody).await).await, 403);

    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), "default");
    let account = serde_json::from_value(json!({"metadata": {"name": "reader"}})).expect("an account");
    accounts.create(&PostParams::default(), &account).await.expect("creates");
    let asked = TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() };
    let issued = accounts.create_token_request("reader", &PostParams::default(), &asked).await;
    let token = issued.expect("issues").status.expect("a status").token.expect("a token");
    let reader = client(&server.kubeconfig_for("reader", &token).expect("writes")).await;
    assert_eq!(refusal(&reader).await, 403);

    let binding = json!({
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
    });
    let bindings: Api<ClusterRoleBinding> = Api::all(admin);
    let binding = serde_json::from_value(binding).expect("a binding");
    bindings.create(&PostParams::default(), &binding).await.expect("creates");
    // Rights are read from a watch, and so take effect some time after the answer.
    let granted = async {
        while namespaces(&reader).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), granted).await.expect("may list");
}

#[tokio::test]
async fn data_outlast_the_process_and_old_revisions_can_be_forgotten() {
    let (_folder, mut server) = start().await;
    let url = server.url();
    let maps: Api<ConfigMap> = Api::namespaced(client(server.kubeconfig()).await, "default");
    let first = write(&maps, "first").await;
    write(&maps, "second").await;
    let mut watch = maps.watch(&WatchParams::default(), &first).await.expect("watches").boxed();
    let missed = watch.try_next().await.expect("no fault").expect("an event");
    assert!(matches!(&missed, WatchEvent::Modified(map) if text(map) == "second"), "{missed:?}");

    server.stop().await.expect("stops");
    assert_eq!(server.pid(), None);
    assert!(watch.try_next().await.expect("is told").is_none());
    assert!(maps.get("map").await.is_err(), "nobody answers");
    server.start_again().await.expect("starts");
    assert_eq!(server.url(), url);
    assert_eq!(text(&maps.get("map").await.expect("is kept")), "second");
    let mut watch = maps.watch(&WatchParams::default(), &first).await.expect("watches").boxed();
    let gone = watch.try_next().await.expect("no fault").expect("an event");
    assert!(matches!(&gone, WatchEvent::Error(status) if status.code == 410), "{gone:?}");

    let then = ListParams::default().at(&first).matching(VersionMatch::Exact);
    let maps_then = maps.list(&then).await.expect("is remembered").items;
    assert!(matches!(maps_then.as_slice(), [map] if text(map) == "first"), "{maps_then:?}");
    server.compact().await.expect("compacts");
    let gone = maps.list(&then).await.expect_err("is forgotten");
    assert!(matches!(&gone, kube::Error::Api(status) if status.code == 410), "{gone}");

    write(&maps, "third").await;
    server.kill().await.expect("is killed");
    server.start_again().await.expect("starts");
    assert_eq!(text(&maps.get("map").await.expect("is kept")), "third");
}

async fn start() -> (TempDir, ApiServer) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = ApiServer::start(folder.path(), &|_| ()).await.unwrap_or_else(|error| panic!("{error}"));
    (folder, server)
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("reads");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("is complete")).expect("a client")
}

async fn namespaces(client: &Client) -> Result<Vec<String>, kube::Error> {
    let list = Api::<Namespace>::all(client.clone()).list(&ListParams::default()).await?;
    Ok(list.into_iter().filter_map(|namespace| namespace.metadata.name).collect())
}

/// The HTTP status of the server's refusal to list the namespaces.
async fn refusal(client: &Client) -> u16 {
    match namespaces(client).await {
        Err(kube::Error::Api(status)) => status.code,
        answer => panic!("{answer:?}"),
    }
}

/// Writes a map of that content, and returns its resource version.
async fn write(maps: &Api<ConfigMap>, text: &str) -> String {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"text": text},
    });
    let written = maps.patch("map", &PatchParams::apply("test"), &Patch::Apply(&map)).await.expect("writes");
    written.metadata.resource_version.expect("a version")
}

fn text(map: &ConfigMap) -> &str {
    &map.data.as_ref().expect("data")["text"]
}
