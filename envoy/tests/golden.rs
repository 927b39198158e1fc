//! Manifests in, Envoy's configuration out: `fixtures/<case>/in.yaml` → `fixtures/<case>/out.json`.
//!
//! After an intended change, write the expectations anew and read the difference:
//! `UPDATE_GOLDEN=1 cargo test -p networkmesh-envoy --test golden`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use certs::DomainKey;
use jiff::Timestamp;
use model::{Document, Event, Index, Kind, Snapshot, TokenValue, read_manifests};
use networkmesh_envoy::{AccessLog, ExternalProtocol, KeyMaterial, Settings, redact, to_json, translate};
use serde_json::{Value, json};

const CASES: [(&str, ExternalProtocol); 3] = [
    ("empty", ExternalProtocol::NoTls),
    ("gateway", ExternalProtocol::NoTls),
    ("mtls", ExternalProtocol::Mtls),
];

static KEY: LazyLock<DomainKey> = LazyLock::new(|| DomainKey::generate().unwrap());

fn token(number: u8) -> [u8; 32] {
    [number; 32]
}

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(case)
}

fn snapshot(case: &str) -> Arc<Snapshot> {
    let public_key = KEY.public_key();
    let manifest = fs::read_to_string(folder(case).join("in.yaml")).unwrap();
    let manifest = (1..10).fold(manifest.replace("{{key}}", &public_key.to_base64_pem()), |text, number| {
        text.replace(&format!("{{{{token {number}}}}}"), &public_key.seal(&token(number)).unwrap())
    });
    let mut index = Index::new("alice".parse().unwrap(), KEY.clone(), Kind::ALL);
    for kind in Kind::ALL {
        index.apply(Event::Init(kind));
    }
    for document in read_manifests(&manifest, "alice").unwrap() {
        let Document::Read { object, .. } = document else { panic!("{document:?}") };
        index.apply(Event::InitApply(object));
    }
    for kind in Kind::ALL {
        index.apply(Event::InitDone(kind));
    }
    let (snapshot, _) = index.commit(Timestamp::UNIX_EPOCH);
    let snapshot = snapshot.unwrap();
    assert!(snapshot.rejected.is_empty(), "{:?}", snapshot.rejected);
    snapshot
}

fn settings(external_protocol: ExternalProtocol) -> Settings {
    Settings {
        instance: "gateway-1".to_owned(),
        version: "0.1.0".to_owned(),
        internal: "127.0.0.1:80".parse().unwrap(),
        external: "0.0.0.0:1080".parse().unwrap(),
        external_protocol,
        handshake: "127.0.0.1:1054".parse().unwrap(),
        access_log: AccessLog::Directory("/var/log/envoy".into()),
    }
}

fn keys() -> KeyMaterial {
    KeyMaterial {
        external_chain_pem: "the certificate\n".to_owned(),
        external_key_pem: "the private key\n".to_owned().into(),
        authority_pem: "the authority\n".to_owned(),
    }
}

fn translated(case: &str, protocol: ExternalProtocol) -> Value {
    let resources = translate(&snapshot(case), &settings(protocol), Some(&keys()));
    resources
        .iter()
        .map(|resource| {
            json!({
                "type": resource.type_url,
                "name": resource.name,
                "resource": to_json(resource.type_url, &resource.body).unwrap(),
            })
        })
        .collect()
}

#[test]
fn manifests_become_the_expected_resources() {
    for (case, protocol) in CASES {
        let file = folder(case).join("out.json");
        let actual = translated(case, protocol);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&file, format!("{actual:#}\n")).unwrap();
        }
        let expected: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert!(actual == expected, "{} differs from this:\n{actual:#}", file.display());
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let translate = || translate(&snapshot("gateway"), &settings(ExternalProtocol::Mtls), Some(&keys()));
    assert_eq!(
        translate().into_iter().map(|resource| resource.body).collect::<Vec<_>>(),
        translate().into_iter().map(|resource| resource.body).collect::<Vec<_>>(),
    );
}

#[test]
fn a_redacted_dump_holds_no_token_and_no_key() {
    let secrets: Vec<String> = (1..=4)
        .map(|number| TokenValue::new(token(number)).header_value())
        .chain([keys().external_key_pem.trim().to_owned()])
        .collect();
    let mut dump = translated("gateway", ExternalProtocol::Mtls);
    let shown = |dump: &Value| {
        let text = dump.to_string();
        secrets.iter().filter(|secret| text.contains(*secret)).count()
    };
    // Token 1 is an older one than that which is sent.
    assert_eq!(shown(&dump), secrets.len() - 1);
    redact(&mut dump);
    assert_eq!(shown(&dump), 0);
}

#[test]
fn resources_have_distinct_names() {
    let mut names: Vec<_> = translate(&snapshot("gateway"), &settings(ExternalProtocol::Mtls), Some(&keys()))
        .into_iter()
        .map(|resource| (resource.type_url, resource.name))
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}
