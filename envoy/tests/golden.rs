//! Manifests in, Envoy's configuration out: `fixtures/<case>/in.yaml` → `fixtures/<case>/out.json`.
//!
//! After an intended change, write the expectations anew and read the difference:
//! `UPDATE_GOLDEN=1 cargo test -p networkmesh-envoy --test golden`.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use certs::DomainKey;
use jiff::Timestamp;
use model::{Document, Event, HostPort, Index, Kind, Snapshot, TokenValue, read_manifests};
use networkmesh_envoy::{
    AccessLog, Certificate, Changes, ExternalProtocol, KeyMaterial, Owner, Resource, Settings, Tracing,
    Translator, redact, to_json,
};
use serde_json::{Value, json};

const CASES: [(&str, ExternalProtocol); 8] = [
    ("admission", ExternalProtocol::Tls),
    ("empty", ExternalProtocol::NoTls),
    ("gateway", ExternalProtocol::NoTls),
    ("mtls", ExternalProtocol::Mtls),
    ("peers", ExternalProtocol::NoTls),
    ("services", ExternalProtocol::NoTls),
    ("settings", ExternalProtocol::NoTls),
    ("transit", ExternalProtocol::NoTls),
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
        authority_pem: "the authority\n".to_owned(),
        handshake: "127.0.0.1:1054".parse().unwrap(),
        access_log: AccessLog::Directory("/var/log/envoy".into()),
        trusted_proxies: Vec::new(),
        tracing: None,
    }
}

fn keys(protocol: ExternalProtocol) -> KeyMaterial {
    KeyMaterial {
        external: (protocol != ExternalProtocol::NoTls).then(|| certificate("external")),
        client: certificate("client"),
    }
}

fn certificate(name: &str) -> Certificate {
    Certificate {
        chain_pem: format!("the {name} certificate\n"),
        key_pem: format!("the {name} private key\n").into(),
    }
}

fn translator(protocol: ExternalProtocol) -> Translator {
    Translator::new(&"alice".parse().unwrap(), settings(protocol))
}

fn translate(case: &str, protocol: ExternalProtocol) -> Vec<Resource> {
    let mut settings = settings(protocol);
    if case == "settings" {
        settings.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        let collector = HostPort { host: "collector.example".parse().unwrap(), port: 4317 };
        settings.tracing = Some(Tracing { collector, sampling: 12.5 });
    }
    let translator = Translator::new(&"alice".parse().unwrap(), settings);
    translator.translate(&snapshot(case), &keys(protocol))
}

fn translated(case: &str, protocol: ExternalProtocol) -> Value {
    translate(case, protocol)
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
    for (case, protocol) in CASES {
        let (translator, snapshot) = (translator(protocol), snapshot(case));
        let translate = || translator.translate(&snapshot, &keys(protocol));
        assert!(translate() == translate(), "{case}");
    }
}

#[test]
fn a_redacted_dump_holds_no_token_and_no_key() {
    let secrets: Vec<String> = (1..=4)
        .map(|number| TokenValue::new(token(number)).header_value())
        .chain(["external", "client"].map(|name| certificate(name).key_pem.trim().to_owned()))
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
    let mut names: Vec<_> = translate("gateway", ExternalProtocol::Mtls)
        .into_iter()
        .map(|resource| (resource.type_url, resource.name))
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

/// Takes one object after the other away, and puts all back.
#[test]
fn changes_lead_from_the_resources_of_one_snapshot_to_those_of_another() {
    let translator = translator(ExternalProtocol::Mtls);
    let by_name = |snapshot: &Snapshot| -> BTreeMap<_, _> {
        let resources = translator.translate(snapshot, &keys(ExternalProtocol::Mtls));
        resources.into_iter().map(|resource| ((resource.type_url, resource.name), resource.body)).collect()
    };
    let full = snapshot("gateway");
    let mut snapshots = vec![Snapshot::clone(&full)];
    for name in full.services.keys() {
        let mut next = snapshots.last().unwrap().clone();
        next.services.remove(name);
        snapshots.push(next);
    }
    for id in full.outbound.keys().chain(full.inbound.keys()) {
        let mut next = snapshots.last().unwrap().clone();
        next.outbound.remove(id);
        next.inbound.remove(id);
        snapshots.push(next);
    }
    snapshots.push(Snapshot::clone(&full));
    for pair in snapshots.windows(2) {
        let (old, new) = (&pair[0], &pair[1]);
        let mut resources = by_name(old);
        let changes = translator.changes(old, new);
        for name in changes.removed {
            assert!(resources.remove(&name).is_some(), "{name:?} was there");
        }
        for resource in changes.set {
            let name = (resource.type_url, resource.name);
            assert_ne!(
                resources.insert(name.clone(), resource.body.clone()),
                Some(resource.body),
                "{name:?}"
            );
        }
        assert!(resources == by_name(new));
    }
    assert_eq!(translator.changes(&full, &full), Changes::default());
}

#[test]
fn every_resource_of_an_object_leads_back_to_it() {
    for (case, protocol) in CASES {
        let (translator, snapshot) = (translator(protocol), snapshot(case));
        let outbound = snapshot.outbound.keys().cloned().map(Owner::Outbound);
        let inbound = snapshot.inbound.keys().cloned().map(Owner::Inbound);
        let services = snapshot.services.keys().cloned().map(Owner::Service);
        let mut owned = BTreeSet::new();
        for owner in outbound.chain(inbound).chain(services) {
            for (type_url, name) in translator.resources_of(&owner, &snapshot) {
                assert_eq!(translator.owner(type_url, &name), Some(owner.clone()), "{type_url} {name}");
                owned.insert((type_url, name));
            }
        }
        for resource in translator.translate(&snapshot, &keys(protocol)) {
            let has_owner = translator.owner(resource.type_url, &resource.name).is_some();
            let is_owned = owned.contains(&(resource.type_url, resource.name.clone()));
            assert_eq!(has_owner, is_owned, "{resource:?}");
        }
    }
}
