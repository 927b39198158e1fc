//! Requests of other domains for other domains, of which this gateway forwards those that it was told to.
//!
//! They go on by the transit listener, which sends them as the internal one sends those of applications: by the route to
//! their destination, with its token. Only where they began stays as it is.

use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, Route, RouteAction,
    header_matcher::HeaderMatchSpecifier,
    route::Action,
    route_action::{ClusterSpecifier, HostRewriteSpecifier},
};
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, string_matcher::MatchPattern};
use model::{DomainId, Forward, InboundRoute};

use super::{any_path, header_matches, refusal, route_action, route_to, with_connect};
use crate::gateway::Gateway;
use crate::headers::{self, append, overwrite, overwrite_if_present};
use crate::transit::TRANSIT;

/// Longest expression of [`one_of`]. Envoy refuses routes with one whose program is longer than 100 instructions, of which
/// each character costs one.
const MAX_EXPRESSION: usize = 80;

/// The routes of what `route`'s source asks of other domains.
pub(super) fn forwarded(route: &InboundRoute, gateway: &Gateway) -> Vec<Route> {
    let permitted = route.forwards.iter().flat_map(|forward| permitted(forward, &route.source, gateway));
    let looped = refusal(gateway, 508, "transit_loop", "the request has passed this gateway before.");
    let other =
        refusal(gateway, 403, "forward_not_allowed", "this domain may not be called by way of this one.");
    let refused = |refusal: Route, headers: Vec<HeaderMatcher>| {
        with_connect(Route {
            r#match: Some(any_path([elsewhere(gateway).to_vec(), headers].concat())),
            ..refusal
        })
    };
    let looped = if route.forwards.is_empty() {
        Vec::new()
    } else {
        refused(looped, vec![has_passed(gateway)]).into()
    };
    looped.into_iter().chain(permitted).chain(refused(other, Vec::new())).collect()
}

/// What goes to one destination: requests that began where `source` may say so, and those of which it says nothing, which
/// are its own.
fn permitted(forward: &Forward, source: &DomainId, gateway: &Gateway) -> Vec<Route> {
    let host = matches(headers::HOST, format!(r"[\w-]+\.{}\.svc", forward.destination));
    let named = one_of(headers::ORIGIN_SOURCE, &forward.origins)
        .map(|begun| Route { r#match: Some(any_path(vec![host.clone(), begun])), ..onward(gateway) });
    let unnamed = forward.origins.contains(source).then(|| {
        let mut route = onward(gateway);
        route.request_headers_to_add.push(overwrite(headers::ORIGIN_SOURCE, source.as_str()));
        Route { r#match: Some(any_path(vec![host.clone(), is_missing(headers::ORIGIN_SOURCE)])), ..route }
    });
    named.chain(unnamed).flat_map(with_tunnel).collect()
}

/// To the transit listener, which says whose next request it is, and is named in errors.
fn onward(gateway: &Gateway) -> Route {
    let domain = &gateway.domain;
    let action = RouteAction {
        host_rewrite_specifier: Some(HostRewriteSpecifier::HostRewriteHeader(headers::HOST.to_owned())),
        ..route_action(ClusterSpecifier::Cluster(TRANSIT.to_owned()))
    };
    Route {
        request_headers_to_add: vec![append(headers::VIA, via(domain))],
        // Addresses of one partner are none of another's business.
        request_headers_to_remove: vec![headers::FORWARDED_FOR.to_owned()],
        response_headers_to_add: vec![overwrite_if_present(
            headers::DATAPATH,
            format!("{domain}, %RESP({})%", headers::DATAPATH),
        )],
        ..route_to(any_path(Vec::new()), action)
    }
}

/// `CONNECT` is passed on too: the tunnel begins at the destination's gateway. Its host must name a port (RFC 9110, section
/// 9.3.6), which nobody reads, since a service has only one.
fn with_tunnel(route: Route) -> [Route; 2] {
    let [route, mut tunnel] = with_connect(route);
    if let Some(Action::Route(action)) = &mut tunnel.action {
        let host = format!("%REQ({})%:80", headers::HOST);
        action.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewrite(host));
    }
    [route, tunnel]
}

/// The host is a service of another domain.
fn elsewhere(gateway: &Gateway) -> [HeaderMatcher; 2] {
    let own = header_matches(headers::HOST, MatchPattern::Suffix(format!(".{}.svc", gateway.domain)));
    [matches(headers::HOST, r"[^,]*\.svc".to_owned()), HeaderMatcher { invert_match: true, ..own }]
}

fn has_passed(gateway: &Gateway) -> HeaderMatcher {
    let entry = via(&gateway.domain).replace('.', r"\.");
    matches(headers::VIA, format!(r"(?:.*[,\s])?{entry}(?:[,\s(].*)?"))
}

/// How this gateway names itself to those after it.
fn via(domain: &DomainId) -> String {
    format!("1.1 {domain}.svc")
}

/// The header names one of the domains, if one of these holds. Who repeats it is not let in.
pub(super) fn one_of(header: &str, domains: &[DomainId]) -> impl Iterator<Item = HeaderMatcher> {
    let mut expressions: Vec<String> = Vec::new();
    for domain in domains {
        match expressions.last_mut() {
            Some(last) if last.len() + 1 + domain.as_str().len() <= MAX_EXPRESSION => {
                last.push('|');
                last.push_str(domain.as_str());
            }
            _ => expressions.push(domain.to_string()),
        }
    }
    expressions.into_iter().map(move |expression| matches(header, expression))
}

fn is_missing(header: &str) -> HeaderMatcher {
    HeaderMatcher {
        name: header.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(false)),
        ..HeaderMatcher::default()
    }
}

/// The whole of a value of the header matches `regex` (RE2).
fn matches(header: &str, regex: String) -> HeaderMatcher {
    header_matches(header, MatchPattern::SafeRegex(RegexMatcher { regex, ..RegexMatcher::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expressions(domains: &[DomainId]) -> Vec<String> {
        let expression = |matcher: HeaderMatcher| match matcher.header_match_specifier {
            Some(HeaderMatchSpecifier::StringMatch(matcher)) => match matcher.match_pattern {
                Some(MatchPattern::SafeRegex(expression)) => expression.regex,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        one_of(headers::ORIGIN_SOURCE, domains).map(expression).collect()
    }

    #[test]
    fn many_domains_make_several_expressions_of_which_none_is_too_long() {
        let domains: Vec<DomainId> =
            (1..=63).cycle().take(500).map(|n| "a".repeat(n).parse().unwrap()).collect();
        let found = expressions(&domains);
        assert!(found.iter().all(|expression| expression.len() <= MAX_EXPRESSION), "{found:?}");
        let names: Vec<&str> = found.iter().flat_map(|expression| expression.split('|')).collect();
        assert_eq!(names, domains.iter().map(DomainId::as_str).collect::<Vec<_>>());
        assert_eq!(expressions(&domains[..3]), ["a|aa|aaa"]);
        assert!(expressions(&[]).is_empty());
    }
}
