//! The external listener with TLS, judged by `openssl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use certs::DomainAuthority;
use networkmesh::harness::domain::Domain;
use serde_json::{Value, json};

use super::certificates::{Leaf, apply_domain, openssl, own_certificate};
use super::partner::Partner;
use super::world::{
    Ran, Source, World, admin, answers, apply_route, confirmed_revision, echoed, eventually, get, hops,
    key_of, networkmesh, set_unauthenticated,
};

scenes!(
    traffic_passes_by_tls_and_the_certificate_is_bobs,
    keys_of_listeners_are_blanked_in_dumps,
    a_certificate_of_another_authority_closes_the_way_and_says_so,
    mtls_lets_in_whom_the_domain_signed_for_and_nobody_else,
);

/// Alice trusts `certificate` to be bob's, and bob's external listener speaks `protocol`.
pub(crate) async fn world(on: Source, protocol: &str, certificate: impl AsyncFn(&Domain) -> String) -> World {
    let mut world = World::laid_out(on, &json!({}), &json!({"protocol": protocol})).await;
    world.take_turn(on).await;
    apply_domain(&world.alice, "bob", &certificate(&world.bob).await).await;
    let mut route = world.alice.route_to(&world.bob);
    route["spec"]["endpoint"]["ports"][0]["isTLS"] = json!(true);
    world.connect(&route).await;
    apply_route(&world.bob, &world.bob.route_to(&world.alice)).await;
    apply_route(&world.alice, &world.bob.route_to(&world.alice)).await;
    world.start().await;
    world
}

/// The certificate of an authority that calls itself bob, and has another key.
async fn forged_certificate(_: &Domain) -> String {
    let key = Partner::new("bob").key;
    DomainAuthority::new("bob", &key, SystemTime::now()).unwrap().certificate_base64_pem()
}

/// The authority of bob as PEM, made by the program once more.
async fn authority_file(world: &World) -> PathBuf {
    let ran = networkmesh(["cert", "--config", world.bob.config().to_str().unwrap()]).await;
    let file = world.folder.path().join("bob.pem");
    fs::write(&file, ran.out).unwrap();
    file
}

/// Connects to bob's external listener and sends a request.
async fn s_client(world: &World, authority: &Path, more: &[&Path]) -> Ran {
    // The request goes in after the handshake, and the input stays open until the answer came.
    let script = "{ printf 'GET /handshake HTTP/1.1\\r\\nHost: kuscia-handshake.bob.svc\\r\\n\
                  Kuscia-Host: kuscia-handshake.bob.svc\\r\\nConnection: close\\r\\n\\r\\n'; } | openssl s_client -ign_eof -connect \"$@\"";
    let address = world.bob.addresses.external.to_string();
    let given = [Path::new(&address), Path::new("-verify_return_error"), Path::new("-CAfile"), authority];
    openssl(script, world.folder.path(), given.iter().chain(more)).await
}

async fn traffic_passes_by_tls_and_the_certificate_is_bobs(on: Source) {
    let world = world(on, "TLS", own_certificate).await;
    confirmed_revision(&world.alice, &world.bob).await;
    let seen = echoed(&answers(&world.alice, "echo.bob.svc", 200).await);
    assert_eq!((seen.service.as_str(), seen.headers["kuscia-source"].as_str()), ("echo.bob", "alice"));
    answers(&world.bob, "echo.alice.svc", 200).await;

    let shown = s_client(&world, &authority_file(&world).await, &[]).await;
    assert!(shown.out.contains("Verify return code: 0 (ok)"), "{shown:?}");
    assert!(
        shown.out.contains("CN = bob_ENVOY_EXTERNAL") || shown.out.contains("CN=bob_ENVOY_EXTERNAL"),
        "{shown:?}"
    );
    assert!(shown.out.contains("\"namespace\":\"bob\""), "{shown:?}");

    // No TLS, no answer.
    let plain = world.bob.call_from_outside("/", ::http::HeaderMap::new()).await;
    assert!(plain.is_err(), "{plain:?}");
    let status = world.bob.status().await.unwrap();
    assert!(status.certificate.unwrap().not_after > jiff::Timestamp::now());
}

async fn keys_of_listeners_are_blanked_in_dumps(on: Source) {
    let world = world(on, "TLS", own_certificate).await;
    answers(&world.alice, "echo.bob.svc", 200).await;
    for (arguments, shown) in
        [(&["dump", "secrets"][..], false), (&["dump", "secrets", "--show-secrets"], true)]
    {
        let ran = networkmesh(arguments.iter().chain(&["--admin", &admin(&world.bob)])).await;
        let dump: Value = serde_json::from_str(&ran.out).unwrap();
        assert!(!dump["secrets"].as_array().unwrap().is_empty(), "{dump}");
        assert!(
            ran.out.contains("BEGIN CERTIFICATE") || dump.to_string().contains("certificate_chain"),
            "{dump}"
        );
        assert_eq!(
            ran.out.contains("PRIVATE KEY") || inline_bytes_hold_a_key(&dump),
            shown,
            "{arguments:?}: {dump}"
        );
    }
}

/// PEM may stand in the dump as the base64 of a field of bytes.
fn inline_bytes_hold_a_key(json: &Value) -> bool {
    use base64::Engine as _;
    match json {
        Value::Array(items) => items.iter().any(inline_bytes_hold_a_key),
        Value::Object(object) => object.values().any(inline_bytes_hold_a_key),
        Value::String(text) => base64::engine::general_purpose::STANDARD
            .decode(text)
            .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains("PRIVATE KEY")),
        _ => false,
    }
}

async fn a_certificate_of_another_authority_closes_the_way_and_says_so(on: Source) {
    // The route names bob's true key for the handshake; only the authority for TLS is wrong.
    let world = world(on, "TLS", forged_certificate).await;
    eventually("the status says why", async || {
        let status = world.alice.status().await.unwrap();
        let mut problems = status.problems.iter();
        let found = problems
            .any(|problem| problem.contains("alice-bob") && problem.contains("CERTIFICATE_VERIFY_FAILED"));
        if found { Ok(()) } else { Err(format!("{:?}", status.problems)) }
    })
    .await;
    // Without the token that is missing so far, requests get as far as TLS.
    let mut route = world.alice.route_to(&world.bob);
    route["spec"]["endpoint"]["ports"][0]["isTLS"] = json!(true);
    set_unauthenticated(&mut route);
    apply_route(&world.alice, &route).await;
    eventually("an error that names the gateway and TLS", async || {
        let response = get(&world.alice, "echo.bob.svc", "/").await;
        let hops = hops(&response);
        let named =
            hops.contains("alice/alice-gateway/internal") && hops.contains("CERTIFICATE_VERIFY_FAILED");
        if response.status() == 503 && named { Ok(()) } else { Err(format!("{response:?}")) }
    })
    .await;
    confirmed_revision(&world.bob, &world.alice).await;
    assert_eq!(echoed(&get(&world.bob, "echo.alice.svc", "/").await).service, "echo.alice");
}

async fn mtls_lets_in_whom_the_domain_signed_for_and_nobody_else(on: Source) {
    let world = world(on, "MTLS", own_certificate).await;
    let authority = authority_file(&world).await;
    let nobody = s_client(&world, &authority, &[]).await;
    assert!(!nobody.out.contains("namespace"), "{nobody:?}");

    for (key, let_in) in [(key_of(&world.bob), true), (Partner::new("bob").key, false)] {
        let leaf = Leaf::of_client(world.folder.path(), "alice", "bob", &key);
        let more = [Path::new("-cert"), &leaf.certificate, Path::new("-key"), &leaf.key];
        let shown = s_client(&world, &authority, &more).await;
        assert_eq!(shown.out.contains("\"namespace\":\"bob\""), let_in, "{shown:?}");
    }
}
