//! The in-domain DNS, asked by `dig`.

use std::path::Path;

use networkmesh::harness::domain::{Domain, service_manifest};
use serde_json::json;
use tokio::net::UdpSocket;
use tokio::process::Command;
use tokio::time::timeout;

use super::world::{Alone, DEADLINE, Folder, PROGRAM, Source, World, apply_route, envoy, eventually, run};

scenes!(
    names_of_services_are_answered_over_udp_and_tcp,
    the_table_follows_the_manifests,
    malformed_queries_are_refused_and_leave_nothing_in_the_log,
);

/// What dig says.
#[derive(Debug)]
struct Answer {
    status: String,
    /// The records of the answer, as name, type and data.
    records: Vec<(String, String, String)>,
    text: String,
}

async fn dig(domain: &Domain, arguments: &str) -> Answer {
    let server = domain.addresses.dns;
    let mut command = Command::new("dig");
    command.args([&format!("@{}", server.ip()), "-p", &server.port().to_string(), "+tries=1", "+time=10"]);
    let ran = run(command.args(arguments.split(' ')), "`apt-get install bind9-dnsutils`").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let status = ran.out.split("status: ").nth(1).and_then(|rest| rest.split(',').next());
    let records = ran.out.lines().filter(|line| !line.starts_with(';')).filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, kind) = (words.next()?, words.nth(2)?);
        Some((name.to_owned(), kind.to_owned(), words.collect::<Vec<_>>().join(" ")))
    });
    Answer {
        status: status.unwrap_or_default().to_owned(),
        records: records.collect(),
        text: ran.out.clone(),
    }
}

impl Answer {
    fn of_kind(&self, kind: &str) -> Vec<&str> {
        let mut data: Vec<&str> =
            self.records.iter().filter(|record| record.1 == kind).map(|record| record.2.as_str()).collect();
        data.sort_unstable();
        data
    }
}

async fn names_of_services_are_answered_over_udp_and_tcp(on: Source) {
    let mut world = Alone::laid_out(on, &json!({})).await;
    let web = ["10.1.0.1:80", "10.1.0.2:80", "[2001:db8::1]:80"].map(|address| address.parse().unwrap());
    world.alice.apply("web.json", &service_manifest("web", &web)).await.unwrap();
    let partner = world.folder.domain("bob", &json!({})).await;
    apply_route(&world.alice, &world.alice.route_to(&partner)).await;
    world.start_mesh().await;
    world.alice.start_envoy(Path::new(PROGRAM), &envoy().await).await.unwrap();
    for name in ["web.alice.svc", "anything.bob.svc"] {
        eventually("the gateway serves the name", async || {
            let answer = dig(&world.alice, &format!("{name} A")).await;
            if answer.of_kind("A").is_empty() { Err(answer.text) } else { Ok(()) }
        })
        .await;
    }

    for transport in ["+notcp", "+tcp", "+noedns", "+bufsize=4096", "+nocookie"] {
        for name in ["web.alice.svc", "web.alice", "web", "WEB.Alice.svc"] {
            let answer = dig(&world.alice, &format!("{transport} {name} A")).await;
            assert_eq!(answer.status, "NOERROR", "{answer:?}");
            assert_eq!(answer.of_kind("A"), ["10.1.0.1", "10.1.0.2"], "{answer:?}");
            assert!(answer.text.contains(" aa"), "{answer:?}");
        }
        let answer = dig(&world.alice, &format!("{transport} web.alice.svc AAAA")).await;
        assert_eq!(answer.of_kind("AAAA"), ["2001:db8::1"], "{answer:?}");
    }
    let answer = dig(&world.alice, "+bufsize=1232 web.alice.svc").await;
    assert!(answer.text.contains("EDNS: version: 0"), "{answer:?}");

    let gateway = world.alice.addresses.internal.ip().to_string();
    let answer = dig(&world.alice, "anything.bob.svc A").await;
    assert_eq!((answer.status.as_str(), answer.of_kind("A")), ("NOERROR", vec![&*gateway]), "{answer:?}");

    for (question, status) in [
        ("nobody.alice.svc A", "NXDOMAIN"),
        ("web.carol.svc A", "NXDOMAIN"),
        ("web.alice.svc TXT", "NOERROR"),
        ("anything.bob.svc AAAA", "NOERROR"),
        ("bob.svc A", "NOERROR"),
        ("svc A", "NOERROR"),
    ] {
        let answer = dig(&world.alice, question).await;
        assert_eq!(answer.status, status, "{question}: {answer:?}");
        assert_eq!(answer.records.len(), 1, "{question}: {answer:?}");
        assert_eq!(answer.of_kind("SOA").len(), 1, "{question}: {answer:?}");
    }
}

#[tokio::test]
async fn other_names_are_forwarded_for_configured_clients_only() {
    let mut upstream = Alone::laid_out(Source::Directory, &json!({})).await;
    let address = ["10.9.9.9:80".parse().unwrap()];
    upstream.alice.apply("host.json", &service_manifest("host", &address)).await.unwrap();
    upstream.start_mesh().await;
    eventually("the upstream knows the name", async || {
        let answer = dig(&upstream.alice, "host.alice A").await;
        if answer.of_kind("A") == ["10.9.9.9"] { Ok(()) } else { Err(answer.text) }
    })
    .await;

    for (recursion, status, addresses) in
        [(json!(["127.0.0.0/8"]), "NOERROR", &["10.9.9.9"][..]), (json!([]), "REFUSED", &[])]
    {
        let dns = json!({"upstreams": [upstream.alice.addresses.dns], "recursion": recursion});
        let folder = Folder::new(Source::Directory);
        let mut bob = folder.domain("bob", &json!({"dns": dns})).await;
        bob.start_mesh(Path::new(PROGRAM)).await.unwrap();
        for transport in ["+notcp", "+tcp"] {
            // To bob, the name of alice's service is a public one.
            let answer = dig(&bob, &format!("{transport} host.alice A")).await;
            assert_eq!(
                (answer.status.as_str(), answer.of_kind("A")),
                (status, addresses.to_vec()),
                "{answer:?}"
            );
        }
        // Names of `svc` are never forwarded, and never refused.
        assert_eq!(dig(&bob, "host.alice.svc A").await.status, "NXDOMAIN");
    }
}

async fn the_table_follows_the_manifests(on: Source) {
    let mut world = World::two_domains(on).await;
    assert_eq!(dig(&world.alice, "late.alice.svc A").await.status, "NXDOMAIN");
    let service = |ip: &str| service_manifest("late", &[format!("{ip}:80").parse().unwrap()]);
    for ip in ["10.2.0.1", "10.2.0.2"] {
        world.alice.apply("late.json", &service(ip)).await.unwrap();
        eventually("the new address", async || {
            let answer = dig(&world.alice, "late.alice.svc A").await;
            if answer.of_kind("A") == [ip] { Ok(()) } else { Err(answer.text) }
        })
        .await;
    }
    world.alice.remove("late.json").await.unwrap();
    world.alice.remove("alice-bob.json").await.unwrap();
    for name in ["late.alice.svc", "echo.bob.svc"] {
        eventually("the name is gone", async || {
            let answer = dig(&world.alice, &format!("{name} A")).await;
            if answer.status == "NXDOMAIN" { Ok(()) } else { Err(answer.text) }
        })
        .await;
    }
    let status = world.alice.status().await.unwrap();
    assert!(status.dns.responses.values().sum::<u64>() >= 5, "{:?}", status.dns);
    world.alice.stop().await.unwrap();
}

async fn malformed_queries_are_refused_and_leave_nothing_in_the_log(on: Source) {
    let mut world = Alone::laid_out(on, &json!({})).await;
    world.start_mesh().await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(world.alice.addresses.dns).await.unwrap();
    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x03web\0\0\x01\0\x01";
    for options in [&b"\0\x0a\0"[..], b"\0\x0a\0\x05x", b"\0\x08\0\x02\0\x01"] {
        let length = u8::try_from(options.len()).unwrap();
        let query = [&question[..], b"\0\0\x29\x04\xd0\0\0\0\0\0", &[length], options].concat();
        client.send(&query).await.unwrap();
        let mut reply = [0; 512];
        let received = timeout(DEADLINE, client.recv(&mut reply)).await.expect("an answer comes");
        assert!(received.unwrap() >= 12);
        assert_eq!((&reply[..2], reply[3] & 0xf), (&b"\x12\x34"[..], 1), "{options:?}");
    }
    for log in world.folder.logs() {
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(!text.contains("hickory"), "{}: {text}", log.display());
    }
}
