//! The xDS server of a mesh, as Envoy and standard tools reach it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use certs::{DEFAULT_LEAF_LIFETIME, DomainAuthority, DomainKey, LeafRequest, LeafUsage};
use harness::free_address;
use harness::grpc_tool::{Error, Tls, ask};
use serde_json::{Value, json};

use super::certificates::own_certificate;
use super::tls;
use super::world::{
    Alone, PROGRAM, Source, admin, answers, confirmed_revision, echoed, envoy, eventually, networkmesh, token,
};

/// Alice, whose Envoy has to reach the mesh by mutual TLS.
struct World {
    alone: Alone,
    xds: SocketAddr,
}

impl World {
    /// The mesh runs. Its certificate is for its address and `mesh.alice.example`; Envoy wants one for `server_name`.
    async fn start(server_name: &str) -> Self {
        let xds = free_address().unwrap();
        let mut alone = Alone::laid_out(Source::Directory, &json!({
            "listen": {"xds": xds},
            "xds": {"tls": {"certificateFile": "mesh.pem", "keyFile": "mesh.key", "clientCAFile": "ca.pem"}},
            "envoy": {"xdsTLS": {
                "certificateFile": "envoy.pem",
                "keyFile": "envoy.key",
                "caFile": "ca.pem",
                "serverName": server_name,
            }},
        })).await;
        make_identities(&alone.alice.folder, xds);
        alone.alice.serve_echo("echo").await.unwrap();
        alone.start_mesh().await;
        Self { alone, xds }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.alone.alice.folder.join(name)
    }

    /// Asks the xDS server as a client with this identity.
    async fn ask(&self, identity: Option<[&Path; 2]>) -> Result<Value, Error> {
        let tls = Tls { ca: &self.file("ca.pem"), identity };
        ask(&self.xds.to_string(), Some(tls), &|_| ()).await
    }
}

/// A CA, and what it signed for the mesh and for Envoy.
fn make_identities(folder: &Path, xds: SocketAddr) {
    let now = SystemTime::now();
    let authority = DomainAuthority::new("alice", &DomainKey::generate().unwrap(), now).unwrap();
    fs::write(folder.join("ca.pem"), authority.certificate_pem()).unwrap();
    let hosts = vec![xds.ip().to_string(), "mesh.alice.example".to_owned()];
    for (name, hosts, usage) in [("mesh", hosts, LeafUsage::Server), ("envoy", Vec::new(), LeafUsage::Client)]
    {
        let request = LeafRequest {
            common_name: name.to_owned(),
            subject_alt_names: hosts,
            usage,
            lifetime: DEFAULT_LEAF_LIFETIME,
        };
        let leaf = authority.issue(&request, now).unwrap();
        fs::write(folder.join(format!("{name}.pem")), &leaf.chain_pem).unwrap();
        fs::write(folder.join(format!("{name}.key")), leaf.key_pem.as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn envoy_is_told_over_tcp_with_certificates_on_both_sides_and_nobody_without_one() {
    let mut world = World::start("mesh.alice.example").await;
    let alice = &mut world.alone.alice;
    alice.start_envoy(Path::new(PROGRAM), &envoy().await).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(echoed(&answers(alice, "echo.alice.svc", 200).await).service, "echo.alice");
    let bootstrap = fs::read_to_string(world.file("envoy.yaml")).unwrap();
    assert!(bootstrap.contains("envoy.key") && !bootstrap.contains("-----BEGIN"), "{bootstrap}");

    let (certificate, key) = (world.file("envoy.pem"), world.file("envoy.key"));
    let told = world.ask(Some([&certificate, &key])).await.unwrap();
    assert_eq!(told["health"], json!({"status": "SERVING"}));
    let refused = world.ask(None).await.unwrap_err().to_string();
    assert!(refused.contains("UNAVAILABLE"), "{refused}");
    let plain = ask(&world.xds.to_string(), None, &|_| ()).await.unwrap_err().to_string();
    assert!(plain.contains("UNAVAILABLE"), "{plain}");
}

#[tokio::test]
async fn envoy_is_told_nothing_by_a_mesh_of_another_name() {
    let mut world = World::start("other.alice.example").await;
    let log = world.file("logs/envoy.log");
    let (program, envoy) = (Path::new(PROGRAM), envoy().await);
    let complains = eventually("Envoy complains of the name", async || {
        let log = fs::read_to_string(&log).unwrap_or_default();
        if log.contains("CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_SAN_matcher") {
            Ok(())
        } else {
            Err(log)
        }
    });
    tokio::select! {
        started = world.alone.alice.start_envoy(program, &envoy) => panic!("{started:?}"),
        () = complains => {}
    }
    assert_eq!(world.alone.alice.status().await.unwrap().envoys.len(), 0);
}

#[tokio::test]
async fn a_standard_tool_sees_what_envoy_holds_but_no_token_and_no_key() {
    // Bob's Envoy sends a token, accepts one, and has a private key.
    let world = tls::world(Source::Directory, "TLS", own_certificate).await;
    confirmed_revision(&world.alice, &world.bob).await;
    confirmed_revision(&world.bob, &world.alice).await;
    let accepted = token(&world.alice, "bob").await;
    answers(&world.alice, "echo.bob.svc", 200).await;
    let sent = token(&world.bob, "alice").await;
    answers(&world.bob, "echo.alice.svc", 200).await;
    let everything = networkmesh(["dump", "--show-secrets", "--admin", &admin(&world.bob)]).await.out;
    assert!(everything.contains(&accepted) && everything.contains(&sent), "the tokens are in force");

    let socket = format!("unix:{}", world.bob.folder.join("xds.sock").display());
    let told = ask(&socket, None, &|_| ()).await.unwrap_or_else(|error| panic!("{error}"));
    let services = told["services"].as_array().unwrap();
    for service in [
        "envoy.service.discovery.v3.AggregatedDiscoveryService",
        "envoy.service.status.v3.ClientStatusDiscoveryService",
        "grpc.health.v1.Health",
    ] {
        assert!(services.contains(&json!(service)), "{service}: {services:?}");
    }
    assert_eq!(told["undescribed"], json!([]));
    assert_eq!(told["health"], json!({"status": "SERVING"}));

    let clients = told["clients"]["config"].as_array().unwrap();
    assert_eq!((clients.len(), &clients[0]["node"]["id"]), (1, &json!("bob-gateway")), "{told}");
    let mut hidden = Vec::new();
    for resource in clients[0]["genericXdsConfigs"].as_array().unwrap() {
        assert_eq!(resource["clientStatus"], "ACKED", "{resource}");
        match resource["typeUrl"].as_str().unwrap().rsplit_once('.').unwrap().1 {
            "Secret" => {
                assert_eq!(resource["xdsConfig"], Value::Null);
                hidden.push(resource["name"].as_str().unwrap());
            }
            _ => assert!(resource["xdsConfig"].is_object(), "{resource}"),
        }
    }
    assert_eq!(hidden, ["client-authorities", "external-server"]);
    assert_eq!(occurrences(&told, "<redacted>"), 1, "the token that is sent");
    assert_eq!(occurrences(&told, "<redacted 1>"), 1, "the token that is accepted");
    for secret in [&accepted, &sent, "PRIVATE KEY"] {
        assert_eq!(occurrences(&told, secret), 0);
    }
}

/// How often a text stands in the bytes of the status of clients.
fn occurrences(told: &Value, text: &str) -> usize {
    let text: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    told["clientBytes"].as_str().unwrap().matches(&text).count()
}
