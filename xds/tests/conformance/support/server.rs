//! The server under test.

use std::collections::BTreeMap;

use networkmesh_xds::{
    Bound, Cache, Change, Clients, ListenAddress, ResourceType, ServeError, TypeStatus, Version, bind,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::eventually;

pub(crate) struct Server {
    pub(crate) address: ListenAddress,
    pub(crate) cache: Cache,
    pub(crate) clients: Clients,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    /// Serves nothing yet: without a first change no client is answered.
    pub(crate) fn start(address: &ListenAddress) -> Self {
        Self::serving(bind(address).unwrap(), Cache::new())
    }

    /// The same, with reflection.
    pub(crate) fn with_reflection(address: &ListenAddress, descriptors: &[u8]) -> Self {
        let bound = bind(address).unwrap().with_reflection(descriptors).unwrap();
        Self::serving(bound, Cache::new())
    }

    fn serving(bound: Bound, cache: Cache) -> Self {
        let address = bound.address().clone();
        let (clients, shutdown) = (Clients::new(), CancellationToken::new());
        let task = tokio::spawn(bound.serve(cache.clone(), clients.clone(), shutdown.clone()));
        Self { address, cache, clients, shutdown, task }
    }

    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.unwrap().unwrap();
    }

    /// Serves again at the same address, with the same resources and no memory of its clients.
    pub(crate) fn resume(&mut self) {
        *self = Self::serving(bind(&self.address).unwrap(), self.cache.clone());
    }

    pub(crate) fn set<const N: usize>(&self, changes: [Change; N]) {
        self.cache.apply(changes);
    }

    pub(crate) fn remove(&self, ty: ResourceType, name: &str) {
        self.cache.apply([Change::Remove(ty, name.to_owned())]);
    }

    /// Waits until all clients that want these resources have acknowledged what the cache now holds.
    pub(crate) async fn acknowledged<const N: usize>(&self, resources: [(ResourceType, &str); N]) {
        for (ty, name) in resources {
            let version = self.version(ty, name);
            let what = format!("{ty} {name} is acknowledged");
            eventually(
                &what,
                async || (self.clients.is_acknowledged(ty, name, version), self.clients.snapshot()),
                |(is_acknowledged, _)| *is_acknowledged,
            )
            .await;
        }
    }

    /// The version of a resource of the cache.
    pub(crate) fn version(&self, ty: ResourceType, name: &str) -> Version {
        self.cache.state().resource(ty, name).unwrap().version()
    }

    /// What a node asks for, was sent and said, over all its streams.
    pub(crate) fn types(&self, node: &str) -> BTreeMap<ResourceType, TypeStatus> {
        let mut types: BTreeMap<_, TypeStatus> = BTreeMap::new();
        for client in self.clients.snapshot().into_iter().filter(|client| client.node == node) {
            for (ty, status) in client.types {
                types.entry(ty).or_default().resources.extend(status.resources);
            }
        }
        types
    }

    /// Waits until a node rejects the newest version of a resource, and returns its words.
    pub(crate) async fn rejected(&self, node: &str, ty: ResourceType, name: &str) -> String {
        let version = self.version(ty, name);
        let words = || {
            let nack = self.types(node).remove(&ty)?.resources.remove(name)?.nack?;
            (nack.version == version).then(|| nack.message.to_string())
        };
        eventually(&format!("{ty} {name} is rejected"), async || words(), Option::is_some).await;
        words().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
