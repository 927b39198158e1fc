//! Partners that want more forwarded than they may.

use networkmesh::harness::echo::Echoed;
use serde_json::{Value, json};

use super::wire::{Answer, Draft, ask_all};
use super::{ECHO, only_echo, requests_of};
use crate::world::{
    Source, World, apply_route, eventually, set_destination, set_source, set_unauthenticated, token,
};

#[tokio::test]
async fn a_partner_is_forwarded_only_where_it_may_and_as_whom_it_may() {
    let mut world = World::two_domains(Source::Directory).await;
    // Echo services in the place of the gateways of carol and dave show what would come there.
    for name in ["carol", "dave"] {
        let gateway = world.bob.serve_echo(&format!("{name}s-gateway")).await.unwrap();
        let mut route = world.bob.route_to(&world.alice);
        set_destination(&mut route, name, gateway);
        set_unauthenticated(&mut route);
        apply_route(&world.bob, &route).await;
    }
    // Alice's requests pass bob on their way to carol. Those of erin pass alice before, and may also end at bob.
    for (source, destination, transit) in
        [("alice", "carol", "bob"), ("erin", "carol", "bob"), ("erin", "bob", "alice")]
    {
        apply_route(&world.bob, &detour(&world, source, destination, transit)).await;
    }
    let right = token(&world.alice, "bob").await;
    let alice = || Draft::of_alice(Some(&right)).set("Host", "web.dave.svc");
    let to = |hosts: &str| alice().without("Kuscia-Host").with(hosts);
    let carol = "Kuscia-Host: web.carol.svc";
    let ask = async |draft: Draft| ask_all(world.bob.addresses.external, vec![draft]).await.remove(0);
    let seen_by = |service: &str, case: &str, answers: &[Answer]| -> Echoed {
        let seen = only_echo(case, answers);
        assert_eq!(seen.service, service, "{case}: {seen:?}");
        seen
    };
    for draft in
        [to(carol), to(carol).with("Kuscia-Origin-Source: erin"), to(&format!("Kuscia-Host: {ECHO}"))]
    {
        eventually("alice is forwarded", async || match &ask(draft.clone()).await[..] {
            [Answer { status: 200, .. }] => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    let before = requests_of(&world.bob, "echo").await;
    for hosts in [
        "Kuscia-Host: web.dave.svc",
        "Kuscia-Host: web.dave.svc\r\nKuscia-Host: web.carol.svc",
        "Kuscia-Host: echo.bob.svc.\r\nKuscia-Host: web.carol.svc",
        "Kuscia-Host: web.dave.svc,web.carol.svc",
        "Kuscia-Host: web.dave.svc;web.carol.svc",
        "Kuscia-Host: web.carol.svc.dave.svc",
        "Kuscia-Host: web.dave.svc.carol.svc",
        "Kuscia-Host: web.dave.svc\r\n web.carol.svc",
        "Kuscia-Host: web.carol.svc:80",
        "Kuscia-Host: web.carol.svc.",
        "Kuscia-Host: web.CAROL.svc",
        "Kuscia-Host: .carol.svc",
        "Kuscia-Host: carol.svc",
        "Kuscia-Host: *.carol.svc",
        "Kuscia-Host: kuscia-handshake.dave.svc\r\nKuscia-Host: web.carol.svc",
        "Kuscia-Host: private.bob.svc\r\nKuscia-Host: web.carol.svc",
        "Kuscia-Host:\r\nKuscia-Host: web.carol.svc",
        "Kuscia-Host: \t\r\nKuscia-Host: web.carol.svc",
        "x: no host of a gateway",
        "Kuscia-Host: web.dave.svc\r\nx-nm-cluster: transit\r\nx-nm-scope: carol",
    ] {
        let answers = ask(to(hosts)).await;
        let [Answer { status, .. }] = answers[..] else { panic!("{hosts:?}: {answers:?}") };
        assert!([400, 403, 404].contains(&status), "{hosts:?}: {answers:?}");
    }
    for headers in [
        "Kuscia-Host: web.carol.svc\r\nKuscia-Host: web.dave.svc",
        "Kuscia-Host: web.carol.svc\r\nKuscia-Host: web.carol.svc",
        "Kuscia-Host: web.carol.svc\r\nKuscia-Origin-Source: erin\r\nKuscia-Origin-Source: mallory",
        "Kuscia-Host: web.carol.svc\r\nKuscia-Origin-Source: mallory\r\nKuscia-Origin-Source: erin",
        "Kuscia-Host: web.carol.svc\r\nKuscia-Origin-Source: bob\r\nkuscia-origin-source: erin",
        "Kuscia-Host: echo.bob.svc\r\nKuscia-Origin-Source: erin\r\nKuscia-Origin-Source: mallory",
        "Kuscia-Host: echo.bob.svc\r\nKuscia-Origin-Source: erin,mallory",
        "Kuscia-Host: web.carol.svc\r\nKuscia-Origin-Source: mallory",
        "Kuscia-Host: web.carol.svc\r\nKuscia-Origin-Source: bob",
        "Kuscia-Host: web.carol.svc\r\nKuscia-Origin-Source: ERIN",
    ] {
        let answers = ask(to(headers)).await;
        assert!(matches!(answers[..], [Answer { status: 403, .. }]), "{headers:?}: {answers:?}");
    }

    let own = "Kuscia-Host: echo.bob.svc";
    for (host, origins, allowed) in [
        (carol, "", ["alice", "alice"]),
        (carol, "Kuscia-Origin-Source: erin", ["erin", "erin"]),
        (carol, "Kuscia-Origin-Source: erin\r\nConnection: kuscia-origin-source", ["alice", "erin"]),
        (own, "", ["alice", "alice"]),
        (own, "Kuscia-Origin-Source: erin", ["erin", "erin"]),
        (own, "Kuscia-Origin-Source: mallory", ["alice", "alice"]),
        (own, "Kuscia-Origin-Source: bob", ["alice", "alice"]),
        (own, "Kuscia-Origin-Source: ERIN", ["alice", "alice"]),
        (own, "Kuscia-Origin-Source: erin\r\nConnection: kuscia-origin-source", ["alice", "erin"]),
    ] {
        let service = if host == carol { "carols-gateway.bob" } else { "echo.bob" };
        let case = format!("{origins:?} for {service}");
        let draft = if origins.is_empty() { to(host) } else { to(host).with(origins) };
        let seen = seen_by(service, &case, &ask(draft).await);
        let origin = seen.headers["kuscia-origin-source"].as_str();
        assert!(allowed.contains(&origin), "{case}: {seen:?}");
    }
    assert!(requests_of(&world.bob, "echo").await > before, "bob's own service was asked, too");
}

/// The route from `source` to `destination` by way of `transit`.
fn detour(world: &World, source: &str, destination: &str, transit: &str) -> Value {
    let mut route = world.alice.route_to(&world.bob);
    set_source(&mut route, source, "");
    set_unauthenticated(&mut route);
    let spec = route["spec"].as_object_mut().unwrap();
    spec.remove("endpoint");
    spec.insert("destination".to_owned(), destination.into());
    spec.insert(
        "transit".to_owned(),
        json!({"transitMethod": "THIRD-DOMAIN", "domain": {"domainID": transit}}),
    );
    route["metadata"]["name"] = format!("{source}-{destination}").into();
    route
}
