//! Help, exit codes, and the commands that need no domain.

use std::io::Read as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::command::Folder;

#[test]
fn wrong_use_exits_with_2_and_says_why_on_standard_error() {
    let folder = Folder::new();
    for arguments in [
        "",
        "frobnicate",
        "check",
        "check none.yaml",
        "cert",
        "cert --config none.yaml",
        "cert --base64 --public-key",
        "cert --domain alice",
        "csr --key none.key --domain alice",
        "keygen --out no/such/folder/alice.key",
        "crds --log-level nonsense=nonsense",
    ] {
        let outcome = folder.mesh(arguments);
        assert_eq!(outcome.code, Some(2), "{arguments}: {outcome:?}");
        assert_eq!(outcome.stdout, "", "{arguments}");
        assert!(!outcome.stderr.is_empty(), "{arguments}");
    }
}

#[test]
fn each_error_of_a_configuration_is_a_line_without_color() {
    let folder = Folder::new();
    folder.write("networkmesh.yaml", "domainId: alice\nlisten: {dns: here}\n");
    let outcome = folder.mesh("cert");
    assert_eq!(outcome.code, Some(2));
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 4, "{outcome:?}");
    assert!(lines.iter().all(|line| line.starts_with("error: networkmesh.yaml: ")), "{outcome:?}");
    assert!(lines[3].ends_with("domainId: is unknown; did you mean \"domainID\"?"), "{outcome:?}");
}

#[test]
fn help_shows_every_command_and_teaches_each_by_an_example() {
    let folder = Folder::new();
    let overview = folder.mesh("--help").good();
    for command in [
        "demo",
        "run",
        "bootstrap",
        "check",
        "status",
        "dump",
        "keygen",
        "cert",
        "csr",
        "crds",
        "completions",
    ] {
        assert!(overview.contains(&format!("\n  {command} ")), "{command}");
        let help = folder.mesh(&format!("{command} --help")).good();
        assert!(help.contains(&format!("networkmesh {command}")) && help.contains("Example"), "{help}");
    }
}

#[test]
fn crds_are_yaml_documents_of_all_four_kinds() {
    let yaml = Folder::new().mesh("crds").good();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&yaml).expect("is YAML");
    let text =
        |document: &Value, path: &str| document.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let kinds: Vec<_> = documents.iter().filter_map(|document| text(document, "/spec/names/kind")).collect();
    assert_eq!(kinds, ["Domain", "DomainRoute", "ClusterDomainRoute", "Gateway"]);
    for document in &documents {
        assert_eq!(text(document, "/kind").as_deref(), Some("CustomResourceDefinition"));
        assert_eq!(text(document, "/spec/group").as_deref(), Some("kuscia.secretflow"));
    }
}

#[test]
fn bootstrap_names_the_gateway_its_domain_and_the_socket_of_the_mesh() {
    let folder = Folder::new();
    let key = folder.mesh("keygen").good();
    let lines = "instance: gateway-1\nlisten: {xds: unix:mesh.sock}\nenvoy: {admin: 127.0.0.1:19901}\n";
    folder.write("networkmesh.yaml", &format!("domainID: alice\ndomainKeyData: {key}{lines}"));
    let yaml = folder.mesh("bootstrap").good();
    let bootstrap: Value = serde_saphyr::from_str(&yaml).expect("is YAML");
    assert_eq!(bootstrap["node"], serde_json::json!({"id": "gateway-1", "cluster": "alice"}));
    assert_eq!(bootstrap["admin"]["address"]["socket_address"]["port_value"], 19901);
    let socket = folder.path("mesh.sock").display().to_string();
    assert!(yaml.contains(&socket), "{yaml}");
    assert!(!yaml.contains(key.trim()), "{yaml}");

    let json: Value = serde_json::from_str(&folder.mesh("bootstrap -o json").good()).expect("is JSON");
    assert_eq!(json, bootstrap);
}

#[test]
fn completions_are_made_for_each_shell() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = folder.mesh(&format!("completions {shell}")).good();
        assert!(script.contains("keygen"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_networkmesh"))
        .arg("crds")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let mut errors = String::new();
    child.stderr.take().expect("is piped").read_to_string(&mut errors).expect("is text");
    assert_eq!(errors, "");
    assert!(child.wait().expect("ends").success());
}
