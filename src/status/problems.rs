//! What is not as it should be.

use jiff::Timestamp;
use model::api::ConditionStatus;

use super::{RouteStatus, Status};
use crate::source::Severity;

/// Everything in `status` that is not as it should be at `now`. Every line names the thing and what is wrong with it.
pub(super) fn problems(status: &Status, ready: bool, now: Timestamp) -> Vec<String> {
    let mut problems = Vec::new();
    if !ready {
        problems.push("no configuration is loaded yet".to_owned());
    }
    let errors = status.source.problems.iter().filter(|problem| problem.severity == Severity::Error);
    problems.extend(errors.map(|problem| format!("{}: {}", problem.file.display(), problem.message)));
    for object in &status.rejected {
        problems.extend(object.errors.iter().map(|error| format!("{}: {error}", object.object)));
    }
    problems.extend(status.routes.iter().flat_map(of_route));
    if status.envoys.is_empty() {
        problems
            .push("no Envoy is connected; start one with the output of `networkmesh bootstrap`".to_owned());
    }
    for envoy in &status.envoys {
        let rejected = envoy.rejected.iter();
        problems.extend(
            rejected.map(|nack| format!("Envoy {} rejects {}: {}", envoy.node, nack.resource, nack.message)),
        );
    }
    if let Some(certificate) = &status.certificate {
        problems.extend(certificate.error.iter().map(|error| format!("certificate not renewed: {error}")));
        if certificate.not_after < now {
            problems.push("the certificate of the external listener has expired".to_owned());
        }
    }
    problems
}

/// What was said about tokens while the route had some counts no more when it has none.
fn of_route(route: &RouteStatus) -> Vec<String> {
    if route.authentication != "Token" {
        return Vec::new();
    }
    let failed = route
        .conditions
        .iter()
        .filter(|condition| condition.type_ == "Authenticated" && condition.status == ConditionStatus::False);
    let failed =
        failed.map(|condition| format!("route {}: {}: {}", route.name, condition.reason, condition.message));
    let tokenless = route.direction == "outbound" && route.token_revisions.is_empty();
    let tokenless =
        tokenless.then(|| format!("route {}: no token is negotiated with {} yet", route.name, route.peer));
    failed.chain(tokenless).collect()
}
