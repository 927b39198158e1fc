//! The domains that requests pass on a detour, found out from the routes that one domain knows.

use crate::DomainId;

/// Most domains on the way of a request, its own among them.
pub(super) const MAX_DOMAINS: usize = 16;

/// What a domain knows of the way from one domain to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// From gateway to gateway.
    Direct,
    /// By the way to this domain, and from there.
    Via(DomainId),
    /// There is no way.
    Missing,
}

/// Why requests do not arrive.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DeadEnd {
    /// This route is missing.
    Missing(String),
    /// Of these domains or routes, each leads to the next, and the last is the first.
    Loop(Vec<String>),
    /// There are more domains than requests may pass.
    TooLong,
}

/// Finds out the domains from `source` to `destination`, both among them, each once.
pub(super) fn course(
    source: &DomainId,
    destination: &DomainId,
    mut stretch: impl FnMut(&DomainId, &DomainId) -> Stretch,
) -> Result<Vec<DomainId>, DeadEnd> {
    let mut course = vec![source.clone()];
    let mut ahead = vec![(source.clone(), destination.clone())];
    let mut split: Vec<String> = Vec::new();
    while let Some((from, to)) = ahead.pop() {
        if course.len() + ahead.len() > MAX_DOMAINS {
            return Err(DeadEnd::TooLong);
        }
        match stretch(&from, &to) {
            Stretch::Direct => join(&mut course, to)?,
            Stretch::Missing => return Err(DeadEnd::Missing(format!("{from}-{to}"))),
            Stretch::Via(via) => {
                let name = format!("{from}-{to}");
                // A stretch that comes up again comes up without end.
                if let Some(first) = split.iter().position(|earlier| *earlier == name) {
                    return Err(DeadEnd::Loop(split.drain(first..).chain([name]).collect()));
                }
                split.push(name);
                ahead.extend([(via.clone(), to), (from, via)]);
            }
        }
    }
    Ok(course)
}

/// Puts `next` at the end of `course`, which must not have been there yet.
pub(super) fn join(course: &mut Vec<DomainId>, next: DomainId) -> Result<(), DeadEnd> {
    let first = course.iter().position(|passed| *passed == next);
    course.push(next);
    match first {
        Some(first) => Err(DeadEnd::Loop(course.drain(first..).map(|domain| domain.to_string()).collect())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The course from a to `destination` where these routes make a detour, and the rest goes straight.
    fn found(destination: &str, detours: &[(&str, &str)]) -> Result<String, DeadEnd> {
        let id = |text: &str| text.parse::<DomainId>().unwrap();
        let found = course(&id("a"), &id(destination), |from, to| {
            let name = format!("{from}-{to}");
            match detours.iter().find(|(route, _)| *route == name) {
                Some((_, "")) => Stretch::Missing,
                Some((_, via)) => Stretch::Via(id(via)),
                None => Stretch::Direct,
            }
        });
        found.map(|course| course.iter().map(DomainId::as_str).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn detours_are_followed_on_both_sides_of_the_domain_that_they_name() {
        assert_eq!(found("d", &[]).unwrap(), "a d");
        assert_eq!(found("d", &[("a-d", "b")]).unwrap(), "a b d");
        assert_eq!(found("d", &[("a-d", "b"), ("b-d", "c")]).unwrap(), "a b c d");
        assert_eq!(found("d", &[("a-d", "c"), ("a-c", "b")]).unwrap(), "a b c d");
        assert_eq!(found("e", &[("a-e", "c"), ("a-c", "b"), ("c-e", "d")]).unwrap(), "a b c d e");
    }

    #[test]
    fn loops_are_named() {
        let looped = |routes: &[&str]| Err(DeadEnd::Loop(routes.iter().map(ToString::to_string).collect()));
        assert_eq!(found("b", &[("a-b", "c"), ("a-c", "b")]), looped(&["a-b", "a-c", "a-b"]));
        assert_eq!(found("d", &[("a-d", "b"), ("b-d", "a")]), looped(&["a", "b", "a"]));
        assert_eq!(found("d", &[("a-d", "b"), ("a-b", "c"), ("b-d", "c")]), looped(&["c", "b", "c"]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = |name: &str| Err(DeadEnd::Missing(name.into()));
        assert_eq!(found("d", &[("a-d", "b"), ("a-b", "")]), missing("a-b"));
        assert_eq!(found("d", &[("a-d", "b"), ("b-d", "")]), missing("b-d"));
    }

    #[test]
    fn a_course_without_end_is_given_up() {
        let domains: Vec<String> = (0..20).map(|number| format!("d{number}")).collect();
        let names: Vec<String> = domains.iter().map(|domain| format!("a-{domain}")).collect();
        let detours: Vec<(&str, &str)> =
            names.iter().map(String::as_str).zip(domains[1..].iter().map(String::as_str)).collect();
        assert_eq!(found("d0", &detours), Err(DeadEnd::TooLong));
        assert!(found("d5", &detours[5..15]).is_ok());
    }
}
