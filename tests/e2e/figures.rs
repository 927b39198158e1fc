//! What Envoys tell of themselves.

use ::http::Request;
use bytes::Bytes;
use networkmesh::harness::domain::Domain;
use networkmesh::http::{Limits, Target, send};

use super::world::DEADLINE;

/// What the admin interface of the Envoy of `domain` answers.
pub(crate) async fn envoy_says(domain: &Domain, path: &str) -> String {
    let request = Request::get(path).header("host", "envoy").body(Bytes::new()).unwrap();
    let limits = Limits { total: DEADLINE, ..Limits::default() };
    let answer = send(&Target::Tcp(domain.addresses.envoy_admin), request, limits).await.unwrap();
    assert_eq!(answer.status(), 200, "{answer:?}");
    String::from_utf8(answer.into_body().into()).unwrap()
}

/// The value of a statistic of the Envoy of `domain`.
pub(crate) async fn figure(domain: &Domain, name: &str) -> u64 {
    let stats = envoy_says(domain, "/stats").await;
    let value = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.unwrap_or_else(|| panic!("no {name} in {stats}")).parse().unwrap()
}
