//! The commands that look at a running mesh, and its admin interface.

use std::fs;
use std::path::Path;

use ::http::{Request, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use networkmesh::http::{Limits, Target, send};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::stream::{Chat, Traffic};
use super::world::{
    Alone, DEADLINE, Source, World, admin, answers, confirmed_revision, envoy, eventually, key_of,
    networkmesh, run, token,
};

scenes!(
    status_and_dump_have_their_forms,
    no_secret_is_shown_without_being_asked_for,
    metrics_are_open_metrics_text,
    sigterm_ends_a_mesh_well_and_removes_its_sockets,
);

#[tokio::test]
async fn the_bootstrap_is_valid_to_envoy_in_both_forms() {
    let world = Alone::laid_out(Source::Directory, &json!({})).await;
    let config = world.alice.config();
    for form in ["yaml", "json"] {
        let ran = networkmesh(["bootstrap", "-o", form, "--config", config.to_str().unwrap()]).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
        let file = world.folder.path().join(format!("envoy.{form}"));
        fs::write(&file, ran.out).unwrap();
        let mut command = Command::new(envoy().await);
        command.args(["--mode", "validate", "--disable-hot-restart", "--config-path"]).arg(&file);
        let judged = run(&mut command, "Envoy was there a moment ago").await;
        assert!(judged.code == Some(0) && judged.out.contains("OK"), "{judged:?}");
    }
}

async fn status_and_dump_have_their_forms(on: Source) {
    let world = World::two_domains(on).await;
    let admin = admin(&world.alice);
    let show = async |arguments: &str| {
        let ran = networkmesh(arguments.split(' ').chain(["--admin", &admin])).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments}: {ran:?}");
        ran.out
    };
    let table = show("status").await;
    for words in
        ["alice-bob", "bob-alice", "outbound", "inbound", "echo.alice.svc", "alice-gateway", "All is well."]
    {
        assert!(table.contains(words), "{words}: {table}");
    }
    let json: Value = serde_json::from_str(&show("status -o json").await).unwrap();
    let yaml: Value = serde_saphyr::from_str(&show("status -o yaml").await).unwrap();
    for status in [&json, &yaml] {
        assert_eq!(status["domain"], "alice");
        assert_eq!(status["problems"], json!([]));
        assert_eq!(status["routes"].as_array().unwrap().len(), 2);
        assert_eq!(status["keyFingerprint"], world.alice.public_key.fingerprint().to_string());
        assert_eq!(status["envoys"][0]["node"], "alice-gateway");
        assert_eq!(status["envoys"][0]["protocol"], "Delta");
    }
    let all: Value = serde_json::from_str(&show("dump").await).unwrap();
    for kind in ["listeners", "routes", "clusters", "endpoints", "scopes"] {
        assert!(!all[kind].as_array().unwrap().is_empty(), "{kind}: {all}");
        let one: Value = serde_saphyr::from_str(&show(&format!("dump {kind} -o yaml")).await).unwrap();
        assert_eq!(one[kind], all[kind]);
        let table = show(&format!("dump {kind} -o table")).await;
        let name = all[kind][0]["name"].as_str().unwrap();
        assert!(table.contains(name), "{name}: {table}");
    }
    assert!(all["secrets"].is_array());
}

async fn no_secret_is_shown_without_being_asked_for(on: Source) {
    let world =
        World::with_routes(on, |route| route["spec"]["tokenConfig"]["rollingUpdatePeriod"] = json!(2)).await;
    let traffic = Traffic::start(&world.alice, "echo.bob.svc").await;
    Chat::open(&world.bob, &world.alice).await.say("hello").await;
    let mut secrets = vec![token(&world.alice, "bob").await, token(&world.bob, "alice").await];
    let newest = eventually("the tokens roll", async || {
        let newest = token(&world.alice, "bob").await;
        if secrets.contains(&newest) { Err("the old one".to_owned()) } else { Ok(newest) }
    })
    .await;
    secrets.push(newest);
    confirmed_revision(&world.alice, &world.bob).await;
    traffic.failures().await;
    for domain in [&world.alice, &world.bob] {
        let key = key_of(domain);
        secrets.push(key.to_domain_key_data().to_string());
        secrets.extend(key.to_pkcs1_pem().lines().filter(|line| !line.starts_with('-')).map(str::to_owned));
    }
    // Tokens are also looked for without their padding, and in hexadecimal.
    let raw: Vec<Vec<u8>> = secrets.iter().filter_map(|secret| STANDARD.decode(secret).ok()).collect();
    secrets.iter_mut().for_each(|secret| *secret = secret.trim_end_matches('=').to_owned());
    let hexadecimal = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    secrets.extend(raw.iter().map(hexadecimal));

    let mut shown = Vec::new();
    for log in world.folder.logs() {
        shown.push((log.display().to_string(), fs::read_to_string(&log).unwrap()));
    }
    assert!(shown.len() >= 8, "mesh, Envoy and two access logs of each: {shown:?}");
    for domain in [&world.alice, &world.bob] {
        let admin = admin(domain);
        for arguments in ["dump", "dump -o yaml", "dump -o table", "status -o json", "status"] {
            let ran = networkmesh(arguments.split(' ').chain(["--admin", &admin])).await;
            shown.push((format!("{arguments} of {}", domain.name), ran.out + &ran.err));
        }
    }
    for (place, text) in &shown {
        assert!(!text.is_empty() || place.ends_with(".log"), "{place}");
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{place} shows {secret}");
        }
    }
    let asked = networkmesh(["dump", "--show-secrets", "--admin", &admin(&world.bob)]).await;
    let newest = token(&world.alice, "bob").await;
    assert!(asked.out.contains(newest.trim_end_matches('=')), "on request, the accepted token is shown");
}

async fn ask(target: &Target, path: &str, host: &str) -> Response<Bytes> {
    let request = Request::get(path).header("host", host).body(Bytes::new()).unwrap();
    send(target, request, Limits::default()).await.unwrap()
}

#[tokio::test]
async fn the_admin_interface_answers_by_address_and_shows_no_secrets_over_tcp() {
    let address = harness::free_address().unwrap();
    let mut world =
        Alone::laid_out(Source::Directory, &json!({"listen": {"admin": address.to_string()}})).await;
    world.start_mesh().await;
    let target = Target::Tcp(address);
    for (path, body) in [("/livez", "ok\n"), ("/readyz", "ok\n")] {
        let answer = ask(&target, path, &address.to_string()).await;
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, body.as_bytes()));
    }
    for (host, status) in [
        ("localhost", 200),
        ("localhost:9091", 200),
        ("127.0.0.1", 200),
        ("[::1]:9091", 200),
        ("evil.example", 403),
        ("evil.example:9091", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ] {
        for path in ["/status", "/dump", "/metrics", "/readyz"] {
            assert_eq!(ask(&target, path, host).await.status(), status, "{host} {path}");
        }
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /status HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 403") || answer.starts_with("HTTP/1.1 403"), "{answer}");

    let admin = format!("http://{address}");
    let refused = networkmesh(["dump", "--show-secrets", "--admin", &admin]).await;
    assert!(refused.code == Some(1) && refused.err.contains("unix:"), "{refused:?}");
    assert_eq!(networkmesh(["dump", "--admin", &admin]).await.code, Some(0));
    let nobody = networkmesh(["status", "--admin", "http://127.0.0.1:9"]).await;
    assert!(nobody.code == Some(1) && nobody.err.contains("networkmesh run"), "{nobody:?}");
}

async fn metrics_are_open_metrics_text(on: Source) {
    let world = World::two_domains(on).await;
    answers(&world.alice, "echo.bob.svc", 200).await;
    let answer = ask(&world.alice.admin, "/metrics", "localhost").await;
    let kind = answer.headers()["content-type"].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = String::from_utf8(answer.body().to_vec()).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut values = std::collections::BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let value: f64 = value.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(
            values.insert(series.trim_end_matches("{}").to_owned(), value).is_none(),
            "{line} stands there twice"
        );
    }
    for (series, value) in [
        ("networkmesh_ready", 1.0),
        ("networkmesh_problems", 0.0),
        ("networkmesh_envoys", 1.0),
        ("networkmesh_services", 1.0),
        ("networkmesh_rejected_objects", 0.0),
        ("networkmesh_source_problems", 0.0),
        (r#"networkmesh_route_token_revision{route="alice-bob",direction="outbound"}"#, 1.0),
        (r#"networkmesh_route_token_revision{route="bob-alice",direction="inbound"}"#, 1.0),
        (r#"networkmesh_dns_responses_total{rcode="NXDOMAIN",type="A",transport="udp"}"#, 0.0),
    ] {
        assert_eq!(values.get(series), Some(&value), "{series} in {text}");
    }
}

async fn sigterm_ends_a_mesh_well_and_removes_its_sockets(on: Source) {
    let mut world = World::two_domains(on).await;
    let sockets = ["xds.sock", "admin.sock"].map(|name| world.bob.folder.join(name));
    assert!(sockets.iter().all(|socket| socket.exists()));
    let stopped = world.bob.mesh.take().unwrap().stop(DEADLINE).await.unwrap();
    assert_eq!(stopped.code(), Some(0), "{stopped}");
    assert_eq!(sockets.iter().find(|socket| Path::exists(socket)), None);
    // Envoy keeps what it has.
    answers(&world.alice, "echo.bob.svc", 200).await;
}
