//! Routes on which the certificate of the connection says who the source is.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use certs::{DomainAuthority, DomainKey};
use networkmesh::harness::domain::Domain;
use proto::echo::EchoRequest;
use serde_json::{Value, json};

use super::certificates::{Leaf, apply_domain, openssl, own_certificate};
use super::figures::envoy_says;
use super::partner::Partner;
use super::stream::{Chat, grpc};
use super::world::{
    DEADLINE, PROGRAM, Ran, Source, World, admin, answers, apply_route, echoed, eventually, get, hops,
    key_of, networkmesh, refused, route_status, set_source,
};

scenes!(
    a_certificate_of_the_domain_lets_its_requests_in,
    a_partner_cannot_show_its_own_certificate_and_name_another_domain,
    the_certificate_that_a_route_names_lets_in_and_no_other_of_its_authority,
    certificates_are_renewed_under_an_open_stream,
    an_envoy_that_restarts_gets_its_certificates_back,
    the_gateway_at_the_other_end_must_be_the_one_that_the_route_names,
    a_listener_without_tls_takes_no_certificates,
);

/// Alice calls bob by a route of type MTLS, and each knows the other's `Domain`. Bob's external listener speaks
/// `protocol`.
async fn world(on: Source, protocol: &str) -> World {
    let mut world = World::laid_out(on, &json!({}), &json!({"protocol": protocol})).await;
    world.take_turn(on).await;
    know_each_other(&world).await;
    world.connect(&mtls_route(&world)).await;
    world.start().await;
    world
}

async fn know_each_other(world: &World) {
    for (domain, other) in [(&world.alice, &world.bob), (&world.bob, &world.alice)] {
        let certificate = own_certificate(other).await;
        apply_domain(domain, &other.name, &certificate).await;
    }
}

fn mtls_route(world: &World) -> Value {
    let mut route = world.alice.route_to(&world.bob);
    route["spec"]["authenticationType"] = "MTLS".into();
    route["spec"]["endpoint"]["ports"][0]["isTLS"] = json!(true);
    route["spec"].as_object_mut().unwrap().remove("tokenConfig");
    route
}

/// What a gateway that shows `leaf` gets from bob when it calls bob's echo service as `source`.
async fn call(world: &World, source: &str, leaf: Option<&Leaf>) -> Ran {
    let request = format!(
        "GET / HTTP/1.1\\r\\nHost: echo.bob.svc\\r\\nKuscia-Host: echo.bob.svc\\r\\nKuscia-Source: {source}\\r\\n\
         Kuscia-Origin-Source: {source}\\r\\nConnection: close\\r\\n\\r\\n"
    );
    // The request goes in after the handshake, and the input stays open until the answer came.
    let script = format!("printf '{request}' | openssl s_client -ign_eof -quiet -connect \"$@\" 2>&1");
    let address = world.bob.addresses.external.to_string();
    let shown = leaf.map(|Leaf { certificate, key }| {
        [Path::new("-cert"), certificate, Path::new("-key"), key, Path::new("-cert_chain"), certificate]
    });
    openssl(
        &script,
        world.folder.path(),
        [Path::new(&address)].into_iter().chain(shown.into_iter().flatten()),
    )
    .await
}

async fn a_certificate_of_the_domain_lets_its_requests_in(on: Source) {
    for protocol in ["TLS", "MTLS"] {
        let world = world(on, protocol).await;
        let seen = echoed(&answers(&world.alice, "echo.bob.svc", 200).await);
        assert_eq!((seen.service.as_str(), seen.headers["kuscia-source"].as_str()), ("echo.bob", "alice"));
        assert!(!seen.headers.keys().any(|name| name.starts_with("x-nm-")), "{seen:?}");
        let said =
            grpc(&world.alice, &world.bob).await.say(EchoRequest { message: "hello".to_owned() }).await;
        assert_eq!(said.unwrap().into_inner().service, "echo.bob");
        eventually("the link is known to be well", async || {
            let route = route_status(&world.alice, "alice-bob").await?;
            let is_well =
                ["Accepted", "Reachable", "Authenticated", "DataPath"].iter().all(|name| route.holds(name));
            if is_well && route.authentication == "MTLS" { Ok(()) } else { Err(format!("{route:?}")) }
        })
        .await;
    }
}

async fn a_partner_cannot_show_its_own_certificate_and_name_another_domain(on: Source) {
    let world = world(on, "TLS").await;
    answers(&world.alice, "echo.bob.svc", 200).await;
    let mallory = Partner::new("mallory");
    let authority = DomainAuthority::new("mallory", &mallory.key, SystemTime::now()).unwrap();
    apply_domain(&world.bob, "mallory", &authority.certificate_base64_pem()).await;
    let mut route = mtls_route(&world);
    set_source(&mut route, "mallory", "");
    route["spec"].as_object_mut().unwrap().remove("tokenConfig");
    apply_route(&world.bob, &route).await;

    let folder = world.folder.path();
    let own = Leaf::of_client(folder, "mallory", "mallory", &mallory.key);
    eventually("mallory is let in as mallory", async || {
        let ran = call(&world, "mallory", Some(&own)).await;
        if ran.out.contains("200 OK") { Ok(()) } else { Err(ran.out) }
    })
    .await;
    let alices = Leaf::of_client(folder, "alice", "alice", &key_of(&world.alice));
    assert!(call(&world, "alice", Some(&alices)).await.out.contains("200 OK"));

    let address = world.bob.addresses.external.to_string();
    let script = "openssl s_client -connect \"$1\" </dev/null";
    let asked = openssl(script, folder, [Path::new(&address)]).await;
    assert!(asked.out.contains("No client certificate CA names sent"), "{asked:?}");

    let stranger = DomainKey::generate().unwrap();
    for (what, source, leaf) in [
        (
            "its own certificate, and another's name",
            "alice",
            Some(Leaf::of_client(folder, "mallory", "mallory", &mallory.key)),
        ),
        (
            "a certificate of its own that says alice",
            "alice",
            Some(Leaf::of_client(folder, "alice", "mallory", &mallory.key)),
        ),
        ("alice's certificate, and another's name", "mallory", Some(alices)),
        ("no certificate", "alice", None),
        ("no certificate", "mallory", None),
        (
            "an authority that calls itself alice",
            "alice",
            Some(Leaf::of_client(folder, "alice", "alice", &stranger)),
        ),
        (
            "an authority that nobody knows",
            "carol",
            Some(Leaf::of_client(folder, "carol", "carol", &stranger)),
        ),
        (
            "an authority below mallory's that calls itself alice",
            "alice",
            Some(below(folder, &mallory.key).await),
        ),
        ("a name that is nobody's", "bob", Some(own)),
    ] {
        let ran = call(&world, source, leaf.as_ref()).await;
        assert!(!ran.out.contains("200 OK"), "{what}: {ran:?}");
        assert!(ran.out.contains("401 Unauthorized") || ran.out.contains("alert"), "{what}: {ran:?}");
    }
    assert_eq!(echoed(&get(&world.alice, "echo.bob.svc", "/").await).service, "echo.bob");
}

/// A certificate signed by an authority that calls itself alice, which mallory's has signed.
async fn below(folder: &Path, mallory: &DomainKey) -> Leaf {
    let authority = DomainAuthority::new("mallory", mallory, SystemTime::now()).unwrap();
    fs::write(folder.join("mallory-ca.pem"), authority.certificate_pem()).unwrap();
    fs::write(folder.join("mallory-ca.key"), mallory.to_pkcs1_pem().as_bytes()).unwrap();
    fs::write(folder.join("ca.ext"), "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n")
        .unwrap();
    fs::write(folder.join("leaf.ext"), "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n").unwrap();
    let script = "set -e; \
        openssl req -new -newkey rsa:2048 -nodes -subj /CN=alice -keyout sub.key -out sub.csr; \
        openssl x509 -req -in sub.csr -CA mallory-ca.pem -CAkey mallory-ca.key -CAcreateserial -days 9 -extfile ca.ext -out sub.pem; \
        openssl req -new -newkey rsa:2048 -nodes -subj /CN=alice -keyout below.key -out below.csr; \
        openssl x509 -req -in below.csr -CA sub.pem -CAkey sub.key -CAcreateserial -days 9 -extfile leaf.ext -out below-leaf.pem; \
        cat below-leaf.pem sub.pem > below.pem";
    let ran = openssl(script, folder, [""; 0]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    Leaf { certificate: folder.join("below.pem"), key: folder.join("below.key") }
}

async fn the_certificate_that_a_route_names_lets_in_and_no_other_of_its_authority(on: Source) {
    let mut world = World::laid_out(on, &json!({}), &json!({"protocol": "TLS"})).await;
    world.take_turn(on).await;
    // Alice's certificate is from her bank's authority, of which bob knows nothing but what the route says.
    apply_domain(&world.alice, "bob", &own_certificate(&world.bob).await).await;
    let folder = world.folder.path().to_owned();
    let named = bank_leaf(&folder, "named").await;
    let other = bank_leaf(&folder, "other").await;
    let mut route = mtls_route(&world);
    let (certificate, key) = named.base64();
    route["spec"]["mTLSConfig"] = json!({"sourceClientCert": certificate});
    apply_route(&world.bob, &route).await;
    route["spec"]["mTLSConfig"]["sourceClientPrivateKey"] = key.into();
    apply_route(&world.alice, &route).await;
    world.start().await;

    assert_eq!(echoed(&answers(&world.alice, "echo.bob.svc", 200).await).headers["kuscia-source"], "alice");
    assert!(call(&world, "alice", Some(&named)).await.out.contains("200 OK"));
    let refused = call(&world, "alice", Some(&other)).await;
    assert!(!refused.out.contains("200 OK"), "{refused:?}");

    // The key is nobody's business.
    let secret = fs::read_to_string(&named.key).unwrap();
    let line = secret.lines().nth(1).unwrap();
    let ran = networkmesh(["dump", "all", "--admin", &admin(&world.alice)]).await;
    assert!(!ran.out.contains(line), "{ran:?}");
    for log in world.folder.logs() {
        assert!(!fs::read_to_string(&log).unwrap().contains(line), "{}", log.display());
    }
}

/// A client certificate for alice, of an authority that is no domain's.
async fn bank_leaf(folder: &Path, name: &str) -> Leaf {
    fs::write(folder.join("leaf.ext"), "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n").unwrap();
    let script = format!(
        "set -e; [ -e bank.pem ] || openssl req -x509 -newkey rsa:2048 -nodes -days 9 -subj '/O=Bank/CN=Bank CA' -keyout bank.key -out bank.pem; \
         openssl req -new -newkey rsa:2048 -nodes -subj /CN=alice -keyout {name}.key -out {name}.csr; \
         openssl x509 -req -in {name}.csr -CA bank.pem -CAkey bank.key -CAcreateserial -days 9 -extfile leaf.ext -out {name}.pem"
    );
    let ran = openssl(&script, folder, [""; 0]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    Leaf { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) }
}

async fn certificates_are_renewed_under_an_open_stream(on: Source) {
    let mut world = world(on, "MTLS").await;
    answers(&world.alice, "echo.bob.svc", 200).await;
    let mut chat = Chat::open(&world.alice, &world.bob).await;
    assert_eq!(chat.say("before").await.service, "echo.bob");
    let [server, client] = [shown_certificate(&world).await, own_client(&world.alice).await];
    // A mesh that starts makes its certificates anew.
    for domain in [&mut world.bob, &mut world.alice] {
        domain.mesh.take().unwrap().stop(DEADLINE).await.unwrap();
        domain.start_mesh(Path::new(PROGRAM)).await.unwrap();
    }
    eventually("the new certificates are in use", async || {
        let now = [shown_certificate(&world).await, own_client(&world.alice).await];
        if now[0] != server && now[1] != client { Ok(()) } else { Err(now.join("\n")) }
    })
    .await;
    assert_eq!(chat.say("after").await.service, "echo.bob");
    answers(&world.alice, "echo.bob.svc", 200).await;
    assert_eq!(Chat::open(&world.alice, &world.bob).await.say("anew").await.service, "echo.bob");
}

async fn an_envoy_that_restarts_gets_its_certificates_back(on: Source) {
    let program = Path::new(PROGRAM);
    let mut world = world(on, "MTLS").await;
    answers(&world.alice, "echo.bob.svc", 200).await;
    for mesh_is_up in [true, false] {
        for domain in [&mut world.alice, &mut world.bob] {
            if !mesh_is_up {
                domain.mesh.take().unwrap().kill9().await.unwrap();
            }
            domain.envoy.take().unwrap().kill9().await.unwrap();
            domain.start_envoy(program, &world.envoy).await.unwrap();
            if !mesh_is_up {
                domain.start_mesh(program).await.unwrap();
            }
        }
        assert_eq!(echoed(&answers(&world.alice, "echo.bob.svc", 200).await).service, "echo.bob");
        assert_eq!(Chat::open(&world.alice, &world.bob).await.say("anew").await.service, "echo.bob");
    }
}

/// The certificate that bob's external listener shows.
async fn shown_certificate(world: &World) -> String {
    let script = "openssl s_client -connect \"$1\" </dev/null 2>/dev/null | openssl x509 -noout -serial";
    let address = world.bob.addresses.external.to_string();
    openssl(script, world.folder.path(), [address]).await.out
}

/// The client certificate that the Envoy of `domain` has.
async fn own_client(domain: &Domain) -> String {
    let certificates: Value = serde_json::from_str(&envoy_says(domain, "/certs").await).unwrap();
    let chains = certificates["certificates"].as_array().unwrap().iter();
    let serials = chains.flat_map(|certificate| certificate["cert_chain"].as_array().into_iter().flatten());
    serials.map(|certificate| certificate["serial_number"].to_string()).collect::<Vec<_>>().join(" ")
}

async fn the_gateway_at_the_other_end_must_be_the_one_that_the_route_names(on: Source) {
    let mut world = World::laid_out(
        on,
        &json!({}),
        &json!({"protocol": "TLS", "certificates": {"hosts": ["gateway.bob.example"]}}),
    )
    .await;
    world.take_turn(on).await;
    know_each_other(&world).await;
    world.connect(&mtls_route(&world)).await;
    world.start().await;
    answers(&world.alice, "echo.bob.svc", 200).await;

    let stranger = DomainKey::generate().unwrap();
    let strangers =
        DomainAuthority::new("bob", &stranger, SystemTime::now()).unwrap().certificate_base64_pem();
    for (what, tls, config, is_well) in [
        ("another name", json!({"serverName": "gateway.carol.example"}), json!({}), false),
        ("its name", json!({"serverName": "gateway.bob.example"}), json!({}), true),
        ("another authority", json!({}), json!({"tlsCA": strangers}), false),
        ("no check, as the route says", json!({"insecureSkipVerify": true}), json!({}), true),
    ] {
        let mut route = mtls_route(&world);
        route["spec"]["endpoint"]["tls"] = tls;
        route["spec"]["mTLSConfig"] = config;
        apply_route(&world.alice, &route).await;
        eventually(what, async || {
            let answer = get(&world.alice, "echo.bob.svc", "/").await;
            let is_refused = answer.status() == 503 && hops(&answer).contains("CERTIFICATE_VERIFY_FAILED");
            let is_as_it_should = if is_well { answer.status() == 200 } else { is_refused };
            if is_as_it_should { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }
}

async fn a_listener_without_tls_takes_no_certificates(on: Source) {
    let mut world = World::laid_out(on, &json!({}), &json!({})).await;
    apply_route(&world.bob, &mtls_route(&world)).await;
    world.bob.start_mesh(Path::new(PROGRAM)).await.unwrap();
    let message = refused(&world.bob, "alice-bob", "ListenerWithoutTLS").await;
    assert!(message.contains("protocol"), "{message}");
}
