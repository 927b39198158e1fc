use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use serde_json::json;

use crate::support::{Controller, NAMESPACE, create, turn, until};

async fn lease(api: &Api<Lease>, name: &str) -> LeaseSpec {
    api.get(name).await.unwrap().spec.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_acts_and_when_it_dies_the_other_does() {
    let turn = turn().await;
    let (leases, namespaces) = (
        Api::<Lease>::namespaced(turn.client.clone(), NAMESPACE),
        Api::<Namespace>::all(turn.client.clone()),
    );
    let first = Controller::leading(&turn.client, "two").await;
    let mut second = Controller::start(&turn.client, "two");
    second.until("to know its leader", |state| state.leader.as_ref() == Some(&first.identity)).await;
    assert!(first.leads() && !second.leads());
    let held = lease(&leases, "two").await;
    assert_eq!(held.holder_identity.as_ref(), Some(&first.identity));
    assert_eq!(held.lease_transitions, Some(0));
    let domain = |name: &str| json!({"apiVersion": "kuscia.secretflow/v1alpha1", "kind": "Domain", "metadata": {"name": name}, "spec": {}});
    create(&turn.client, "", &domain("before")).await;
    until(&namespaces, "before", "to exist", |_| true).await;

    // It gives nothing back, as after SIGKILL.
    drop(first);
    create(&turn.client, "", &domain("after")).await;
    second.until("to take over", |state| state.is_leader).await;
    until(&namespaces, "after", "to exist", |_| true).await;
    let taken = lease(&leases, "two").await;
    assert_eq!(taken.holder_identity.as_ref(), Some(&second.identity));
    assert_eq!(taken.lease_transitions, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_stopped_gives_the_lease_back() {
    let turn = turn().await;
    let first = Controller::leading(&turn.client, "given-back").await;
    let mut second = Controller::start(&turn.client, "given-back");
    second.until("to know its leader", |state| state.leader.is_some()).await;
    first.stop().await;
    let leases = Api::<Lease>::namespaced(turn.client.clone(), NAMESPACE);
    second.until("to take over", |state| state.is_leader).await;
    second.stop().await;
    assert_eq!(lease(&leases, "given-back").await.holder_identity.as_deref(), Some(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_stops_acting_and_goes_on_when_the_api_server_is_back() {
    let mut turn = turn().await;
    let mut controller = Controller::leading(&turn.client, "cut-off").await;
    turn.server.kill().await.unwrap();
    controller.until("to stop", |state| !state.is_leader).await;
    let problems = controller.state.borrow().problems.join("\n");
    assert!(problems.contains("cannot take the lease cut-off: "), "{problems}");
    turn.server.start_again().await.unwrap();
    let domain = json!({
        "apiVersion": "kuscia.secretflow/v1alpha1", "kind": "Domain", "metadata": {"name": "later"}, "spec": {},
    });
    create(&turn.client, "", &domain).await;
    let namespaces = Api::<Namespace>::all(turn.client.clone());
    until(&namespaces, "later", "to exist", |_| true).await;
    controller.until("to be well", |state| state.is_leader && state.problems.is_empty()).await;
}
