//! What strangers, partners and applications get who write requests that no gateway would.

mod applications;
mod detours;
mod floods;
mod frames;
mod framing;
mod headers;
mod hosts;
mod http2;
mod paths;
mod slow;
mod wire;

use networkmesh::harness::domain::Domain;
use networkmesh::harness::echo::Echoed;

use self::wire::{Answer, Draft, ask_all};
use super::figures::figure;
use super::world::World;

const ECHO: &str = "echo.bob.svc";
const HANDSHAKE: &str = "kuscia-handshake.bob.svc";

/// Sends each case to bob's gateway. Each gets its status and nothing else, and none comes to the service.
async fn assert_refused(world: &World, cases: impl IntoIterator<Item = (impl Into<String>, u16, Draft)>) {
    let before = requests_of(&world.bob, "echo").await;
    let (cases, drafts): (Vec<_>, Vec<_>) =
        cases.into_iter().map(|(case, status, draft)| ((case.into(), status), draft)).unzip();
    let answers = ask_all(world.bob.addresses.external, drafts).await;
    for ((case, status), answers) in cases.into_iter().zip(answers) {
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [status], "{case}: {answers:?}");
    }
    assert_eq!(requests_of(&world.bob, "echo").await, before, "a refused request came to the service");
}

/// Sends each case to bob's gateway. Each is answered once, by `echo`; what it saw is under the case's name.
async fn all_served(
    world: &World,
    cases: impl IntoIterator<Item = (impl Into<String>, Draft)>,
) -> Vec<(String, Echoed)> {
    let (cases, drafts): (Vec<String>, Vec<_>) =
        cases.into_iter().map(|(case, draft)| (case.into(), draft)).unzip();
    let answers = ask_all(world.bob.addresses.external, drafts).await;
    cases.into_iter().zip(answers).map(|(case, answers)| (case.clone(), only_echo(&case, &answers))).collect()
}

/// What the echo service saw, if it gave the only answer.
#[track_caller]
fn only_echo(case: &str, answers: &[Answer]) -> Echoed {
    let [answer] = answers else { panic!("{case}: {answers:?}") };
    assert_eq!(answer.status, 200, "{case}: {answer:?}");
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{case}: {error}: {answer:?}"))
}

/// What a service must see of every request that alice's token let in.
#[track_caller]
fn assert_from_alice(case: &str, seen: &Echoed) {
    assert_eq!(seen.service, "echo.bob", "{case}");
    for (name, value) in [("kuscia-source", "alice"), ("kuscia-origin-source", "alice"), ("host", ECHO)] {
        assert_eq!(seen.headers.get(name).map(String::as_str), Some(value), "{case}: {name} of {seen:?}");
    }
    assert_nothing_private(case, seen);
}

/// Neither tokens nor what gateways tell themselves come to a service.
#[track_caller]
fn assert_nothing_private(case: &str, seen: &Echoed) {
    let is_private = |name: &&String| {
        *name == "kuscia-token" || *name == "x-envoy-external-address" || name.starts_with("x-nm-")
    };
    assert_eq!(seen.headers.keys().find(is_private), None, "{case}: {seen:?}");
}

/// Requests that Envoy of `domain` has sent to a service of it.
async fn requests_of(domain: &Domain, service: &str) -> u64 {
    figure(domain, &format!("cluster.svc|{service}.{}.svc.upstream_rq_total", domain.name)).await
}
