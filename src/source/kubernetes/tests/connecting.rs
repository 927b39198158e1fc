use std::fs;
use std::path::PathBuf;

use super::super::{KubernetesSettings, KubernetesSource};
use super::*;
use crate::source::SourceError;

/// A kubeconfig with two contexts, the second of which uses a proxy.
const KUBECONFIG: &str = "
clusters:
- {name: plain, cluster: {server: 'https://plain:6443'}}
- {name: proxied, cluster: {server: 'https://proxied:6443', proxy-url: 'http://proxy:3128'}}
users:
- {name: gateway, user: {token: secret}}
contexts:
- {name: plain, context: {cluster: plain, user: gateway}}
- {name: proxied, context: {cluster: proxied, user: gateway}}
current-context: plain
";

async fn open(text: &str, context: Option<&str>) -> Result<KubernetesSource, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kubeconfig");
    fs::write(&path, text).expect("a file");
    try_open(Some(path), context).await.map_err(|error| error.to_string())
}

async fn try_open(
    kubeconfig: Option<PathBuf>,
    context: Option<&str>,
) -> Result<KubernetesSource, SourceError> {
    let context = context.map(ToOwned::to_owned);
    let settings = KubernetesSettings { kubeconfig, context, namespace: "its-namespace".to_owned() };
    KubernetesSource::open(settings, alice(), "gateway-1".to_owned()).await
}

#[tokio::test]
async fn a_source_is_open_before_the_server_answers_and_knows_this_gateway() {
    let source = open(KUBECONFIG, None).await.expect("an open source");
    assert_eq!(source.server.url, "https://plain:6443");
    assert_eq!(source.namespace(), "its-namespace");
    assert_eq!(**source.replicas().borrow(), names(&["gateway-1"]));
}

#[tokio::test]
async fn what_a_command_for_credentials_prints_is_not_shown() {
    for (script, words) in [
        ("echo secret; echo secret >&2; exit 3", "the command for credentials fails (exit status: 3)"),
        ("echo '{token: [secret'", "is no ExecCredential"),
        ("echo '{\"status\": \"secret\"}'", "is no ExecCredential"),
    ] {
        let command = json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "sh",
            "args": ["-c", script],
            "interactiveMode": "Never",
        });
        let text = KUBECONFIG.replace("{token: secret}", &json!({"exec": command}).to_string());
        let error = open(&text, None).await.err().expect("an error");
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_kubeconfig_is_said_and_no_secret() {
    for (text, context, words) in [
        ("clusters: [secret", None, "line 1 column"),
        ("clusters: secret", None, "line 1 column"),
        (KUBECONFIG, Some("other"), "other"),
        (KUBECONFIG, Some("proxied"), "names a proxy for https://proxied:6443"),
    ] {
        let error = open(text, context).await.err().expect("an error");
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("secret") && !error.contains('\n'), "{error}");
    }
    let missing = try_open(Some("/nowhere/kubeconfig".into()), None).await.err().expect("an error");
    assert!(missing.to_string().contains("/nowhere/kubeconfig"), "{missing}");
}
