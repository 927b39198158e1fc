//! What applications get through the gateways.

use std::sync::Arc;

use ::http::{Method, Request};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use networkmesh::harness::domain::service_manifest;
use proto::echo::EchoRequest;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::peers::{Manner, serve};
use super::stream::{Chat, grpc};
use super::world::{
    Source, World, answers, apply_route, call, echoed, get, hops, nobody_at, set_destination,
    set_unauthenticated,
};

scenes!(
    http_passes_both_gateways_in_both_directions,
    a_large_body_and_a_streamed_answer_pass,
    grpc_passes_both_gateways_in_both_directions,
    hosts_are_understood_in_short_and_with_ports,
    services_come_and_go_while_everything_runs,
    a_service_without_endpoints_answers_503_and_says_where,
    the_path_prefix_of_a_route_is_put_before_every_path,
);

async fn http_passes_both_gateways_in_both_directions(on: Source) {
    let world = World::two_domains(on).await;
    for (source, destination) in [(&world.alice, &world.bob), (&world.bob, &world.alice)] {
        let host = format!("echo.{}.svc", destination.name);
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(format!("http://{host}/a/b%20c?d=e&f"))
            .header("kuscia-source", "mallory")
            .header("kuscia-token", "forged")
            .header("kuscia-host", "other.host.svc")
            .header("x-nm-cluster", "forged")
            .header("x-own", "kept")
            .body(Bytes::from_static(b"body"))
            .unwrap();
        let response = call(source, request).await;
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        assert!(!response.headers().contains_key("kuscia-error-message"), "{response:?}");

        let echoed = echoed(&response);
        assert_eq!(echoed.service, format!("echo.{}", destination.name));
        assert_eq!((echoed.method.as_str(), echoed.path.as_str()), ("PATCH", "/a/b%20c?d=e&f"));
        assert_eq!(echoed.body_bytes, 4);
        for (name, value) in [
            ("host", host.as_str()),
            ("kuscia-host", &host),
            ("kuscia-source", &source.name),
            ("kuscia-origin-source", &source.name),
            ("x-interconn-protocol", "kuscia"),
            ("x-own", "kept"),
        ] {
            assert_eq!(echoed.headers.get(name).map(String::as_str), Some(value), "{name}: {echoed:?}");
        }
        let is_private = |name: &&String| *name == "kuscia-token" || name.starts_with("x-nm-");
        assert_eq!(echoed.headers.keys().find(is_private), None);
    }
}

async fn a_large_body_and_a_streamed_answer_pass(on: Source) {
    const SIZE: usize = 8 * 1024 * 1024;
    let world = World::two_domains(on).await;
    let gateway = world.alice.addresses.internal;
    let body = Bytes::from(vec![b'x'; SIZE]);
    let request = Request::post("http://echo.bob.svc/upload").body(body).unwrap();
    let response = call(&world.alice, request).await;
    assert_eq!(echoed(&response).body_bytes, SIZE as u64);

    let go_on = Arc::new(Notify::new());
    let (address, _peer) =
        serve(world.bob.home.service_ip().unwrap(), Manner::Halves(Arc::clone(&go_on))).await;
    world.bob.apply("halves.json", &service_manifest("halves", &[address])).await.unwrap();
    answers(&world.alice, "echo.bob.svc", 200).await;
    let mut response = None;
    super::world::eventually("the new service answers", async || {
        let stream = TokioIo::new(TcpStream::connect(gateway).await.unwrap());
        let (mut sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/").header("host", "halves.bob.svc").body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status();
        response = Some((sender, answer));
        if status == 200 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let (_sender, response) = response.unwrap();
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "first", "the first half must come before the second is sent");
    go_on.notify_one();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "later");
}

async fn grpc_passes_both_gateways_in_both_directions(on: Source) {
    let world = World::two_domains(on).await;
    for (source, destination) in [(&world.alice, &world.bob), (&world.bob, &world.alice)] {
        let request = EchoRequest { message: "hello".to_owned() };
        let said = grpc(source, destination).await.say(request).await.unwrap().into_inner();
        assert_eq!((said.service, said.message), (format!("echo.{}", destination.name), "hello".to_owned()));
        assert_eq!(said.metadata.get("kuscia-source"), Some(&source.name));

        let mut chat = Chat::open(source, destination).await;
        for word in ["one", "two", "three"] {
            assert_eq!(chat.say(word).await.service, format!("echo.{}", destination.name));
        }
    }
}

async fn hosts_are_understood_in_short_and_with_ports(on: Source) {
    let world = World::two_domains(on).await;
    for host in ["echo.bob.svc", "echo.bob.svc:80", "echo.bob.svc:12345"] {
        assert_eq!(echoed(&get(&world.alice, host, "/").await).service, "echo.bob", "{host}");
    }
    for host in ["echo", "echo.alice", "echo.alice.svc", "echo:8080", "echo.alice:80", "echo.alice.svc:80"] {
        assert_eq!(echoed(&get(&world.alice, host, "/").await).service, "echo.alice", "{host}");
    }
    for host in
        ["bob.svc", "echo.bob", "echo.bob.svc.", "ex.echo.bob.svc", "*.bob.svc", "echo.carol.svc", "svc"]
    {
        assert_eq!(get(&world.alice, host, "/").await.status(), 404, "{host}");
    }
}

async fn services_come_and_go_while_everything_runs(on: Source) {
    let mut world = World::two_domains(on).await;
    assert_eq!(get(&world.alice, "second.bob.svc", "/").await.status(), 404);
    world.bob.serve_echo("second").await.unwrap();
    assert_eq!(echoed(&answers(&world.alice, "second.bob.svc", 200).await).service, "second.bob");

    world.bob.remove("second.json").await.unwrap();
    answers(&world.alice, "second.bob.svc", 404).await;
    assert_eq!(echoed(&get(&world.alice, "echo.bob.svc", "/").await).service, "echo.bob");
}

async fn a_service_without_endpoints_answers_503_and_says_where(on: Source) {
    let world = World::two_domains(on).await;
    let mut manifest = service_manifest("empty", &[nobody_at(&world.bob).address]);
    manifest["items"].as_array_mut().unwrap().truncate(1);
    world.bob.apply("empty.json", &manifest).await.unwrap();
    let response = answers(&world.alice, "empty.bob.svc", 503).await;
    let hops = hops(&response);
    assert!(hops.contains("bob/bob-gateway/external") && hops.contains("no_healthy_upstream"), "{hops}");
}

async fn the_path_prefix_of_a_route_is_put_before_every_path(on: Source) {
    let mut world = World::two_domains(on).await;
    // An echo service in the place of carol's gateway shows what would come there.
    let gateway = world.bob.serve_echo("gateway").await.unwrap();
    let mut route = world.alice.route_to(&world.bob);
    set_destination(&mut route, "carol", gateway);
    set_unauthenticated(&mut route);
    route["spec"]["endpoint"]["ports"][0]["pathPrefix"] = json!("/kuscia/in");
    apply_route(&world.alice, &route).await;

    answers(&world.alice, "web.carol.svc", 200).await;
    let seen = echoed(&get(&world.alice, "web.carol.svc", "/hello/you?x=1").await);
    assert_eq!(seen.path, "/kuscia/in/hello/you?x=1");
    assert_eq!(seen.headers["kuscia-host"], "web.carol.svc");
    assert_eq!(seen.headers["kuscia-source"], "alice");
    // What Kuscia sends where there is no token.
    assert_eq!(seen.headers["kuscia-token"], "noop");
}
