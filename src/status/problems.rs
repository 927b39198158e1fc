//! What is not as it should be.

use jiff::Timestamp;
use model::api::Condition;

use super::{RouteStatus, Status};
use crate::source::Severity;

/// Everything in `status` that is not as it should be at `now`. Every line names the thing and what is wrong with it.
pub(super) fn problems(status: &Status, ready: bool, now: Timestamp) -> Vec<String> {
    let mut problems = Vec::new();
    if !ready {
        problems.push("no configuration is loaded yet".to_owned());
    }
    let errors = status.source.problems.iter().filter(|problem| problem.severity == Severity::Error);
    problems.extend(errors.map(|problem| format!("{}: {}", problem.place, problem.message)));
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
        problems.extend(rejected.map(|nack| {
            // Envoy tells of several resources in several lines.
            let message = nack.message.lines().collect::<Vec<_>>().join(" ");
            let object = nack.object.iter().map(|object| format!("{object}: ")).collect::<String>();
            format!("{object}Envoy {} rejects {}: {message}", envoy.node, nack.resource)
        }));
    }
    let upstreams = &status.dns.upstreams;
    if !upstreams.is_empty() && upstreams.iter().all(|upstream| !upstream.answers) {
        let addresses: Vec<&str> = upstreams.iter().map(|upstream| upstream.address.as_str()).collect();
        let addresses = addresses.join(", ");
        problems.push(format!(
            "no upstream DNS server answers ({addresses}), so that names of others do not resolve; correct dns.upstreams, or see to the network"
        ));
    }
    let certificates = [
        ("certificate of the external listener", &status.certificate),
        ("client certificate", &status.client_certificate),
    ];
    for (name, certificate) in certificates {
        let Some(certificate) = certificate else { continue };
        problems.extend(certificate.error.iter().map(|error| format!("{name} not renewed: {error}")));
        if certificate.not_after < now {
            problems.push(format!("the {name} has expired"));
        }
    }
    problems
}

/// The conditions of the link to the destination.
const LINK: [&str; 3] = ["Reachable", "Authenticated", "DataPath"];

fn of_route(route: &RouteStatus) -> Vec<String> {
    // What a rejected manifest or resource is about stands in lines of its own.
    let mut failed = route.failed().filter(|condition| LINK.contains(&condition.type_.as_str()));
    let failed = failed.next().map(|condition| {
        let Condition { reason, message, .. } = condition;
        format!("route {}: {reason}: {message}", route.name)
    });
    let has_tokens = route.authentication == "Token" && route.direction == "outbound";
    let tokenless = has_tokens && route.token_revisions.is_empty();
    let tokenless =
        tokenless.then(|| format!("route {}: no token is negotiated with {} yet", route.name, route.peer));
    failed.into_iter().chain(tokenless).collect()
}

#[cfg(test)]
mod tests {
    use model::api::ConditionStatus;

    use super::*;
    use crate::source::SourceProblem;
    use crate::status::tests::{condition, well};
    use crate::status::{RejectedObject, RejectedResource};

    /// The problems of a status that is well but for `change`.
    fn after(change: impl FnOnce(&mut Status)) -> Vec<String> {
        let mut status = well();
        change(&mut status);
        problems(&status, true, Timestamp::from_second(500).expect("a time"))
    }

    #[test]
    fn where_all_is_well_there_is_no_problem() {
        assert_eq!(after(|_| {}), [] as [&str; 0]);
    }

    #[test]
    fn each_problem_names_its_thing() {
        let source = |severity| SourceProblem {
            place: "a.yaml".to_owned(),
            severity,
            message: "is broken".to_owned(),
        };
        assert_eq!(
            after(|status| status.source.problems.push(source(Severity::Error))),
            ["a.yaml: is broken"]
        );
        assert_eq!(after(|status| status.source.problems.push(source(Severity::Warning))), [] as [&str; 0]);

        let rejected = RejectedObject {
            object: "DomainRoute alice/alice-bob".to_owned(),
            errors: vec!["spec.a: is wrong".to_owned(), "spec.b: is wrong".to_owned()],
        };
        assert_eq!(
            after(|status| status.rejected.push(rejected)),
            [
                "DomainRoute alice/alice-bob: spec.a: is wrong",
                "DomainRoute alice/alice-bob: spec.b: is wrong"
            ]
        );

        let nack = |object: Option<&str>| RejectedResource {
            resource: "Cluster a".to_owned(),
            object: object.map(ToOwned::to_owned),
            message: "bad".to_owned(),
        };
        assert_eq!(
            after(|status| status.envoys[0].rejected.extend([nack(None), nack(Some("Service alice/a"))])),
            ["Envoy gateway rejects Cluster a: bad", "Service alice/a: Envoy gateway rejects Cluster a: bad"]
        );
        let [alone] = after(|status| status.envoys.clear()).try_into().expect("one problem");
        assert!(alone.contains("networkmesh bootstrap"), "{alone}");
    }

    #[test]
    fn a_route_is_a_problem_while_any_condition_of_its_link_fails() {
        let failed = |status: &mut Status| {
            status.routes[0].conditions = vec![
                condition("Authenticated", ConditionStatus::False),
                Condition { reason: "First".to_owned(), ..condition("Reachable", ConditionStatus::False) },
            ];
        };
        assert_eq!(after(failed), ["route alice-bob: First: message"], "one line, of what comes first");
        for type_ in LINK {
            let alone = |status: &mut Status| {
                status.routes[0].conditions = vec![condition(type_, ConditionStatus::False)];
            };
            assert_eq!(after(alone), ["route alice-bob: Reason: message"], "{type_}");
        }
        let rejected = |status: &mut Status| {
            status.routes[0].conditions = vec![condition("Programmed", ConditionStatus::False)];
        };
        assert_eq!(after(rejected), [] as [&str; 0], "the rejection is a problem of its own");
        for authentication in ["MTLS", "None"] {
            let without_tokens = |status: &mut Status| {
                failed(status);
                status.routes[0].authentication = authentication.to_owned();
                status.routes[0].token_revisions.clear();
            };
            assert_eq!(after(without_tokens), ["route alice-bob: First: message"], "it lacks no token");
        }
    }

    #[test]
    fn only_a_way_out_lacks_a_token() {
        let tokenless = |direction: &'static str| {
            after(|status| {
                status.routes[0].direction = direction.to_owned();
                status.routes[0].token_revisions.clear();
            })
        };
        assert_eq!(tokenless("outbound"), ["route alice-bob: no token is negotiated with bob yet"]);
        assert_eq!(tokenless("inbound"), [] as [&str; 0]);
    }

    #[test]
    fn certificates_that_end_or_are_not_renewed_are_problems() {
        let renewal = |status: &mut Status| {
            for certificate in [&mut status.certificate, &mut status.client_certificate].into_iter().flatten()
            {
                certificate.error = Some("no randomness".to_owned());
            }
        };
        assert_eq!(
            after(renewal),
            [
                "certificate of the external listener not renewed: no randomness",
                "client certificate not renewed: no randomness"
            ]
        );
        let later = Timestamp::from_second(2001).expect("a time");
        assert_eq!(
            problems(&well(), true, later),
            ["the certificate of the external listener has expired", "the client certificate has expired"]
        );
    }

    #[test]
    fn upstreams_are_a_problem_once_none_answers() {
        let silent = |status: &mut Status| status.dns.upstreams[0].answers = false;
        let [problem] = after(silent).try_into().expect("one problem");
        assert!(problem.contains("192.0.2.53:53") && problem.contains("dns.upstreams"), "{problem}");
        let one_of_two = |status: &mut Status| {
            status.dns.upstreams.push(status.dns.upstreams[0].clone());
            silent(status);
        };
        assert_eq!(after(one_of_two), [] as [&str; 0]);
        assert_eq!(after(|status| status.dns.upstreams.clear()), [] as [&str; 0], "none is wanted");
    }

    #[test]
    fn a_mesh_that_has_loaded_nothing_says_so() {
        let now = Timestamp::from_second(0).expect("a time");
        assert_eq!(problems(&well(), false, now), ["no configuration is loaded yet"]);
    }
}
