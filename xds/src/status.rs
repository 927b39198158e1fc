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
    node::{Node, Peer},
    resource::{ResourceType, Version},
    server::Method,
    session::{Nack, Protocol, Rejections, Session},
};

/// How many clients' rejections are remembered; the client that connected longest ago is forgotten first.
const REMEMBERED_CLIENTS: usize = 256;

/// How many rejections are remembered of clients that are gone. Beyond that, all those of one are forgotten; again the
/// client that connected longest ago comes first.
const REMEMBERED_REJECTIONS: usize = 10_000;

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
    remembered: VecDeque<((Node, Peer), Rejections)>,
}

#[derive(Debug)]
struct Stream {
    node: Node,
    peer: Peer,
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

    /// Whether no client is connected at this moment.
    pub fn is_empty(&self) -> bool {
        self.lock().streams.is_empty()
    }

    /// All connected clients at this moment with each of their resources, the one connected first first.
    ///
    /// Costs as much as there are, and keeps each client from its work meanwhile: [`Clients::summaries`] does not.
    pub fn snapshot(&self) -> Vec<ClientStatus> {
        self.streams().iter().map(|stream| stream.status(Session::status)).collect()
    }

    /// All connected clients at this moment, with how many resources they have and which they reject, the one connected
    /// first first.
    ///
    /// Costs as much as they reject and are behind the state, however many resources there are.
    pub fn summaries(&self) -> Vec<ClientStatus<TypeSummary>> {
        self.streams().iter().map(|stream| stream.status(Session::summary)).collect()
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

    /// The nodes of the clients that subscribe to a resource and do not hold this version of it.
    pub fn behind(&self, ty: ResourceType, name: &str, version: Version) -> Vec<String> {
        let is_behind = |stream: &Arc<Stream>| {
            let held = stream.lock().holds(ty, name);
            held.is_some_and(|held| held != Some(version))
        };
        let streams = self.streams().into_iter();
        streams.filter(is_behind).map(|stream| stream.node.id.clone()).collect()
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

    /// Wakes when a client connects, disconnects or has sent a request: each time what the clients hold may differ.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.ticks.subscribe()
    }

    /// What is made of each client's node and session, the one connected first first.
    pub(crate) fn visit<T>(&self, visit: impl Fn(&Node, &Session) -> T) -> Vec<T> {
        self.streams().iter().map(|stream| visit(&stream.node, &stream.lock())).collect()
    }

    /// Registers a stream, for all types or for one, until the returned guard is dropped.
    pub(crate) fn connect(&self, node: Node, peer: Peer, method: Method, limits: &Limits) -> Connection {
        let protocol = method.protocol;
        let mut registry = self.lock();
        let rejections = registry.rejections(&node, &peer, &self.0.rejections);
        let session = Session::new(protocol, limits.clone(), rejections.clone());
        let has_others = registry.streams.values().any(|stream| stream.rejections.id() == rejections.id());
        let is_aggregated = method.ty.is_none();
        let session = Mutex::new(if is_aggregated && !has_others { session } else { session.amid_others() });
        let connected_since = Timestamp::now();
        let stream = Arc::new(Stream { node, peer, protocol, connected_since, rejections, session });
        registry.opened += 1;
        let id = registry.opened;
        registry.streams.insert(id, Arc::clone(&stream));
        drop(registry);
        self.come_or_go(&stream);
        Connection { id, stream, clients: self.clone() }
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
    /// What this client has rejected so far. Another version of the same node's software starts anew, and so does
    /// every client that does not name its node. One that takes the name of another does not reject anything for it.
    fn rejections(&mut self, node: &Node, peer: &Peer, changes: &watch::Sender<u64>) -> Rejections {
        if node.id.is_empty() {
            return Rejections::new(changes.clone());
        }
        let client = (node.identity(), peer.identity());
        let known = self.remembered.iter().position(|(known, _)| *known == client);
        let (client, rejections) = known
            .and_then(|position| self.remembered.remove(position))
            .unwrap_or_else(|| (client, Rejections::new(changes.clone())));
        self.remembered.push_back((client, rejections.clone()));
        if self.remembered.len() > REMEMBERED_CLIENTS {
            self.remembered.pop_front();
        }
        rejections
    }

    /// Forgets what clients that are gone have rejected, where that is too much.
    fn forget_excess(&mut self) {
        let connected: BTreeSet<usize> = self.streams.values().map(|stream| stream.rejections.id()).collect();
        let is_gone = |rejections: &Rejections| !connected.contains(&rejections.id());
        let gone = self.remembered.iter().filter(|(_, rejections)| is_gone(rejections));
        let mut count: usize = gone.map(|(_, rejections)| rejections.count()).sum();
        self.remembered.retain(|(_, rejections)| {
            let is_excess = count > REMEMBERED_REJECTIONS && is_gone(rejections);
            if is_excess {
                count -= rejections.count();
            }
            !is_excess
        });
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

    fn status<T>(&self, types: impl Fn(&Session) -> BTreeMap<ResourceType, T>) -> ClientStatus<T> {
        ClientStatus {
            node: self.node.id.clone(),
            cluster: self.node.cluster.clone(),
            user_agent: self.node.user_agent.clone(),
            peer: self.peer.to_string(),
            protocol: self.protocol,
            connected_since: self.connected_since,
            types: types(&self.lock()),
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
        let mut registry = self.clients.lock();
        registry.streams.remove(&self.id);
        if !self.stream.rejections.is_empty() {
            registry.forget_excess();
        }
        drop(registry);
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

/// A connected client, with all or with a summary of what it asks for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ClientStatus<T = TypeStatus> {
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
    pub types: BTreeMap<ResourceType, T>,
}

/// What a client asks for, was sent and said, for one type.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
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
        let [sent, acked, nacked] = counts(&resources.values());
        Self { subscribed, sent, acked, nacked, resources }
    }
}

/// How many resources of one type a client asks for, was sent, accepted and rejected.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TypeSummary {
    /// How many resources it asks for.
    pub subscribed: usize,
    /// How many of them it was sent.
    pub sent: usize,
    /// How many it holds in the version it was last sent.
    pub acked: usize,
    /// How many it rejects in the version it was last sent.
    pub nacked: usize,
    /// The last rejection of each resource of which it has not accepted a newer version, by name.
    pub rejected: BTreeMap<String, Nack>,
}

impl TypeSummary {
    /// Of so many resources that are held in the version that was last sent, and others.
    pub(crate) fn new(
        subscribed: usize,
        settled: usize,
        unsettled: BTreeMap<Arc<str>, ResourceStatus>,
    ) -> Self {
        let [sent, acked, nacked] = counts(&unsettled.values());
        let rejected =
            unsettled.into_iter().filter_map(|(name, status)| Some((name.to_string(), status.nack?)));
        let rejected = rejected.collect();
        Self { subscribed, sent: settled + sent, acked: settled + acked, nacked, rejected }
    }
}

/// How many resources were sent, are held in the version that was last sent, and are rejected in it.
fn counts<'a>(resources: &(impl Iterator<Item = &'a ResourceStatus> + Clone)) -> [usize; 3] {
    let count = |is: fn(&ResourceStatus) -> bool| resources.clone().filter(|resource| is(resource)).count();
    [
        count(|resource| resource.sent.is_some()),
        count(|resource| resource.sent.is_some() && resource.acked == resource.sent),
        count(|resource| resource.nack.as_ref().is_some_and(|nack| Some(nack.version) == resource.sent)),
    ]
}

/// What became of one resource at a client.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
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
    use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;

    use super::*;
    use crate::session::Request;

    fn node(id: &str) -> Node {
        Node { id: id.to_owned(), ..Node::default() }
    }

    fn connect(clients: &Clients, id: &str) -> Connection {
        connect_by(clients, id, None)
    }

    fn connect_by(clients: &Clients, id: &str, ty: Option<ResourceType>) -> Connection {
        let method = Method { protocol: Protocol::Delta, ty };
        clients.connect(node(id), Peer::Process(None), method, &Limits::default())
    }

    #[test]
    fn a_client_is_listed_while_it_is_connected() {
        let clients = Clients::new();
        let mut changes = clients.changes();
        let connection = connect(&clients, "a");
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
        let streams = ["a", "a", "b"].map(|id| connect(&clients, id));
        assert!(!changes.has_changed().expect("the registry lives"), "nobody has rejected anything");

        let nack = Nack { version: Version::of(b"bad"), message: "no".into(), at: Timestamp::UNIX_EPOCH };
        for stream in &streams[1..] {
            stream.stream.rejections.insert(ResourceType::Listener, &Arc::from("l"), nack.clone(), None);
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
        let back = connect(&clients, "a");
        assert_eq!(clients.rejections(), [rejection("a")], "it comes back with what it rejected");
        drop(back);
    }

    #[test]
    fn only_the_first_aggregated_stream_of_a_client_may_be_that_of_a_new_process() {
        let clients = Clients::new();
        let has_rejections_after = |connection: &Connection| {
            let nack = Nack { version: Version::of(b"bad"), message: "no".into(), at: Timestamp::UNIX_EPOCH };
            connection.stream.rejections.insert(ResourceType::Listener, &Arc::from("l"), nack, None);
            let type_url = ResourceType::Cluster.type_url().to_owned();
            let request = Request::from(DeltaDiscoveryRequest { type_url, ..Default::default() });
            connection.session().request(request, Timestamp::UNIX_EPOCH).expect("within the limits");
            !connection.stream.rejections.is_empty()
        };
        assert!(has_rejections_after(&connect_by(&clients, "a", Some(ResourceType::Cluster))));
        let first = connect(&clients, "a");
        assert!(has_rejections_after(&connect(&clients, "a")));
        assert!(!has_rejections_after(&connect(&clients, "b")));
        assert!(!has_rejections_after(&first));
    }

    #[test]
    fn who_only_takes_the_name_of_another_rejects_nothing_for_it() {
        let address = |text: &str| text.parse().expect("an address");
        let tls = |certificate: &'static str, at: &str| Peer::Tls {
            address: address(at),
            certificate: certificate.into(),
        };
        let (mut registry, changes) = (Registry::default(), watch::Sender::default());
        let mut client = |peer| registry.rejections(&node("a"), &peer, &changes).id();
        let secured = client(tls("a", "10.0.0.1:1"));
        assert_eq!(client(tls("a", "10.0.0.2:2")), secured);
        assert_ne!(client(tls("b", "10.0.0.1:1")), secured);
        let plain = client(Peer::Tcp(address("10.0.0.1:1")));
        assert_eq!(client(Peer::Tcp(address("10.0.0.1:2"))), plain);
        assert_ne!(client(Peer::Tcp(address("10.0.0.2:1"))), plain);
        let local = client(Peer::Process(Some(1)));
        assert_eq!(client(Peer::Process(Some(2))), local);
        assert!(local != plain && plain != secured && secured != local);
    }

    #[test]
    fn as_many_clients_are_remembered_as_may_be() {
        let (mut registry, changes) = (Registry::default(), watch::Sender::default());
        let mut connect = |id: &str| drop(registry.rejections(&node(id), &Peer::Process(None), &changes));
        for id in 0..REMEMBERED_CLIENTS {
            connect(&id.to_string());
        }
        connect("0");
        connect("new");
        assert_eq!(registry.remembered.len(), REMEMBERED_CLIENTS);
        let is_known = |id: &str| registry.remembered.iter().any(|((known, _), _)| known.id == id);
        assert!(is_known("0"), "it has come back since");
        assert!(!is_known("1"));
    }

    #[test]
    fn as_many_rejections_of_clients_that_are_gone_are_remembered_as_may_be() {
        let clients = Clients::new();
        let reject = |id: &str, count: usize| {
            let connection = connect(&clients, id);
            let nack = Nack { version: Version::of(b"bad"), message: "no".into(), at: Timestamp::UNIX_EPOCH };
            for n in 0..count {
                let name = Arc::from(n.to_string());
                connection.stream.rejections.insert(ResourceType::Cluster, &name, nack.clone(), None);
            }
            connection
        };
        let connected = reject("connected", REMEMBERED_REJECTIONS);
        for id in ["first", "second"] {
            drop(reject(id, REMEMBERED_REJECTIONS / 2));
        }
        drop(reject("third", 1));
        drop(connect(&clients, "fourth"));
        let count = |id| connect(&clients, id).stream.rejections.count();
        assert_eq!(count("first"), 0, "it is forgotten");
        assert_eq!(count("second"), REMEMBERED_REJECTIONS / 2);
        assert_eq!(count("third"), 1);
        assert_eq!(connected.stream.rejections.count(), REMEMBERED_REJECTIONS);
    }

    #[tokio::test]
    async fn nothing_is_acknowledged_by_nobody() {
        let clients = Clients::new();
        assert!(!clients.is_acknowledged(ResourceType::Secret, "token", Version::of(b"1")));
        let connection = connect(&clients, "a");
        assert!(!clients.is_acknowledged(ResourceType::Secret, "token", Version::of(b"1")));
        drop(connection);
    }
}
