use std::fs;
use std::path::Path;
use std::time::SystemTime;

use certs::{DEFAULT_LEAF_LIFETIME, DomainAuthority, DomainKey, LeafRequest, LeafUsage};
use tempfile::TempDir;

use super::*;

fn authority() -> DomainAuthority {
    let key = DomainKey::generate().expect("a key");
    DomainAuthority::new("alice", &key, SystemTime::now()).expect("an authority")
}

/// Writes a new certificate, its key and the CA that signed it.
fn renew(folder: &Path, authority: &DomainAuthority) {
    let request = LeafRequest {
        common_name: "mesh".to_owned(),
        subject_alt_names: vec!["127.0.0.1".to_owned()],
        usage: LeafUsage::Server,
        lifetime: DEFAULT_LEAF_LIFETIME,
    };
    let leaf = authority.issue(&request, SystemTime::now()).expect("a certificate");
    fs::write(folder.join("mesh.pem"), leaf.chain_pem).expect("a file");
    fs::write(folder.join("mesh.key"), leaf.key_pem).expect("a file");
    fs::write(folder.join("ca.pem"), authority.certificate_pem()).expect("a file");
}

fn files() -> (TempDir, ServerTls) {
    let folder = tempfile::tempdir().expect("a folder");
    renew(folder.path(), &authority());
    let file = |name: &str| folder.path().join(name);
    let files = ServerTls { certificate: file("mesh.pem"), key: file("mesh.key"), client_ca: file("ca.pem") };
    (folder, files)
}

#[test]
fn each_file_that_cannot_be_used_is_named() {
    for (name, field) in [("mesh.pem", CERTIFICATES), ("mesh.key", KEY), ("ca.pem", CLIENT_CA)] {
        let broken = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n";
        for (content, field) in [(None, field), (Some(broken), field)] {
            let (folder, files) = files();
            let file = folder.path().join(name);
            match content {
                None => fs::remove_file(&file).expect("is there"),
                Some(content) => fs::write(&file, content).expect("a file"),
            }
            let error = Certificates::read(files).err().expect("cannot be used");
            assert_eq!(error.path, field, "{error}");
            assert!(!error.remedy.is_empty() && !error.to_string().contains("c2VjcmV0"), "{error}");
        }
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (_folder, mut files) = files();
    let (_other_folder, other) = self::files();
    files.key = other.key;
    let error = Certificates::read(files).err().expect("do not fit");
    assert_eq!(error.path, "xds.tls", "{error}");
}

#[test]
fn new_files_are_taken_once_they_fit_each_other() {
    let (folder, files) = files();
    let mut certificates = Certificates::read(files).expect("can be used");
    assert_eq!(certificates.refresh(), Ok(false));

    let key = folder.path().join("mesh.key");
    let old_key = fs::read(&key).expect("is there");
    renew(folder.path(), &authority());
    let new_key = fs::read(&key).expect("is there");
    fs::write(&key, old_key).expect("a file");
    assert!(certificates.refresh().is_err());
    fs::write(&key, new_key).expect("a file");
    assert_eq!(certificates.refresh(), Ok(true));
    assert_eq!(certificates.refresh(), Ok(false));
}
