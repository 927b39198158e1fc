use networkmesh_model::{Document, Kind, Object, read_manifests};
use serde_json::json;

use crate::support::{listed, route, service, with};

fn broken(text: &str) -> (String, Vec<(String, String)>) {
    match read_manifests(text, "alice").unwrap().as_slice() {
        [Document::Broken { object, errors }] => {
            let errors = listed(errors).into_iter().map(|(path, problem)| (path.into(), problem.into()));
            (object.clone(), errors.collect())
        }
        other => panic!("{other:?}"),
    }
}

fn one(path: &str, problem: &str) -> Vec<(String, String)> {
    vec![(path.into(), problem.into())]
}

fn names(documents: &[Document]) -> Vec<String> {
    let name = |document: &Document| match document {
        Document::Read { object, .. } => object.reference().to_string(),
        Document::Ignored { api_version, kind } => format!("ignored {api_version} {kind}"),
        Document::Broken { object, .. } => format!("broken {object}"),
    };
    documents.iter().map(name).collect()
}

#[test]
fn every_document_of_a_text_is_read_and_empty_ones_are_skipped() {
    let text = "
# a comment
---
apiVersion: v1
kind: Service
metadata: {name: a}
---
---
apiVersion: v1
kind: Service
metadata:
  name: b
  namespace: bob
...
";
    assert_eq!(names(&read_manifests(text, "alice").unwrap()), ["Service alice/a", "Service bob/b"]);
    assert_eq!(read_manifests("", "alice").unwrap(), []);
    assert_eq!(read_manifests("# nothing\n", "alice").unwrap(), []);
}

#[test]
fn json_is_read_too() {
    let text =
        "{\n\t\"apiVersion\": \"v1\", \"kind\": \"Service\",\n\t\"metadata\": {\"name\": \"caf\\u00e9\"}\n}";
    assert_eq!(names(&read_manifests(text, "alice").unwrap()), ["Service alice/café"]);
}

#[test]
fn a_list_stands_for_its_items() {
    let items =
        json!([service("a"), {"apiVersion": "v1", "kind": "List", "items": [service("b")]}, {"kind": "X"}]);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let documents = read_manifests(&list, "alice").unwrap();
    assert_eq!(names(&documents), ["Service alice/a", "Service alice/b", "broken document 1, items[2]"]);
}

#[test]
fn objects_without_a_namespace_belong_to_the_given_one_unless_they_stand_in_none() {
    let text = "
{apiVersion: v1, kind: Endpoints, metadata: {name: a, namespace: ''}}
---
{apiVersion: kuscia.secretflow/v1alpha1, kind: Domain, metadata: {name: bob}, spec: {}}
---
{apiVersion: kuscia.secretflow/v1alpha1, kind: Domain, metadata: {name: bob, namespace: x}, spec: {}}
";
    let documents = read_manifests(text, "alice").unwrap();
    assert_eq!(names(&documents), ["Endpoints alice/a", "Domain bob", "Domain bob"]);
}

#[test]
fn kinds_that_the_mesh_does_not_read_are_named() {
    let text = "{apiVersion: apps/v1, kind: Deployment}\n---\n{apiVersion: v2, kind: Service}";
    let documents = read_manifests(text, "alice").unwrap();
    assert_eq!(names(&documents), ["ignored apps/v1 Deployment", "ignored v2 Service"]);
}

#[test]
fn every_kind_can_be_read() {
    for kind in Kind::ALL {
        let groups = ["v1", "discovery.k8s.io/v1", "kuscia.secretflow/v1alpha1"];
        let group = groups.into_iter().find(|group| Kind::of_manifest(group, &kind.to_string()).is_some());
        let spec = match kind {
            Kind::DomainRoute | Kind::ClusterDomainRoute => route("alice", "bob")["spec"].clone(),
            Kind::Domain => json!({}),
            _ => json!(null),
        };
        let mut manifest = json!({"apiVersion": group, "kind": kind.to_string(), "metadata": {"name": "a"}});
        match kind {
            Kind::EndpointSlice => {
                manifest["addressType"] = json!("IPv4");
                manifest["endpoints"] = json!([]);
            }
            _ if spec.is_null() => {}
            _ => manifest["spec"] = spec,
        }
        let documents = read_manifests(&manifest.to_string(), "alice").unwrap();
        let [Document::Read { object, unknown_fields }] = documents.as_slice() else {
            panic!("{documents:?}")
        };
        assert_eq!((object.kind(), unknown_fields.as_slice()), (kind, [].as_slice()), "{kind}");
    }
}

#[test]
fn unknown_fields_are_named_by_their_path_and_do_no_harm() {
    let mut manifest = with(route("alice", "bob"), "/spec/tokenConfig/tokenGenMetod", json!("RSA-GEN"));
    manifest["spec"]["endpoint"]["ports"][0]["isTls"] = json!(true);
    manifest["metadata"]["lables"] = json!({});
    let mut cluster = manifest.clone();
    cluster["kind"] = json!("ClusterDomainRoute");
    for manifest in [manifest, cluster] {
        let documents = read_manifests(&manifest.to_string(), "alice").unwrap();
        let [Document::Read { unknown_fields, .. }] = documents.as_slice() else { panic!("{documents:?}") };
        let mut unknown_fields = unknown_fields.clone();
        unknown_fields.sort();
        assert_eq!(
            unknown_fields,
            ["metadata.lables", "spec.endpoint.ports[0].isTls", "spec.tokenConfig.tokenGenMetod"]
        );
    }
}

#[test]
fn a_value_of_the_wrong_type_is_named_by_its_path() {
    for kind in ["DomainRoute", "ClusterDomainRoute"] {
        let mut manifest = with(route("alice", "bob"), "/spec/endpoint/ports/0/port", json!("1080"));
        manifest["kind"] = json!(kind);
        let (object, errors) = broken(&manifest.to_string());
        assert!(object.starts_with(kind) && object.ends_with("alice-bob"), "{object}");
        assert_eq!(errors, one("spec.endpoint.ports[0].port", "invalid type: string, expected i64"));
    }
}

#[test]
fn a_missing_field_is_named_by_its_path() {
    let text = "{apiVersion: kuscia.secretflow/v1alpha1, kind: DomainRoute, metadata: {name: a}";
    assert_eq!(broken(&format!("{text}}}")).1, one("spec", "is missing"));
    assert_eq!(broken(&format!("{text}, spec: {{source: a}}}}")).1, one("spec.destination", "is missing"));
}

#[test]
fn an_object_without_a_name_a_kind_or_an_api_version_is_broken() {
    let (object, errors) = broken("{apiVersion: v1, kind: Service, metadata: {labels: {}}}");
    assert_eq!((object.as_str(), errors), ("Service in document 1", one("metadata.name", "is missing")));
    let (object, errors) = broken("{apiVersion: v1, metadata: {name: a}}");
    assert_eq!((object.as_str(), errors), ("document 1", one("kind", "is missing")));
    assert_eq!(broken("{kind: Service}").1, one("apiVersion", "is missing"));
    assert_eq!(broken("just text").1, one("apiVersion", "is missing"));
}

#[test]
fn one_broken_document_leaves_the_others_alone() {
    let text = format!("{}\n---\n{{apiVersion: v1, kind: Service}}\n---\n{}", service("a"), service("b"));
    assert_eq!(
        names(&read_manifests(&text, "alice").unwrap()),
        ["Service alice/a", "broken Service in document 2", "Service alice/b"]
    );
}

#[test]
fn a_syntax_error_says_where_it_is() {
    let error = read_manifests("apiVersion: v1\nkind: [Service\n", "alice").unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
    let error = read_manifests("kind: a\nkind: b\n", "alice").unwrap_err().to_string();
    assert!(error.contains("duplicate") && error.contains("line 2"), "{error}");
}

#[test]
fn a_bomb_of_anchors_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    // Unfolded it would be 10^20 items: the test would never end.
    assert!(read_manifests(&text, "alice").is_err());
}

#[test]
fn a_text_nested_too_deeply_is_refused() {
    assert!(read_manifests(&"[".repeat(100_000), "alice").is_err());
    let lists = "{apiVersion: v1, kind: List, items: [".repeat(10_000);
    assert!(read_manifests(&lists, "alice").is_err());
}

#[test]
fn thousands_of_documents_fit_in_one_text() {
    let text: String = (0..3_000).map(|n| format!("---\n{}\n", service(&format!("s{n}")))).collect();
    assert_eq!(read_manifests(&text, "alice").unwrap().len(), 3_000);
}

#[test]
fn errors_never_show_what_stood_in_a_field() {
    let secret = "S3CRET";
    let wrong = [
        with(route("alice", "bob"), "/spec/requestHeadersToAdd", json!(secret)),
        with(route("alice", "bob"), "/spec/requestHeadersToAdd", json!([secret])),
        with(route("alice", "bob"), "/spec/mTLSConfig", json!(secret)),
        with(route("alice", "bob"), "/spec/mTLSConfig", json!({"sourceClientPrivateKey": {secret: secret}})),
        with(
            route("alice", "bob"),
            "/spec/tokenConfig",
            json!(format!("\"{secret}, expected x, expected {secret}")),
        ),
        with(route("alice", "bob"), "/status", json!({"tokenStatus": {"tokens": secret}})),
        with(route("alice", "bob"), "/status", json!({"conditions": [{"type": "A", "status": secret}]})),
        with(
            route("alice", "bob"),
            "/status",
            json!({"tokenStatus": {"revisionToken": {"revisionTime": format!("2023-01-01{secret}")}}}),
        ),
    ];
    for manifest in wrong {
        let (object, errors) = broken(&manifest.to_string());
        assert!(!format!("{object} {errors:?}").contains(secret), "{errors:?}");
    }
    for text in [
        format!("token: \"{secret}"),
        format!("token: *{secret}"),
        format!("token: !!int {secret}"),
        format!("token: a: {secret}"),
        format!("a: |{secret}\n x"),
        format!("{secret}\nb: 1"),
    ] {
        let error = read_manifests(&text, "alice").unwrap_err().to_string();
        assert!(!error.contains(secret), "{error}");
    }
}

#[test]
fn an_object_is_written_as_it_was_read() {
    let manifest = with(route("alice", "bob"), "/spec/requestHeadersToAdd", json!({"x-key": "abc"}));
    let Object::DomainRoute(object) = crate::support::object_of(&manifest) else { panic!("no route") };
    assert!(!format!("{object:?}").contains("abc"), "a header's value is a secret");
    let mut written = serde_json::to_value(object).unwrap();
    // The default is written out.
    written["spec"]["endpoint"]["ports"][0].as_object_mut().unwrap().remove("isTLS");
    assert_eq!(written, manifest);
}
