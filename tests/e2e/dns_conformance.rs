//! The in-domain DNS, judged by a client and a server of other people's making: dnspython and NSD.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use harness::nsd::Nsd;
use harness::python::Python;
use harness::{free_address, free_ipv6_address};
use networkmesh::harness::domain::service_manifest;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::world::{
    Alone, Folder, PROGRAM, Source, admin, apply_route, envoy, eventually, external, labelled, networkmesh,
    run, set_destination, set_unauthenticated,
};

const PACKAGES: [&str; 1] = ["dnspython==2.9.2"];

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/dns_conformance");

/// What became of one case over one transport.
#[derive(Deserialize)]
struct Row {
    case: String,
    over: String,
    failure: Option<String>,
}

impl Row {
    fn complaint(&self) -> Option<String> {
        self.failure.as_ref().map(|failure| format!("{} ({}): {failure}", self.case, self.over))
    }
}

#[tokio::test]
async fn clients_of_ipv4_get_what_the_rfcs_owe_them() {
    conforms(free_address().unwrap()).await;
}

#[tokio::test]
async fn clients_of_ipv6_get_what_the_rfcs_owe_them() {
    conforms(free_ipv6_address().unwrap()).await;
}

async fn conforms(dns: SocketAddr) {
    let config = json!({"listen": {"dns": dns}});
    let (world, _upstream) = start(config, &services_of_the_cases(), &["bob"]).await;
    let facts = json!({
        "gateway": world.alice.addresses.internal.ip(),
        "instance": "alice-gateway",
        "ready": ["web.alice.svc.", "fixed.alice.svc.", "echo.bob.svc."],
    });
    let rows = judge("conformance.py", dns, &facts).await;
    let failed: Vec<String> = rows.iter().filter_map(Row::complaint).collect();
    assert!(!rows.is_empty() && failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), rows.len());
}

/// Otherwise a case would prove nothing.
#[tokio::test]
async fn no_case_takes_an_echo_for_an_answer() {
    let echo = Echo::start().await;
    let facts = json!({"gateway": "127.0.0.1", "instance": "alice-gateway", "ready": []});
    let rows = judge("conformance.py", echo.address, &facts).await;
    let passed: Vec<&str> =
        rows.iter().filter(|row| row.failure.is_none()).map(|row| row.case.as_str()).collect();
    assert!(!rows.is_empty() && passed.is_empty(), "{passed:#?}");
}

#[tokio::test]
async fn nsd_gives_the_same_answers_from_the_dumped_zone() {
    let services = services_of_all_kinds();
    let (world, _upstream) = start(json!({}), &services, &["bob", "carol", "dave"]).await;
    let is_bare = |manifest: &Value| manifest["items"][1]["subsets"] == json!([]);
    let (bare, named): (Vec<_>, Vec<_>) = services.iter().partition(|(_, manifest)| is_bare(manifest));
    let [bare, named] = [bare, named]
        .map(|services| services.iter().map(|(name, _)| format!("{name}.alice.svc.")).collect::<Vec<_>>());
    let wildcards = ["bob", "carol", "dave"].map(|domain| format!("*.{domain}.svc."));
    let expected: Vec<String> = named.into_iter().chain(wildcards).collect();
    let zone = eventually("all names are there", async || {
        let ran = networkmesh(["dump", "names", "--admin", &admin(&world.alice)]).await;
        let is_there = |name: &String| ran.out.lines().any(|line| line.split(' ').next() == Some(name));
        match expected.iter().find(|name| !is_there(name)) {
            None => Ok(ran.out),
            Some(missing) => Err(format!("no {missing} in {ran:?}")),
        }
    })
    .await;

    let folder = world.folder.path().join("zone");
    let nsd = Nsd::serve(&folder, &[("svc.", &zone)]).await.unwrap_or_else(|error| panic!("{error}\n{zone}"));
    let facts = json!({"nsd": [nsd.address().ip(), nsd.address().port()], "zone": zone, "bare": bare});
    let rows = judge("zone.py", world.alice.addresses.dns, &facts).await;
    let different: Vec<String> = rows.iter().filter_map(Row::complaint).collect();
    assert!(different.is_empty(), "{} of {}: {different:#?}", different.len(), rows.len());
    let asked: BTreeSet<&str> = rows.iter().map(|row| row.case.as_str()).collect();
    assert!(asked.len() > 1000, "only {}: {asked:?}", asked.len());
}

/// Domain alice with an Envoy and routes to `partners`, whose upstream is an NSD with some public names.
async fn start(mut config: Value, services: &[(String, Value)], partners: &[&str]) -> (Alone, Nsd) {
    let folder = Folder::new(Source::Directory);
    let upstream = Nsd::serve(&folder.path().join("upstream"), &[(".", &public_names())]).await;
    let upstream = upstream.unwrap_or_else(|error| panic!("{error}"));
    config["dns"]["upstreams"] = json!([upstream.address()]);
    let mut world = Alone { alice: folder.domain("alice", &config).await, folder };
    for (name, manifest) in services {
        world.alice.apply(&format!("{name}.json"), manifest).await.unwrap();
    }
    for partner in partners {
        let mut route = world.alice.route_to(&world.alice);
        set_destination(&mut route, partner, free_address().unwrap());
        set_unauthenticated(&mut route);
        apply_route(&world.alice, &route).await;
    }
    world.start_mesh().await;
    let envoy = envoy().await;
    world.alice.start_envoy(Path::new(PROGRAM), &envoy).await.unwrap_or_else(|error| panic!("{error}"));
    (world, upstream)
}

/// Lets a script ask the server at `dns`.
async fn judge(script: &str, dns: SocketAddr, facts: &Value) -> Vec<Row> {
    let python = Python::with(&PACKAGES, &|_| ()).await.unwrap_or_else(|error| panic!("{error}"));
    let mut command = python.command();
    command.arg(format!("{SCRIPTS}/{script}")).args([dns.ip().to_string(), dns.port().to_string()]);
    let ran = run(command.arg(facts.to_string()), "install Python 3").await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{script}: {}", ran.out);
    let row = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    ran.out.lines().map(row).collect()
}

/// The zone of everything that is not the domain's.
fn public_names() -> String {
    let mut zone = "\
. 300 IN SOA ns.example. hostmaster.example. 1 3600 600 86400 60
. 300 IN NS ns.example.
ns.example. 300 IN A 192.0.2.53
host.example. 300 IN A 192.0.2.7
far.example. 300 IN A 192.0.2.8
9.9.9.10.in-addr.arpa. 300 IN PTR ten.example.
"
    .to_owned();
    for number in 0..20 {
        writeln!(zone, "large.example. 300 IN TXT \"{number:0100}\"").unwrap();
    }
    zone
}

fn services_of_the_cases() -> Vec<(String, Value)> {
    let many = |subnet: u8, count: u8| {
        (1..=count).map(|last| SocketAddr::from(([10, subnet, 0, last], 80))).collect::<Vec<_>>()
    };
    vec![
        service("web", &["10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80", "[2001:db8::1]:80"]),
        service("twin", &["10.1.0.1:81"]),
        service("four", &["10.1.0.4:80"]),
        service("down", &[]),
        ("many".to_owned(), service_manifest("many", &many(2, 100))),
        ("fit29".to_owned(), service_manifest("fit29", &many(3, 29))),
        ("fit30".to_owned(), service_manifest("fit30", &many(3, 30))),
        ("inner".to_owned(), labelled(service_manifest("inner", &["10.1.0.5:80".parse().unwrap()]))),
        ("db".to_owned(), external("db", "host.example")),
        ("outer".to_owned(), labelled(external("outer", "far.example"))),
        ("fixed".to_owned(), external("fixed", "192.0.2.44")),
    ]
}

/// Some of each kind, with several endpoints of both families, some of which they share.
fn services_of_all_kinds() -> Vec<(String, Value)> {
    let numbered = |number: u8| {
        let four = |last: u8| SocketAddr::from(([10, 4, number % 20, last], 8000 + u16::from(number)));
        let six = |last: u16| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, number.into(), last], 80));
        let name = format!("service-{number}");
        let manifest = match number % 6 {
            0 => external(&name, &format!("host-{number}.example")),
            1 => external(&name, &format!("192.0.2.{number}")),
            2 => labelled(service_manifest(&name, &[four(1)])),
            3 => service_manifest(&name, &[six(1), six(2), four(1)]),
            4 => service_manifest(&name, &[]),
            _ => service_manifest(&name, &(1..=number % 8 + 1).map(four).collect::<Vec<_>>()),
        };
        (name, manifest)
    };
    let outer = ("outer".to_owned(), labelled(external("outer", "far.example")));
    (0..60).map(numbered).chain([outer]).collect()
}

fn service(name: &str, addresses: &[&str]) -> (String, Value) {
    let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    (name.to_owned(), service_manifest(name, &addresses))
}

/// A server that takes every message for its own answer.
struct Echo {
    address: SocketAddr,
    _tasks: tokio::task::JoinSet<()>,
}

impl Echo {
    async fn start() -> Self {
        let address = free_address().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let mut packet = [0; 65535];
            while let Ok((length, client)) = udp.recv_from(&mut packet).await {
                answer(&mut packet[..length]);
                udp.send_to(&packet[..length], client).await.unwrap();
            }
        });
        tasks.spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                tokio::spawn(echo_stream(stream));
            }
        });
        Self { address, _tasks: tasks }
    }
}

/// Ends with the client.
async fn echo_stream(mut stream: TcpStream) {
    while let Ok(length) = stream.read_u16().await {
        let mut message = vec![0; length.into()];
        if stream.read_exact(&mut message).await.is_err() {
            return;
        }
        answer(&mut message);
        let framed = [&length.to_be_bytes()[..], &message].concat();
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}

/// Sets the bit that makes a query a response.
fn answer(message: &mut [u8]) {
    if let Some(flags) = message.get_mut(2) {
        *flags |= 0x80;
    }
}
