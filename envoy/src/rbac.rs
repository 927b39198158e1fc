//! [`Rbac`] and the messages in it, as far as they are needed here, on the same wire.
//!
//! The generated ones hold `HashMap`s, whose order, and with it the encoded bytes, changes from one to the next.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::rbac::v3::{Action, rbac};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::{Rbac, RbacPerRoute};
use envoy_types::pb::envoy::extensions::matching::common_inputs::network::v3::SourceIpInput;
use envoy_types::pb::envoy::extensions::matching::input_matchers::ip::v3::Ip;
use envoy_types::pb::envoy::r#type::matcher::v3::HttpRequestHeaderMatchInput;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::xds::core::v3::TypedExtensionConfig as MatchExtension;
use envoy_types::pb::xds::r#type::matcher::v3::matcher::matcher_list::{
    Predicate,
    predicate::{MatchType, SinglePredicate, single_predicate},
};
use prost::{Message, Name};

use crate::message::any;

/// The filter's configuration.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct Filter {
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

/// `xds.type.matcher.v3.Matcher`: a list or a tree.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct Matcher {
    #[prost(message, optional, tag = "1")]
    matcher_list: Option<MatcherList>,
    #[prost(message, optional, tag = "2")]
    matcher_tree: Option<MatcherTree>,
    #[prost(message, optional, boxed, tag = "3")]
    on_no_match: Option<Box<OnMatch>>,
}

/// `xds.type.matcher.v3.Matcher.MatcherList`.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct MatcherList {
    #[prost(message, repeated, tag = "1")]
    matchers: Vec<FieldMatcher>,
}

/// `xds.type.matcher.v3.Matcher.MatcherList.FieldMatcher`.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct FieldMatcher {
    #[prost(message, optional, tag = "1")]
    predicate: Option<Predicate>,
    #[prost(message, optional, tag = "2")]
    on_match: Option<OnMatch>,
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
pub(crate) struct OnMatch {
    #[prost(message, optional, boxed, tag = "1")]
    matcher: Option<Box<Matcher>>,
    #[prost(message, optional, tag = "2")]
    action: Option<MatchExtension>,
}

impl Filter {
    pub(crate) fn new(matcher: Matcher) -> Self {
        Self { matcher: Some(matcher) }
    }

    /// As the configuration of a filter.
    pub(crate) fn any(&self) -> Any {
        Any { type_url: Rbac::type_url(), value: self.encode_to_vec() }
    }

    /// As that which takes the place of the listener's.
    pub(crate) fn per_route(self) -> Any {
        Any { type_url: RbacPerRoute::type_url(), value: PerRoute { rbac: Some(self) }.encode_to_vec() }
    }
}

impl Matcher {
    /// The same for every request.
    pub(crate) fn always(decision: OnMatch) -> Self {
        Self { matcher_list: None, matcher_tree: None, on_no_match: Some(Box::new(decision)) }
    }

    /// Looks the value of `header` up in `map`. Envoy refuses an empty one.
    pub(crate) fn header(
        header: &str,
        map: impl Iterator<Item = (String, OnMatch)>,
        otherwise: OnMatch,
    ) -> Self {
        let input = HttpRequestHeaderMatchInput { header_name: header.to_owned() };
        let map: BTreeMap<_, _> = map.collect();
        let tree = (!map.is_empty()).then(|| MatcherTree {
            input: Some(named(header, &input)),
            exact_match_map: Some(MatchMap { map }),
        });
        Self { matcher_tree: tree, ..Self::always(otherwise) }
    }

    /// Looks for the client's address in `networks`.
    pub(crate) fn address(networks: Vec<CidrRange>, within: OnMatch, otherwise: OnMatch) -> Self {
        let networks = Ip { cidr_ranges: networks, stat_prefix: "source".to_owned() };
        let predicate = SinglePredicate {
            input: Some(named("source-ip", &SourceIpInput {})),
            matcher: Some(single_predicate::Matcher::CustomMatch(named("networks", &networks))),
        };
        let within = FieldMatcher {
            predicate: Some(Predicate { match_type: Some(MatchType::SinglePredicate(predicate)) }),
            on_match: Some(within),
        };
        Self { matcher_list: Some(MatcherList { matchers: vec![within] }), ..Self::always(otherwise) }
    }
}

impl OnMatch {
    pub(crate) fn matcher(matcher: Matcher) -> Self {
        Self { matcher: Some(Box::new(matcher)), action: None }
    }

    pub(crate) fn allow(policy: &str) -> Self {
        Self::action(rbac::Action::Allow, policy)
    }

    pub(crate) fn deny(policy: &str) -> Self {
        Self::action(rbac::Action::Deny, policy)
    }

    fn action(action: rbac::Action, policy: &str) -> Self {
        let action = Action { name: policy.to_owned(), action: action.into() };
        Self { matcher: None, action: Some(named("action", &action)) }
    }
}

fn named<M: Message + Name>(name: &str, message: &M) -> MatchExtension {
    MatchExtension { name: name.to_owned(), typed_config: Some(any(message)) }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::xds::r#type::matcher::v3 as generated;
    use generated::matcher::{MatcherType, matcher_tree::TreeType, on_match};

    use super::*;

    fn read(matcher: Matcher) -> generated::Matcher {
        let per_route = RbacPerRoute::decode(Filter::new(matcher).per_route().value.as_slice()).unwrap();
        per_route.rbac.unwrap().matcher.unwrap()
    }

    fn tokens(values: &[&str]) -> generated::Matcher {
        let values = values.iter().map(|value| ((*value).to_owned(), OnMatch::allow("allowed")));
        read(Matcher::header("kuscia-token", values, OnMatch::deny("denied")))
    }

    #[test]
    fn envoy_reads_what_is_written_here() {
        let matcher = tokens(&["one", "two"]);
        let Some(MatcherType::MatcherTree(tree)) = matcher.matcher_type else { panic!("no tree") };
        let Some(TreeType::ExactMatchMap(map)) = tree.tree_type else { panic!("no map") };
        assert_eq!(map.map.len(), 2);
        assert!(map.map.contains_key("one") && map.map.contains_key("two"));
        assert!(matcher.on_no_match.is_some());
    }

    #[test]
    fn where_nothing_is_allowed_everything_is_denied() {
        let matcher = tokens(&[]);
        assert_eq!(matcher.matcher_type, None);
        assert!(matcher.on_no_match.is_some());
    }

    #[test]
    fn an_address_outside_the_networks_is_denied() {
        let network = CidrRange { address_prefix: "10.0.0.0".to_owned(), ..CidrRange::default() };
        let within = OnMatch::allow("allowed");
        let matcher = read(Matcher::address(vec![network.clone()], within, OnMatch::deny("denied")));
        let Some(MatcherType::MatcherList(list)) = matcher.matcher_type else { panic!("no list") };
        let [field] = list.matchers.as_slice() else { panic!("{list:?}") };
        let Some(MatchType::SinglePredicate(predicate)) =
            field.predicate.as_ref().and_then(|p| p.match_type.as_ref())
        else {
            panic!("no predicate")
        };
        let Some(single_predicate::Matcher::CustomMatch(custom)) = &predicate.matcher else {
            panic!("no networks")
        };
        let custom = Ip::decode(custom.typed_config.as_ref().unwrap().value.as_slice()).unwrap();
        assert_eq!(custom.cidr_ranges, [network]);
        let Some(on_match::OnMatch::Action(otherwise)) = matcher.on_no_match.unwrap().on_match else {
            panic!("no action")
        };
        let otherwise = Action::decode(otherwise.typed_config.unwrap().value.as_slice()).unwrap();
        assert_eq!((otherwise.name.as_str(), otherwise.action()), ("denied", rbac::Action::Deny));
    }
}
