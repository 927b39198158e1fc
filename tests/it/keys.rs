//! `keygen`, `cert` and `csr`, judged by the `openssl` program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::command::Folder;

/// A folder with alice's key in `alice.key` and in `networkmesh.yaml`.
fn alice() -> Folder {
    let folder = Folder::new();
    let key = folder.mesh("keygen").good();
    folder.write("networkmesh.yaml", &format!("domainID: alice\ndomainKeyData: {key}"));
    folder.write("alice.key", &decoded(&key));
    folder
}

fn decoded(base64: &str) -> String {
    let bytes = STANDARD.decode(base64.trim()).expect("is base64");
    String::from_utf8(bytes).expect("is text")
}

#[test]
fn keygen_prints_a_key_that_openssl_finds_good() {
    let folder = alice();
    let checked = folder.openssl("rsa -in alice.key -check -noout -text").good();
    assert!(checked.contains("2048 bit") && checked.contains("RSA key ok"), "{checked}");
}

#[test]
fn keygen_writes_a_file_for_its_owner_only_and_never_overwrites() {
    let folder = Folder::new();
    let outcome = folder.mesh("keygen --out alice.key");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""));
    let mode = fs::metadata(folder.path("alice.key")).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = folder.read("alice.key");
    assert!(folder.openssl("rsa -in alice.key -check -noout").good().contains("RSA key ok"));

    let again = folder.mesh("keygen --out alice.key");
    assert_eq!(again.code, Some(2));
    assert!(again.stderr.contains("never overwritten"), "{again:?}");
    assert_eq!(folder.read("alice.key"), key);
}

#[test]
fn cert_prints_a_certificate_of_the_domain_that_openssl_verifies() {
    let folder = alice();
    let certificate = folder.mesh("cert").good();
    folder.write("alice.pem", &certificate);
    folder.openssl("verify -x509_strict -check_ss_sig -CAfile alice.pem alice.pem").good();
    let subject = folder.openssl("x509 -in alice.pem -noout -subject").good();
    assert!(subject.replace(' ', "").contains("CN=alice"), "{subject}");
    let of_certificate = folder.openssl("x509 -in alice.pem -noout -pubkey").good();
    assert_eq!(of_certificate, folder.openssl("rsa -in alice.key -pubout").good());
}

#[test]
fn a_key_file_serves_as_well_as_a_configuration() {
    let folder = alice();
    for form in ["--public-key", "--fingerprint"] {
        let of_config = folder.mesh(&format!("cert {form}")).good();
        assert_eq!(folder.mesh(&format!("cert {form} --key alice.key")).good(), of_config);
    }
    folder.write("alice.pem", &folder.mesh("cert --key alice.key --domain alice").good());
    folder.openssl("verify -x509_strict -CAfile alice.pem alice.pem").good();
    let nobody = folder.mesh("cert --key alice.key");
    assert_eq!(nobody.code, Some(2));
    assert!(nobody.stderr.contains("--domain ID"), "{nobody:?}");
}

#[test]
fn the_forms_for_partners_are_what_manifests_take() {
    let folder = alice();
    let public_key = folder.mesh("cert --public-key").good();
    folder.write("public.pem", &decoded(&public_key));
    let read = folder.openssl("rsa -RSAPublicKey_in -in public.pem -pubout").good();
    assert_eq!(read, folder.openssl("rsa -in alice.key -pubout").good());

    let certificate = folder.mesh("cert --base64").good();
    folder.write("alice.pem", &decoded(&certificate));
    folder.openssl("verify -CAfile alice.pem alice.pem").good();
    let certificate = certificate.trim();
    folder.write(
        "domain.yaml",
        &format!("apiVersion: kuscia.secretflow/v1alpha1\nkind: Domain\nmetadata: {{name: alice}}\nspec: {{cert: {certificate}}}\n"),
    );
    folder.mesh("check domain.yaml").good();
}

#[test]
fn csr_prints_a_request_that_openssl_verifies() {
    let folder = alice();
    folder.write("token", "t0ken\n");
    let from_file = folder.mesh("csr --deploy-token-file token");
    let from_input = folder.mesh_with_input("csr --deploy-token-file -", "t0ken\n");
    for outcome in [from_file, from_input] {
        assert_eq!(outcome.stderr, "");
        folder.write("alice.csr", &outcome.good());
        let shown = folder.openssl("req -in alice.csr -verify -noout -text");
        assert_eq!(shown.code, Some(0), "{shown:?}");
        assert!(shown.stdout.replace(' ', "").contains("CN=alice"), "{shown:?}");
        assert!(shown.stdout.contains("1.2.3.4"), "{shown:?}");
        assert!(shown.stdout.contains("t0ken"), "{shown:?}");
    }
}

#[test]
fn a_request_without_a_deploy_token_is_made_with_a_warning() {
    let folder = alice();
    let outcome = folder.mesh("csr");
    assert!(outcome.stderr.starts_with("warning: "), "{outcome:?}");
    folder.write("alice.csr", &outcome.good());
    let shown = folder.openssl("req -in alice.csr -verify -noout -text").good();
    assert!(!shown.contains("1.2.3.4"), "{shown}");
}

#[test]
fn a_key_that_others_can_read_is_used_with_a_warning() {
    let folder = alice();
    let set_mode = |mode| {
        fs::set_permissions(folder.path("alice.key"), fs::Permissions::from_mode(mode)).expect("is ours");
        folder.mesh("cert --fingerprint --key alice.key")
    };
    assert!(set_mode(0o644).stderr.contains("chmod 600"));
    assert_eq!(set_mode(0o640).stderr, "");
}

#[test]
fn a_key_that_is_too_short_is_refused_with_its_size() {
    let folder = Folder::new();
    folder.openssl("genrsa -out short.key 1024").good();
    let outcome = folder.mesh("cert --fingerprint --key short.key");
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("1024 bits"), "{outcome:?}");
}
