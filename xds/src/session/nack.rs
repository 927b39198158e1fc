//! What a client has rejected, and how to tell from its words which resource it means.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio::sync::watch;

use crate::{
    cache::State,
    resource::{Resource, ResourceType, Version},
};

/// How many bytes of a client's error message are kept.
const MESSAGE_BYTES: usize = 4096;
/// How many bytes of messages are kept for one client before those that follow are cut short.
const ALL_MESSAGES_BYTES: usize = 1 << 20;
/// How many bytes of a message are kept then.
const SHORT_MESSAGE_BYTES: usize = 256;

/// A client's rejection of one version of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Nack {
    /// The version that was rejected.
    pub version: Version,
    /// The client's words, cut after 4 KiB, or after 256 bytes if it has rejected a lot. If others were rejected with
    /// this resource they are named too.
    #[serde(serialize_with = "serialize_text")]
    pub message: Arc<str>,
    /// When the rejection arrived.
    pub at: Timestamp,
}

fn serialize_text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
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

#[derive(Debug, Default)]
struct Nacks {
    by_type: BTreeMap<ResourceType, BTreeMap<Arc<str>, Rejected>>,
    message_bytes: usize,
}

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
    pub(crate) fn insert(&self, ty: ResourceType, name: &Arc<str>, mut nack: Nack, kept: Option<Resource>) {
        let mut nacks = self.lock();
        let earlier = nacks.remove(ty, name);
        // An earlier stream may know it, unless it is this that is rejected now.
        let kept = kept.or_else(|| earlier?.kept.filter(|kept| kept.version() != nack.version));
        if nacks.message_bytes + nack.message.len() > ALL_MESSAGES_BYTES {
            nack.message = shorten(&nack.message, SHORT_MESSAGE_BYTES).into();
        }
        nacks.message_bytes += nack.message.len();
        nacks.by_type.entry(ty).or_default().insert(Arc::clone(name), Rejected { nack, kept });
        drop(nacks);
        self.count_change();
    }

    /// Forgets all of them.
    pub(super) fn clear(&self) {
        let forgotten = std::mem::take(&mut *self.lock());
        if forgotten.count() > 0 {
            self.count_change();
        }
    }

    pub(super) fn remove(&self, ty: ResourceType, name: &str) {
        if self.lock().remove(ty, name).is_some() {
            self.count_change();
        }
    }

    /// Forgets those of resources that are gone.
    pub(super) fn forget_gone(&self, state: &State) {
        let mut nacks = self.lock();
        let Nacks { by_type, message_bytes } = &mut *nacks;
        let mut gone = 0;
        for (ty, rejected) in by_type {
            for (_, rejected) in rejected.extract_if(.., |name, _| state.resource(*ty, name).is_none()) {
                *message_bytes -= rejected.nack.message.len();
                gone += 1;
            }
        }
        drop(nacks);
        if gone > 0 {
            self.count_change();
        }
    }

    pub(super) fn rejects(&self, ty: ResourceType, name: &str, version: Version) -> bool {
        let nacks = self.lock();
        let rejected = nacks.by_type.get(&ty).and_then(|rejected| rejected.get(name));
        rejected.is_some_and(|rejected| rejected.nack.version == version)
    }

    /// What the client keeps instead of a resource that it rejects, if that is known.
    pub(super) fn kept(&self, ty: ResourceType, name: &str) -> Option<Resource> {
        self.lock().by_type.get(&ty)?.get(name)?.kept.clone()
    }

    /// Those of one type, by name.
    pub(crate) fn of(&self, ty: ResourceType) -> BTreeMap<Arc<str>, Nack> {
        let nacks = self.lock();
        let rejected = nacks.by_type.get(&ty).into_iter().flatten();
        rejected.map(|(name, rejected)| (Arc::clone(name), rejected.nack.clone())).collect()
    }

    /// The same for all copies, another one for all others.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.nacks).addr()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().count()
    }

    fn count_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Nacks> {
        self.nacks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nacks {
    fn remove(&mut self, ty: ResourceType, name: &str) -> Option<Rejected> {
        let removed = self.by_type.get_mut(&ty)?.remove(name)?;
        self.message_bytes -= removed.nack.message.len();
        Some(removed)
    }

    fn count(&self) -> usize {
        self.by_type.values().map(BTreeMap::len).sum()
    }
}

/// What to keep of an error message: its reason, cut after 4 KiB.
///
/// Envoy dumps a resource that it cannot decode or that breaks a field's constraints, before or after the reason.
/// The dump is left out, as it may hold tokens.
pub(super) fn reason(message: &str) -> Arc<str> {
    let Some((before, dump)) = message.split_once("goo.gle/debug") else {
        return shorten(message.trim(), MESSAGE_BYTES).into();
    };
    let after = dump.rsplit_once("\n: ").map_or("", |(_, after)| after);
    shorten(format!("{before}{after}").trim_matches([':', ' ', '\n']), MESSAGE_BYTES).into()
}

fn shorten(message: &str, bytes: usize) -> &str {
    &message[..message.floor_char_boundary(bytes)]
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
    let message = shorten(message, MESSAGE_BYTES);
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
    fn the_messages_of_one_client_do_not_add_up_without_end() {
        let rejections = Rejections::default();
        let reject = |n: usize| {
            let message = "x".repeat(MESSAGE_BYTES).into();
            let nack = Nack { version: Version::of(b"bad"), message, at: Timestamp::UNIX_EPOCH };
            rejections.insert(ResourceType::Cluster, &Arc::from(n.to_string()), nack, None);
        };
        let lengths = || -> BTreeSet<usize> {
            rejections.of(ResourceType::Cluster).values().map(|nack| nack.message.len()).collect()
        };
        let whole = ALL_MESSAGES_BYTES / MESSAGE_BYTES;
        (0..whole).for_each(reject);
        (0..whole).for_each(reject);
        assert_eq!(lengths(), [MESSAGE_BYTES].into(), "what is replaced no longer counts");
        reject(whole);
        assert_eq!(lengths(), [SHORT_MESSAGE_BYTES, MESSAGE_BYTES].into());

        rejections.forget_gone(&State::default());
        assert!(rejections.is_empty());
        reject(0);
        assert_eq!(lengths(), [MESSAGE_BYTES].into(), "what is forgotten no longer counts");
        rejections.remove(ResourceType::Cluster, "0");
        assert_eq!(rejections.lock().message_bytes, 0);
    }

    #[test]
    fn the_dump_of_a_rejected_resource_is_not_kept() {
        let message = "goo.gle/debugproto    \nname: \"filter\"\ntoken: \"hunter2\"\n: Proto constraint validation failed";
        assert_eq!(&*reason(message), "Proto constraint validation failed");
        let undecodable = "Unable to unpack as Cluster: goo.gle/debugstr  \nvalue: \"hunter2\"";
        assert_eq!(&*reason(undecodable), "Unable to unpack as Cluster");
        assert_eq!(blamed(message, &["filter", "other"]), Blame::Mentioned(set(&["filter"])));
        assert_eq!(&*reason("echo\n: no\n"), "echo\n: no");
    }
}
