//! The first use of tokens, which proves that their sources have them: from what this gateway's Envoys say of requests to
//! the statuses of routes.

use std::collections::BTreeSet;
use std::mem;

use futures_util::{StreamExt as _, stream};
use model::{DomainId, Snapshot};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::handshake::Acceptance;

/// Uses that may wait to be noted. Further ones are forgotten: the next request tells of them again.
const MOST_WAITING: usize = 1024;

/// Uses that are noted at once.
const MOST_AT_ONCE: usize = 16;

/// A token that let a request in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Used {
    /// The domain that sent it.
    pub(crate) source: DomainId,
    /// Number of the token.
    pub(crate) revision: i64,
}

/// Uses that wait to be noted, each once however often it is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage(watch::Sender<BTreeSet<Used>>);

impl Usage {
    /// Takes a use in, unless too many wait.
    pub(crate) fn tell(&self, used: Used) {
        self.0.send_if_modified(|waiting| waiting.len() < MOST_WAITING && waiting.insert(used));
    }

    fn take(&self) -> BTreeSet<Used> {
        let mut taken = BTreeSet::new();
        self.0.send_if_modified(|waiting| {
            taken = mem::take(waiting);
            false
        });
        taken
    }
}

/// Notes in the statuses of routes which tokens were used, until `shutdown`.
pub(crate) async fn keep_proofs(acceptance: Acceptance, usage: Usage, shutdown: CancellationToken) {
    let mut news = usage.0.subscribe();
    let keep = async {
        loop {
            let acceptance = &acceptance;
            let note = |used: Used| async move {
                // What was told while the note was under way is known by now.
                if is_news(&used, &acceptance.ledger.snapshot()) {
                    acceptance.note_proof(&used.source, used.revision).await;
                }
            };
            stream::iter(usage.take()).for_each_concurrent(MOST_AT_ONCE, note).await;
            // Fails only if nobody can tell anything, and `usage` can.
            news.changed().await.ok();
        }
    };
    shutdown.run_until_cancelled(keep).await;
}

/// Whether the token is accepted and was never used before. Envoys that are late may tell of others.
fn is_news(used: &Used, snapshot: &Snapshot) -> bool {
    let Some(route) = snapshot.inbound.get(&used.source) else { return false };
    route.accepted().iter().any(|token| token.revision == used.revision && !token.proven)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::time::Duration;

    use certs::DomainKey;
    use jiff::Timestamp;
    use model::api::Time;
    use model::{Document, Event, Index, Snapshot, StatusChange, StatusUpdate, TOKEN_BYTES, read_manifests};
    use serde_json::{Value, json};
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;
    use crate::handshake::Ledger;
    use crate::program::Gateways;
    use crate::replicas::Replicas;

    fn used(source: &str, revision: i64) -> Used {
        Used { source: source.parse().unwrap(), revision }
    }

    /// A route to bob whose first token was used, and whose second was not.
    fn route(source: &str, key: &DomainKey) -> Value {
        let public_key = key.public_key();
        let token = |revision: u8, heartbeat: Option<Time>| {
            json!({
                "revision": revision, "isReady": true, "heartBeatTime": heartbeat,
                "token": public_key.seal(&[revision; TOKEN_BYTES]).unwrap(),
            })
        };
        let old = token(1, Some(Time(Timestamp::UNIX_EPOCH)));
        json!({
            "apiVersion": "kuscia.secretflow/v1alpha1",
            "kind": "DomainRoute",
            "metadata": {"name": format!("{source}-bob")},
            "spec": {
                "source": source,
                "destination": "bob",
                "endpoint": {
                    "host": "bob.example",
                    "ports": [{"name": "http", "port": 1080, "protocol": "HTTP"}],
                },
                "authenticationType": "Token",
                "tokenConfig": {
                    "sourcePublicKey": public_key.to_base64_pem(), "tokenGenMethod": "RSA-GEN",
                },
            },
            "status": {"tokenStatus": {"revisionToken": token(2, None), "tokens": [old]}},
        })
    }

    /// Bob with routes from these sources, and what is to be written to their statuses.
    fn bob(sources: &[&str]) -> (Acceptance, mpsc::Receiver<StatusUpdate>) {
        let key = DomainKey::generate().unwrap();
        let mut index = Index::new("bob".parse().unwrap(), key.clone(), []);
        for source in sources {
            for document in read_manifests(&route(source, &key).to_string(), "bob").unwrap() {
                let Document::Read { object, .. } = document else { panic!("{document:?}") };
                index.apply(Event::Apply(object));
            }
        }
        let snapshot: Arc<Snapshot> = index.commit(Timestamp::UNIX_EPOCH).0.unwrap();
        let (updates_in, updates) = mpsc::channel(16);
        let (_, snapshots) = watch::channel(Arc::clone(&snapshot));
        let acceptance = Acceptance {
            ledger: Ledger::new(snapshots, updates_in),
            gateways: Gateways::new(snapshot).0,
            replicas: Replicas::alone("bob-gateway".to_owned()),
        };
        (acceptance, updates)
    }

    #[test]
    fn a_use_waits_once_and_not_without_bound() {
        let usage = Usage::default();
        for revision in 0..2 * MOST_WAITING {
            usage.tell(used("alice", 7));
            usage.tell(used("carol", i64::try_from(revision).unwrap()));
        }
        assert_eq!(usage.take().len(), MOST_WAITING);
        assert!(usage.take().is_empty());
        usage.tell(used("alice", 7));
        assert_eq!(usage.take(), [used("alice", 7)].into());
    }

    #[tokio::test(start_paused = true)]
    async fn of_all_that_is_told_only_the_first_use_of_an_accepted_token_is_noted() {
        let (acceptance, mut updates) = bob(&["alice", "carol"]);
        let (usage, shutdown) = (Usage::default(), CancellationToken::new());
        usage.tell(used("alice", 2));
        let keeping = tokio::spawn(keep_proofs(acceptance, usage.clone(), shutdown.clone()));
        for (source, revision) in [("alice", 1), ("alice", 3), ("mallory", 2), ("carol", 2), ("carol", 2)] {
            usage.tell(used(source, revision));
        }
        let mut noted = BTreeSet::new();
        while let Ok(Some(StatusUpdate { object, change })) =
            timeout(Duration::from_secs(60), updates.recv()).await
        {
            let StatusChange::Tokens { after, .. } = change else { panic!("{change:?}") };
            let proven = after.revision_token.heart_beat_time.is_some();
            assert!(noted.insert((object.name, after.revision_token.revision, proven)));
        }
        assert_eq!(noted, ["alice-bob", "carol-bob"].map(|route| (route.to_owned(), 2, true)).into());
        shutdown.cancel();
        keeping.await.unwrap();
    }
}
