//! The gateways of this domain.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

/// Which gateways of this domain are alive. This one always counts.
#[derive(Clone, Debug)]
pub(crate) struct Replicas {
    own: String,
    live: watch::Receiver<Arc<BTreeSet<String>>>,
}

impl Replicas {
    /// The gateway `own` among those that are alive, which it is one of.
    pub(crate) fn new(own: String, live: watch::Receiver<Arc<BTreeSet<String>>>) -> Self {
        Self { own, live }
    }

    /// The only gateway of its domain.
    pub(crate) fn alone(own: String) -> Self {
        let (_, live) = watch::channel(Arc::new(BTreeSet::from([own.clone()])));
        Self { own, live }
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
        let live = self.live.borrow();
        let chosen = if live.contains(before) { Some(before) } else { live.first().map(String::as_str) };
        chosen == Some(self.own.as_str())
    }

    /// Returns once other gateways are alive than at the last call, or at the time of the copy that is asked.
    pub(crate) async fn changed(&mut self) {
        if self.live.changed().await.is_err() {
            // Nobody comes or goes any more.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gateway_is_chosen_and_stays_so_while_it_is_alive() {
        let names = |names: &[&str]| Arc::new(names.iter().map(|&name| name.to_owned()).collect());
        let (live, live_out) = watch::channel(names(&["a", "b", "c"]));
        let gateways: Vec<_> =
            ["a", "b", "c"].map(|name| Replicas::new(name.to_owned(), live_out.clone())).into();
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
}
