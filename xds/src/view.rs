//! Who sees what.

use crate::{
    cache::Cache,
    node::{Node, Peer},
};

/// Decides which resources a client is served.
///
/// A [`Cache`] shows the same to everybody. A closure `Fn(&Node, &Peer) -> Option<Cache>` tells clients apart:
///
/// ```
/// use networkmesh_xds::{Cache, Node, Peer};
///
/// let (edges, others) = (Cache::new(), Cache::new());
/// let views = move |node: &Node, _: &Peer| match node.cluster.as_str() {
///     "" => None,
///     "edge" => Some(edges.clone()),
///     _ => Some(others.clone()),
/// };
/// # fn accepts(_: impl networkmesh_xds::Views) {}
/// # accepts(views);
/// ```
pub trait Views: Send + Sync + 'static {
    /// What a client sees for as long as its stream lasts, asked when its first request arrives. `None` ends the
    /// stream with `PERMISSION_DENIED`.
    fn cache(&self, node: &Node, peer: &Peer) -> Option<Cache>;

    /// Whether whoever connects from there may ask for the status of all clients (CSDS): their nodes' metadata, the
    /// names of what they are served, whichever view that is from, and what [`Bound::with_contents`] shows of it. If not
    /// it is told `PERMISSION_DENIED`.
    ///
    /// Unless overridden only local processes and holders of a certificate may. A [`Cache`], which hides nothing from
    /// anybody, lets everybody ask.
    ///
    /// [`Bound::with_contents`]: crate::Bound::with_contents
    fn may_inspect(&self, peer: &Peer) -> bool {
        matches!(peer, Peer::Process(_) | Peer::Tls { .. })
    }

    /// The caches that have to be loaded before the server calls itself healthy. None, unless overridden.
    fn required(&self) -> Vec<Cache> {
        Vec::new()
    }
}

impl Views for Cache {
    fn cache(&self, _: &Node, _: &Peer) -> Option<Cache> {
        Some(self.clone())
    }

    fn may_inspect(&self, _: &Peer) -> bool {
        true
    }

    fn required(&self) -> Vec<Cache> {
        vec![self.clone()]
    }
}

impl<F: Fn(&Node, &Peer) -> Option<Cache> + Send + Sync + 'static> Views for F {
    fn cache(&self, node: &Node, peer: &Peer) -> Option<Cache> {
        self(node, peer)
    }
}
