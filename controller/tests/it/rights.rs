use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use serde_json::Value;

use crate::support::{Controller, NAMESPACE, Turn, client, create, turn, until};

/// A client with the rights of the controller's service account, which must exist.
async fn as_controller(turn: &Turn) -> kube::Client {
    let accounts: Api<ServiceAccount> = Api::namespaced(turn.client.clone(), NAMESPACE);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() }),
        ..TokenRequest::default()
    };
    let token = accounts
        .create_token_request("networkmesh-controller", &PostParams::default(), &request)
        .await
        .unwrap()
        .status
        .unwrap()
        .token
        .unwrap();
    client(&turn.server.kubeconfig_for("controller", &token).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_its_manifest_are_enough_and_without_them_it_says_what_to_do() {
    let turn = turn().await;
    let manifest = include_str!("../../../deploy/rbac/controller.yaml");
    let documents: Vec<Value> =
        manifest.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect();
    let account = |document: &&Value| document["kind"] == "ServiceAccount";
    create(&turn.client, NAMESPACE, documents.iter().find(account).unwrap()).await;

    let restricted = as_controller(&turn).await;
    let mut controller = Controller::start(&restricted, "networkmesh-controller");
    let remedy = "kubectl apply -f deploy/rbac/controller.yaml";
    controller
        .until("to say its remedy", |state| state.problems.iter().any(|text| text.ends_with(remedy)))
        .await;

    for document in
        documents.iter().filter(|document| document["apiVersion"] == "rbac.authorization.k8s.io/v1")
    {
        let namespace = document["metadata"]["namespace"].as_str().unwrap_or_default();
        create(&turn.client, namespace, document).await;
    }
    controller.until("to lead", |state| state.is_leader).await;
    crate::routes::live_through_all(&turn.client, "rita", "ruth").await;
    controller.until("to be well", |state| state.problems.is_empty()).await;
    let namespaces = Api::<Namespace>::all(turn.client.clone());
    until(&namespaces, "rita", "to exist", |_| true).await;
}
