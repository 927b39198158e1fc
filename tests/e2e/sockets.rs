//! Sockets for DNS that a service manager opens and gives to the mesh.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use networkmesh::harness::domain::service_manifest;
use serde_json::json;
use tokio::process::Command;

use super::world::{Alone, PROGRAM, Source, run};

/// Starts the mesh as systemd does: with open sockets from descriptor 3 on.
fn activated(world: &Alone, sockets: &[(&str, SocketAddr)], names: &str) -> PathBuf {
    let sockets: Vec<String> = sockets
        .iter()
        .map(|(kind, address)| format!("(socket.{kind}, {:?}, {})", address.ip().to_string(), address.port()))
        .collect();
    let script = format!(
        r#"#!/usr/bin/env python3
import os, socket, sys
kept = []
for kind, ip, port in [{}]:
    one = socket.socket(socket.AF_INET, kind)
    one.bind((ip, port))
    if kind == socket.SOCK_STREAM:
        one.listen()
    kept.append(one)
for number, one in enumerate(kept, 40):
    os.dup2(one.fileno(), number)
for number in range(len(kept)):
    os.dup2(40 + number, 3 + number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(kept)), LISTEN_FDNAMES="{names}")
os.execv("{PROGRAM}", ["networkmesh", *sys.argv[1:]])
"#,
        sockets.join(", ")
    );
    let file = world.folder.path().join("activate");
    fs::write(&file, script).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

#[tokio::test]
async fn given_sockets_take_the_place_of_the_configured_address() {
    let address = harness::free_address().unwrap();
    let mut world = Alone::laid_out(Source::Directory, &json!({})).await;
    let configured = world.alice.addresses.dns;
    world.alice.apply("web.json", &service_manifest("web", &["10.1.0.1:80".parse().unwrap()])).await.unwrap();
    let program = activated(&world, &[("SOCK_DGRAM", address), ("SOCK_STREAM", address)], "dns:dns");
    world.alice.start_mesh(&program).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(world.alice.status().await.unwrap().dns.address, address.to_string());
    for transport in ["+notcp", "+tcp"] {
        let mut dig = Command::new("dig");
        dig.args([&format!("@{}", address.ip()), "-p", &address.port().to_string(), "+short", transport]);
        let ran = run(dig.arg("web.alice.svc"), "`apt-get install bind9-dnsutils`").await;
        assert_eq!(ran.out, "10.1.0.1\n", "{ran:?}");
    }
    std::net::UdpSocket::bind(configured).unwrap_or_else(|error| panic!("{configured} is bound: {error}"));
}

#[tokio::test]
async fn sockets_that_do_not_fit_are_refused_at_the_start() {
    let address = harness::free_address().unwrap();
    let world = Alone::laid_out(Source::Directory, &json!({})).await;
    let program = activated(&world, &[("SOCK_DGRAM", address)], "dns");
    let config = world.alice.config();
    let mut command = Command::new(program);
    command.args(["run", "--config"]).arg(config).current_dir(&world.alice.folder);
    let refused = run(&mut command, "`apt-get install python3`").await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    for words in [&address.to_string(), "TCP", "docs/dns.md"] {
        assert!(refused.err.contains(words), "{words}: {refused:?}");
    }
}
