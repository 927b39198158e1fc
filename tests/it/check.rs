//! `networkmesh check`.

use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::command::{Folder, Outcome};

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: alice}
spec:
  clusterIP: None
  ports: [{name: http, port: 80}]
";

/// A route from alice to bob with these fields in `tokenConfig`.
fn route(token_config: &str) -> String {
    format!(
        "
apiVersion: kuscia.secretflow/v1alpha1
kind: DomainRoute
metadata: {{name: alice-bob, namespace: alice}}
spec:
  source: alice
  destination: bob
  endpoint: {{host: 192.0.2.1, ports: [{{name: http, protocol: HTTP, port: 1080}}]}}
  authenticationType: Token
  tokenConfig: {{tokenGenMethod: RSA-GEN{token_config}}}
"
    )
}

fn domain(name: &str, certificate: &str) -> String {
    format!(
        "apiVersion: kuscia.secretflow/v1alpha1\nkind: Domain\nmetadata: {{name: {name}}}\nspec: {{cert: {certificate}}}\n"
    )
}

/// Base64 of a certificate of bob.
fn bobs_certificate(folder: &Folder) -> String {
    folder.mesh("keygen --out bob.key").good();
    folder.mesh("cert --key bob.key --domain bob --base64").good().trim().to_owned()
}

fn errors(outcome: &Outcome) -> Vec<&str> {
    outcome.stderr.lines().filter_map(|line| line.strip_prefix("error: ")).collect()
}

fn warnings(outcome: &Outcome) -> Vec<&str> {
    outcome.stderr.lines().filter_map(|line| line.strip_prefix("warning: ")).collect()
}

#[test]
fn good_manifests_in_nested_folders_are_fine() {
    let folder = Folder::new();
    let certificate = bobs_certificate(&folder);
    folder.write("manifests/services.yaml", SERVICE);
    folder.write("manifests/partners/bob.yml", &format!("{}---\n{}", route(""), domain("bob", &certificate)));
    folder.write("manifests/notes.txt", "no manifest");
    folder.write("manifests/.hidden.yaml", "no manifest: [");
    let outcome = folder.mesh("check manifests");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.stdout, "");
    assert_eq!(outcome.stderr, "note: 3 objects in 2 files: 0 errors, 0 warnings\n");
}

#[test]
fn files_of_a_mounted_config_map_are_found_once() {
    let folder = Folder::new();
    folder.write("manifests/..2026/services.yaml", SERVICE);
    symlink("..2026", folder.path("manifests/..data")).expect("a link");
    symlink("..data/services.yaml", folder.path("manifests/services.yaml")).expect("a link");
    assert!(folder.mesh("check manifests").stderr.contains("1 object in 1 file: 0 errors"));
}

#[test]
fn a_wrong_field_is_named_with_file_object_path_and_remedy() {
    let folder = Folder::new();
    let wrong = route("")
        .replace("port: 1080", "port: 0")
        .replace("authenticationType: Token", "authenticationType: Magic");
    folder.write("routes.yaml", &wrong);
    let outcome = folder.mesh("check routes.yaml");
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let errors = errors(&outcome);
    let port = "routes.yaml: DomainRoute alice/alice-bob: spec.endpoint.ports[0].port: 0 is not a port; ";
    assert!(errors.iter().any(|line| line.starts_with(port) && line.len() > port.len()), "{errors:?}");
    assert!(errors.iter().any(|line| line.contains(": spec.authenticationType: ")), "{errors:?}");
}

#[test]
fn settings_of_tokens_are_checked() {
    let folder = Folder::new();
    let bob = domain("bob", &bobs_certificate(&folder));
    let good = route(", handshake: signed").replace("RSA-GEN", "UID-RSA-GEN");
    folder.write("good.yaml", &format!("{good}---\n{bob}"));
    let outcome = folder.mesh("check good.yaml");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("0 errors, 0 warnings"), "{outcome:?}");
    let wrong = route(", handshake: Signed").replace("RSA-GEN", "SM2-GEN");
    folder.write("wrong.yaml", &format!("{wrong}---\n{bob}"));
    assert_eq!(
        errors(&folder.mesh("check wrong.yaml")),
        [
            "wrong.yaml: DomainRoute alice/alice-bob: spec.tokenConfig.tokenGenMethod: \"SM2-GEN\" is unknown; use \"RSA-GEN\", or \"UID-RSA-GEN\" with a peer that has no other",
            "wrong.yaml: DomainRoute alice/alice-bob: spec.tokenConfig.handshake: \"Signed\" is unknown; use \"signed\" or \"compatible\", or remove the field",
        ]
    );
}

#[test]
fn a_broken_file_does_not_hide_the_errors_of_others() {
    let folder = Folder::new();
    folder.write("manifests/a.yaml", "kind: [");
    folder.write("manifests/b.yaml", &SERVICE.replace("port: 80", "port: eighty"));
    folder.write("manifests/c.yaml", "kind: Service");
    let outcome = folder.mesh("check manifests");
    assert_eq!(outcome.code, Some(1));
    let errors = errors(&outcome);
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors[0].starts_with("manifests/a.yaml: "), "{errors:?}");
    assert!(
        errors[1].starts_with("manifests/b.yaml: Service alice/echo: spec.ports[0].port: "),
        "{errors:?}"
    );
    assert!(errors[2].starts_with("manifests/c.yaml: document 1: "), "{errors:?}");
}

#[test]
fn what_is_likely_misspelt_is_a_warning() {
    let folder = Folder::new();
    folder.write("a.yaml", &SERVICE.replace("clusterIP", "clusterIp"));
    folder.write("b.yaml", "apiVersion: kuscia.secretflow/v1alpha1\nkind: DomainRout\nmetadata: {name: a}");
    let outcome = folder.mesh("check a.yaml b.yaml");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let warnings = warnings(&outcome);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].starts_with("a.yaml: Service alice/echo: spec.clusterIp: is unknown"),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("DomainRout "), "{warnings:?}");
}

#[test]
fn an_empty_folder_is_a_warning() {
    let folder = Folder::new();
    folder.write("manifests/notes.txt", "nothing");
    let outcome = folder.mesh("check manifests");
    assert_eq!((outcome.code, warnings(&outcome).len()), (Some(0), 1), "{outcome:?}");
}

#[test]
fn an_object_in_two_files_is_an_error_that_names_both() {
    let folder = Folder::new();
    folder.write("a.yaml", SERVICE);
    folder.write("b.yaml", &SERVICE.replace("namespace: alice", ""));
    let outcome = folder.mesh("check a.yaml b.yaml --domain alice");
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(
        errors(&outcome),
        ["b.yaml: Service alice/echo: is defined in a.yaml too; keep one of the two"]
    );
    assert_eq!(folder.mesh("check a.yaml b.yaml").code, Some(0));
}

#[test]
fn a_route_needs_the_key_of_the_other_domain_from_somewhere() {
    let folder = Folder::new();
    let certificate = bobs_certificate(&folder);
    let key = folder.mesh("cert --key bob.key --public-key").good();
    folder.write("route.yaml", &route(""));
    folder.write("bob.yaml", &domain("bob", &certificate));
    folder.write("alice.yaml", &domain("alice", &certificate));
    folder.write("keyed.yaml", &route(&format!(", destinationPublicKey: {}", key.trim())));

    let outcome = folder.mesh("check route.yaml alice.yaml");
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let expected =
        "route.yaml: DomainRoute alice/alice-bob: spec.tokenConfig.destinationPublicKey: is missing; ";
    assert!(errors(&outcome)[0].starts_with(expected), "{outcome:?}");
    assert_eq!(folder.mesh("check route.yaml bob.yaml").code, Some(0));
    assert_eq!(folder.mesh("check keyed.yaml").code, Some(0));
}

#[test]
fn findings_are_printed_as_data_on_request() {
    let folder = Folder::new();
    folder.write("a.yaml", &format!("{}  extra: 1\n", route("")));
    let outcome = folder.mesh("check a.yaml -o json");
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(1), ""));
    let report: Value = serde_json::from_str(&outcome.stdout).expect("is JSON");
    assert_eq!((&report["files"], &report["objects"]), (&1.into(), &1.into()));
    let error = &report["errors"][0];
    assert_eq!(error["file"], "a.yaml");
    assert_eq!(error["object"], "DomainRoute alice/alice-bob");
    assert_eq!(error["field"], "spec.tokenConfig.destinationPublicKey");
    assert_eq!(error["problem"], "is missing");
    assert!(error["remedy"].as_str().is_some_and(|remedy| remedy.contains("bob")), "{error}");
    assert_eq!(report["warnings"][0]["field"], "spec.extra");

    let yaml: Value = serde_saphyr::from_str(&folder.mesh("check a.yaml -o yaml").stdout).expect("is YAML");
    assert_eq!(yaml, report);
}
