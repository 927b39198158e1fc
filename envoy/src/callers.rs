//! Who may enter, and who may call what.
//!
//! A header that a request repeats is matched as one value, joined by commas, so it never matches.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::rbac::v3::{Action, rbac};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::{Rbac, RbacPerRoute};
use envoy_types::pb::envoy::r#type::matcher::v3::HttpRequestHeaderMatchInput;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::xds::core::v3::TypedExtensionConfig as MatchExtension;
use model::{Access, DomainId, InboundAuth, InboundRoute, PortScope, Service};
use prost::{Message, Name as _};

use crate::headers;
use crate::message::any;
use crate::proof::policy_of;

/// Name of the policy that lets a request in.
const ALLOWED: &str = "allowed";

/// Why a request is denied. Envoy puts the name into the response code details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The source is unknown, or did not prove itself.
    Unauthorized,
    /// The source may not call this service.
    DomainNotAllowed,
    /// No other domain may call this service.
    UnknownService,
}

impl Denied {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::DomainNotAllowed => "domain_not_allowed",
            Self::UnknownService => "unknown_service",
        }
    }
}

/// Lets nobody in: what holds for a request without a route configuration, as its source is unknown.
pub(crate) fn nobody() -> Any {
    Filter::new(Matcher::deny(Denied::Unauthorized)).any()
}

/// Lets the route's source in, if it has one of the route's tokens. A token that is used for the first time is let in by
/// a policy of its own name, which [`proof`](crate::proof) tells the mesh.
///
/// The source was looked up before; it is compared once more because a request may name several.
pub(crate) fn token_of(route: &InboundRoute) -> Any {
    let proof = match &route.auth {
        InboundAuth::Mtls { .. } | InboundAuth::None => OnMatch::allow(),
        InboundAuth::Token { accepted, .. } => {
            let tokens = accepted.iter().map(|token| {
                let policy = if token.proven { ALLOWED } else { &policy_of(&route.source, token.revision) };
                (token.value.header_value(), OnMatch::action(rbac::Action::Allow, policy))
            });
            OnMatch::matcher(Matcher::of(headers::TOKEN, tokens, Denied::Unauthorized))
        }
    };
    let source = [(route.source.to_string(), proof)].into_iter();
    let rbac = Some(Filter::new(Matcher::of(headers::SOURCE, source, Denied::Unauthorized)));
    Any { type_url: RbacPerRoute::type_url(), value: PerRoute { rbac }.encode_to_vec() }
}

/// Lets the sources that may call `service` through, of which `domain` itself is one; `None` if all may.
pub(crate) fn callers_of(service: &Service, domain: &DomainId) -> Option<Any> {
    let own = || [(domain.to_string(), OnMatch::allow())].into_iter();
    let matcher = match (&service.scope, &service.access) {
        (PortScope::Cluster, Access::Anyone) => return None,
        (PortScope::Cluster, Access::Only(domains)) => {
            let callers = own().chain(domains.iter().map(|domain| (domain.to_string(), OnMatch::allow())));
            Matcher::of(headers::SOURCE, callers, Denied::DomainNotAllowed)
        }
        (PortScope::Domain | PortScope::Local, _) => {
            Matcher::of(headers::SOURCE, own(), Denied::UnknownService)
        }
    };
    Some(Filter::new(matcher).any())
}

/// [`Rbac`] and the messages in it, as far as they are needed here, on the same wire. The generated ones hold
/// `HashMap`s, whose order, and with it the encoded bytes, changes from one to the next.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct Filter {
    #[prost(message, optional, tag = "4")]
    matcher: Option<Matcher>,
}

/// [`RbacPerRoute`]: the filter that takes the place of the listener's, or none.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct PerRoute {
    #[prost(message, optional, tag = "2")]
    rbac: Option<Filter>,
}

/// `xds.type.matcher.v3.Matcher`.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct Matcher {
    #[prost(message, optional, tag = "2")]
    matcher_tree: Option<MatcherTree>,
    #[prost(message, optional, boxed, tag = "3")]
    on_no_match: Option<Box<OnMatch>>,
}

/// `xds.type.matcher.v3.Matcher.MatcherTree`.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct MatcherTree {
    #[prost(message, optional, tag = "1")]
    input: Option<MatchExtension>,
    #[prost(message, optional, tag = "2")]
    exact_match_map: Option<MatchMap>,
}

/// `xds.type.matcher.v3.Matcher.MatcherTree.MatchMap`.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct MatchMap {
    #[prost(btree_map = "string, message", tag = "1")]
    map: BTreeMap<String, OnMatch>,
}

/// `xds.type.matcher.v3.Matcher.OnMatch`: one of the two.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct OnMatch {
    #[prost(message, optional, boxed, tag = "1")]
    matcher: Option<Box<Matcher>>,
    #[prost(message, optional, tag = "2")]
    action: Option<MatchExtension>,
}

impl Filter {
    fn new(matcher: Matcher) -> Self {
        Self { matcher: Some(matcher) }
    }

    fn any(&self) -> Any {
        Any { type_url: Rbac::type_url(), value: self.encode_to_vec() }
    }
}

impl Matcher {
    fn deny(reason: Denied) -> Self {
        let deny = OnMatch::action(rbac::Action::Deny, reason.name());
        Self { matcher_tree: None, on_no_match: Some(Box::new(deny)) }
    }

    /// Looks the value of `header` up in `map`. Envoy refuses an empty one.
    fn of(header: &str, map: impl Iterator<Item = (String, OnMatch)>, otherwise: Denied) -> Self {
        let input = HttpRequestHeaderMatchInput { header_name: header.to_owned() };
        let map: BTreeMap<_, _> = map.collect();
        let tree = (!map.is_empty()).then(|| MatcherTree {
            input: Some(MatchExtension { name: header.to_owned(), typed_config: Some(any(&input)) }),
            exact_match_map: Some(MatchMap { map }),
        });
        Self { matcher_tree: tree, ..Self::deny(otherwise) }
    }
}

impl OnMatch {
    fn matcher(matcher: Matcher) -> Self {
        Self { matcher: Some(Box::new(matcher)), action: None }
    }

    fn allow() -> Self {
        Self::action(rbac::Action::Allow, ALLOWED)
    }

    fn action(action: rbac::Action, name: &str) -> Self {
        let action = Action { name: name.to_owned(), action: action.into() };
        let action = MatchExtension { name: "action".to_owned(), typed_config: Some(any(&action)) };
        Self { matcher: None, action: Some(action) }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::xds::r#type::matcher::v3::matcher::{MatcherType, matcher_tree::TreeType};

    use super::*;

    fn decoded(values: &[&str]) -> envoy_types::pb::xds::r#type::matcher::v3::Matcher {
        let values = values.iter().map(|value| ((*value).to_owned(), OnMatch::allow()));
        let rbac = Some(Filter::new(Matcher::of(headers::TOKEN, values, Denied::Unauthorized)));
        let per_route = RbacPerRoute::decode(PerRoute { rbac }.encode_to_vec().as_slice()).unwrap();
        per_route.rbac.unwrap().matcher.unwrap()
    }

    #[test]
    fn envoy_reads_what_is_written_here() {
        let matcher = decoded(&["one", "two"]);
        let Some(MatcherType::MatcherTree(tree)) = matcher.matcher_type else { panic!("no tree") };
        let Some(TreeType::ExactMatchMap(map)) = tree.tree_type else { panic!("no map") };
        assert_eq!(map.map.len(), 2);
        assert!(map.map.contains_key("one") && map.map.contains_key("two"));
        assert!(matcher.on_no_match.is_some());
    }

    #[test]
    fn where_nothing_is_allowed_everything_is_denied() {
        let matcher = decoded(&[]);
        assert_eq!(matcher.matcher_type, None);
        assert!(matcher.on_no_match.is_some());
    }
}
