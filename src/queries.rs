//! The log of DNS queries, as the admin interface shows it while somebody listens: one JSON object a line.

use dns::QueryEntry;
use serde::Deserialize;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Line {
    /// What became of a query.
    Query(QueryEntry),
    /// So many queries are not shown, since they came faster than they were read.
    Lost { lost: u64 },
}

/// Names that equal it or end with it, label by label, in whatever case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Suffix(String);

impl Suffix {
    /// The suffix, with or without its final dot. The empty one is that of all names.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.trim_matches('.').to_ascii_lowercase())
    }

    /// Whether `name` ends so.
    pub(crate) fn is_of(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let Some(rest) = name.strip_suffix(&self.0) else { return false };
        rest.is_empty() || self.0.is_empty() || rest.ends_with('.')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_end_names_label_by_label() {
        for (suffix, name, is_of) in [
            ("", "web.alice.svc.", true),
            (".", "web.alice.svc.", true),
            ("svc", "web.alice.svc.", true),
            (".Alice.SVC.", "Web.alice.svc", true),
            ("web.alice.svc", "web.alice.svc.", true),
            ("ice.svc", "web.alice.svc.", false),
            ("a.web.alice.svc", "web.alice.svc.", false),
            ("alice", "web.alice.svc.", false),
        ] {
            assert_eq!(Suffix::new(suffix).is_of(name), is_of, "{suffix} of {name}");
        }
    }

    #[test]
    fn lines_are_queries_or_tell_how_many_were_lost() {
        let entry = QueryEntry {
            time: jiff::Timestamp::UNIX_EPOCH,
            client: "2001:db8::1".parse().expect("an address"),
            transport: dns::Transport::Udp,
            name: "Web.".to_owned(),
            record_type: "A".to_owned(),
            rcode: None,
            how: dns::How::Limited,
            micros: 7,
        };
        let text = serde_json::to_string(&entry).expect("JSON");
        for words in [r#""transport":"udp""#, r#""type":"A""#, r#""rcode":null"#, r#""how":"limited""#] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert_eq!(serde_json::from_str::<Line>(&text).expect("is a line"), Line::Query(entry));
        assert_eq!(serde_json::from_str::<Line>(r#"{"lost":3}"#).expect("is a line"), Line::Lost { lost: 3 });
        assert!(serde_json::from_str::<Line>("{}").is_err());
    }
}
