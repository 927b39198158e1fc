//! Certificates of domains and of their gateways.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certs::{DEFAULT_LEAF_LIFETIME, DomainAuthority, DomainKey, LeafRequest, LeafUsage};
use networkmesh::harness::domain::Domain;
use serde_json::json;
use tokio::process::Command;

use super::world::{Ran, networkmesh, run};

/// What partners are given: the output of `networkmesh cert --base64`.
pub(crate) async fn own_certificate(domain: &Domain) -> String {
    let ran = networkmesh(["cert", "--base64", "--config", domain.config().to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.out.trim().to_owned()
}

/// Tells the domain `at` the certificate of the domain `name`.
pub(crate) async fn apply_domain(at: &Domain, name: &str, certificate: &str) {
    let manifest = json!({
        "apiVersion": "kuscia.secretflow/v1alpha1",
        "kind": "Domain",
        "metadata": {"name": name},
        "spec": {"cert": certificate},
    });
    at.apply(&format!("domain-{name}.json"), &manifest).await.unwrap();
}

/// A certificate and its key, as files.
pub(crate) struct Leaf {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Leaf {
    /// A client certificate that says `subject`, signed by the authority of the domain `issuer`, which has this key.
    pub(crate) fn of_client(folder: &Path, subject: &str, issuer: &str, key: &DomainKey) -> Self {
        Self::signed(folder, subject, LeafUsage::Client, issuer, key)
    }

    /// The certificate of a server for `host`, signed likewise.
    pub(crate) fn of_server(folder: &Path, host: &str, issuer: &str, key: &DomainKey) -> Self {
        Self::signed(folder, host, LeafUsage::Server, issuer, key)
    }

    fn signed(folder: &Path, subject: &str, usage: LeafUsage, issuer: &str, key: &DomainKey) -> Self {
        let now = SystemTime::now();
        let subject_alt_names = match usage {
            LeafUsage::Client => Vec::new(),
            LeafUsage::Server => vec![subject.to_owned()],
        };
        let request = LeafRequest {
            common_name: subject.to_owned(),
            subject_alt_names,
            usage,
            lifetime: DEFAULT_LEAF_LIFETIME,
        };
        let leaf = DomainAuthority::new(issuer, key, now).unwrap().issue(&request, now).unwrap();
        let folder = tempfile::tempdir_in(folder).unwrap().keep();
        let files = Self { certificate: folder.join("leaf.pem"), key: folder.join("leaf.key") };
        fs::write(&files.certificate, &leaf.chain_pem).unwrap();
        fs::write(&files.key, leaf.key_pem.as_bytes()).unwrap();
        files
    }

    /// Certificate and key as routes name them.
    pub(crate) fn base64(&self) -> (String, String) {
        (STANDARD.encode(fs::read(&self.certificate).unwrap()), STANDARD.encode(fs::read(&self.key).unwrap()))
    }
}

/// Runs a shell script around `openssl` in `folder`; it sees `arguments` as `$1` and so on.
pub(crate) async fn openssl(
    script: &str,
    folder: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>,
) -> Ran {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).args(arguments).current_dir(folder);
    run(&mut command, "`apt-get install openssl`").await
}
