//! The rights of `deploy/rbac`: each is there, and none beside it.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource, ResourceExt as _};
use model::api::{ClusterDomainRoute, Domain, DomainRoute, Gateway};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::cluster::{self, PATIENCE};

/// What can be asked of a resource.
const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// Resources that the programs use, and such that they must not.
const RESOURCES: [(&str, &str); 22] = [
    ("kuscia.secretflow", "domainroutes"),
    ("kuscia.secretflow", "domainroutes/status"),
    ("kuscia.secretflow", "clusterdomainroutes"),
    ("kuscia.secretflow", "clusterdomainroutes/status"),
    ("kuscia.secretflow", "clusterdomainroutes/finalizers"),
    ("kuscia.secretflow", "domains"),
    ("kuscia.secretflow", "domains/status"),
    ("kuscia.secretflow", "gateways"),
    ("kuscia.secretflow", "gateways/status"),
    ("", "services"),
    ("", "services/status"),
    ("", "endpoints"),
    ("", "namespaces"),
    ("", "secrets"),
    ("", "configmaps"),
    ("", "pods"),
    ("", "events"),
    ("events.k8s.io", "events"),
    ("discovery.k8s.io", "endpointslices"),
    ("coordination.k8s.io", "leases"),
    ("rbac.authorization.k8s.io", "roles"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
];

/// Asks the API server whether the client may do this; without a namespace: in all of them.
async fn may(client: &Client, verb: &str, group: &str, resource: &str, namespace: Option<&str>) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: Some(subresource.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await.unwrap();
    answer.status.unwrap().allowed
}

/// Every right of the client on [`RESOURCES`], as lines `resource.group: verb …`.
async fn rights(client: &Client, namespace: Option<&str>) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (group, resource) in RESOURCES {
        let mut allowed = Vec::new();
        for verb in VERBS {
            if may(client, verb, group, resource, namespace).await {
                allowed.push(verb);
            }
        }
        if !allowed.is_empty() {
            lines.insert(format!("{resource}.{group}: {}", allowed.join(" ")));
        }
    }
    lines
}

fn lines(text: &[&str]) -> BTreeSet<String> {
    text.iter().map(|&line| line.to_owned()).collect()
}

/// Rights take effect some time after they were given.
async fn await_right(client: &Client, verb: &str, group: &str, resource: &str, namespace: Option<&str>) {
    let given = async {
        while !may(client, verb, group, resource, namespace).await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, given).await.expect("the right is given");
}

/// Applies a file of `deploy/rbac` for the domain in place of alice.
async fn grant(admin: &Client, file: &str, domain: &str) {
    let yaml = fs::read_to_string(cluster::deployed("rbac").join(file)).unwrap().replace("alice", domain);
    for object in cluster::parse(&yaml) {
        cluster::apply(admin, &object).await.unwrap();
    }
}

/// Grants a mesh what its file says, and returns its client.
async fn sidecar(admin: &Client, domain: &str) -> Client {
    cluster::namespace(admin, domain).await;
    grant(admin, "sidecar.yaml", domain).await;
    let sidecar = cluster::account(admin, domain, "networkmesh").await;
    await_right(&sidecar, "list", "", "services", Some(domain)).await;
    sidecar
}

/// Grants the controller what its file says, and returns its client.
async fn controller(admin: &Client) -> Client {
    grant(admin, "controller.yaml", "nobody").await;
    let controller = cluster::account(admin, "networkmesh", "networkmesh-controller").await;
    await_right(&controller, "list", "kuscia.secretflow", "domains", None).await;
    await_right(&controller, "create", "coordination.k8s.io", "leases", Some("networkmesh")).await;
    controller
}

#[tokio::test]
async fn a_sidecar_has_the_rights_it_needs_in_its_namespace_and_none_elsewhere() {
    let admin = cluster::admin().await;
    let sidecar = sidecar(&admin, "rights").await;
    let own = [
        "domainroutes.kuscia.secretflow: list watch",
        "domainroutes/status.kuscia.secretflow: patch",
        "endpoints.: list watch",
        "endpointslices.discovery.k8s.io: list watch",
        "events.events.k8s.io: create patch",
        "gateways.kuscia.secretflow: list watch create patch",
        "gateways/status.kuscia.secretflow: patch",
        "services.: list watch patch",
    ];
    assert_eq!(rights(&sidecar, Some("rights")).await, lines(&own));
    assert_eq!(rights(&sidecar, Some("default")).await, lines(&[]));
    assert_eq!(rights(&sidecar, None).await, lines(&[]));

    grant(&admin, "sidecar-domains.yaml", "rights").await;
    await_right(&sidecar, "list", "kuscia.secretflow", "domains", None).await;
    assert_eq!(rights(&sidecar, None).await, lines(&["domains.kuscia.secretflow: list watch"]));
}

#[tokio::test]
async fn a_controller_has_the_rights_it_needs_and_none_beside() {
    let admin = cluster::admin().await;
    let controller = controller(&admin).await;
    let everywhere = lines(&[
        "clusterdomainroutes.kuscia.secretflow: get list watch",
        "clusterdomainroutes/status.kuscia.secretflow: patch",
        "domainroutes.kuscia.secretflow: get list watch create patch delete",
        "domainroutes/status.kuscia.secretflow: patch",
        "domains.kuscia.secretflow: get list watch",
        "events.events.k8s.io: create patch",
        "gateways.kuscia.secretflow: get list watch delete",
        "namespaces.: get list watch create patch",
    ]);
    assert_eq!(rights(&controller, None).await, everywhere);
    let mut own = everywhere;
    // It reads and renews the one lease that it makes.
    own.insert("leases.coordination.k8s.io: create".to_owned());
    assert_eq!(rights(&controller, Some("networkmesh")).await, own);
}

fn assert_forbidden<T: std::fmt::Debug>(answer: Result<T, kube::Error>) {
    match answer {
        Err(kube::Error::Api(status)) => assert_eq!(status.code, 403, "{status:?}"),
        other => panic!("is not forbidden: {other:?}"),
    }
}

/// What a program writes by server-side apply.
fn patch<K: Resource<DynamicType = ()>>(name: &str, content: Value) -> Patch<Value> {
    let Value::Object(mut object) = content else { panic!("{content} is no object") };
    object.insert("apiVersion".to_owned(), K::api_version(&()).into());
    object.insert("kind".to_owned(), K::kind(&()).into());
    object.entry("metadata").or_insert_with(|| json!({}))["name"] = name.into();
    Patch::Apply(object.into())
}

fn route() -> Value {
    json!({"spec": {"source": "alice", "destination": "bob", "authenticationType": "None"}})
}

fn event() -> Event {
    Event {
        type_: EventType::Warning,
        reason: "Test".to_owned(),
        note: Some("A test.".to_owned()),
        action: "Testing".to_owned(),
        secondary: None,
    }
}

#[tokio::test]
async fn a_sidecar_does_its_work_and_is_refused_more() {
    let admin = cluster::admin().await;
    let sidecar = sidecar(&admin, "work").await;
    let apply = PatchParams::apply("networkmesh");
    let administrator = PatchParams::apply("administrator");
    let given: Api<DomainRoute> = Api::namespaced(admin.clone(), "work");
    given.patch("alice-bob", &administrator, &patch::<DomainRoute>("alice-bob", route())).await.unwrap();
    let given: Api<Service> = Api::namespaced(admin.clone(), "work");
    let service = patch::<Service>("echo", json!({"spec": {"ports": [{"port": 80}]}}));
    given.patch("echo", &administrator, &service).await.unwrap();

    let routes: Api<DomainRoute> = Api::namespaced(sidecar.clone(), "work");
    let found = routes.list(&ListParams::default()).await.unwrap().items.remove(0);
    let status = patch::<DomainRoute>("alice-bob", json!({"status": {"isDestinationAuthorized": true}}));
    let written = routes.patch_status("alice-bob", &apply, &status).await.unwrap();
    assert!(written.status.unwrap().is_destination_authorized);

    let slices: Api<EndpointSlice> = Api::namespaced(sidecar.clone(), "work");
    slices.list(&ListParams::default()).await.unwrap();

    let gateways: Api<Gateway> = Api::namespaced(sidecar.clone(), "work");
    gateways.patch("gateway-1", &apply, &patch::<Gateway>("gateway-1", json!({}))).await.unwrap();
    let heartbeat = patch::<Gateway>("gateway-1", json!({"status": {"address": "192.0.2.1"}}));
    let gateway = gateways.patch_status("gateway-1", &apply, &heartbeat).await.unwrap();
    assert_eq!(gateway.status.unwrap().address, "192.0.2.1");

    let services: Api<Service> = Api::namespaced(sidecar.clone(), "work");
    let time = json!({"kuscia.secretflow/ready-time": "2026-01-01T00:00:00Z"});
    let ready = patch::<Service>("echo", json!({"metadata": {"annotations": time}}));
    let service = services.patch("echo", &apply, &ready).await.unwrap();
    assert!(service.annotations().contains_key("kuscia.secretflow/ready-time"));

    let recorder = Recorder::new(sidecar.clone(), "networkmesh".into());
    for _ in 0..2 {
        // The second time, the first event is counted up.
        recorder.publish(&event(), &found.object_ref(&())).await.unwrap();
    }

    for name in ["alice-bob", "alice-carol"] {
        assert_forbidden(routes.patch(name, &apply, &patch::<DomainRoute>(name, route())).await);
    }
    assert_forbidden(routes.delete("alice-bob", &DeleteParams::default()).await);
    assert_forbidden(gateways.delete("gateway-1", &DeleteParams::default()).await);
    let secrets: Api<Secret> = Api::namespaced(sidecar.clone(), "work");
    assert_forbidden(secrets.list(&ListParams::default()).await);
    let elsewhere: Api<DomainRoute> = Api::namespaced(sidecar.clone(), "default");
    assert_forbidden(elsewhere.list(&ListParams::default()).await);
    assert_forbidden(Api::<DomainRoute>::all(sidecar.clone()).list(&ListParams::default()).await);
    assert_forbidden(Api::<Domain>::all(sidecar).list(&ListParams::default()).await);
}

#[tokio::test]
async fn a_controller_does_its_work_and_is_refused_more() {
    const ROUTE: &str = "alice-bob-of-the-controller";
    let admin = cluster::admin().await;
    let controller = controller(&admin).await;
    let apply = PatchParams::apply("networkmesh-controller");
    let administrator = PatchParams::apply("administrator");
    let given: Api<ClusterDomainRoute> = Api::all(admin.clone());
    given.patch(ROUTE, &administrator, &patch::<ClusterDomainRoute>(ROUTE, route())).await.unwrap();

    let cluster_routes: Api<ClusterDomainRoute> = Api::all(controller.clone());
    let owner = cluster_routes.get(ROUTE).await.unwrap();
    let conditions = json!([{"type": "Ready", "status": "True"}]);
    let status = patch::<ClusterDomainRoute>(ROUTE, json!({"status": {"conditions": conditions}}));
    let written = cluster_routes.patch_status(ROUTE, &apply, &status).await.unwrap();
    assert_eq!(written.status.unwrap().conditions.len(), 1);

    let namespaces: Api<Namespace> = Api::all(controller.clone());
    for labels in [json!({}), json!({"kuscia.secretflow/deleted": "true"})] {
        let namespace = patch::<Namespace>("controlled", json!({"metadata": {"labels": labels}}));
        namespaces.patch("controlled", &apply, &namespace).await.unwrap();
    }

    let mut owned = route();
    owned["metadata"] = json!({"ownerReferences": [owner.owner_ref(&()).unwrap()]});
    let routes: Api<DomainRoute> = Api::namespaced(controller.clone(), "controlled");
    routes.patch(ROUTE, &apply, &patch::<DomainRoute>(ROUTE, owned)).await.unwrap();
    let status = json!({"status": {"tokenStatus": {"revisionInitializer": "gateway-1"}}});
    routes.patch_status(ROUTE, &apply, &patch::<DomainRoute>(ROUTE, status)).await.unwrap();
    routes.delete(ROUTE, &DeleteParams::default()).await.unwrap();

    let given: Api<Gateway> = Api::namespaced(admin.clone(), "controlled");
    given.patch("gateway-1", &administrator, &patch::<Gateway>("gateway-1", json!({}))).await.unwrap();
    let gateways: Api<Gateway> = Api::namespaced(controller.clone(), "controlled");
    gateways.delete("gateway-1", &DeleteParams::default()).await.unwrap();

    let recorder = Recorder::new(controller.clone(), "networkmesh-controller".into());
    recorder.publish(&event(), &owner.object_ref(&())).await.unwrap();

    let leases: Api<Lease> = Api::namespaced(controller.clone(), "networkmesh");
    let lease = |name: &str| serde_json::from_value::<Lease>(json!({"metadata": {"name": name}})).unwrap();
    leases.create(&PostParams::default(), &lease("networkmesh-controller")).await.unwrap();
    let taken = leases.get("networkmesh-controller").await.unwrap();
    leases.replace("networkmesh-controller", &PostParams::default(), &taken).await.unwrap();
    leases.create(&PostParams::default(), &lease("another")).await.unwrap();
    assert_forbidden(leases.get("another").await);

    let elsewhere: Api<Lease> = Api::namespaced(controller.clone(), "default");
    assert_forbidden(elsewhere.create(&PostParams::default(), &lease("networkmesh-controller")).await);
    assert_forbidden(cluster_routes.delete(ROUTE, &DeleteParams::default()).await);
    assert_forbidden(namespaces.delete("controlled", &DeleteParams::default()).await);
    let heartbeat = patch::<Gateway>("gateway-1", json!({"status": {"address": "192.0.2.1"}}));
    assert_forbidden(gateways.patch_status("gateway-1", &apply, &heartbeat).await);
    assert_forbidden(Api::<Secret>::all(controller.clone()).list(&ListParams::default()).await);
    assert_forbidden(Api::<Service>::all(controller).list(&ListParams::default()).await);
}
