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
use envoy_types::pb::xds::r#type::matcher::v3::{
    StringMatcher,
    matcher::matcher_list::{
        Predicate,
        predicate::{MatchType, SinglePredicate, single_predicate},
    },
    string_matcher::MatchPattern,
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
    matchers: Vec<Rule>,
}

/// `xds.type.matcher.v3.Matcher.MatcherList.FieldMatcher`.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct Rule {
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

    /// The first rule that fits decides. There is at least one.
    pub(crate) fn rules(rules: Vec<Rule>, otherwise: OnMatch) -> Self {
        Self { matcher_list: Some(MatcherList { matchers: rules }), ..Self::always(otherwise) }
    }
}

impl Rule {
    /// Where the client's address is in `networks`.
    pub(crate) fn address(networks: Vec<CidrRange>, decision: OnMatch) -> Self {
        let networks = Ip { cidr_ranges: networks, stat_prefix: "source".to_owned() };
        let within = single_predicate::Matcher::CustomMatch(named("networks", &networks));
        Self::new(named("source-ip", &SourceIpInput {}), within, decision)
    }

    /// Where `header` has several values, whether it is repeated or lists them.
    pub(crate) fn several(header: &str, decision: OnMatch) -> Self {
        let input = HttpRequestHeaderMatchInput { header_name: header.to_owned() };
        let comma = StringMatcher {
            match_pattern: Some(MatchPattern::Contains(",".to_owned())),
            ..StringMatcher::default()
        };
        Self::new(named(header, &input), single_predicate::Matcher::ValueMatch(comma), decision)
    }

    fn new(input: MatchExtension, matcher: single_predicate::Matcher, decision: OnMatch) -> Self {
        let predicate = SinglePredicate { input: Some(input), matcher: Some(matcher) };
        Self {
            predicate: Some(Predicate { match_type: Some(MatchType::SinglePredicate(predicate)) }),
            on_match: Some(decision),
        }
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
        let rule = Rule::address(vec![network.clone()], within);
        let matcher = read(Matcher::rules(vec![rule], OnMatch::deny("denied")));
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
