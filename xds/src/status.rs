//! Who is connected, what each client was sent, and what it said to that.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    limits::Limits,
    node::Node,
    resource::{ResourceType, Version},
    session::{Nack, Protocol, Rejections, Session},
};

/// How many nodes' rejections are remembered; the node that connected longest ago is forgotten first.
const REMEMBERED_NODES: usize = 256;

/// The connected clients of one or more servers. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Clients(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    registry: Mutex<Registry>,
    ticks: watch::Sender<u64>,
    /// Counts the changes of what clients reject.
    rejections: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Registry {
    opened: u64,
    streams: BTreeMap<u64, Arc<Stream>>,
    nodes: VecDeque<(Node, Rejections)>,
}

#[derive(Debug)]
struct Stream {
    node: Node,
    peer: String,
    protocol: Protocol,
    connected_since: Timestamp,
    rejections: Rejections,
    session: Mutex<Session>,
}

impl Clients {
    /// No clients yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// All connected clients at this moment, the one connected first first.
    pub fn snapshot(&self) -> Vec<ClientStatus> {
        self.streams().iter().map(|stream| stream.status()).collect()
    }

    /// Waits until this version of a resource is held by all clients that subscribe to it then, and by one at least.
    ///
    /// Waits for ever if that does not happen, as when a client rejects the version or a newer one overtakes it.
    /// Cancel safe.
    pub async fn acknowledged(&self, ty: ResourceType, name: &str, version: Version) {
        let mut changes = self.changes();
        while !self.is_acknowledged(ty, name, version) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether this version of a resource is held by all clients that subscribe to it, and by one at least.
    pub fn is_acknowledged(&self, ty: ResourceType, name: &str, version: Version) -> bool {
        let streams = self.streams();
        let mut held = streams.iter().filter_map(|stream| stream.lock().holds(ty, name)).peekable();
        held.peek().is_some() && held.all(|held| held == Some(version))
    }

    /// What the connected clients reject, the client connected first first.
    ///
    /// Costs as much as there are streams and rejections, however many resources there are.
    pub fn rejections(&self) -> Vec<Rejection> {
        let mut nodes = BTreeSet::new();
        let streams = self.streams();
        let first = streams.iter().filter(|stream| nodes.insert(stream.rejections.id()));
        first.flat_map(|stream| stream.rejections()).collect()
    }

    /// Wakes when [`Clients::rejections`] may differ: far less often than [`Clients::changes`].
    pub fn rejection_changes(&self) -> watch::Receiver<u64> {
        self.0.rejections.subscribe()
    }

    /// Wakes when a client connects, disconnects or has sent a request: each time [`Clients::snapshot`] may differ.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.ticks.subscribe()
    }

    /// What is made of each client's node and session, the one connected first first.
    pub(crate) fn visit<T>(&self, visit: impl Fn(&Node, &Session) -> T) -> Vec<T> {
        self.streams().iter().map(|stream| visit(&stream.node, &stream.lock())).collect()
    }

    /// Registers a stream until the returned guard is dropped, or returns `None` if there are too many.
    pub(crate) fn connect(
        &self,
        node: Node,
        peer: String,
        protocol: Protocol,
        limits: &Limits,
    ) -> Option<Connection> {
        let mut registry = self.lock();
        if registry.streams.len() >= limits.streams {
            return None;
        }
        let rejections = registry.rejections(&node, &self.0.rejections);
        let session = Mutex::new(Session::new(protocol, limits.clone(), rejections.clone()));
        let connected_since = Timestamp::now();
        let stream = Arc::new(Stream { node, peer, protocol, connected_since, rejections, session });
        registry.opened += 1;
        let id = registry.opened;
        registry.streams.insert(id, Arc::clone(&stream));
        drop(registry);
        self.come_or_go(&stream);
        Some(Connection { id, stream, clients: self.clone() })
    }

    fn streams(&self) -> Vec<Arc<Stream>> {
        self.lock().streams.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever watches that a stream has begun or ended.
    fn come_or_go(&self, stream: &Stream) {
        self.tick();
        if !stream.rejections.is_empty() {
            self.0.rejections.send_modify(|changes| *changes += 1);
        }
    }

    fn tick(&self) {
        self.0.ticks.send_modify(|ticks| *ticks += 1);
    }
}

impl Registry {
    /// What this node has rejected so far. Another version of the same node's software starts anew, and so does
    /// every client that does not name its node.
    fn rejections(&mut self, node: &Node, changes: &watch::Sender<u64>) -> Rejections {
        if node.id.is_empty() {
            return Rejections::new(changes.clone());
        }
        let node = node.identity();
        let known = self.nodes.iter().position(|(known, _)| *known == node);
        let (node, rejections) = known
            .and_then(|position| self.nodes.remove(position))
            .unwrap_or_else(|| (node, Rejections::new(changes.clone())));
        self.nodes.push_back((node, rejections.clone()));
        if self.nodes.len() > REMEMBERED_NODES {
            self.nodes.pop_front();
        }
        rejections
    }
}

impl Stream {
    fn lock(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rejections(&self) -> Vec<Rejection> {
        let of = |ty| {
            let nacks = self.rejections.of(ty).into_iter();
            nacks.map(move |(name, nack)| {
                let (name, node) = (name.to_string(), self.node.id.clone());
                Rejection { ty, name, node, nack }
            })
        };
        ResourceType::ALL.into_iter().flat_map(of).collect()
    }

    fn status(&self) -> ClientStatus {
        ClientStatus {
            node: self.node.id.clone(),
            cluster: self.node.cluster.clone(),
            user_agent: self.node.user_agent.clone(),
            peer: self.peer.clone(),
            protocol: self.protocol,
            connected_since: self.connected_since,
            types: self.lock().status(),
        }
    }
}

/// A registered stream. The client vanishes from [`Clients`] when this is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u64,
    stream: Arc<Stream>,
    clients: Clients,
}

impl Connection {
    pub(crate) fn session(&self) -> MutexGuard<'_, Session> {
        self.stream.lock()
    }

    /// Tells whoever watches the clients that the session has moved on.
    pub(crate) fn tick(&self) {
        self.clients.tick();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.clients.lock().streams.remove(&self.id);
        self.clients.come_or_go(&self.stream);
    }
}

/// A resource that a client rejects.
///
/// It keeps the version that it accepted last. Once the resource's content changes it is tried again, and the rejection
/// lasts until the client has accepted that, or the resource is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// The type of the resource.
    #[serde(rename = "type")]
    pub ty: ResourceType,
    /// The name of the resource.
    pub name: String,
    /// The id of the client's node, as the client gives it.
    pub node: String,
    /// The client's words.
    pub nack: Nack,
}

/// A connected client.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientStatus {
    /// The node's id, as the client gives it.
    pub node: String,
    /// The node's cluster, as the client gives it.
    pub cluster: String,
    /// Name and version of the client's software, like `envoy 1.40.0`.
    pub user_agent: String,
    /// Where the client connects from: an address and port, or a process on this machine.
    pub peer: String,
    /// The dialect it speaks.
    pub protocol: Protocol,
    /// Since when its stream has been open.
    pub connected_since: Timestamp,
    /// What it asks for, by type.
    pub types: BTreeMap<ResourceType, TypeStatus>,
}

/// What a client asks for, was sent and said, for one type.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TypeStatus {
    /// How many resources it asks for.
    pub subscribed: usize,
    /// How many of them it was sent.
    pub sent: usize,
    /// How many it holds in the version it was last sent.
    pub acked: usize,
    /// How many it rejects in the version it was last sent.
    pub nacked: usize,
    /// Each resource it was sent, by name.
    pub resources: BTreeMap<String, ResourceStatus>,
}

impl TypeStatus {
    pub(crate) fn new(subscribed: usize, resources: BTreeMap<String, ResourceStatus>) -> Self {
        let count =
            |is: fn(&ResourceStatus) -> bool| resources.values().filter(|resource| is(resource)).count();
        Self {
            subscribed,
            sent: count(|resource| resource.sent.is_some()),
            acked: count(|resource| resource.sent.is_some() && resource.acked == resource.sent),
            nacked: count(|resource| {
                resource.nack.as_ref().is_some_and(|nack| Some(nack.version) == resource.sent)
            }),
            resources,
        }
    }
}

/// What became of one resource at a client.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceStatus {
    /// The version it was last sent, or that it said to hold when it connected. `None`: told that there is none.
    pub sent: Option<Version>,
    /// The version it holds.
    pub acked: Option<Version>,
    /// The last rejection, until a newer version is accepted.
    pub nack: Option<Nack>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str) -> Node {
        Node { id: id.to_owned(), ..Node::default() }
    }

    fn connect(clients: &Clients, id: &str, limits: &Limits) -> Option<Connection> {
        clients.connect(node(id), "here".to_owned(), Protocol::Delta, limits)
    }

    #[test]
    fn a_client_is_listed_while_it_is_connected() {
        let clients = Clients::new();
        let mut changes = clients.changes();
        let connection = connect(&clients, "a", &Limits::default()).expect("there is room");
        assert_eq!(clients.snapshot()[0].node, "a");
        assert!(changes.has_changed().expect("the registry lives"));
        changes.mark_unchanged();
        drop(connection);
        assert_eq!(clients.snapshot(), []);
        assert!(changes.has_changed().expect("the registry lives"));
    }

    #[test]
    fn rejections_are_told_once_for_each_node_while_it_is_connected() {
        let clients = Clients::new();
        let mut changes = clients.rejection_changes();
        let limits = Limits::default();
        let streams = ["a", "a", "b"].map(|id| connect(&clients, id, &limits).expect("there is room"));
        assert!(!changes.has_changed().expect("the registry lives"), "nobody has rejected anything");

        let nack = Nack { version: Version::of(b"bad"), message: "no".to_owned(), at: Timestamp::UNIX_EPOCH };
        for stream in &streams[1..] {
            stream.stream.rejections.insert(ResourceType::Listener, &Arc::from("l"), nack.clone());
        }
        assert!(changes.has_changed().expect("the registry lives"));
        let rejection = |node: &str| {
            let (ty, name, node) = (ResourceType::Listener, "l".to_owned(), node.to_owned());
            Rejection { ty, name, node, nack: nack.clone() }
        };
        assert_eq!(clients.rejections(), [rejection("a"), rejection("b")]);

        changes.mark_unchanged();
        drop(streams);
        assert_eq!(clients.rejections(), []);
        assert!(changes.has_changed().expect("the registry lives"));
        let back = connect(&clients, "a", &limits);
        assert_eq!(clients.rejections(), [rejection("a")], "it comes back with what it rejected");
        drop(back);
    }

    #[test]
    fn streams_are_limited() {
        let clients = Clients::new();
        let limits = Limits { streams: 1, ..Limits::default() };
        let first = connect(&clients, "a", &limits);
        assert!(first.is_some());
        assert!(connect(&clients, "b", &limits).is_none());
        drop(first);
        assert!(connect(&clients, "b", &limits).is_some());
    }

    #[test]
    fn as_many_nodes_are_remembered_as_may_be() {
        let (mut registry, changes) = (Registry::default(), watch::Sender::default());
        for id in 0..REMEMBERED_NODES {
            registry.rejections(&node(&id.to_string()), &changes);
        }
        registry.rejections(&node("0"), &changes);
        registry.rejections(&node("new"), &changes);
        assert_eq!(registry.nodes.len(), REMEMBERED_NODES);
        assert!(registry.nodes.iter().any(|(known, _)| known.id == "0"), "it has come back since");
        assert!(!registry.nodes.iter().any(|(known, _)| known.id == "1"));
    }

    #[tokio::test]
    async fn nothing_is_acknowledged_by_nobody() {
        let clients = Clients::new();
        assert!(!clients.is_acknowledged(ResourceType::Secret, "token", Version::of(b"1")));
        let connection = connect(&clients, "a", &Limits::default());
        assert!(!clients.is_acknowledged(ResourceType::Secret, "token", Version::of(b"1")));
        drop(connection);
    }
}
