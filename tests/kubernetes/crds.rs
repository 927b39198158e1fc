//! The definitions of `deploy/crds`.

use std::path::{Path, PathBuf};
use std::process::Command;

use http::Request;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use model::api::{Condition, ConditionStatus, DomainRoute};
use serde_json::{Value, json};

use crate::cluster::{self, TEST};

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes/manifests")
}

#[tokio::test]
async fn definitions_are_structural_and_to_apply_them_again_changes_nothing() {
    let admin = cluster::admin().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(admin.clone());
    let ours: Vec<CustomResourceDefinition> = definitions.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(ours.len(), 4);
    for definition in &ours {
        let conditions = definition.status.as_ref().unwrap().conditions.as_deref().unwrap_or_default();
        let holding: Vec<&str> = conditions
            .iter()
            .filter(|condition| condition.status == "True")
            .map(|condition| condition.type_.as_str())
            .collect();
        assert_eq!(holding, ["NamesAccepted", "Established"], "{}: {conditions:?}", definition.name_any());
    }
    for object in ["domains", "domainroutes", "clusterdomainroutes", "gateways"] {
        let file = cluster::deployed(&format!("crds/kuscia.secretflow_{object}.yaml"));
        for definition in cluster::objects(&file) {
            let applied = cluster::apply(&admin, &definition).await.unwrap();
            let known = ours.iter().find(|known| known.name_any() == definition.name_any()).unwrap();
            assert_eq!(applied.resource_version(), known.resource_version());
        }
    }
}

#[tokio::test]
async fn manifests_of_kuscia_apply_and_lose_no_field() {
    let admin = cluster::admin().await;
    cluster::namespace(&admin, "manifests").await;
    let files = ["domain", "domain-route", "cluster-domain-route", "gateway"];
    let objects = files.map(|file| cluster::objects(&manifests().join(format!("{file}.yaml"))));
    for (number, mut object) in objects.into_iter().flatten().enumerate() {
        object.metadata.name = Some(format!("{}-{number}", object.name_any()));
        object.metadata.namespace = object.metadata.namespace.map(|_| "manifests".to_owned());
        let api = cluster::api(&admin, &object).await.unwrap();
        let name = object.name_any();
        cluster::apply(&admin, &object).await.unwrap();
        let params = PatchParams::apply(TEST).validation_strict();
        let status = json!({"apiVersion": "kuscia.secretflow/v1alpha1", "kind": object.types.as_ref().unwrap().kind,
            "status": object.data["status"]});
        if status["status"].is_object() {
            api.patch_status(&name, &params, &Patch::Apply(&status)).await.unwrap();
        }
        let stored = api.get(&name).await.unwrap();
        assert_eq!(stored.data, object.data, "{name}");
    }
}

/// Runs `kubectl` as an administrator; `None` where it is not installed.
async fn kubectl(arguments: &[&str]) -> Option<String> {
    let kubeconfig = cluster::server().await.kubeconfig();
    let output = Command::new("kubectl").arg("--kubeconfig").arg(kubeconfig).args(arguments).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn kubectl_takes_the_manifests_unchanged_and_lists_routes_by_their_short_name() {
    let admin = cluster::admin().await;
    for name in ["alice", "bob", "master"] {
        cluster::namespace(&admin, name).await;
    }
    let folder = manifests();
    let Some(said) = kubectl(&["apply", "--dry-run=server", "-f", folder.to_str().unwrap()]).await else {
        return;
    };
    assert_eq!(said.lines().filter(|line| line.ends_with(" created (server dry run)")).count(), 12, "{said}");

    cluster::namespace(&admin, "listed").await;
    cluster::apply(&admin, &route("listed", json!({}))).await.unwrap();
    let said = kubectl(&["get", "dr", "-n", "listed"]).await.unwrap();
    let words: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        words,
        [
            vec!["NAME", "SOURCE", "DESTINATION", "HOST", "AUTHENTICATION", "ACCEPTED"],
            vec!["alice-bob", "alice", "bob", "gateway.bob.example", "Token"],
        ]
    );
}

#[tokio::test]
async fn listings_have_the_columns_of_kuscia() {
    let admin = cluster::admin().await;
    let route = "Name Source Destination Host Authentication";
    for (resource, columns) in [
        ("domains", "Name Age"),
        ("domainroutes", &format!("{route} Accepted")),
        ("clusterdomainroutes", &format!("{route} Ready")),
        ("gateways", "Name CreationTime UpTime HeartbeatTime Address Version"),
    ] {
        let request = Request::get(format!("/apis/kuscia.secretflow/v1alpha1/{resource}?limit=1"))
            .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
        let table: Value = admin.request(request.body(Vec::new()).unwrap()).await.unwrap();
        let names: Vec<&str> = table["columnDefinitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| column["name"].as_str().unwrap())
            .collect();
        assert_eq!(names.join(" "), columns, "{resource}");
    }
}

/// A good route, changed by a JSON merge patch (RFC 7396) of its `spec`.
fn route(namespace: &str, change: Value) -> DynamicObject {
    let mut spec = json!({
        "source": "alice",
        "destination": "bob",
        "endpoint": {
            "host": "gateway.bob.example",
            "ports": [{"name": "http", "protocol": "HTTP", "port": 1080, "isTLS": true, "pathPrefix": "/kuscia"}],
        },
        "authenticationType": "Token",
        "tokenConfig": {"tokenGenMethod": "RSA-GEN", "rollingUpdatePeriod": 86400},
    });
    merge(&mut spec, change);
    serde_json::from_value(json!({
        "apiVersion": "kuscia.secretflow/v1alpha1",
        "kind": "DomainRoute",
        "metadata": {"name": "alice-bob", "namespace": namespace},
        "spec": spec,
    }))
    .unwrap()
}

fn merge(target: &mut Value, change: Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            for (key, value) in change {
                match value {
                    Value::Null => drop(target.remove(&key)),
                    value => merge(target.entry(key).or_insert(Value::Null), value),
                }
            }
        }
        (target, change) => *target = change,
    }
}

/// The route, or the same as a ClusterDomainRoute.
fn in_cluster(mut route: DynamicObject) -> DynamicObject {
    route.metadata.namespace = None;
    route.types.as_mut().unwrap().kind = "ClusterDomainRoute".to_owned();
    route
}

/// Why the server does not create the object.
async fn refusal(admin: &Client, object: &DynamicObject) -> String {
    let params = PostParams { dry_run: true, ..PostParams::default() };
    match cluster::api(admin, object).await.unwrap().create(&params, object).await {
        Err(kube::Error::Api(status)) => status.message.clone(),
        other => panic!("is not refused: {other:?}"),
    }
}

#[tokio::test]
async fn nonsense_is_refused_and_the_answer_names_field_and_remedy() {
    let admin = cluster::admin().await;
    cluster::namespace(&admin, "nonsense").await;
    let port = |change: Value| {
        let mut port = json!({"name": "http", "protocol": "HTTP", "port": 1080});
        merge(&mut port, change);
        json!({"endpoint": {"ports": [port]}})
    };
    let cases = [
        (port(json!({"port": 0})), "spec.endpoint.ports[0].port", "greater than or equal to 1"),
        (port(json!({"port": 70000})), "spec.endpoint.ports[0].port", "less than or equal to 65535"),
        (port(json!({"port": "http"})), "spec.endpoint.ports[0].port", "must be of type integer"),
        (port(json!({"port": null})), "spec.endpoint.ports[0].port", "Required value"),
        (port(json!({"protocol": "HTTPS"})), "spec.endpoint.ports[0].protocol", "\"HTTP\", \"GRPC\""),
        (port(json!({"isTLS": "yes"})), "spec.endpoint.ports[0].isTLS", "must be of type boolean"),
        (json!({"endpoint": {"host": "https://gateway"}}), "spec.endpoint.host", "should match"),
        (
            json!({"endpoint": {"tls": {"serverName": "192.0.2.1:443"}}}),
            "spec.endpoint.tls.serverName",
            "should match",
        ),
        (
            json!({"endpoint": {"timeouts": {"idleSeconds": 0}}}),
            "spec.endpoint.timeouts.idleSeconds",
            "greater than or equal to 1",
        ),
        (
            json!({"endpoint": {"timeouts": {"connectSeconds": 301}}}),
            "spec.endpoint.timeouts.connectSeconds",
            "less than or equal to 300",
        ),
        (json!({"source": null}), "spec.source", "Required value"),
        (json!({"source": "Alice"}), "spec.source", "should match"),
        (json!({"destination": ""}), "spec.destination", "should match"),
        (json!({"authenticationType": "Basic"}), "spec.authenticationType", "\"Token\", \"MTLS\", \"None\""),
        (json!({"interConnProtocol": "grpc"}), "spec.interConnProtocol", "\"kuscia\", \"bfia\""),
        (
            json!({"tokenConfig": {"tokenGenMethod": "RAND"}}),
            "spec.tokenConfig.tokenGenMethod",
            "\"RSA-GEN\"",
        ),
        (
            json!({"tokenConfig": {"rollingUpdatePeriod": -1}}),
            "spec.tokenConfig.rollingUpdatePeriod",
            "greater than or equal to 0",
        ),
        (json!({"transit": {"transitMethod": "TUNNEL"}}), "spec.transit.transitMethod", "\"REVERSE-TUNNEL\""),
        (
            json!({"bodyEncryption": {"algorithm": "DES"}}),
            "spec.bodyEncryption.algorithm",
            "\"AES\", \"SM4\"",
        ),
        (json!({"sourceWhiteIPList": "10.0.0.0/8"}), "spec.sourceWhiteIPList", "must be of type array"),
        (json!({"requestHeadersToAdd": {"n": 1}}), "spec.requestHeadersToAdd.n", "must be of type string"),
    ];
    for (change, field, remedy) in cases {
        let route = route("nonsense", change);
        for route in [in_cluster(route.clone()), route] {
            let message = refusal(&admin, &route).await;
            assert!(message.contains(field) && message.contains(remedy), "{field}: {message}");
        }
    }
    let misspelt = route("nonsense", json!({"tokenConfig": {"rollingUpdatePerod": 1}}));
    let message = cluster::try_apply(&admin, &misspelt).await.unwrap_err().to_string();
    assert!(message.contains(".spec.tokenConfig.rollingUpdatePerod: field not declared"), "{message}");

    let mut empty = route("nonsense", json!({}));
    empty.data.as_object_mut().unwrap().remove("spec");
    let message = refusal(&admin, &empty).await;
    assert!(message.contains("spec: Required value"), "{message}");

    let domain = |spec: Value| {
        let domain = json!({"apiVersion": "kuscia.secretflow/v1alpha1", "kind": "Domain",
            "metadata": {"name": "nonsense"}, "spec": spec});
        serde_json::from_value::<DynamicObject>(domain).unwrap()
    };
    let message = refusal(&admin, &domain(json!({"role": "guest"}))).await;
    assert!(message.contains("spec.role") && message.contains("\"partner\""), "{message}");
    let message = refusal(&admin, &domain(json!({"cert": {"pem": "MII"}}))).await;
    assert!(message.contains("spec.cert") && message.contains("must be of type string"), "{message}");
}

#[tokio::test]
async fn every_kind_of_host_can_be_written_but_nothing_around_it() {
    let admin = cluster::admin().await;
    cluster::namespace(&admin, "hosts").await;
    let host = |host: &str| route("hosts", json!({"endpoint": {"host": host}}));
    for good in [
        "",
        "gateway",
        "gateway.bob.example",
        "Gateway-1.bob.example.",
        "172.2.0.2",
        "::1",
        "2001:db8::a",
        "[2001:db8::a]",
        "::ffff:192.0.2.1",
    ] {
        cluster::try_apply(&admin, &host(good)).await.unwrap_or_else(|error| panic!("{good}: {error}"));
    }
    for bad in ["http://gateway", "gateway:1080", "172.2.0.2:1080", "gateway/kuscia", "gate way", "*.example"]
    {
        let message = refusal(&admin, &host(bad)).await;
        assert!(message.contains("spec.endpoint.host"), "{bad}: {message}");
    }
}

#[tokio::test]
async fn each_writer_of_a_status_has_conditions_of_its_own() {
    let admin = cluster::admin().await;
    cluster::namespace(&admin, "conditions").await;
    cluster::apply(&admin, &route("conditions", json!({}))).await.unwrap();
    let routes: Api<DomainRoute> = Api::namespaced(admin, "conditions");
    let condition = |type_: &str, status| Condition {
        type_: type_.to_owned(),
        status,
        reason: "Test".to_owned(),
        message: String::new(),
        gateway: None,
        last_transition_time: None,
    };
    let write = async |manager: &str, conditions: Vec<Condition>| {
        let status = json!({
            "apiVersion": DomainRoute::api_version(&()),
            "kind": DomainRoute::kind(&()),
            "status": {"conditions": conditions},
        });
        routes.patch_status("alice-bob", &PatchParams::apply(manager), &Patch::Apply(&status)).await
    };
    write("one", vec![condition("Accepted", ConditionStatus::True)]).await.unwrap();
    write("two", vec![condition("Reachable", ConditionStatus::True)]).await.unwrap();
    let stored = write("one", vec![condition("Accepted", ConditionStatus::False)]).await.unwrap();
    let held: Vec<(String, ConditionStatus)> =
        stored.status.unwrap().conditions.into_iter().map(|held| (held.type_, held.status)).collect();
    assert_eq!(
        held,
        [("Accepted".to_owned(), ConditionStatus::False), ("Reachable".to_owned(), ConditionStatus::True)]
    );

    let conflict = write("two", vec![condition("Accepted", ConditionStatus::True)]).await.unwrap_err();
    assert!(matches!(&conflict, kube::Error::Api(status) if status.code == 409), "{conflict}");
    let twice =
        vec![condition("Reachable", ConditionStatus::True), condition("Reachable", ConditionStatus::False)];
    let refused = write("two", twice).await.unwrap_err();
    assert!(refused.to_string().contains("duplicate"), "{refused}");
}
