//! Gateways that only lead on: a listener, one route, one cluster, written by hand.
//!
//! Timeouts, windows, buffers, keepalive and limits are those of a gateway's own listeners and clusters.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::Failure;
use crate::gateways::Places;
use crate::load::{Body, HOST};

/// What alice's gateway proves itself with to bob's.
const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789a=";

/// Static resources of the two gateways.
pub(crate) fn configs(at: &Places) -> Result<[Value; 2], Failure> {
    Ok([gateway(at.entry, at.between), gateway(at.between, at.service)])
}

/// The same, and the least that Kuscia's wire asks of gateways: the first says who calls what, and proves it; the second
/// looks at the proof, and lets the service know who called. No other service, no other source, and no errors are
/// thought of.
pub(crate) fn configs_of_wire(at: &Places) -> Result<[Value; 2], Failure> {
    let [mut alice, mut bob] = configs(at)?;
    let route = route_of(&mut alice);
    route["request_headers_to_add"] = headers(&[
        ("kuscia-source", "alice"),
        ("kuscia-origin-source", "alice"),
        ("kuscia-host", "%REQ(:authority)%"),
        ("kuscia-token", TOKEN),
        ("x-interconn-protocol", "kuscia"),
    ]);
    route["route"]["host_rewrite_literal"] = "bob.example.com".into();
    routes_of(&mut bob)["vhost_header"] = "kuscia-host".into();
    let route = route_of(&mut bob);
    route["match"]["headers"] = json!([
        {"name": "kuscia-token", "string_match": {"exact": TOKEN}},
        {"name": "kuscia-source", "string_match": {"exact": "alice"}},
    ]);
    route["request_headers_to_add"] = headers(&[("kuscia-origin-source", "alice")]);
    route["request_headers_to_remove"] = json!(["kuscia-token"]);
    route["route"]["host_rewrite_header"] = "kuscia-host".into();
    Ok([alice, bob])
}

fn headers(headers: &[(&str, &str)]) -> Value {
    let headers = headers.iter().map(
        |(key, value)| json!({"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}),
    );
    headers.collect()
}

fn routes_of(gateway: &mut Value) -> &mut Value {
    &mut gateway["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]
}

fn route_of(gateway: &mut Value) -> &mut Value {
    &mut routes_of(gateway)["virtual_hosts"][0]["routes"][0]
}

fn gateway(listen: SocketAddr, next: SocketAddr) -> Value {
    let route = json!({
        "match": {"prefix": "/"},
        "route": {"cluster": "next", "timeout": "0s", "idle_timeout": "86400s"},
    });
    json!({"listeners": [listener(listen, &route)], "clusters": [cluster(next)]})
}

/// Static resources of an Envoy that answers by itself.
pub(crate) fn service(listen: SocketAddr) -> Value {
    let answers: Value = Body::ALL
        .into_iter()
        .map(|body| {
            json!({
                "match": {"path": body.path()},
                "direct_response": {"status": 200, "body": {"inline_string": "x".repeat(body.bytes())}},
            })
        })
        .collect();
    let mut service = json!({"listeners": [listener(listen, &Value::Null)]});
    let routes = routes_of(&mut service);
    routes["virtual_hosts"][0]["routes"] = answers;
    routes["max_direct_response_body_size_bytes"] = Body::Large.bytes().into();
    service
}

fn listener(listen: SocketAddr, route: &Value) -> Value {
    let router = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        "suppress_envoy_headers": true,
    });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "plain",
        "route_config": {"virtual_hosts": [{"name": "service", "domains": [HOST], "routes": [route]}]},
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 1 << 20,
            "initial_connection_window_size": 4 << 20,
        },
        "common_http_protocol_options": {"idle_timeout": "3600s"},
        "stream_idle_timeout": "300s",
        "request_headers_timeout": "10s",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    });
    json!({
        "name": "listener",
        "address": address(listen),
        "tcp_keepalive": keepalive(),
        "per_connection_buffer_limit_bytes": 256 << 10,
        "filter_chains": [{
            "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
        }],
    })
}

fn cluster(next: SocketAddr) -> Value {
    let protocol = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": "600s"},
        "use_downstream_protocol_config": {
            "http_protocol_options": {},
            "http2_protocol_options": {"connection_keepalive": {"interval": "60s", "timeout": "20s"}},
        },
    });
    let limits = json!({
        "max_connections": 16_384,
        "max_pending_requests": 16_384,
        "max_requests": 65_536,
        "max_retries": 64,
    });
    json!({
        "name": "next",
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "10s",
        "load_assignment": {
            "cluster_name": "next",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(next)}}]}],
        },
        "circuit_breakers": {"thresholds": [limits]},
        "upstream_connection_options": {"tcp_keepalive": keepalive()},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol},
    })
}

fn keepalive() -> Value {
    json!({"keepalive_probes": 3, "keepalive_time": 60, "keepalive_interval": 20})
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}
