//! Ways to the gateway of a destination, and what may stand in them.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;

use ::http::Request;
use bytes::Bytes;
use harness::process::Child;
use networkmesh::harness::domain::Domain;
use proto::echo::EchoRequest;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;
use tonic::Code;

use super::figures::{envoy_says, figure};
use super::stream::{Chat, grpc};
use super::world::{
    DEADLINE, PROGRAM, Source, World, answers, apply_route, call, confirmed_revision, echoed, eventually,
    get, route_status,
};

scenes!(
    a_gateway_behind_an_nginx_that_strips_a_prefix_is_reached,
    grpc_passes_a_middlebox_that_knows_http_1_only,
    grpc_takes_the_port_for_grpc_and_the_rest_the_other_one,
    a_gateway_is_reached_by_name_and_by_an_ipv6_address,
    requests_end_after_the_time_that_the_route_gives_them,
    a_gateway_that_was_away_is_noticed_and_taken_back,
);

/// An nginx in front of bob's gateway, as institutions have them: it speaks HTTP/1.1 only, and strips a prefix.
struct Nginx {
    address: SocketAddr,
    _process: Child,
}

impl Nginx {
    async fn start(folder: &Path, upstream: SocketAddr) -> Self {
        let address = harness::free_address().unwrap();
        let folder = folder.join("nginx");
        std::fs::create_dir_all(folder.join("logs")).unwrap();
        let configuration = format!(
            "daemon off; pid nginx.pid; error_log logs/nginx.log;\n\
             events {{}}\n\
             http {{\n\
               access_log off; client_body_temp_path body; proxy_temp_path proxy;\n\
               fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
               server {{\n\
                 listen {address}; client_max_body_size 0;\n\
                 location /institutions/bob/ {{\n\
                   proxy_pass http://{upstream}/; proxy_http_version 1.1; proxy_request_buffering off;\n\
                 }}\n\
                 location / {{ return 418; }}\n\
               }}\n\
             }}\n"
        );
        std::fs::write(folder.join("nginx.conf"), configuration).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-p").arg(&folder).args(["-c", "nginx.conf", "-e", "logs/start.log"]);
        let mut process =
            Child::spawn("nginx (`apt-get install nginx`)".to_owned(), command, &folder.join("logs/out.log"))
                .unwrap();
        let listens = async || TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string());
        process.wait_ready(DEADLINE, listens).await.unwrap();
        Self { address, _process: process }
    }
}

/// Two domains; alice reaches bob by way of an nginx.
async fn behind_nginx(on: Source, change: impl Fn(&mut Value)) -> (World, Nginx) {
    let mut world = World::laid_out(on, &json!({}), &json!({})).await;
    let nginx = Nginx::start(world.folder.path(), world.bob.addresses.external).await;
    let mut route = world.alice.route_to(&world.bob);
    set_endpoint(&mut route, &nginx.address.ip().to_string(), nginx.address.port());
    route["spec"]["endpoint"]["ports"][0]["pathPrefix"] = "/institutions/bob/".into();
    change(&mut route);
    world.connect(&route).await;
    world.start().await;
    confirmed_revision(&world.alice, &world.bob).await;
    (world, nginx)
}

fn set_endpoint(route: &mut Value, host: &str, port: u16) {
    route["spec"]["endpoint"]["host"] = host.into();
    route["spec"]["endpoint"]["ports"][0]["port"] = port.into();
}

async fn a_gateway_behind_an_nginx_that_strips_a_prefix_is_reached(on: Source) {
    let (world, _nginx) = behind_nginx(on, |_| ()).await;
    let seen = echoed(&answers(&world.alice, "echo.bob.svc", 200).await);
    assert_eq!(seen.headers["kuscia-source"], "alice");
    let seen = echoed(&get(&world.alice, "echo.bob.svc", "/a/b?c=d%2Fe").await);
    assert_eq!(seen.path, "/a/b?c=d%2Fe");
    let body = Bytes::from(vec![b'x'; 8 << 20]);
    let request = Request::post("http://echo.bob.svc/upload").body(body).unwrap();
    assert_eq!(echoed(&call(&world.alice, request).await).body_bytes, 8 << 20);
    eventually("the data path is known to be well", async || {
        let route = route_status(&world.alice, "alice-bob").await?;
        if route.holds("DataPath") { Ok(()) } else { Err(format!("{route:?}")) }
    })
    .await;
}

async fn grpc_passes_a_middlebox_that_knows_http_1_only(on: Source) {
    let label = |route: &mut Value| {
        route["metadata"]["labels"] = json!({"kuscia.secretflow/grpc-degrade": "True"});
    };
    let (world, _nginx) = behind_nginx(on, label).await;
    answers(&world.alice, "echo.bob.svc", 200).await;
    let request = || EchoRequest { message: "hello".to_owned() };
    let said = grpc(&world.alice, &world.bob).await.say(request()).await.unwrap().into_inner();
    assert_eq!((said.service.as_str(), said.message.as_str()), ("echo.bob", "hello"));
    assert_eq!(said.metadata["kuscia-source"], "alice");
    let failed = no_such_method(&world).await;
    assert_eq!(failed.code(), Code::Unimplemented, "{failed:?}");
    // What is no gRPC passes as before.
    assert_eq!(echoed(&get(&world.alice, "echo.bob.svc", "/").await).service, "echo.bob");
}

/// Calls a method that bob's service does not have.
async fn no_such_method(world: &World) -> tonic::Status {
    let gateway =
        tonic::transport::Endpoint::try_from(format!("http://{}", world.alice.addresses.internal)).unwrap();
    let origin = "http://echo.bob.svc".parse().unwrap();
    let mut client = tonic::client::Grpc::new(gateway.origin(origin).connect().await.unwrap());
    client.ready().await.unwrap();
    let path = "/networkmesh.echo.v1.Echo/Shout".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<EchoRequest, EchoRequest>::default();
    let request = tonic::Request::new(EchoRequest { message: "hello".to_owned() });
    client.unary(request, path, codec).await.unwrap_err()
}

async fn grpc_takes_the_port_for_grpc_and_the_rest_the_other_one(on: Source) {
    let mut world = World::laid_out(on, &json!({}), &json!({})).await;
    let mut route = world.alice.route_to(&world.bob);
    let mut port = route["spec"]["endpoint"]["ports"][0].clone();
    port["name"] = "grpc".into();
    port["protocol"] = "GRPC".into();
    route["spec"]["endpoint"]["ports"].as_array_mut().unwrap().push(port);
    world.connect(&route).await;
    world.start().await;
    confirmed_revision(&world.alice, &world.bob).await;
    answers(&world.alice, "echo.bob.svc", 200).await;
    let of_grpc = async || requests(&world.alice, "alice-to-bob-grpc").await;
    let of_http = async || requests(&world.alice, "alice-to-bob-http").await;
    let before = (of_http().await, of_grpc().await);
    for _ in 0..3 {
        grpc(&world.alice, &world.bob).await.say(EchoRequest { message: "hello".to_owned() }).await.unwrap();
    }
    let between = (of_http().await, of_grpc().await);
    assert_eq!(between.1 - before.1, 3, "gRPC takes its own port");
    get(&world.alice, "echo.bob.svc", "/").await;
    assert_eq!(of_grpc().await, between.1, "other requests take the other one");
    assert!(of_http().await > between.0);
    assert_eq!(Chat::open(&world.alice, &world.bob).await.say("hello").await.service, "echo.bob");
}

/// Requests that the Envoy of `domain` has sent to a cluster and that have ended.
async fn requests(domain: &Domain, cluster: &str) -> u64 {
    figure(domain, &format!("cluster.{cluster}.upstream_rq_total")).await
}

async fn a_gateway_is_reached_by_name_and_by_an_ipv6_address(on: Source) {
    let port = harness::free_address().unwrap().port();
    let external = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let mut world = World::laid_out(on, &json!({}), &json!({"listen": {"external": external}})).await;
    world.bob.addresses.external = external;
    let mut route = world.alice.route_to(&world.bob);
    for host in ["::1", "localhost"] {
        set_endpoint(&mut route, host, port);
        world.connect(&route).await;
        if world.bob.mesh.is_none() {
            world.start().await;
        }
        confirmed_revision(&world.alice, &world.bob).await;
        eventually("the gateway is reached by that host", async || {
            let clusters = envoy_says(&world.alice, "/clusters").await;
            let has_name =
                clusters.contains(&format!("::hostname::{}", if host == "localhost" { host } else { "" }));
            let answer = get(&world.alice, "echo.bob.svc", "/").await;
            if has_name && answer.status() == 200 { Ok(()) } else { Err(format!("{host}: {answer:?}")) }
        })
        .await;
    }
}

async fn requests_end_after_the_time_that_the_route_gives_them(on: Source) {
    let world = World::two_domains(on).await;
    let slow = "/stream?chunks=2&interval_ms=5000";
    let mut route = world.alice.route_to(&world.bob);
    route["spec"]["endpoint"]["timeouts"] = json!({"requestSeconds": 1});
    apply_route(&world.alice, &route).await;
    eventually("a request has one second", async || {
        // Its head has come by then, so the connection is cut rather than answered with an error.
        let cut = world.alice.call(&format!("http://echo.bob.svc{slow}")).await;
        if cut.is_err() { Ok(()) } else { Err(format!("{cut:?}")) }
    })
    .await;
    route["spec"]["endpoint"]["timeouts"] = json!({"idleSeconds": 1});
    apply_route(&world.alice, &route).await;
    eventually("a stream may stand still for a second", async || {
        let still = world.alice.call("http://echo.bob.svc/stream?chunks=2&interval_ms=4000").await;
        let moving = world.alice.call("http://echo.bob.svc/stream?chunks=8&interval_ms=300").await;
        let is_so =
            still.is_err() && moving.as_ref().is_ok_and(|answer| answer.body().ends_with(b"chunk 7\n"));
        if is_so { Ok(()) } else { Err(format!("{still:?}, {moving:?}")) }
    })
    .await;
    apply_route(&world.alice, &world.alice.route_to(&world.bob)).await;
    eventually("a stream may stand still for long", async || {
        let still = world.alice.call("http://echo.bob.svc/stream?chunks=2&interval_ms=4000").await;
        if still.is_ok() { Ok(()) } else { Err(format!("{still:?}")) }
    })
    .await;
}

async fn a_gateway_that_was_away_is_noticed_and_taken_back(on: Source) {
    let mut world = World::two_domains(on).await;
    answers(&world.alice, "echo.bob.svc", 200).await;
    let failures =
        async |domain: &Domain| figure(domain, "cluster.alice-to-bob-http.health_check.failure").await;
    let checks =
        async |domain: &Domain| figure(domain, "cluster.alice-to-bob-http.health_check.success").await;
    eventually("the gateway is checked", async || {
        if checks(&world.alice).await > 0 { Ok(()) } else { Err("no check".to_owned()) }
    })
    .await;
    world.bob.envoy.take().unwrap().stop(DEADLINE).await.unwrap();
    eventually("it is noticed that the gateway is away", async || {
        let answer = get(&world.alice, "echo.bob.svc", "/").await;
        let failed = failures(&world.alice).await;
        if answer.status() == 503 && failed > 0 { Ok(()) } else { Err(format!("{failed}: {answer:?}")) }
    })
    .await;
    world.bob.start_envoy(Path::new(PROGRAM), &world.envoy).await.unwrap();
    answers(&world.alice, "echo.bob.svc", 200).await;
}
