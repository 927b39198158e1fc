//! The gateways of this domain.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xds::Clients;

/// Which gateways of this domain are alive.
///
/// This one is while an Envoy is connected to it, for without one it can neither negotiate nor accept a token; and when
/// there is no other.
#[derive(Clone, Debug)]
pub(crate) struct Replicas {
    own: String,
    live: watch::Receiver<Arc<BTreeSet<String>>>,
}

impl Replicas {
    /// The only gateway of its domain.
    pub(crate) fn alone(own: String) -> Self {
        let (_, live) = watch::channel(Arc::new(BTreeSet::from([own.clone()])));
        Self { own, live }
    }

    /// The gateway `own` among those that are `heard`, to which `envoys` are connected; and what keeps that up to date,
    /// until `shutdown`.
    pub(crate) fn among(
        own: String,
        mut heard: watch::Receiver<Arc<BTreeSet<String>>>,
        envoys: Clients,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (live_in, live) = watch::channel(live_now(&own, &heard.borrow_and_update(), &envoys));
        let replicas = Self { own: own.clone(), live };
        let keep = async move {
            let mut changes = envoys.changes();
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    changed = heard.changed() => if changed.is_err() { return },
                    _ = changes.changed() => {}
                }
                let now = live_now(&own, &heard.borrow_and_update(), &envoys);
                live_in.send_if_modified(|known| {
                    let changed = *known != now;
                    *known = now;
                    changed
                });
            }
        };
        (replicas, keep)
    }

    /// The name of this gateway.
    pub(crate) fn own(&self) -> &str {
        &self.own
    }

    /// The names of those that are alive.
    pub(crate) fn live(&self) -> Arc<BTreeSet<String>> {
        Arc::clone(&self.live.borrow())
    }

    /// Whether this gateway does what one of them has to do: the one named before does, while it is alive, or else the
    /// first of all.
    pub(crate) fn is_chosen(&self, before: &str) -> bool {
        chosen(&self.live.borrow(), before) == Some(self.own.as_str())
    }

    /// Returns once other gateways are alive than at the last call, or at the time of the copy that is asked.
    pub(crate) async fn changed(&mut self) {
        if self.live.changed().await.is_err() {
            // Nobody comes or goes any more.
            std::future::pending::<()>().await;
        }
    }
}

/// Which of the `live` gateways does what one of them has to do, if `before` has done it until now.
pub(crate) fn chosen<'a>(live: &'a BTreeSet<String>, before: &str) -> Option<&'a str> {
    live.get(before).or_else(|| live.first()).map(String::as_str)
}

fn live_now(own: &str, heard: &BTreeSet<String>, envoys: &Clients) -> Arc<BTreeSet<String>> {
    let mut live = heard.clone();
    live.remove(own);
    if live.is_empty() || !envoys.is_empty() {
        live.insert(own.to_owned());
    }
    Arc::new(live)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    impl Replicas {
        /// The gateway `own` among those that a test says are alive.
        pub(crate) fn told(own: &str, live: watch::Receiver<Arc<BTreeSet<String>>>) -> Self {
            Self { own: own.to_owned(), live }
        }
    }

    fn names(names: &[&str]) -> Arc<BTreeSet<String>> {
        Arc::new(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn one_gateway_is_chosen_and_stays_so_while_it_is_alive() {
        let (live, live_out) = watch::channel(names(&["a", "b", "c"]));
        let gateways = ["a", "b", "c"].map(|name| Replicas::told(name, live_out.clone()));
        let chosen = |before: &str| {
            let chosen = gateways.iter().filter(|gateway| gateway.is_chosen(before));
            chosen.map(Replicas::own).collect::<Vec<_>>()
        };
        assert_eq!(chosen(""), ["a"]);
        assert_eq!(chosen("b"), ["b"]);
        live.send_replace(names(&["b", "c"]));
        assert_eq!(chosen("a"), ["b"]);
        assert_eq!(chosen("c"), ["c"]);
    }

    #[test]
    fn who_is_alone_is_always_chosen() {
        let alone = Replicas::alone("a".to_owned());
        assert!(alone.is_chosen("") && alone.is_chosen("a") && alone.is_chosen("b"));
    }

    #[tokio::test]
    async fn a_gateway_without_an_envoy_leaves_the_work_to_others() {
        let (heard_in, heard) = watch::channel(names(&["a"]));
        let stop = CancellationToken::new();
        let (mut replicas, keep) = Replicas::among("a".to_owned(), heard, Clients::new(), stop.clone());
        let keep = tokio::spawn(keep);
        assert_eq!(replicas.live(), names(&["a"]));
        heard_in.send_replace(names(&["a", "b"]));
        replicas.changed().await;
        assert_eq!(replicas.live(), names(&["b"]));
        assert!(!replicas.is_chosen("") && !replicas.is_chosen("a"));
        heard_in.send_replace(names(&["a"]));
        replicas.changed().await;
        assert!(replicas.is_chosen(""));
        stop.cancel();
        keep.await.expect("ends");
    }
}
