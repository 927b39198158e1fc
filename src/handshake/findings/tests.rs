#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use ::http::Response;
use bytes::Bytes;
use model::{OutboundAuth, OutboundRoute, Transit, Way};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::handshake::tests::world::{ALICE, BOB, Source, outbound, route};

/// The way to bob, whose gateway is there.
fn link(host: &str, port: u16, tls: bool) -> OutboundRoute {
    let mut manifest = route("alice", "bob");
    manifest["spec"]["endpoint"]["host"] = json!(host);
    manifest["spec"]["endpoint"]["ports"][0]["port"] = json!(port);
    manifest["spec"]["endpoint"]["ports"][0]["isTLS"] = json!(tls);
    let (_source, ledger) = Source::new("alice", &[manifest]);
    outbound(&ledger.snapshot()).clone()
}

fn to(address: SocketAddr, tls: bool) -> OutboundRoute {
    link(&address.ip().to_string(), address.port(), tls)
}

fn http(status: u16, message: &str) -> CallError {
    CallError::Http { status: StatusCode::from_u16(status).unwrap(), message: message.to_owned() }
}

/// What Envoy's `details` tell without a look, and whether a look may tell more.
fn told(details: &str) -> (Finding, bool) {
    let message = format!("<alice/alice-gateway/internal ${details}$ UpstreamConnectionFailure>");
    match of_error(&http(503, &message), &link("bob.example.com", 1080, false)).unwrap() {
        Told::All(finding) => (finding, false),
        Told::Half(finding) => (finding, true),
    }
}

#[test]
fn each_of_envoys_words_has_its_reason() {
    let reset = |reason: &str| format!("upstream_reset_before_response_started{{{reason}}}");
    let failed = |transport: &str| reset(&format!("remote_connection_failure|{transport}"));
    let tls = |error: &str| {
        failed(&format!("TLS_error:|268435703:SSL_routines:OPENSSL_internal:{error}:TLS_error_end"))
    };
    // As Envoy 1.40 says it.
    let cases = [
        ("no_healthy_upstream".to_owned(), "EndpointUnresolved", true),
        (failed("delayed_connect_error:_Connection_refused"), "ConnectionRefused", false),
        (failed("delayed_connect_error:_No_route_to_host"), "NoRouteToHost", false),
        (failed("immediate_connect_error:_Network_is_unreachable"), "NoRouteToHost", false),
        (failed("delayed_connect_error:_Connection_reset_by_peer"), "ConnectionClosed", true),
        (tls("Connection_reset_by_peer"), "ConnectionClosed", true),
        (tls("WRONG_VERSION_NUMBER"), "PeerSpeaksPlaintext", false),
        (tls("SSLV3_ALERT_HANDSHAKE_FAILURE"), "TlsRefused", false),
        (
            tls(
                "CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_X509_verify_cert:_certificate_verification_error_at_depth_0:_self_signed_certificate",
            ),
            "CertificateRejected",
            false,
        ),
        (
            tls("CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_SAN_matcher,_certificate_SANs_are_[x]"),
            "CertificateRejected",
            false,
        ),
        (reset("connection_timeout"), "ConnectTimeout", true),
        (reset("connection_termination"), "ConnectionClosed", true),
        (reset("remote_connection_failure"), "ConnectionClosed", true),
        (reset("protocol_error"), "NotAGateway", true),
        ("response_timeout".to_owned(), "AnswerTimeout", false),
        ("via_upstream".to_owned(), "NotAGateway", true),
        ("route_not_found".to_owned(), "FailedHere", false),
        (reset("overflow"), "FailedHere", false),
    ];
    for (details, reason, look) in cases {
        let (finding, may_look) = told(&details);
        assert_eq!((finding.reason, finding.layer, may_look), (reason, Layer::Reach, look), "{details}");
        assert!(finding.message.contains("bob"), "{finding:?}");
        assert!(finding.message.contains("; "), "it says what to do: {finding:?}");
    }
    assert!(told(&tls("CERTIFICATE_VERIFY_FAILED:x")).0.message.contains("CERTIFICATE_VERIFY_FAILED:x"));
}

#[tokio::test]
async fn a_gateway_that_answers_was_reached() {
    let link = link("bob.example.com", 1080, false);
    let cases = [
        (401, "bob", "rbac_access_denied_matched_policy[unauthorized]", "HeadersStripped", "Kuscia-Host"),
        (404, "bob", "direct_response", "HandshakeRefused", "pathPrefix"),
        (429, "bob", "via_upstream", "TooManyHandshakes", "tried again"),
        (503, "bob", "upstream_reset_before_response_started{x}", "FailedAtPeer", "bob/gw/external"),
        (403, "bob", "via_upstream", "AddressNotAllowed", "sourceWhiteIPList"),
        (403, "bob", "rbac_access_denied", "HandshakeRefused", "403"),
        (404, "carol", "cluster_not_found", "OtherDomainAnswered", "bob was expected"),
        (401, "carol", "x", "OtherDomainAnswered", "carol"),
    ];
    for (status, domain, details, reason, words) in cases {
        let message = format!("<alice/a/internal> => <{domain}/gw/external ${details}$ x>");
        let finding = diagnose(&http(status, &message), &link).await.unwrap();
        assert_eq!((finding.reason, finding.layer), (reason, Layer::Trust), "{status} {domain}");
        assert!(finding.message.contains(words), "{finding:?}");
    }
}

#[tokio::test]
async fn refusals_name_both_keys_and_what_to_do() {
    let link = link("bob.example.com", 1080, false);
    let keys = [&ALICE, &BOB].map(|key| key.public_key().fingerprint());
    let refused = |reason, message: &str| {
        CallError::Refused(Box::new(PeerRefusal {
            destination: link.destination.clone(),
            reason,
            message: message.to_owned(),
            own_key: keys[0],
            peer_key: keys[1],
            expected_time: None,
        }))
    };
    for (reason, words) in [
        ("RouteMissing", "add this DomainRoute".to_owned()),
        ("KeyUnknownToPeer", keys[0].to_string()),
        ("PeerKeyDiffers", keys[1].to_string()),
        ("HandshakeRefused", keys[1].to_string()),
        ("ClocksDiffer", "set the clocks".to_owned()),
        ("TooManyHandshakes", "tried again".to_owned()),
        ("TokenNotReady", "networkmesh status".to_owned()),
        ("SignatureWrong", "proxy".to_owned()),
        ("AddressNotAllowed", "sourceWhiteIPList".to_owned()),
    ] {
        let finding = diagnose(&refused(reason, "the peer's words"), &link).await.unwrap();
        assert_eq!((finding.reason, finding.layer), (reason, Layer::Trust));
        assert!(
            finding.message.contains("the peer's words") && finding.message.contains(&words),
            "{finding:?}"
        );
    }
}

/// What a peer does with a connection once the first bytes have come.
#[derive(Clone, Copy)]
enum Peer {
    Answers(&'static [u8]),
    /// It answers a TLS `ClientHello` with an alert, and closes at everything else.
    SpeaksTls,
    /// It answers only HTTP.
    SpeaksHttp,
}

async fn serve(peer: Peer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut hello = [0; 4096];
            let size = stream.read(&mut hello).await.unwrap();
            let is_tls = hello[..size].starts_with(&[0x16, 3]);
            let answer: &[u8] = match peer {
                Peer::Answers(answer) => answer,
                Peer::SpeaksTls if is_tls => &[0x15, 3, 3, 0, 2, 2, 40],
                Peer::SpeaksHttp if !is_tls => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                Peer::SpeaksTls | Peer::SpeaksHttp => b"",
            };
            stream.write_all(answer).await.unwrap();
        }
    });
    address
}

fn assert_saw(finding: &Finding, reason: &str, words: &[&str]) {
    assert_eq!((finding.reason, finding.layer), (reason, Layer::Reach), "{finding:?}");
    for words in words.iter().chain(&["the mesh looked itself, from host "]) {
        assert!(finding.message.contains(words), "{finding:?} has not {words}");
    }
}

#[tokio::test]
async fn a_look_tells_what_a_peer_speaks() {
    let gateway = b"HTTP/1.1 401 Unauthorized\r\nKuscia-Error-Message: <bob/b/external $x$ y>\r\n\r\n";
    let page = b"HTTP/1.1 404 Not Found\r\nServer: nginx/1.27\r\ncontent-length: 2\r\n\r\nhi";
    let nginx_tls = b"HTTP/1.1 400 Bad Request\r\nserver: nginx\r\n\r\n";
    let cases = [
        (Peer::Answers(gateway), false, None),
        (Peer::SpeaksTls, true, None),
        (Peer::SpeaksTls, false, Some(("PeerSpeaksTls", "isTLS"))),
        (Peer::Answers(&[0x15, 3, 3, 0, 2, 2, 40]), false, Some(("PeerSpeaksTls", "isTLS"))),
        (Peer::SpeaksHttp, true, Some(("PeerSpeaksPlaintext", "isTLS"))),
        (Peer::Answers(page), true, Some(("PeerSpeaksPlaintext", "isTLS"))),
        (
            Peer::Answers(page),
            false,
            Some(("NotAGateway", "404 Not Found, with the header server: nginx/1.27")),
        ),
        (Peer::Answers(nginx_tls), false, Some(("NotAGateway", "400"))),
        (Peer::Answers(b"SSH-2.0-OpenSSH\r\n"), false, Some(("NotAGateway", "no HTTP"))),
        (Peer::Answers(b"SSH-2.0-OpenSSH\r\n"), true, Some(("NotAGateway", "no HTTP"))),
        (Peer::Answers(b""), false, Some(("ConnectionClosed", "closes"))),
        (Peer::Answers(b""), true, Some(("ConnectionClosed", "closes"))),
    ];
    for (number, (peer, tls, expected)) in cases.into_iter().enumerate() {
        let address = serve(peer).await;
        let found = examine(&to(address, tls).first_hop().1.endpoint).await;
        match (&found, expected) {
            (None, None) => {}
            (Some(finding), Some((reason, words))) => {
                assert_saw(finding, reason, &[words, &address.to_string()]);
            }
            _ => panic!("case {number}: {found:?}"),
        }
    }
}

#[tokio::test]
async fn a_look_tells_why_there_is_no_connection() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let finding = examine(&to(closed, false).first_hop().1.endpoint).await.unwrap();
    assert_saw(&finding, "ConnectionRefused", &[&closed.to_string()]);

    let finding = examine(&link("no-such-host.invalid", 1080, false).first_hop().1.endpoint).await.unwrap();
    assert_saw(&finding, "EndpointUnresolved", &["no-such-host.invalid", "endpoint.host"]);
}

#[tokio::test]
async fn a_look_at_a_silent_peer_ends() {
    for tls in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = to(listener.local_addr().unwrap(), tls);
        let look = tokio::spawn(async move { examine(&link.first_hop().1.endpoint).await });
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        tokio::time::pause();
        assert_saw(&look.await.unwrap().unwrap(), "AnswerTimeout", &["does not answer in time"]);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_look_decides_where_words_do_not() {
    let no_answer = |route: &OutboundRoute| CallError::NoAnswer {
        destination: route.destination.clone(),
        cause: "no answer within 5s".to_owned(),
    };
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let route = to(closed, false);
    assert_eq!(diagnose(&no_answer(&route), &route).await.unwrap().reason, "ConnectionRefused");
    // A gateway is there: so it was slow.
    let gateway = b"HTTP/1.1 401 No\r\nKuscia-Error-Message: <bob/b/external $x$ y>\r\n\r\n";
    let route = to(serve(Peer::Answers(gateway)).await, false);
    let finding = diagnose(&no_answer(&route), &route).await.unwrap();
    assert_eq!(finding.reason, "AnswerTimeout");
    assert!(finding.message.contains("no answer within 5s"), "{finding:?}");

    let bad = CallError::BadAnswer { destination: route.destination.clone(), problem: "no JSON".to_owned() };
    assert_eq!(diagnose(&bad, &route).await.unwrap().reason, "NotAGateway");
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Response<Bytes>, CallError> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    Ok(response.body(Bytes::from(body.to_owned())).unwrap())
}

#[test]
fn the_answer_to_a_request_with_the_token_tells_whether_it_got_in() {
    const ERROR: &str = "kuscia-error-message";
    let bobs = "<alice/a/internal> => <bob/b/external $x$ y>";
    let carols = "<alice/a/internal> => <carol/c/external $x$ y>";
    let refusal = r#"{"domain":"bob","reason":"unauthorized."}"#;
    let cases = [
        (answer(200, &[("kuscia-datapath", "bob")], ""), "Answered", ""),
        (answer(404, &[(ERROR, bobs)], ""), "AnsweredAsKuscia", ""),
        (answer(200, &[("kuscia-datapath", "carol")], ""), "OtherDomainAnswered", "carol"),
        (answer(404, &[(ERROR, carols)], ""), "OtherDomainAnswered", "carol"),
        (answer(401, &[(ERROR, bobs)], refusal), "TokenRejected", "Kuscia-Token"),
        (
            answer(401, &[(ERROR, "<alice/a/internal $via_upstream$ x>")], refusal),
            "TokenRejected",
            "Kuscia-Token",
        ),
        (
            answer(401, &[(ERROR, bobs)], r#"{"domain":"bob","token":"missing"}"#),
            "HeadersStripped",
            "got no header Kuscia-Token",
        ),
        (
            answer(401, &[(ERROR, "<alice/a/internal $via_upstream$ x>")], r#"{"domain":"carol"}"#),
            "OtherDomainAnswered",
            "carol",
        ),
        (answer(503, &[(ERROR, bobs)], ""), "FailedAtPeer", "bob/b/external"),
        (answer(503, &[(ERROR, "<alice/a/internal $token_missing$ x>")], ""), "FailedHere", "token_missing"),
        (
            answer(404, &[(ERROR, "<alice/a/internal $via_upstream$ x>"), ("server", "nginx")], "hi"),
            "NotAGateway",
            "server: nginx",
        ),
        (answer(200, &[], "<html>"), "NotAGateway", "200"),
        (answer(302, &[("location", "/login")], ""), "NotAGateway", "302"),
        (answer(403, &[(ERROR, bobs)], ""), "AddressNotAllowed", "sourceWhiteIPList"),
        (answer(200, &[("kuscia-datapath", "<script>, bob")], ""), "OtherDomainAnswered", "bob was expected"),
    ];
    for (answer, reason, words) in cases {
        let_judge(&answer, &link("bob.example.com", 1080, false), reason, words);
    }
}

#[track_caller]
fn let_judge(answer: &Result<Response<Bytes>, CallError>, route: &OutboundRoute, reason: &str, words: &str) {
    match of_data_path(answer, route) {
        DataPath::Open { reason: open, .. } => assert_eq!((open, words), (reason, ""), "{answer:?}"),
        DataPath::Closed(Finding { reason: closed, message, .. }) => {
            assert_eq!(closed, reason, "{answer:?}");
            assert!(!words.is_empty() && message.contains(words), "{message}");
        }
    }
}

#[test]
fn who_is_not_let_in_learns_what_the_destination_wants_instead() {
    let refused =
        answer(401, &[("kuscia-error-message", "<alice/a/internal> => <bob/b/external $x$ y>")], "");
    let direct = link("bob.example.com", 1080, true);
    for (auth, reason, words) in [
        (OutboundAuth::Mtls, "CertificateRefused", "networkmesh cert --base64"),
        (OutboundAuth::None, "AuthenticationWanted", "authenticationType"),
    ] {
        let route = OutboundRoute { auth, ..direct.clone() };
        let_judge(&refused, &route, reason, words);
        assert!(matches!(
            of_data_path(&refused, &route),
            DataPath::Closed(Finding { layer: Layer::Trust, .. })
        ));
    }
}

/// The way to dave, by way of bob.
fn detour() -> OutboundRoute {
    let next = link("bob.example.com", 1080, false);
    let mut object = next.object.clone();
    object.name = "alice-dave".to_owned();
    OutboundRoute {
        object,
        destination: "dave".parse().unwrap(),
        way: Way::Transit(Transit { domains: ["bob".parse().unwrap()].into(), next: next.clone().into() }),
        auth: OutboundAuth::None,
        ..next
    }
}

#[tokio::test]
async fn what_stops_requests_on_a_detour_names_the_gateway_that_did() {
    let bobs = |details: &str| format!("<alice/a/internal> => <bob/gw/external ${details}$ x>");
    let carols = |details: &str| {
        format!("<alice/a/internal> => <bob/gw/external> => <carol/c/external ${details}$ x>")
    };
    let daves = |details: &str| {
        format!(
            "<alice/a/internal> => <bob/gw/external> => <carol/c/external> => <dave/d/external ${details}$ x>"
        )
    };
    let cases = [
        (403, bobs("forward_not_allowed"), "ForwardNotAllowed", "add this DomainRoute alice-dave"),
        (403, carols("forward_not_allowed"), "ForwardNotAllowed", "the operator of carol"),
        (403, carols("rbac_access_denied_matched_policy[address_not_allowed]"), "AddressNotAllowed", "carol"),
        (508, carols("transit_loop"), "TransitLoop", "carol/c/external"),
        (503, bobs("token_missing"), "HopNotReady", "bob/gw/external"),
        (401, carols("rbac"), "HopNotAuthenticated", "before carol"),
        (404, bobs("cluster_not_found"), "NoWayOnward", "from bob to dave"),
        (503, carols("upstream_reset{x}"), "FailedInTransit", "the operator of carol"),
        (503, "<alice/a/internal $token_missing$ x>".to_owned(), "HopNotReady", "route alice-bob"),
    ];
    for (status, message, reason, words) in cases {
        let_judge(&answer(status, &[("kuscia-error-message", &message)], ""), &detour(), reason, words);
        let finding = diagnose(&http(status, &message), &detour()).await.unwrap();
        assert_eq!((finding.layer, finding.reason), (Layer::Reach, reason), "{message}");
    }
    // The gateway before dave is not let in, or dave's own fails.
    for (status, details, reason) in [(401, "rbac", "HopNotAuthenticated"), (503, "overload", "FailedAtPeer")]
    {
        let message = daves(details);
        let_judge(&answer(status, &[("kuscia-error-message", &message)], ""), &detour(), reason, "dave");
    }
    let_judge(&answer(404, &[("kuscia-error-message", &daves("x"))], ""), &detour(), "AnsweredAsKuscia", "");

    let refused = "<alice/a/internal $upstream_reset{remote_connection_failure|Connection_refused}$ x>";
    let finding = diagnose(&http(503, refused), &detour()).await.unwrap();
    assert_eq!(finding.reason, "ConnectionRefused");
    assert!(finding.message.contains("route alice-bob") && finding.message.contains("dave"), "{finding:?}");
}

#[test]
fn an_answer_that_passed_gateways_tells_the_path() {
    let DataPath::Open { path, .. } =
        of_data_path(&answer(200, &[("kuscia-datapath", "bob, carol, dave")], ""), &detour())
    else {
        panic!("it is open");
    };
    assert_eq!(path.unwrap().to_string(), "answered by dave by way of bob, carol");
    let_judge(
        &answer(200, &[("kuscia-datapath", "bob, carol")], ""),
        &detour(),
        "OtherDomainAnswered",
        "dave",
    );
}

#[tokio::test]
async fn without_handshakes_a_look_decides_why_requests_do_not_get_through() {
    let closed_port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let route = OutboundRoute { auth: OutboundAuth::Mtls, ..to(closed_port, false) };
    let reset = answer(
        503,
        &[("kuscia-error-message", "<alice/a/internal $upstream_reset{remote_connection_failure}$ x>")],
        "",
    );
    let late = Err(CallError::NoAnswer { destination: route.destination.clone(), cause: "late".to_owned() });
    for answer in [reset, late] {
        match of_data_path_alone(answer, &route).await {
            DataPath::Closed(finding) => assert_eq!(finding.reason, "ConnectionRefused"),
            open @ DataPath::Open { .. } => panic!("{open:?}"),
        }
    }
    let well = answer(200, &[("kuscia-datapath", "bob")], "");
    assert!(matches!(of_data_path_alone(well, &route).await, DataPath::Open { .. }));
}
