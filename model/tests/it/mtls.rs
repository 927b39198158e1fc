//! Routes whose two gateways know each other by certificates.

use std::sync::LazyLock;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certs::{DEFAULT_LEAF_LIFETIME, DomainAuthority, DomainKey, Leaf, LeafRequest, LeafUsage};
use networkmesh_model::{
    ClientCertificate, Direct, InboundAuth, Index, Kind, OutboundAuth, StatusChange, Trust,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};

use crate::support::{ALICE, BOB, BOB_CERTIFICATE, Mesh, certificate, domain, route, with, without};

static BOB_LEAF: LazyLock<Leaf> = LazyLock::new(|| leaf("bob", &BOB));

/// A client certificate of a domain.
fn leaf(domain: &str, key: &DomainKey) -> Leaf {
    let request = LeafRequest {
        common_name: format!("{domain}-client"),
        subject_alt_names: Vec::new(),
        usage: LeafUsage::Client,
        lifetime: DEFAULT_LEAF_LIFETIME,
    };
    let authority = DomainAuthority::new(domain, key, SystemTime::now()).unwrap();
    authority.issue(&request, SystemTime::now()).unwrap()
}

/// Base64 of the PEM of a certificate of bob's key, which somebody called `issuer` has issued.
fn issued(subject: &str, issuer: &[(DnType, &str)], is_ca: IsCa, key_usages: &[KeyUsagePurpose]) -> String {
    let named = |names: &[(DnType, &str)]| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params
    };
    let mut params = named(&[(DnType::CommonName, subject)]);
    params.is_ca = is_ca;
    params.key_usages = key_usages.to_vec();
    let issuer = Issuer::new(named(issuer), KeyPair::generate().unwrap());
    let key = KeyPair::from_pem(&BOB.to_pkcs1_pem()).unwrap();
    STANDARD.encode(params.signed_by(&key, &issuer).unwrap().pem())
}

/// A route that authenticates by client certificates.
fn mtls(source: &str, destination: &str) -> Value {
    let manifest = without(route(source, destination), "/spec/tokenConfig");
    let manifest = with(manifest, "/spec/authenticationType", json!("MTLS"));
    with(manifest, "/spec/endpoint/ports/0/isTLS", json!(true))
}

fn configured(manifest: Value, config: Value) -> Value {
    with(manifest, "/spec/mTLSConfig", config)
}

fn direct(manifest: Value) -> Direct {
    let mesh = Mesh::of(&[manifest]);
    assert!(mesh.snapshot.rejected.is_empty(), "{:?}", mesh.snapshot.rejected);
    mesh.outbound("bob").direct().unwrap().clone()
}

/// Path and problem of the one thing that is wrong with the route.
fn problem(manifests: &[Value]) -> (String, String) {
    let mesh = Mesh::of(manifests);
    let rejected: Vec<_> = mesh.snapshot.rejected.values().flat_map(|errors| errors.iter()).collect();
    let [error] = rejected[..] else { panic!("{rejected:?}") };
    (error.path.clone(), error.problem.clone())
}

fn reason(mesh: &mut Mesh, manifest: &Value) -> String {
    match &mesh.put(manifest).1[..] {
        [update] => match &update.change {
            StatusChange::Condition(condition) => condition.reason.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_source_shows_a_certificate_of_its_own_unless_the_route_gives_one() {
    let plain = direct(with(mtls("alice", "bob"), "/spec/authenticationType", json!("None")));
    assert_eq!(plain.client, None);
    for config in [Value::Null, json!({}), json!({"sourceClientCert": ""})] {
        let own = direct(configured(mtls("alice", "bob"), config));
        assert_eq!((own.client, own.trust), (Some(ClientCertificate::Own), Trust::SystemRoots));
    }
    let with_token = with(route("alice", "bob"), "/spec/endpoint/ports/0/isTLS", json!(true));
    let mesh = Mesh::of(&[configured(with_token, json!({}))]);
    assert!(matches!(mesh.outbound("bob").auth, OutboundAuth::Token { .. }));
    assert_eq!(mesh.outbound("bob").direct().unwrap().client, Some(ClientCertificate::Own));
    assert_eq!(Mesh::of(&[mtls("alice", "bob")]).outbound("bob").auth, OutboundAuth::Mtls);
}

#[test]
fn a_certificate_is_given_with_its_chain_and_key() {
    let authority = STANDARD.decode(&*BOB_CERTIFICATE).unwrap();
    let chain = format!("{}\n{}", BOB_LEAF.chain_pem, String::from_utf8(authority).unwrap());
    let mut wrapped = STANDARD.encode(&chain);
    wrapped.insert_str(64, " \n");
    let config = json!({
        "sourceClientCert": wrapped,
        "sourceClientPrivateKey": STANDARD.encode(&*BOB_LEAF.key_pem),
    });
    let given = direct(configured(mtls("alice", "bob"), config));
    let Some(ClientCertificate::Given { chain_pem, key_pem }) = given.client else { panic!("given") };
    assert_eq!(chain_pem.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(chain_pem.starts_with(&BOB_LEAF.chain_pem));
    assert_eq!(key_pem.expose(), *BOB_LEAF.key_pem);
}

#[test]
fn a_certificate_without_a_key_is_for_the_domain_key() {
    let config = json!({"sourceClientCert": certificate("alice", &ALICE)});
    let given = direct(configured(mtls("alice", "bob"), config));
    let Some(ClientCertificate::Given { key_pem, .. }) = given.client else { panic!("given") };
    assert_eq!(key_pem.expose(), *ALICE.to_pkcs1_pem());

    let path = "spec.mTLSConfig.sourceClientCert";
    let foreign = configured(mtls("alice", "bob"), json!({"sourceClientCert": *BOB_CERTIFICATE}));
    let without_key = "is no certificate of this domain's key, and there is no sourceClientPrivateKey";
    assert_eq!(problem(std::slice::from_ref(&foreign)), (path.into(), without_key.into()));
    let key = json!(STANDARD.encode(&*BOB_LEAF.key_pem));
    let of_another = with(foreign, "/spec/mTLSConfig/sourceClientPrivateKey", key.clone());
    assert_eq!(
        problem(&[of_another]),
        (path.into(), "is not the certificate of sourceClientPrivateKey".into())
    );
    let alone = configured(mtls("alice", "bob"), json!({"sourceClientPrivateKey": key}));
    assert_eq!(
        problem(&[alone]),
        (
            "spec.mTLSConfig.sourceClientPrivateKey".into(),
            "is given, and there is no sourceClientCert".into()
        )
    );
}

#[test]
fn the_server_is_verified_unless_the_route_says_in_words_that_it_need_not_be() {
    let authority = direct(configured(mtls("alice", "bob"), json!({"tlsCA": *BOB_CERTIFICATE})));
    let pem = String::from_utf8(STANDARD.decode(&*BOB_CERTIFICATE).unwrap()).unwrap();
    assert_eq!(authority.trust, Trust::Authority(pem.as_str().into()));
    let other = certificate("carol", &ALICE);
    let mesh = Mesh::of(&[
        domain("bob", &BOB_CERTIFICATE),
        configured(mtls("alice", "bob"), json!({"tlsCA": other})),
    ]);
    let Trust::Authority(trusted) = &mesh.outbound("bob").direct().unwrap().trust else {
        panic!("an authority")
    };
    assert_ne!(**trusted, *pem, "the route counts before the Domain");

    let tls = json!({"insecureSkipVerify": true, "serverName": "bob.example"});
    let anybody = with(mtls("alice", "bob"), "/spec/endpoint/tls", tls);
    assert_eq!(direct(anybody.clone()).trust, Trust::Anybody);
    let path = "spec.mTLSConfig.tlsCA";
    assert_eq!(
        problem(&[configured(anybody, json!({"tlsCA": *BOB_CERTIFICATE}))]),
        (path.into(), "has no effect beside insecureSkipVerify".into())
    );
    let key = json!({"tlsCA": ALICE.to_domain_key_data().as_str()});
    assert_eq!(problem(&[configured(mtls("alice", "bob"), key)]).0, path);
}

#[test]
fn every_port_of_a_route_by_certificates_speaks_tls() {
    let mut manifest = mtls("alice", "bob");
    manifest["spec"]["endpoint"]["ports"] = json!([
        {"name": "http", "port": 1080, "protocol": "HTTP", "isTLS": true},
        {"name": "grpc", "port": 1081, "protocol": "GRPC"},
    ]);
    assert_eq!(
        problem(&[manifest]),
        ("spec.endpoint.ports[1].isTLS".into(), "is false, and authenticationType is MTLS".into())
    );
}

#[test]
fn a_destination_takes_certificates_of_the_sources_authority() {
    let mut mesh = Mesh::empty();
    let manifest = without(mtls("bob", "alice"), "/spec/endpoint");
    assert_eq!(reason(&mut mesh, &manifest), "PeerCertificateMissing");
    assert!(mesh.snapshot.inbound.is_empty());
    mesh.put(&domain("bob", &BOB_CERTIFICATE));
    let bob = mesh.inbound("bob");
    assert_eq!(bob.auth, InboundAuth::Mtls { pin: None });
    assert!(bob.authority.as_ref().unwrap().starts_with("-----BEGIN CERTIFICATE-----\n"));

    let with_token = configured(route("bob", "alice"), json!({}));
    let mesh = Mesh::of(&[with_token.clone(), domain("bob", &BOB_CERTIFICATE)]);
    assert!(mesh.inbound("bob").authority.is_some());
    assert_eq!(Mesh::of(&[with_token]).inbound("bob").authority, None);
    let mesh = Mesh::of(&[route("bob", "alice"), domain("bob", &BOB_CERTIFICATE)]);
    assert_eq!(mesh.inbound("bob").authority, None, "certificates have no part in it");
}

#[test]
fn an_authority_must_bear_the_name_of_its_domain_and_be_one() {
    let leaf = STANDARD.encode(&BOB_LEAF.chain_pem);
    let rsa_leaf_of_another_name = certificate("carol", &BOB);
    assert_eq!(problem(&[domain("bob", &leaf)]).0, "spec.cert", "a Domain needs an RSA key");
    let mut mesh = Mesh::of(&[domain("bob", &rsa_leaf_of_another_name)]);
    assert_eq!(reason(&mut mesh, &mtls("bob", "alice")), "PeerCertificateUnusable");
    assert_eq!(reason(&mut mesh, &configured(route("bob", "alice"), json!({}))), "PeerCertificateUnusable");
    assert_eq!(reason(&mut mesh, &route("bob", "alice")), "Valid");
}

#[test]
fn an_authority_that_says_that_another_domain_has_issued_it_is_not_taken() {
    let is_ca = || IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = |name| [(DnType::CommonName, name)];
    let mut mesh = Mesh::of(&[domain("bob", &issued("bob", &issuer("carol"), is_ca(), &[]))]);
    assert_eq!(
        reason(&mut mesh, &mtls("bob", "alice")),
        "PeerCertificateUnusable",
        "it would pass for carol"
    );
    mesh.put(&domain("bob", &issued("bob", &issuer("bob"), is_ca(), &[])));
    assert!(mesh.inbound("bob").authority.is_some());
}

#[test]
fn a_destination_takes_the_certificate_that_the_route_names() {
    let pinned =
        |cert: &str| configured(mtls("bob", "alice"), json!({"sourceClientCert": cert, "tlsCA": "?"}));
    let mesh = Mesh::of(&[pinned(&STANDARD.encode(&BOB_LEAF.chain_pem))]);
    let InboundAuth::Mtls { pin: Some(pin) } = &mesh.inbound("bob").auth else { panic!("a pin") };
    assert_eq!(*pin.pem, *BOB_LEAF.chain_pem);
    assert!(
        pin.fingerprint.len() == 64
            && pin.fingerprint.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    );
    assert_eq!(mesh.inbound("bob").authority, None);

    let mesh = Mesh::of(&[pinned(&BOB_CERTIFICATE), domain("bob", &BOB_CERTIFICATE)]);
    assert_eq!(mesh.inbound("bob").auth, InboundAuth::Mtls { pin: None }, "its authority stands for it");

    let path = "spec.mTLSConfig.sourceClientCert";
    for others in [vec![], vec![domain("bob", &certificate("bob", &BOB))]] {
        let manifests = [&others[..], &[pinned(&BOB_CERTIFICATE)]].concat();
        assert_eq!(
            problem(&manifests),
            (path.into(), "is an authority's certificate, which could let in others".into())
        );
    }
    let of_carol = pinned(&STANDARD.encode(leaf("carol", &BOB).chain_pem));
    assert_eq!(
        problem(&[of_carol]),
        (path.into(), "is issued by \"CN=carol\", which is how the domain carol would issue it".into())
    );
    assert_eq!(problem(&[pinned("AAAA")]).0, path);
}

#[test]
fn a_certificate_that_could_sign_as_another_domain_is_not_taken() {
    let bank = [(DnType::OrganizationName, "Bank")];
    let pinned = |subject: &str, key_usages: &[KeyUsagePurpose]| {
        let certificate = issued(subject, &bank, IsCa::ExplicitNoCa, key_usages);
        configured(mtls("bob", "alice"), json!({"sourceClientCert": certificate}))
    };
    for (subject, key_usages) in
        [("carol", &[][..]), (" Carol ", &[]), ("carol", &[KeyUsagePurpose::KeyCertSign])]
    {
        let said = r#"is for "CN=carol" and could sign as the domain carol would"#;
        assert_eq!(problem(&[pinned(subject, key_usages)]).1, said, "{subject:?} {key_usages:?}");
    }
    for (subject, key_usages) in
        [("carol", &[KeyUsagePurpose::DigitalSignature][..]), ("bob", &[]), ("gateway.carol.example", &[])]
    {
        let mesh = Mesh::of(&[pinned(subject, key_usages)]);
        assert!(mesh.snapshot.rejected.is_empty(), "{subject:?} {key_usages:?}");
    }
}

#[test]
fn without_tls_nobody_comes_in_by_a_certificate() {
    let index = Index::new("alice".parse().unwrap(), ALICE.clone(), []).with_client_certificates(false);
    let mut mesh = Mesh { index, ..Mesh::empty() };
    mesh.put(&domain("bob", &BOB_CERTIFICATE));
    assert_eq!(reason(&mut mesh, &mtls("bob", "alice")), "ListenerWithoutTLS");
    assert_eq!(mesh.rejection(Kind::DomainRoute, "bob-alice")[0].0, "spec.authenticationType");
    assert_eq!(reason(&mut mesh, &mtls("alice", "bob")), "Valid");
}
