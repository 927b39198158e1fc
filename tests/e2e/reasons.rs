//! Why a link does not work, as `networkmesh status` tells it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use harness::free_address;
use networkmesh::harness::domain::Domain;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::partner::Partner;
use super::peers::{Manner, serve};
use super::world::{
    DEADLINE, PROGRAM, Source, World, admin, apply_route, eventually, networkmesh, set_destination,
};

#[tokio::test]
async fn a_gateway_that_is_not_reached_is_told_by_what_is_in_the_way() {
    let mut world = World::laid_out(Source::Directory, &json!({}), &json!({"protocol": "TLS"})).await;
    let mut route = world.alice.route_to(&world.bob);
    apply_route(&world.alice, &route).await;
    let program = Path::new(PROGRAM);
    world.alice.start_mesh(program).await.unwrap();
    expect(&world.alice, "alice-bob", "Reachable", "False", "OwnGatewayDown", &["this mesh's bootstrap"])
        .await;

    world.bob.start_mesh(program).await.unwrap();
    world.bob.start_envoy(program, &world.envoy).await.unwrap();
    world.alice.start_envoy(program, &world.envoy).await.unwrap();

    let local = Ipv4Addr::LOCALHOST.into();
    let refusing = free_address().unwrap();
    let page = b"HTTP/1.1 404 Not Found\r\nserver: nginx\r\ncontent-length: 2\r\n\r\nhi";
    let (page, _page) = answer_all(page).await;
    let (closing, _closing) = answer_all(b"").await;
    let (silent, _silent) = serve(local, Manner::Silence).await;
    let (full, _full) = full_backlog().await;
    let bob = world.bob.addresses.external;
    let cases: [(&str, SocketAddr, bool, &str, &[&str]); 7] = [
        ("refused", refusing, false, "ConnectionRefused", &["Connection_refused", "check host and port"]),
        ("plaintext", page, true, "PeerSpeaksPlaintext", &["WRONG_VERSION_NUMBER", "isTLS"]),
        ("certificate", bob, true, "CertificateRejected", &["CERTIFICATE_VERIFY_FAILED", "spec.cert"]),
        ("page", page, false, "NotAGateway", &["404 Not Found", "server: nginx", "pathPrefix"]),
        ("closing", closing, false, "ConnectionClosed", &["the mesh looked itself, from host "]),
        ("silent", silent, false, "AnswerTimeout", &["the mesh looked itself, from host "]),
        ("full", full, false, "ConnectTimeout", &["the mesh looked itself, from host ", "firewalls"]),
    ];
    for (name, address, tls, ..) in &cases {
        set_destination(&mut route, name, *address);
        route["spec"]["endpoint"]["ports"][0]["isTLS"] = json!(tls);
        apply_route(&world.alice, &route).await;
    }
    set_destination(&mut route, "unresolved", refusing);
    route["spec"]["endpoint"]["host"] = json!("no-such-host.invalid");
    apply_route(&world.alice, &route).await;

    for (name, address, _, reason, words) in &cases {
        let place = address.to_string();
        let words: Vec<&str> = words.iter().copied().chain([place.as_str()]).collect();
        expect(&world.alice, &format!("alice-{name}"), "Reachable", "False", reason, &words).await;
    }
    let words = ["no-such-host.invalid", "the mesh looked itself, from host ", "endpoint.host"];
    expect(&world.alice, "alice-unresolved", "Reachable", "False", "EndpointUnresolved", &words).await;
    let words = [bob.to_string(), "isTLS".to_owned()];
    expect(&world.alice, "alice-bob", "Reachable", "False", "PeerSpeaksTls", &words).await;

    // Nobody can tell whether a gateway that is not reached would take this domain for whom it is.
    expect(&world.alice, "alice-bob", "Authenticated", "Unknown", "NotReached", &["see Reachable"]).await;
    let table = networkmesh(["status", "--admin", &admin(&world.alice)]).await.out;
    for reason in ["PeerSpeaksTls", "ConnectionRefused", "EndpointUnresolved"] {
        let shown = table.lines().any(|line| line.contains("outbound") && line.ends_with(reason));
        assert!(shown, "{reason}: {table}");
        assert!(table.contains(&format!(": {reason}: ")), "it is not well: {table}");
    }
}

#[tokio::test]
async fn a_destination_that_does_not_know_this_domain_is_told_from_one_that_knows_another_key() {
    let mut world = World::laid_out(Source::Directory, &json!({}), &json!({})).await;
    let right = world.alice.route_to(&world.bob);
    apply_route(&world.alice, &right).await;
    let mut carols = right.clone();
    set_destination(&mut carols, "carol", world.bob.addresses.external);
    apply_route(&world.alice, &carols).await;
    world.start().await;

    let expect_refusal = async |reason: &str, words: &[&str]| {
        expect(&world.alice, "alice-bob", "Authenticated", "False", reason, words).await;
        expect(&world.alice, "alice-bob", "Reachable", "True", "Answered", &[] as &[&str]).await;
    };
    expect_refusal("RouteMissing", &["has no route from alice", "operator of bob"]).await;
    let words = ["domain bob", "carol was expected", "endpoint"];
    expect(&world.alice, "alice-carol", "Authenticated", "False", "OtherDomainAnswered", &words).await;

    let other = Partner::new("other");
    let others = other.key.public_key().fingerprint().to_string();
    let alices = world.alice.public_key.fingerprint().to_string();
    let bobs = world.bob.public_key.fingerprint().to_string();
    let mut wrong = right.clone();
    wrong["spec"]["tokenConfig"]["sourcePublicKey"] = other.public_key().into();
    apply_route(&world.bob, &wrong).await;
    expect_refusal("KeyUnknownToPeer", &[&others, &alices, "networkmesh cert --public-key"]).await;

    apply_route(&world.bob, &right).await;
    let mut wrong = right.clone();
    wrong["spec"]["tokenConfig"]["destinationPublicKey"] = other.public_key().into();
    apply_route(&world.alice, &wrong).await;
    expect_refusal("PeerKeyDiffers", &[&others, &bobs, "public key"]).await;

    apply_route(&world.alice, &right).await;
    expect(&world.alice, "alice-bob", "Authenticated", "True", "Token", &[] as &[&str]).await;
}

#[tokio::test]
async fn a_proxy_that_takes_headers_away_is_told_by_the_header() {
    for (header, type_, reason) in [
        ("Kuscia-Host", "Authenticated", "HeadersStripped"),
        ("Kuscia-Token-Revision", "Authenticated", "HeadersStripped"),
        ("Kuscia-Token", "DataPath", "HeadersStripped"),
    ] {
        let mut world = World::laid_out(Source::Directory, &json!({}), &json!({})).await;
        let (proxy, _proxy) = stripping_proxy(world.bob.addresses.external, header).await;
        let mut route = world.alice.route_to(&world.bob);
        apply_route(&world.bob, &route).await;
        set_destination(&mut route, "bob", proxy);
        apply_route(&world.alice, &route).await;
        world.start().await;
        let words = [&format!("header {header}"), "let all proxies"];
        expect(&world.alice, "alice-bob", type_, "False", reason, &words).await;
        expect(&world.alice, "alice-bob", "Reachable", "True", "Answered", &[] as &[&str]).await;
    }
}

#[tokio::test]
async fn a_destination_whose_mesh_is_down_is_reached_and_fails() {
    let mut world = World::two_domains(Source::Directory).await;
    expect(&world.alice, "alice-bob", "DataPath", "True", "Answered", &[] as &[&str]).await;
    world.bob.mesh.take().unwrap().stop(DEADLINE).await.unwrap();
    let words = ["bob/bob-gateway/external", "whether its mesh runs"];
    expect(&world.alice, "alice-bob", "Authenticated", "False", "FailedAtPeer", &words).await;
    expect(&world.alice, "alice-bob", "Reachable", "True", "Answered", &[] as &[&str]).await;
    // Requests of applications need no mesh.
    expect(&world.alice, "alice-bob", "DataPath", "True", "Answered", &[] as &[&str]).await;
}

/// Waits until the condition of that type says so: its reason begins with `reason`, and its message has all `words`.
async fn expect(
    domain: &Domain,
    route: &str,
    type_: &str,
    status: &str,
    reason: &str,
    words: &[impl AsRef<str>],
) {
    eventually(&format!("{route}: {type_} {status} {reason}"), async || {
        let shown = networkmesh(["status", "-o", "json", "--admin", &admin(domain)]).await;
        let shown: Value = serde_json::from_str(&shown.out).map_err(|error| format!("{error}: {shown:?}"))?;
        let mut routes = shown["routes"].as_array().into_iter().flatten();
        let found = routes.find(|known| known["name"] == route).ok_or("no such route")?;
        let mut conditions = found["conditions"].as_array().into_iter().flatten();
        let known = conditions.find(|known| known["type"] == type_);
        let known = known.ok_or_else(|| format!("no such condition in {found}"))?;
        let message = known["message"].as_str().unwrap_or_default();
        let is_so = known["status"] == status
            && known["reason"].as_str().is_some_and(|known| known.starts_with(reason))
            && words.iter().all(|words| message.contains(words.as_ref()));
        if is_so { Ok(()) } else { Err(known.to_string()) }
    })
    .await;
}

/// Serves `answer` to the first bytes of every connection, and closes it.
async fn answer_all(answer: &'static [u8]) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // The client may go at any time.
                if stream.read(&mut [0; 4096]).await.is_ok() {
                    let _ = stream.write_all(answer).await;
                }
            });
        }
    });
    (address, tasks)
}

/// A listener that takes no more connections: those that fill it are held.
async fn full_backlog() -> (SocketAddr, (TcpListener, JoinSet<()>)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = JoinSet::new();
    for _ in 0..8 {
        held.spawn(async move {
            let _stream = TcpStream::connect(address).await;
            std::future::pending::<()>().await;
        });
    }
    // Once a connection does not come through, there is no more place.
    eventually("the backlog is full", async || {
        let attempt = TcpStream::connect(address);
        match timeout(Duration::from_millis(300), attempt).await {
            Ok(_) => Err("a place is left".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    (address, (listener, held))
}

/// Passes connections on to `gateway`, but takes `header` out of every request.
async fn stripping_proxy(gateway: SocketAddr, header: &str) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let line = format!("\r\n{}: ", header.to_ascii_lowercase());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(gateway).await else { continue };
            let ((from_client, mut to_client), (mut from_server, to_server)) =
                (client.into_split(), server.into_split());
            connections.spawn(strip(from_client, to_server, line.clone()));
            connections.spawn(async move {
                let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
            });
        }
    });
    (address, tasks)
}

/// The heads of requests are short enough to come in one piece.
async fn strip(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, line: String) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(size @ 1..) = from.read(&mut buffer).await {
        let text = String::from_utf8(buffer[..size].to_vec()).unwrap();
        let stripped = match text.split_once(&line) {
            Some((before, after)) => {
                let rest = after.find("\r\n").map_or("", |end| &after[end..]);
                format!("{before}{rest}")
            }
            None => text,
        };
        if to.write_all(stripped.as_bytes()).await.is_err() {
            return;
        }
    }
}
