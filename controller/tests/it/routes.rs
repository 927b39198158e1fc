use std::time::Duration;

use certs::{DomainAuthority, DomainKey};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use model::api::{ClusterDomainRoute, ConditionStatus, Domain, DomainRoute, Gateway};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::support::{Controller, LONG, create, patch, turn, until, until_gone};

const GROUP: &str = "kuscia.secretflow/v1alpha1";

/// A domain with a new key. Answers the public key.
async fn create_domain(client: &Client, name: &str) -> String {
    let (key, cert) = certificate(name);
    create(
        client,
        "",
        &json!({
            "apiVersion": GROUP, "kind": "Domain", "metadata": {"name": name}, "spec": {"cert": cert},
        }),
    )
    .await;
    until(&Api::<Namespace>::all(client.clone()), name, "to exist", |_| true).await;
    key
}

/// A public key, and a certificate with it.
fn certificate(name: &str) -> (String, String) {
    let key = DomainKey::generate().unwrap();
    let authority = DomainAuthority::new(name, &key, std::time::SystemTime::now()).unwrap();
    (key.public_key().to_base64_pem(), authority.certificate_base64_pem())
}

fn route(kind: &str, source: &str, destination: &str) -> Value {
    json!({
        "apiVersion": GROUP,
        "kind": kind,
        "metadata": {"name": format!("{source}-{destination}"), "labels": {"team": "blue"}},
        "spec": {
            "source": source,
            "destination": destination,
            "endpoint": {"host": "gateway.example", "ports": [{"name": "http", "protocol": "HTTP", "port": 1080}]},
            "authenticationType": "Token",
            "tokenConfig": {"tokenGenMethod": "RSA-GEN", "rollingUpdatePeriod": 86400},
        },
    })
}

/// A gateway that is alive now.
async fn create_gateway(client: &Client, namespace: &str, name: &str) {
    create(client, namespace, &json!({"apiVersion": GROUP, "kind": "Gateway", "metadata": {"name": name}}))
        .await;
    let status = json!({
        "apiVersion": GROUP, "kind": "Gateway",
        "status": {"address": "192.0.2.1", "heartbeatTime": jiff::Timestamp::now().to_string()},
    });
    let gateways = Api::<Gateway>::namespaced(client.clone(), namespace);
    let params = PatchParams::apply("networkmesh").force();
    gateways.patch_status(name, &params, &Patch::Apply(status)).await.unwrap();
}

/// Writes a status as a gateway does: whole, by force, if nobody else was faster.
async fn write_as_gateway(routes: &Api<DomainRoute>, name: &str, change: impl Fn(&mut Value)) {
    loop {
        let route = routes.get(name).await.unwrap();
        let mut status = json!(route.status.clone().unwrap_or_default());
        change(&mut status);
        let object = json!({
            "apiVersion": GROUP, "kind": "DomainRoute",
            "metadata": {"resourceVersion": route.resource_version()}, "status": status,
        });
        let params = PatchParams::apply("networkmesh").force();
        match routes.patch_status(name, &params, &Patch::Apply(object)).await {
            Err(kube::Error::Api(error)) if error.code == 409 => {}
            written => return drop(written.unwrap()),
        }
    }
}

fn initializer(route: &DomainRoute) -> Option<&str> {
    route.status.as_ref().map(|status| status.token_status.revision_initializer.as_str())
}

fn shows(route: &ClusterDomainRoute, type_: &str, status: ConditionStatus, reason: &str) -> bool {
    let conditions = route.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .any(|shown| (shown.type_.as_str(), shown.status, shown.reason.as_str()) == (type_, status, reason))
}

/// The whole life of a route from `source` to `destination`, which do not exist yet.
pub(crate) async fn live_through_all(client: &Client, source: &str, destination: &str) {
    let cluster_routes = Api::<ClusterDomainRoute>::all(client.clone());
    let [at_source, at_destination] =
        [source, destination].map(|domain| Api::<DomainRoute>::namespaced(client.clone(), domain));
    let source_key = create_domain(client, source).await;
    let destination_key = create_domain(client, destination).await;
    for (domain, name) in [(source, "gw-1"), (source, "gw-2"), (destination, "gw-1"), (destination, "gw-2")] {
        create_gateway(client, domain, name).await;
    }

    // It is made on both sides, with the keys of the domains.
    create(client, "", &route("ClusterDomainRoute", source, destination)).await;
    let name = format!("{source}-{destination}");
    for routes in [&at_source, &at_destination] {
        let made = until(routes, &name, "to exist", |_| true).await;
        let tokens = made.spec.token_config.as_ref().unwrap();
        assert_eq!(
            (&tokens.source_public_key, &tokens.destination_public_key),
            (&source_key, &destination_key)
        );
        assert_eq!(made.labels()["team"], "blue");
        assert_eq!(made.labels()["kuscia.secretflow/clusterdomainroute-source"], source);
        assert_eq!(made.owner_references()[0].name, name);
    }
    let accepted = |route: &ClusterDomainRoute| shows(route, "Accepted", ConditionStatus::True, "Valid");
    until(&cluster_routes, &name, "to be accepted", accepted).await;

    // What others change or add is put back; what the ClusterDomainRoute drops is dropped.
    let edit =
        json!({"spec": {"endpoint": {"host": "edited.example"}, "bodyEncryption": {"algorithm": "AES"}}});
    patch(&at_destination, &name, &edit).await;
    until(&at_destination, &name, "to be put back", |route| {
        route.spec.endpoint.host == "gateway.example" && route.spec.body_encryption.is_none()
    })
    .await;
    let more = json!({"metadata": {"labels": {"team": null}}, "spec": {"interConnProtocol": "kuscia"}});
    patch(&cluster_routes, &name, &more).await;
    until(&at_destination, &name, "to follow", |route| {
        !route.spec.inter_conn_protocol.is_empty() && !route.labels().contains_key("team")
    })
    .await;
    patch(&cluster_routes, &name, &json!({"spec": {"interConnProtocol": null}})).await;
    until(&at_destination, &name, "to follow", |route| route.spec.inter_conn_protocol.is_empty()).await;

    // The key follows the certificate.
    let (renewed, cert) = certificate(source);
    patch(&Api::<Domain>::all(client.clone()), source, &json!({"spec": {"cert": cert}})).await;
    until(&at_destination, &name, "to have the new key", |route| {
        route.spec.token_config.as_ref().is_some_and(|tokens| tokens.source_public_key == renewed)
    })
    .await;

    // The initializer is handed over when it is gone, and gateways may write in between.
    until(&at_source, &name, "to have an initializer", |route| initializer(route) == Some("gw-1")).await;
    let token = |gateways: &[&str], ready: bool| json!({"revision": 1, "token": "sealed", "isReady": ready, "effectiveInstances": gateways});
    write_as_gateway(&at_source, &name, |status| {
        status["isDestinationAuthorized"] = json!(true);
        status["tokenStatus"]["revisionToken"] = token(&["gw-1"], true);
        status["tokenStatus"]["tokens"] = json!([token(&["gw-1"], true)]);
    })
    .await;
    Api::<Gateway>::namespaced(client.clone(), source)
        .delete("gw-1", &DeleteParams::default())
        .await
        .unwrap();
    let handed_over =
        until(&at_source, &name, "to have another initializer", |route| initializer(route) == Some("gw-2"))
            .await;
    let tokens = handed_over.status.unwrap().token_status;
    assert_eq!((tokens.revision_token.revision, tokens.tokens.len()), (1, 1), "the tokens stay");

    // A token that waits for a gateway which is gone is ready.
    write_as_gateway(&at_destination, &name, |status| {
        status["tokenStatus"]["revisionToken"] = token(&["gw-1"], false);
    })
    .await;
    Api::<Gateway>::namespaced(client.clone(), destination)
        .delete("gw-2", &DeleteParams::default())
        .await
        .unwrap();
    until(&at_destination, &name, "to have a ready token", |route| {
        let status = route.status.as_ref().map(|status| &status.token_status);
        status.is_some_and(|tokens| tokens.revision_token.is_ready && tokens.tokens.len() == 1)
    })
    .await;
    let ready = |route: &ClusterDomainRoute| shows(route, "Ready", ConditionStatus::True, "Success");
    until(&cluster_routes, &name, "to be ready", ready).await;
    // A gateway that has lost all tokens can still say so: nobody else holds on to them.
    write_as_gateway(&at_destination, &name, |status| {
        status["tokenStatus"]["tokens"] = json!([]);
        status["tokenStatus"].as_object_mut().unwrap().remove("tokens");
    })
    .await;
    until(&at_destination, &name, "to have no tokens", |route| {
        route.status.as_ref().is_some_and(|status| status.token_status.tokens.is_empty())
    })
    .await;
    let lost = |route: &ClusterDomainRoute| shows(route, "Ready", ConditionStatus::False, "TokenNotGenerate");
    until(&cluster_routes, &name, "to have lost its token", lost).await;

    // It goes with the ClusterDomainRoute, and the namespaces stay when the domains go.
    cluster_routes.delete(&name, &DeleteParams::default()).await.unwrap();
    until_gone(&at_source, &name).await;
    until_gone(&at_destination, &name).await;
    Api::<Domain>::all(client.clone()).delete(source, &DeleteParams::default()).await.unwrap();
    let namespaces = Api::<Namespace>::all(client.clone());
    let deleted = |namespace: &Namespace| {
        namespace.labels().get("kuscia.secretflow/deleted").is_some_and(|yes| yes == "true")
    };
    until(&namespaces, source, "to be marked", deleted).await;
    create_domain(client, source).await;
    until(&namespaces, source, "to be in use again", |namespace| !deleted(namespace)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_route_lives_on_both_sides_and_goes_with_what_it_made() {
    let turn = turn().await;
    let mut controller = Controller::leading(&turn.client, "life").await;
    live_through_all(&turn.client, "alice", "bob").await;
    controller.until("to be well", |state| state.problems.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_was_made_by_hand_stays_and_operators_are_told() {
    let turn = turn().await;
    let client = &turn.client;
    let _controller = Controller::leading(client, "by-hand").await;
    for name in ["carol", "dave"] {
        create_domain(client, name).await;
    }
    let by_hand = create(client, "dave", &route("DomainRoute", "carol", "dave")).await;
    create(client, "", &route("ClusterDomainRoute", "carol", "dave")).await;
    let cluster_routes = Api::<ClusterDomainRoute>::all(client.clone());
    let refused =
        |route: &ClusterDomainRoute| shows(route, "Accepted", ConditionStatus::False, "DomainRouteInTheWay");
    until(&cluster_routes, "carol-dave", "to be refused", refused).await;
    let events = Api::<Event>::namespaced(client.clone(), "default");
    let of_route = ListParams::default().fields("regarding.name=carol-dave");
    let told = timeout(LONG, async {
        loop {
            let seen = events.list(&of_route).await.unwrap().items;
            if !seen.is_empty() {
                return seen;
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    let seen = told.await.expect("an Event");
    assert_eq!(seen[0].reason.as_deref(), Some("DomainRouteInTheWay"));
    assert!(seen[0].note.as_ref().unwrap().starts_with("DomainRoute dave/carol-dave "), "{seen:?}");

    cluster_routes.delete("carol-dave", &DeleteParams::default()).await.unwrap();
    let [carols, daves] =
        ["carol", "dave"].map(|domain| Api::<DomainRoute>::namespaced(client.clone(), domain));
    until_gone(&carols, "carol-dave").await;
    let kept = daves.get("carol-dave").await.unwrap();
    assert_eq!(kept.uid(), by_hand.uid());
    assert_eq!(kept.resource_version(), by_hand.resource_version(), "nobody has touched it");
}
