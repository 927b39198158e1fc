//! `networkmesh crds`, and the manifests in `deploy/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::command::Folder;

fn deploy(folder: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(folder)
}

/// The files right in `folder`, by name.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("is readable"));
    let files = entries.filter(|entry| entry.path().is_file());
    files
        .map(|file| {
            let text = fs::read_to_string(file.path()).expect("is text");
            (file.file_name().into_string().expect("is text"), text)
        })
        .collect()
}

#[test]
fn the_definitions_in_deploy_are_current() {
    let folder = Folder::new();
    folder.mesh("crds --out made").good();
    let (made, kept) = (files(&folder.path("made")), files(&deploy("crds")));
    assert!(!made.is_empty());
    assert!(
        made == kept,
        "deploy/crds is not what `networkmesh crds` makes; renew it: rm -r deploy/crds && cargo run -- crds --out deploy/crds"
    );
}

#[test]
fn files_hold_what_is_printed() {
    let folder = Folder::new();
    let printed: Vec<Value> = serde_saphyr::from_multiple(&folder.mesh("crds").good()).expect("is YAML");
    folder.mesh("crds --out made").good();
    for (name, text) in files(&folder.path("made")) {
        let definition: Value = serde_saphyr::from_str(&text).expect("is YAML");
        let plural = definition["spec"]["names"]["plural"].as_str().expect("has a plural");
        assert_eq!(name, format!("kuscia.secretflow_{plural}.yaml"));
        assert!(printed.contains(&definition), "{name}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = Folder::new();
    folder.write("taken", "");
    let outcome = folder.mesh("crds --out taken");
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(outcome.stderr.contains("taken"), "{outcome:?}");
}

#[test]
fn every_manifest_in_deploy_is_an_object_of_kubernetes() {
    for folder in ["", "rbac", "crds"] {
        for (name, text) in files(&deploy(folder)) {
            let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("is YAML");
            assert!(!objects.is_empty(), "{name}");
            for object in objects {
                for field in ["/apiVersion", "/kind", "/metadata/name"] {
                    assert!(object.pointer(field).is_some_and(Value::is_string), "{name}: {object}");
                }
            }
        }
    }
}

#[test]
fn the_configuration_in_deploy_is_one() {
    let folder = Folder::new();
    let text = fs::read_to_string(deploy("sidecar.yaml")).expect("is text");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("is YAML");
    let config = objects.iter().find(|object| object["kind"] == "ConfigMap").expect("there is one");
    let config = config["data"]["networkmesh.yaml"].as_str().expect("is text");
    folder.write("key", &folder.mesh("keygen").good());
    let key = folder.path("key");
    let config = config.replace("/etc/networkmesh/key/domainKeyData", &key.display().to_string());
    folder.write("networkmesh.yaml", &config);
    let bootstrap = folder.mesh("bootstrap").good();
    assert!(bootstrap.contains("/run/networkmesh/xds.sock"), "{bootstrap}");
}
