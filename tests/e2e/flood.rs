//! Strangers who ask for handshakes as fast as they can.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certs::PublicKey;
use networkmesh::harness::ask::ask_from;
use networkmesh::harness::domain::Domain;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::partner::{Partner, headers};
use super::stream::Traffic;
use super::world::{PROGRAM, Source, World, apply_route, confirmed_revision, eventually, set_source, token};

scenes!(
    new_partners_get_their_tokens_while_strangers_flood_the_handshake,
    unsigned_handshakes_are_limited_by_the_address_that_the_gateway_sees,
);

/// A mesh in a debug build has about 60 MB.
const MAX_RESIDENT_MEGABYTES: u64 = 400;

/// Time between two requests of one stranger.
const PAUSE: Duration = Duration::from_millis(10);

async fn new_partners_get_their_tokens_while_strangers_flood_the_handshake(on: Source) {
    let mut world = World::two_domains(on).await;
    let mut carol = world.folder.domain("carol", &json!({})).await;
    carol.start_mesh(Path::new(PROGRAM)).await.unwrap();
    carol.start_envoy(Path::new(PROGRAM), &world.envoy).await.unwrap();
    let (dave, erin) = (Partner::new("dave"), Partner::new("erin"));
    apply_route(&world.bob, &route_from(&erin, &world)).await;
    let before = token(&world.alice, "bob").await;
    let traffic = Traffic::start(&world.alice, "echo.bob.svc").await;

    let flood = flood(&world, &erin);
    eventually("the flood is limited", async || {
        let handshakes = world.bob.status().await.map_err(|error| error.to_string())?.handshakes;
        let is_there = |outcome| handshakes.contains_key(outcome);
        let outcomes = [
            "NoHandshake",
            "RouteMissing",
            "SignatureMissing",
            "PeerKeyDiffers",
            "TooManyHandshakes",
            "TooManyLong",
            "Displaced",
        ];
        if outcomes.into_iter().all(is_there) { Ok(()) } else { Err(format!("{handshakes:?}")) }
    })
    .await;

    let from_carol = carol.route_to(&world.bob);
    apply_route(&world.bob, &from_carol).await;
    apply_route(&carol, &from_carol).await;
    confirmed_revision(&carol, &world.bob).await;

    apply_route(&world.bob, &route_from(&dave, &world)).await;
    let token_of_dave =
        eventually("a token for who cannot sign", async || first_token(&dave, &world.bob).await);
    let accepted = headers("dave", "echo.bob.svc", Some(&token_of_dave.await));
    let answer = world.bob.call_from_outside("/", accepted).await.unwrap();
    assert_eq!(answer.status(), 200, "{answer:?}");

    traffic.more(10).await;
    assert_eq!(traffic.failures().await, Vec::<String>::new());
    assert_eq!(token(&world.alice, "bob").await, before);
    assert!(!flood.is_empty(), "it has gone on");
    let resident = resident_megabytes(world.bob.mesh.as_ref().unwrap().pid().unwrap());
    assert!(resident < MAX_RESIDENT_MEGABYTES, "{resident} MB");
    drop(flood);
    carol.stop().await.unwrap();
    world.bob.stop().await.unwrap();
}

async fn unsigned_handshakes_are_limited_by_the_address_that_the_gateway_sees(on: Source) {
    let world = World::two_domains(on).await;
    let partner = Partner::new("carol");
    apply_route(&world.bob, &route_from(&partner, &world)).await;
    let body = handshake("carol", partner.key.public_key(), "!").to_string();
    let ask = async |address: [u8; 4], pretended: &str| {
        let request = post("carol", &world.bob, pretended, &body);
        ask_from(address.into(), world.bob.addresses.external, request.as_bytes()).await.unwrap_or_default()
    };
    let is_admitted = |answer: &str| answer.contains("is not encrypted for bob");
    eventually("the route is there", async || {
        let answer = ask([127, 0, 0, 9], "192.0.2.1").await;
        if is_admitted(&answer) { Ok(()) } else { Err(answer) }
    })
    .await;

    let begun = Instant::now();
    let mut admitted = 0;
    for number in 0..40 {
        let answer = ask([127, 0, 0, 2], &format!("192.0.2.{number}")).await;
        let is_limited = answer.contains("too many unsigned handshakes in the name of carol");
        assert!(is_limited != is_admitted(&answer), "{answer}");
        admitted += u64::from(is_admitted(&answer));
    }
    let most = 11 + 2 * begun.elapsed().as_secs() + 2;
    assert!((10..=most).contains(&admitted), "{admitted} of at most {most}");
    assert!(is_admitted(&ask([127, 0, 0, 3], "127.0.0.2").await), "another address has its own limit");
}

/// A route to bob from a partner that does not sign.
fn route_from(partner: &Partner, world: &World) -> Value {
    let mut route = world.alice.route_to(&world.bob);
    set_source(&mut route, partner.name, &partner.public_key());
    route
}

/// Strangers at addresses of their own, until the set is dropped. Some ask in the name of alice, who signs, and of
/// `erin`, who does not.
fn flood(world: &World, erin: &Partner) -> JoinSet<()> {
    let bob = &world.bob;
    let noise = STANDARD.encode([0x5a; 256]);
    let asking = |source, key| handshake(source, key, &noise).to_string();
    let through_envoy = [
        "this is no handshake".to_owned(),
        asking("mallory", &world.alice.public_key),
        asking("alice", &world.alice.public_key),
        asking("erin", erin.key.public_key()),
        asking("erin", erin.key.public_key()),
        "[".repeat(64 * 1024),
    ];
    let mut strangers = JoinSet::new();
    for (number, body) in (2_u8..).zip(through_envoy) {
        let request = post("alice", bob, "192.0.2.1", &body);
        let external = bob.addresses.external;
        strangers.spawn(async move {
            loop {
                let _ = ask_from([127, 0, 0, number].into(), external, request.as_bytes()).await;
                sleep(PAUSE).await;
            }
        });
    }
    for slow in
        ["", "POST /handshake HT", "POST /handshake HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"]
    {
        strangers.spawn(keep_waiting(bob.addresses.handshake, slow));
    }
    strangers
}

/// Opens ever more connections on which no whole request comes.
async fn keep_waiting(server: SocketAddr, begins: &'static str) {
    let mut connections = JoinSet::new();
    loop {
        connections.spawn(async move {
            let mut stream = TcpStream::connect(server).await?;
            stream.write_all(begins.as_bytes()).await?;
            // It ends when the server closes it.
            stream.read_to_end(&mut Vec::new()).await
        });
        while connections.try_join_next().is_some() {}
        sleep(if connections.len() < 200 { Duration::from_millis(1) } else { PAUSE }).await;
    }
}

/// What a source asks that does not sign.
fn handshake(source: &str, key: &PublicKey, share: &str) -> Value {
    json!({
        "domain_id": source,
        "type": "RSA",
        "token_config": {"token": share, "pubhash": key.pubhash()},
        "request_time": 1_700_000_000_000_000_000_i64,
    })
}

/// A request of the gateway of `source`, which comes from `pretended` by its own words.
fn post(source: &str, destination: &Domain, pretended: &str, body: &str) -> String {
    let host = format!("kuscia-handshake.{}.svc", destination.name);
    format!(
        "POST /handshake HTTP/1.1\r\nhost: {host}\r\nkuscia-host: {host}\r\nkuscia-source: {source}\r\n\
         x-forwarded-for: {pretended}\r\nx-envoy-external-address: {pretended}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A token for a source that does not sign.
async fn first_token(source: &Partner, destination: &Domain) -> Result<String, String> {
    let mine = [7; model::TOKEN_BYTES / 2];
    let sealed = destination.public_key.seal(&mine).unwrap();
    let body = handshake(source.name, source.key.public_key(), &sealed).to_string();
    let request = post(source.name, destination, "192.0.2.1", &body);
    let answer = ask_from(Ipv4Addr::LOCALHOST, destination.addresses.external, request.as_bytes())
        .await
        .map_err(|e| e.to_string())?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let found: Value = serde_json::from_str(body).map_err(|_| answer.clone())?;
    let share = found["token"]["token"].as_str().ok_or(answer)?;
    let theirs = source.key.open(share, mine.len()).unwrap();
    Ok(STANDARD.encode([&mine[..], &theirs].concat()))
}

/// Resident memory of a process (`VmRSS` of proc(5)).
fn resident_megabytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() / 1024
}
