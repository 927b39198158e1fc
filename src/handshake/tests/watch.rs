//! Routes without tokens.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::Snapshot;
use model::api::ConditionStatus;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::world::{Change, Domain, outbound, route};
use crate::handshake::negotiate_all;

const WELL: &str = "HTTP/1.1 200 OK\r\nkuscia-datapath: bob\r\ncontent-length: 0\r\n\r\n";
const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\
                       kuscia-error-message: <alice/a/internal> => <bob/b/external $x$ y>\r\n\r\n";

fn without_tokens(authentication: &str) -> Value {
    let mut route = route("alice", "bob");
    route["spec"]["authenticationType"] = json!(authentication);
    route["spec"]["endpoint"]["ports"][0]["isTLS"] = json!(authentication == "MTLS");
    route["spec"].as_object_mut().unwrap().remove("tokenConfig");
    route
}

/// A gateway that gives the answer of the moment to everybody, and the number of those who have asked.
async fn gateway(answer: &'static str) -> (SocketAddr, Arc<Mutex<(&'static str, usize)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let said = Arc::new(Mutex::new((answer, 0)));
    let says = Arc::clone(&said);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            assert_ne!(stream.read(&mut head).await.unwrap(), 0);
            let answer = {
                let mut says = says.lock().unwrap();
                says.1 += 1;
                says.0
            };
            // The client may have seen enough before the end.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, said)
}

fn says(snapshot: &Snapshot, condition: &str, is: ConditionStatus, reason: &str) -> bool {
    let mut conditions = outbound(snapshot).status.conditions.iter();
    conditions.any(|known| known.type_ == condition && known.status == is && known.reason == reason)
}

#[tokio::test]
async fn a_link_without_tokens_is_looked_at_and_told_of() {
    for (authentication, well, refused) in
        [("None", "NotNeeded", "AuthenticationWanted"), ("MTLS", "CertificateAccepted", "CertificateRefused")]
    {
        let alice = Domain::new("alice", &[without_tokens(authentication)]);
        let (gateway, said) = gateway(REFUSED).await;
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(negotiate_all(
            alice.identity.clone(),
            alice.acceptance(),
            gateway,
            shutdown.clone(),
        ));
        alice.until(|snapshot| says(snapshot, "Authenticated", ConditionStatus::False, refused)).await;
        said.lock().unwrap().0 = WELL;
        let snapshot =
            alice.until(|snapshot| says(snapshot, "Authenticated", ConditionStatus::True, well)).await;
        assert!(says(&snapshot, "Reachable", ConditionStatus::True, "Answered"));
        let snapshot =
            alice.until(|snapshot| says(snapshot, "DataPath", ConditionStatus::True, "Answered")).await;
        assert!(outbound(&snapshot).status.is_destination_authorized);

        // What it writes itself makes it ask nobody again, and a change of the route does.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let before = said.lock().unwrap().1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(said.lock().unwrap().1, before);
        said.lock().unwrap().0 = REFUSED;
        let mut changed = without_tokens(authentication);
        changed["spec"]["endpoint"]["host"] = json!("elsewhere.example.com");
        alice.change(Change::Put(changed)).await;
        alice.until(|snapshot| says(snapshot, "Authenticated", ConditionStatus::False, refused)).await;
        shutdown.cancel();
        task.await.unwrap();
    }
}

#[tokio::test]
async fn one_gateway_looks_for_all_of_its_domain() {
    let alice = Domain::new("alice", &[without_tokens("None")]);
    // By name the other one is the first.
    alice.set_others_alive(&["a"]);
    let (gateway, said) = gateway(WELL).await;
    let shutdown = CancellationToken::new();
    tokio::spawn(negotiate_all(alice.identity.clone(), alice.acceptance(), gateway, shutdown.clone()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(said.lock().unwrap().1, 0, "it is not this gateway's turn");
    alice.set_others_alive(&[]);
    alice.until(|snapshot| says(snapshot, "DataPath", ConditionStatus::True, "Answered")).await;
    shutdown.cancel();
}

#[tokio::test]
async fn a_route_that_gets_tokens_negotiates_and_one_that_loses_them_is_watched() {
    let alice = Domain::new("alice", &[without_tokens("None")]);
    let mut bob = Domain::new("bob", &[route("alice", "bob")]);
    let server = bob.serve().await;
    let shutdown = CancellationToken::new();
    tokio::spawn(negotiate_all(alice.identity.clone(), alice.acceptance(), server, shutdown.clone()));
    alice.until(|snapshot| !outbound(snapshot).status.conditions.is_empty()).await;
    alice.change(Change::Put(route("alice", "bob"))).await;
    alice.until(|snapshot| says(snapshot, "Authenticated", ConditionStatus::True, "TokenReady")).await;
    alice.change(Change::Put(without_tokens("None"))).await;
    // The handshake server is no gateway.
    alice.until(|snapshot| says(snapshot, "Authenticated", ConditionStatus::Unknown, "NotReached")).await;
    shutdown.cancel();
}
