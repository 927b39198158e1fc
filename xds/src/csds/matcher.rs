//! Which nodes a request means (`envoy.type.matcher.v3.NodeMatcher`).

use envoy_types::pb::{
    envoy::r#type::matcher::v3::{
        DoubleMatcher, ListMatcher, NodeMatcher, StringMatcher, StructMatcher, ValueMatcher, double_matcher,
        list_matcher, string_matcher, struct_matcher::path_segment::Segment, value_matcher,
    },
    google::protobuf::value::Kind,
};

use crate::node::Node;

/// A pattern that this server does not know.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("nodes cannot be matched by {0}")]
pub(super) struct Unsupported(&'static str);

/// Whether a node is one that the matcher means: its id and all its metadata match.
pub(super) fn matches(matcher: &NodeMatcher, node: &Node) -> Result<bool, Unsupported> {
    let mut all = match &matcher.node_id {
        Some(id) => text_matches(id, &node.id)?,
        None => true,
    };
    for matcher in &matcher.node_metadatas {
        all &= metadata_matches(matcher, node)?;
    }
    Ok(all)
}

fn metadata_matches(matcher: &StructMatcher, node: &Node) -> Result<bool, Unsupported> {
    let path =
        matcher.path.iter().filter_map(|step| step.segment.as_ref()).map(|Segment::Key(key)| key.as_str());
    let value = node.metadata_at(path);
    matcher.value.as_ref().map_or_else(|| Ok(value.is_some()), |matcher| value_matches(matcher, value))
}

fn value_matches(matcher: &ValueMatcher, value: Option<&Kind>) -> Result<bool, Unsupported> {
    use value_matcher::MatchPattern;
    let pattern = matcher.match_pattern.as_ref().ok_or(Unsupported("a value without a pattern"))?;
    Ok(match (pattern, value) {
        (MatchPattern::PresentMatch(wanted), value) => *wanted && value.is_some(),
        (MatchPattern::OrMatch(any), value) => {
            let mut one = false;
            for matcher in &any.value_matchers {
                one |= value_matches(matcher, value)?;
            }
            one
        }
        (MatchPattern::StringMatch(matcher), Some(Kind::StringValue(text))) => text_matches(matcher, text)?,
        (MatchPattern::BoolMatch(wanted), Some(Kind::BoolValue(value))) => wanted == value,
        (MatchPattern::DoubleMatch(matcher), Some(Kind::NumberValue(number))) => {
            number_matches(matcher, *number)?
        }
        (MatchPattern::ListMatch(matcher), Some(Kind::ListValue(list))) => {
            let ListMatcher { match_pattern: Some(list_matcher::MatchPattern::OneOf(matcher)) } =
                matcher.as_ref()
            else {
                return Err(Unsupported("a list without a pattern"));
            };
            let mut one = false;
            for value in &list.values {
                one |= value_matches(matcher, value.kind.as_ref())?;
            }
            one
        }
        (MatchPattern::NullMatch(_), value) => matches!(value, Some(Kind::NullValue(_))),
        _ => false,
    })
}

fn number_matches(matcher: &DoubleMatcher, number: f64) -> Result<bool, Unsupported> {
    match matcher.match_pattern.as_ref().ok_or(Unsupported("a number without a pattern"))? {
        double_matcher::MatchPattern::Exact(exact) => Ok(number == *exact),
        double_matcher::MatchPattern::Range(range) => Ok((range.start..range.end).contains(&number)),
    }
}

fn text_matches(matcher: &StringMatcher, text: &str) -> Result<bool, Unsupported> {
    use string_matcher::MatchPattern;
    let fold = |text: &str| if matcher.ignore_case { text.to_lowercase() } else { text.to_owned() };
    let text = fold(text);
    match matcher.match_pattern.as_ref().ok_or(Unsupported("a text without a pattern"))? {
        MatchPattern::Exact(exact) => Ok(text == fold(exact)),
        MatchPattern::Prefix(prefix) => Ok(text.starts_with(&fold(prefix))),
        MatchPattern::Suffix(suffix) => Ok(text.ends_with(&fold(suffix))),
        MatchPattern::Contains(part) => Ok(text.contains(&fold(part))),
        MatchPattern::SafeRegex(_) => Err(Unsupported("a regular expression")),
        MatchPattern::Custom(_) => Err(Unsupported("an extension")),
    }
}
