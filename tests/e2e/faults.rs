//! What must not hurt, and what must be told.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use ::http::Request;
use base64::Engine as _;
use bytes::Bytes;
use harness::free_address;
use networkmesh::harness::domain::{Domain, service_manifest};
use networkmesh::harness::echo;
use networkmesh::http::{Limits, Target, send};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::figures::envoy_says;
use super::stream::{Chat, Traffic};
use super::world::{
    Alone, DEADLINE, Folder, PROGRAM, Source, World, admin, answers, apply_route, echoed, eventually, get,
    networkmesh, set_destination, token,
};

scenes!(
    killing_and_restarting_a_mesh_fails_no_request,
    removing_an_endpoint_fails_no_request_once_envoy_took_it,
    envoys_that_restart_alone_get_everything_back,
    new_routes_and_services_do_not_touch_a_running_stream,
    a_key_of_1024_bits_is_refused_everywhere,
);

async fn killing_and_restarting_a_mesh_fails_no_request(on: Source) {
    let mut world = World::two_domains(on).await;
    let mut chat = Chat::open(&world.alice, &world.bob).await;
    let before = (token(&world.alice, "bob").await, token(&world.bob, "alice").await);
    let (there, back) = (
        Traffic::start(&world.alice, "echo.bob.svc").await,
        Traffic::start(&world.bob, "echo.alice.svc").await,
    );
    for _ in 0..2 {
        for domain in [&mut world.alice, &mut world.bob] {
            domain.mesh.take().unwrap().kill9().await.unwrap();
            there.more(20).await;
            domain.start_mesh(Path::new(PROGRAM)).await.unwrap();
            there.more(20).await;
            back.more(20).await;
        }
    }
    // Both Envoys are back at their meshes, and follow changes again.
    world.bob.serve_echo("second").await.unwrap();
    answers(&world.alice, "second.bob.svc", 200).await;
    world.agree().await;
    assert_eq!(there.failures().await, Vec::<String>::new());
    assert_eq!(back.failures().await, Vec::<String>::new());
    chat.say("still there").await;
    assert_eq!((token(&world.alice, "bob").await, token(&world.bob, "alice").await), before);
}

async fn removing_an_endpoint_fails_no_request_once_envoy_took_it(on: Source) {
    let world = World::two_domains(on).await;
    let [(stays, _stop), (goes, stop)] = backends(&world.bob).await;
    world.bob.apply("pair.json", &service_manifest("pair", &[stays, goes])).await.unwrap();
    answers(&world.alice, "pair.bob.svc", 200).await;
    endpoint_in_envoy(&world, goes, true).await;
    let traffic = Traffic::start(&world.alice, "pair.bob.svc").await;
    let mut seen = std::collections::BTreeSet::new();
    eventually("both backends are in use", async || {
        seen.insert(echoed(&get(&world.alice, "pair.bob.svc", "/").await).service);
        if seen.len() == 2 { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;

    world.bob.apply("pair.json", &service_manifest("pair", &[stays])).await.unwrap();
    endpoint_in_envoy(&world, goes, false).await;
    stop.cancel();
    traffic.more(50).await;
    assert_eq!(traffic.failures().await, Vec::<String>::new());
    let refused = send(&Target::Tcp(goes), Request::new(Bytes::new()), Limits::default()).await;
    assert!(refused.is_err(), "the backend must really be gone: {refused:?}");
}

/// Two echo services in `domain`.
async fn backends(domain: &Domain) -> [(SocketAddr, CancellationToken); 2] {
    let ip = domain.home.service_ip().unwrap();
    let backend = async |name| {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(echo::serve(listener, name, stop.clone()));
        (address, stop)
    };
    [backend("stays").await, backend("goes").await]
}

/// Waits until bob's Envoy has the endpoint, or has it no more.
async fn endpoint_in_envoy(world: &World, endpoint: SocketAddr, wanted: bool) {
    eventually(&format!("{endpoint} in Envoy: {wanted}"), async || {
        let clusters = envoy_says(&world.bob, "/clusters").await;
        let found = clusters.contains(&endpoint.to_string());
        if found == wanted { Ok(()) } else { Err(clusters) }
    })
    .await;
}

async fn envoys_that_restart_alone_get_everything_back(on: Source) {
    let mut world = World::two_domains(on).await;
    for domain in [&mut world.alice, &mut world.bob] {
        domain.envoy.take().unwrap().kill9().await.unwrap();
        domain.start_envoy(Path::new(PROGRAM), &world.envoy).await.unwrap();
    }
    assert_eq!(echoed(&answers(&world.alice, "echo.bob.svc", 200).await).service, "echo.bob");
    assert_eq!(echoed(&answers(&world.bob, "echo.alice.svc", 200).await).service, "echo.alice");
}

async fn new_routes_and_services_do_not_touch_a_running_stream(on: Source) {
    let mut world = World::two_domains(on).await;
    let mut chat = Chat::open(&world.alice, &world.bob).await;
    for number in 0..5 {
        for domain in [&mut world.alice, &mut world.bob] {
            domain.serve_echo(&format!("echo-{number}")).await.unwrap();
        }
        let mut route = world.alice.route_to(&world.bob);
        set_destination(&mut route, &format!("carol-{number}"), world.bob.addresses.external);
        apply_route(&world.alice, &route).await;
        answers(&world.alice, &format!("echo-{number}.bob.svc"), 200).await;
        answers(&world.bob, &format!("echo-{number}.alice.svc"), 200).await;
        chat.say("still there").await;
    }
}

#[tokio::test]
async fn a_malformed_manifest_hurts_itself_only_and_is_named() {
    let world = World::two_domains(Source::Directory).await;
    let fine = networkmesh(["status", "--admin", &admin(&world.bob)]).await;
    assert_eq!((fine.code, fine.out.contains("All is well.")), (Some(0), true), "{fine:?}");

    world.bob.write("manifests/broken.yaml", "kind: [Service\n").unwrap();
    world.bob.write("manifests/echo.json", "{\"apiVersion\": \"v1\", \"kind\": \"Serv").unwrap();
    let mut route = world.alice.route_to(&world.bob);
    route["spec"]["endpoint"]["ports"][0]["port"] = json!(0);
    route["spec"]["authenticationType"] = json!("Trust");
    apply_route(&world.alice, &route).await;
    let well = eventually("the files are named", async || {
        let ran = networkmesh(["status", "--admin", &admin(&world.bob)]).await;
        let named = ["broken.yaml", "echo.json"].iter().all(|file| ran.out.contains(file));
        if named && ran.code == Some(1) { Ok(ran) } else { Err(format!("{ran:?}")) }
    })
    .await;
    assert!(well.out.contains("Not well:"), "{well:?}");
    eventually("the fields are named", async || {
        let ran = networkmesh(["status", "-o", "json", "--admin", &admin(&world.alice)]).await;
        let fields = ["spec.endpoint.ports[0].port", "spec.authenticationType"];
        if fields.iter().all(|field| ran.out.contains(field)) { Ok(()) } else { Err(ran.out) }
    })
    .await;
    // Good objects, and the last good versions of the bad ones, are in force.
    assert_eq!(echoed(&get(&world.alice, "echo.bob.svc", "/").await).service, "echo.bob");
    assert_eq!(echoed(&get(&world.bob, "echo.alice.svc", "/").await).service, "echo.alice");
}

#[tokio::test]
async fn an_object_in_two_files_is_named_with_both_and_stays_in_force() {
    let mut world = World::two_domains(Source::Directory).await;
    let mine = world.bob.serve_echo("twin").await.unwrap();
    answers(&world.alice, "twin.bob.svc", 200).await;
    world
        .bob
        .apply("zz-twin.json", &service_manifest("twin", &["127.0.0.1:9".parse().unwrap()]))
        .await
        .unwrap();
    let problem = eventually("the second file is named", async || {
        let status = world.bob.status().await.unwrap();
        let mut problems = status.problems.iter();
        let found = problems.find(|problem| problem.contains("Service bob/twin"));
        found.cloned().ok_or_else(|| format!("{status:?}"))
    })
    .await;
    assert!(
        problem.contains("manifests/zz-twin.json") && problem.contains("manifests/twin.json"),
        "{problem}"
    );
    let status = world.bob.status().await.unwrap();
    let twin = status.services.iter().find(|service| service.host == "twin.bob.svc").unwrap();
    assert_eq!(twin.endpoints, [mine.to_string()], "the first file stays in force");
    answers(&world.alice, "twin.bob.svc", 200).await;

    world.bob.remove("zz-twin.json").await.unwrap();
    eventually("all is well", async || {
        let status = world.bob.status().await.unwrap();
        if status.problems.is_empty() { Ok(()) } else { Err(format!("{:?}", status.problems)) }
    })
    .await;
}

#[tokio::test]
async fn an_address_in_use_is_named_with_its_setting() {
    for setting in ["handshake", "xds", "dns", "admin"] {
        let folder = Folder::new(Source::Directory);
        let address = free_address().unwrap();
        let _holder = TcpListener::bind(address).await.unwrap();
        let mut config = json!({});
        config["listen"][setting] = address.to_string().into();
        let alice = folder.domain("alice", &config).await;
        let ran = networkmesh(["run", "--config", alice.config().to_str().unwrap()]).await;
        assert_eq!(ran.code, Some(2), "{ran:?}");
        for words in [format!("listen.{setting}"), address.to_string(), "choose another address".to_owned()] {
            assert!(ran.err.contains(&words), "{words}: {ran:?}");
        }
    }
}

#[tokio::test]
async fn a_second_mesh_on_the_same_folders_is_refused() {
    let mut world = Alone::laid_out(Source::Directory, &json!({})).await;
    world.start_mesh().await;
    let other = world
        .folder
        .domain(
            "other",
            &json!({
                "domainID": "alice",
                "source": {"directory": {"path": "../alice/manifests", "state": "../alice/state"}},
            }),
        )
        .await;
    let ran = networkmesh(["run", "--config", other.config().to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("another mesh uses the state folder"), "{ran:?}");
    world.alice.mesh.take().unwrap().stop(DEADLINE).await.unwrap();
}

async fn a_key_of_1024_bits_is_refused_everywhere(on: Source) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split(' ')).output();
        output.expect("these tests need openssl: `apt-get install openssl`").stdout
    };
    let encode = |pem: &[u8]| base64::engine::general_purpose::STANDARD.encode(pem);
    let mut world = Alone::laid_out(on, &json!({})).await;
    let key = openssl("genrsa -traditional 1024");
    let key_file = world.folder.path().join("weak.pem");
    fs::write(&key_file, &key).unwrap();

    let weak = world.folder.domain("weak", &json!({"domainKeyData": encode(&key)})).await;
    let ran = networkmesh(["run", "--config", weak.config().to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.err.contains("domainKeyData") && ran.err.contains("1024") && ran.err.contains("2048"),
        "{ran:?}"
    );

    let public = openssl(&format!("rsa -RSAPublicKey_out -in {}", key_file.display()));
    let partner = world.folder.domain("bob", &json!({})).await;
    let mut route: Value = world.alice.route_to(&partner);
    route["spec"]["tokenConfig"]["destinationPublicKey"] = encode(&public).into();
    apply_route(&world.alice, &route).await;
    world.start_mesh().await;
    eventually("the key is refused", async || {
        let status = world.alice.status().await.unwrap();
        let words = ["spec.tokenConfig.destinationPublicKey", "1024", "2048"];
        let mut problems = status.problems.iter();
        let found = problems.any(|problem| words.iter().all(|word| problem.contains(word)));
        if found { Ok(()) } else { Err(format!("{:?}", status.problems)) }
    })
    .await;
}
