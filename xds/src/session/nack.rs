//! What a client has rejected, and how to tell from its words which resource it means.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    cache::State,
    resource::{Resource, ResourceType, Version},
};

/// How many bytes of a client's error message are kept.
const MESSAGE_BYTES: usize = 4096;

/// A client's rejection of one version of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nack {
    /// The version that was rejected.
    pub version: Version,
    /// The client's words, cut after 4 KiB. If others were rejected with this resource they are named too.
    pub message: String,
    /// When the rejection arrived.
    pub at: Timestamp,
}

/// The rejections by one client, at most one for each resource. Copies share it.
///
/// It outlives the client's stream: the next stream of the same node starts with it, unless the client holds nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rejections {
    nacks: Arc<Mutex<Nacks>>,
    /// Counts the changes of all clients' rejections.
    changes: watch::Sender<u64>,
}

type Nacks = BTreeMap<ResourceType, BTreeMap<Arc<str>, Rejected>>;

#[derive(Debug)]
struct Rejected {
    nack: Nack,
    /// What the client accepted last, for its next stream, if that is known.
    kept: Option<Resource>,
}

impl Rejections {
    /// No rejections yet; every change is counted.
    pub(crate) fn new(changes: watch::Sender<u64>) -> Self {
        Self { nacks: Arc::default(), changes }
    }

    /// Notes a rejection, and what the client keeps instead, as far as its stream knows.
    pub(crate) fn insert(&self, ty: ResourceType, name: &Arc<str>, nack: Nack, kept: Option<Resource>) {
        let mut nacks = self.lock();
        let rejected = nacks.entry(ty).or_default();
        // An earlier stream may know it, unless it is this that is rejected now.
        let kept = kept.or_else(|| rejected.remove(name)?.kept.filter(|kept| kept.version() != nack.version));
        rejected.insert(Arc::clone(name), Rejected { nack, kept });
        drop(nacks);
        self.count_change();
    }

    /// Forgets all of them.
    pub(super) fn clear(&self) {
        if !std::mem::take(&mut *self.lock()).is_empty() {
            self.count_change();
        }
    }

    pub(super) fn remove(&self, ty: ResourceType, name: &str) {
        if self.lock().get_mut(&ty).is_some_and(|nacks| nacks.remove(name).is_some()) {
            self.count_change();
        }
    }

    /// Forgets those of resources that are gone.
    pub(super) fn forget_gone(&self, state: &State) {
        let mut nacks = self.lock();
        let mut gone = 0;
        for (ty, rejected) in nacks.iter_mut() {
            gone += rejected.extract_if(.., |name, _| state.resource(*ty, name).is_none()).count();
        }
        drop(nacks);
        if gone > 0 {
            self.count_change();
        }
    }

    pub(super) fn rejects(&self, ty: ResourceType, name: &str, version: Version) -> bool {
        let nacks = self.lock();
        let rejected = nacks.get(&ty).and_then(|rejected| rejected.get(name));
        rejected.is_some_and(|rejected| rejected.nack.version == version)
    }

    /// What the client keeps instead of a resource that it rejects, if that is known.
    pub(super) fn kept(&self, ty: ResourceType, name: &str) -> Option<Resource> {
        self.lock().get(&ty)?.get(name)?.kept.clone()
    }

    /// Those of one type, by name.
    pub(crate) fn of(&self, ty: ResourceType) -> BTreeMap<Arc<str>, Nack> {
        let nacks = self.lock();
        let rejected = nacks.get(&ty).into_iter().flatten();
        rejected.map(|(name, rejected)| (Arc::clone(name), rejected.nack.clone())).collect()
    }

    /// The same for all copies, another one for all others.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.nacks).addr()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().values().all(BTreeMap::is_empty)
    }

    fn count_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Nacks> {
        self.nacks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to keep of an error message: its reason, cut after 4 KiB.
///
/// Envoy dumps a resource that it cannot decode or that breaks a field's constraints, before or after the reason.
/// The dump is left out, as it may hold tokens.
pub(super) fn reason(message: &str) -> String {
    let Some((before, dump)) = message.split_once("goo.gle/debug") else {
        return shorten(message.trim()).to_owned();
    };
    let after = dump.rsplit_once("\n: ").map_or("", |(_, after)| after);
    shorten(format!("{before}{after}").trim_matches([':', ' ', '\n'])).to_owned()
}

fn shorten(message: &str) -> &str {
    &message[..message.floor_char_boundary(MESSAGE_BYTES)]
}

/// Whom an error message blames, among the resources of the rejected response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// These are rejected, the message says so.
    Certain(BTreeSet<Arc<str>>),
    /// The message mentions these; whether it rejects them has to be tried.
    Mentioned(BTreeSet<Arc<str>>),
    /// The message mentions none of the resources, or all.
    Nobody,
}

/// Finds whom an error message blames.
///
/// Envoy lists rejected clusters and listeners as `Error adding/updating cluster(s) NAME: REASON, NAME: REASON`
/// and `Error adding/updating listener(s) NAME: REASON\nNAME: REASON\n`: that is certain. Elsewhere a name may
/// turn up in a message by chance (a route configuration called `default`), so it is only a hint where to look first.
pub(super) fn blame<'a>(message: &str, names: impl Iterator<Item = &'a Arc<str>> + Clone) -> Blame {
    let message = shorten(message);
    let listed = [" cluster(s) ", " listener(s) "]
        .into_iter()
        .find_map(|kind| message.strip_prefix("Error adding/updating")?.strip_prefix(kind));
    if let Some(list) = listed {
        let certain: BTreeSet<_> = names.clone().filter(|name| is_listed(list, name)).cloned().collect();
        if !certain.is_empty() {
            return Blame::Certain(certain);
        }
    }
    let mentioned: BTreeSet<_> = names.clone().filter(|name| is_mentioned(message, name)).cloned().collect();
    if mentioned.is_empty() || mentioned.len() == names.count() {
        return Blame::Nobody;
    }
    Blame::Mentioned(mentioned)
}

/// Whether `NAME: ` starts an item of a list.
fn is_listed(list: &str, name: &str) -> bool {
    list.match_indices(name).any(|(start, _)| {
        let (before, after) = (&list[..start], &list[start + name.len()..]);
        after.starts_with(": ") && (before.is_empty() || before.ends_with(", ") || before.ends_with('\n'))
    })
}

/// Whether the name stands in the text as a word of its own, not as part of a longer name.
fn is_mentioned(text: &str, name: &str) -> bool {
    let continues = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/');
    !name.is_empty()
        && text.match_indices(name).any(|(start, _)| {
            let (before, after) = (&text[..start], &text[start + name.len()..]);
            let ends = |mut rest: std::str::Chars<'_>| match rest.next() {
                // A full stop ends a sentence; between letters it is part of a name.
                Some('.' | ':') => rest.next().is_some_and(char::is_alphanumeric),
                Some(c) => continues(c),
                None => false,
            };
            !before.ends_with(|c: char| continues(c) || c == '.') && !ends(after.chars())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blamed(message: &str, names: &[&str]) -> Blame {
        let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
        blame(message, names.iter())
    }

    fn set(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn a_listed_cluster_is_certain() {
        let message = "Error adding/updating cluster(s) bad: needs a good cluster, worse: no";
        assert_eq!(blamed(message, &["bad", "good", "worse"]), Blame::Certain(set(&["bad", "worse"])));
    }

    #[test]
    fn listed_listeners_stand_on_lines_of_their_own() {
        let message = "Error adding/updating listener(s) a:80: bad\nb: bad\n";
        assert_eq!(blamed(message, &["a:80", "b", "80", "c"]), Blame::Certain(set(&["a:80", "b"])));
    }

    #[test]
    fn a_name_inside_a_longer_name_is_not_mentioned() {
        for message in ["unknown cluster 'echo-v2'", "v1.echo", "echo.v1 failed", "echo:80 failed", "/echo"] {
            assert_eq!(blamed(message, &["echo", "other"]), Blame::Nobody, "{message}");
        }
        for message in ["bad 'echo'", "echo: bad", "(echo)", "about echo.", "echo"] {
            assert_eq!(blamed(message, &["echo", "other"]), Blame::Mentioned(set(&["echo"])), "{message}");
        }
    }

    #[test]
    fn a_message_that_mentions_all_or_none_blames_nobody() {
        assert_eq!(blamed("a and b", &["a", "b"]), Blame::Nobody);
        assert_eq!(blamed("", &["a", ""]), Blame::Nobody);
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let message = "é".repeat(MESSAGE_BYTES);
        assert_eq!(reason(&message).len(), MESSAGE_BYTES);
        assert_eq!(reason(&format!("x{message}")).len(), MESSAGE_BYTES - 1);
    }

    #[test]
    fn the_dump_of_a_rejected_resource_is_not_kept() {
        let message = "goo.gle/debugproto    \nname: \"filter\"\ntoken: \"hunter2\"\n: Proto constraint validation failed";
        assert_eq!(reason(message), "Proto constraint validation failed");
        let undecodable = "Unable to unpack as Cluster: goo.gle/debugstr  \nvalue: \"hunter2\"";
        assert_eq!(reason(undecodable), "Unable to unpack as Cluster");
        assert_eq!(blamed(message, &["filter", "other"]), Blame::Mentioned(set(&["filter"])));
        assert_eq!(reason("echo\n: no\n"), "echo\n: no");
    }
}
