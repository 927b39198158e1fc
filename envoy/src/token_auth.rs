//! Who may enter: one look-up of the source, one of its token, however many domains there are.
//!
//! A header that a request repeats is matched as one value, joined by commas, so it never matches.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::rbac::v3::{Action, rbac};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::r#type::matcher::v3::HttpRequestHeaderMatchInput;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::xds::core::v3::TypedExtensionConfig as MatchExtension;
use model::{InboundAuth, Snapshot};
use prost::{Message, Name as _};

use crate::message::any;
use crate::resource::{Resource, type_url};
use crate::{TOKEN_AUTH, headers};

/// All that are let in. Without a way in, nobody is.
pub(crate) fn extension_config(snapshot: &Snapshot) -> Resource {
    let sources: BTreeMap<String, OnMatch> = snapshot
        .inbound
        .iter()
        .map(|(source, route)| {
            let entry = match &route.auth {
                InboundAuth::None => OnMatch::action(rbac::Action::Allow),
                InboundAuth::Token { accepted, .. } => {
                    let tokens = accepted
                        .iter()
                        .map(|token| (token.value.header_value(), OnMatch::action(rbac::Action::Allow)));
                    OnMatch::matcher(Matcher::of(headers::TOKEN, tokens.collect()))
                }
            };
            (source.to_string(), entry)
        })
        .collect();
    let filter = TokenAuth { matcher: Some(Matcher::of(headers::SOURCE, sources)) };
    let config = TypedExtensionConfig {
        name: TOKEN_AUTH.to_owned(),
        typed_config: Some(Any { type_url: Rbac::type_url(), value: filter.encode_to_vec() }),
    };
    Resource::new(type_url::EXTENSION_CONFIG, TOKEN_AUTH, &config)
}

/// [`Rbac`] and the messages in it, as far as they are needed here, on the same wire. The generated ones hold
/// `HashMap`s, whose order, and with it the encoded bytes, changes from one to the next.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct TokenAuth {
    #[prost(message, optional, tag = "4")]
    matcher: Option<Matcher>,
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

impl Matcher {
    /// Looks the value of `header` up in `map` and denies what it does not hold. Envoy refuses an empty map.
    fn of(header: &str, map: BTreeMap<String, OnMatch>) -> Self {
        let input = HttpRequestHeaderMatchInput { header_name: header.to_owned() };
        let tree = MatcherTree {
            input: Some(MatchExtension { name: header.to_owned(), typed_config: Some(any(&input)) }),
            exact_match_map: Some(MatchMap { map }),
        };
        let is_empty = tree.exact_match_map.as_ref().is_none_or(|map| map.map.is_empty());
        Self {
            matcher_tree: (!is_empty).then_some(tree),
            on_no_match: Some(Box::new(OnMatch::action(rbac::Action::Deny))),
        }
    }
}

impl OnMatch {
    fn matcher(matcher: Matcher) -> Self {
        Self { matcher: Some(Box::new(matcher)), action: None }
    }

    fn action(action: rbac::Action) -> Self {
        let name = match action {
            rbac::Action::Deny => "unauthorized",
            rbac::Action::Allow | rbac::Action::Log => "authorized",
        };
        let action = Action { name: name.to_owned(), action: action.into() };
        let action = MatchExtension { name: "action".to_owned(), typed_config: Some(any(&action)) };
        Self { matcher: None, action: Some(action) }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::xds::r#type::matcher::v3::matcher::{MatcherType, matcher_tree::TreeType};

    use super::*;

    fn decoded(sources: &[&str]) -> envoy_types::pb::xds::r#type::matcher::v3::Matcher {
        let map = sources.iter().map(|source| ((*source).to_owned(), OnMatch::action(rbac::Action::Allow)));
        let filter = TokenAuth { matcher: Some(Matcher::of(headers::SOURCE, map.collect())) };
        Rbac::decode(filter.encode_to_vec().as_slice()).unwrap().matcher.unwrap()
    }

    #[test]
    fn envoy_reads_what_is_written_here() {
        let matcher = decoded(&["alice", "bob"]);
        let Some(MatcherType::MatcherTree(tree)) = matcher.matcher_type else { panic!("no tree") };
        let Some(TreeType::ExactMatchMap(map)) = tree.tree_type else { panic!("no map") };
        assert_eq!(map.map.len(), 2);
        assert!(map.map.contains_key("alice") && map.map.contains_key("bob"));
        assert!(matcher.on_no_match.is_some());
    }

    #[test]
    fn where_nobody_is_known_everybody_is_denied() {
        let matcher = decoded(&[]);
        assert_eq!(matcher.matcher_type, None);
        assert!(matcher.on_no_match.is_some());
    }
}
