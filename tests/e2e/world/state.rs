//! What domains say of themselves.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certs::DomainKey;
use networkmesh::harness::domain::Domain;
use networkmesh::status::RouteStatus;
use serde_json::Value;

use super::eventually;

/// The route of that name in the status of `domain`.
pub(crate) async fn route_status(domain: &Domain, route: &str) -> Result<RouteStatus, String> {
    let status = domain.status().await.map_err(|error| error.to_string())?;
    let found = status.routes.iter().find(|known| known.name == route).cloned();
    found.ok_or_else(|| format!("no route {route} in {status:?}"))
}

/// Waits until `domain` refuses the route for that reason. Answers what it says of that.
pub(crate) async fn refused(domain: &Domain, route: &str, reason: &str) -> String {
    eventually(reason, async || {
        let status = domain.stored_status(route).await.map_err(|error| error.to_string())?;
        let accepted = status.conditions.iter().find(|condition| condition.type_ == "Accepted");
        let refused = accepted.filter(|accepted| accepted.reason == reason);
        refused.map(|refused| refused.message.clone()).ok_or_else(|| format!("{status:?}"))
    })
    .await
}

/// The revision of the token that `source` sends to `destination`, once the destination has confirmed it.
pub(crate) async fn confirmed_revision(source: &Domain, destination: &Domain) -> i64 {
    let name = format!("{}-{}", source.name, destination.name);
    eventually("a confirmed token", async || {
        let route = route_status(source, &name).await?;
        let confirmed = Some(&route).filter(|route| route.holds("Authenticated"));
        let revision = confirmed.and_then(|route| route.token_revisions.last().copied());
        revision.ok_or_else(|| format!("{route:?}"))
    })
    .await
}

/// The private key of `domain`.
pub(crate) fn key_of(domain: &Domain) -> DomainKey {
    let config: Value = serde_json::from_str(&fs::read_to_string(domain.config()).unwrap()).unwrap();
    DomainKey::from_domain_key_data(config["domainKeyData"].as_str().unwrap()).unwrap()
}

/// The token that `source` sends to `destination`.
pub(crate) async fn token(source: &Domain, destination: &str) -> String {
    let status = source.stored_status(&format!("{}-{destination}", source.name)).await.unwrap();
    let sealed = status.token_status.revision_token.token;
    STANDARD.encode(key_of(source).open(&sealed, model::TOKEN_BYTES).unwrap())
}
