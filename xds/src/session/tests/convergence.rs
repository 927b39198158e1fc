//! Whatever happens in whatever order, in the end the client holds what the server has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::{prelude::*, sample::select};

use super::*;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const BODIES: [&str; 4] = ["1", "2", "3", "bad"];

#[derive(Clone, Copy, Debug)]
enum Step {
    Set(ResourceType, &'static str, &'static str),
    Remove(ResourceType, &'static str),
    /// The session hears of the changes since the last time.
    Update,
    Subscribe(ResourceType, &'static str),
    Unsubscribe(ResourceType, &'static str),
    /// The client asks for all names, or no more.
    Wildcard(ResourceType, bool),
    /// The client repeats the answer to an earlier response.
    Repeat(ResourceType),
    /// The server sends what it may send.
    Send,
    /// The client takes one response.
    Receive,
    /// One request of the client arrives.
    Arrive,
    /// The server's patience ends.
    Wait,
    /// The client comes back with what it holds.
    Reconnect,
    /// The client comes back as a new process that holds nothing.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let resource = || (select(&ResourceType::ALL), select(&NAMES));
    prop_oneof![
        9 => (resource(), select(&BODIES)).prop_map(|((ty, name), body)| Step::Set(ty, name, body)),
        3 => resource().prop_map(|(ty, name)| Step::Remove(ty, name)),
        4 => Just(Step::Update),
        5 => resource().prop_map(|(ty, name)| Step::Subscribe(ty, name)),
        2 => resource().prop_map(|(ty, name)| Step::Unsubscribe(ty, name)),
        1 => (select(&ResourceType::ALL), any::<bool>()).prop_map(|(ty, all)| Step::Wildcard(ty, all)),
        1 => select(&ResourceType::ALL).prop_map(Step::Repeat),
        6 => Just(Step::Send),
        6 => Just(Step::Receive),
        8 => Just(Step::Arrive),
        1 => Just(Step::Wait),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Restart),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..150)
}

/// Good resources, at most one for each type and name.
fn holdings() -> impl Strategy<Value = BTreeMap<(ResourceType, String), String>> {
    let key = (select(&ResourceType::ALL), select(&NAMES)).prop_map(|(ty, name)| (ty, name.to_owned()));
    prop::collection::btree_map(key, select(&BODIES[..3]).prop_map(str::to_owned), 0..6)
}

/// How a client words its rejections.
#[derive(Clone, Copy, Debug)]
enum Words {
    Listed,
    Mentioned,
    None,
}

#[derive(Clone, Copy, Debug)]
struct Manner {
    protocol: Protocol,
    words: Words,
    /// Whether it applies the good resources of a response it rejects.
    applies_good: bool,
    /// Whether it writes the wildcard down where an empty list would do.
    says_wildcard: bool,
}

fn manner() -> impl Strategy<Value = Manner> {
    let protocol = select(&[Protocol::Delta, Protocol::StateOfTheWorld]);
    let words = select(&[Words::Listed, Words::Mentioned, Words::None]);
    (protocol, words, any::<bool>(), any::<bool>()).prop_map(
        |(protocol, words, applies_good, says_wildcard)| Manner {
            protocol,
            words,
            applies_good,
            says_wildcard,
        },
    )
}

/// A client that rejects what is bad.
struct Client {
    manner: Manner,
    wildcards: BTreeSet<ResourceType>,
    names: BTreeMap<ResourceType, BTreeSet<String>>,
    holds: BTreeMap<(ResourceType, String), String>,
    /// The types of which it held something when its stream began.
    held_before: BTreeSet<ResourceType>,
    /// The nonces of the responses to each type.
    nonces: BTreeMap<ResourceType, Vec<String>>,
    inbox: VecDeque<Response>,
    outbox: VecDeque<Request>,
}

impl Client {
    fn new(manner: Manner, holds: BTreeMap<(ResourceType, String), String>) -> Self {
        let mut names: BTreeMap<ResourceType, BTreeSet<String>> = BTreeMap::new();
        for (ty, name) in holds.keys().filter(|(ty, _)| !ty.is_listed_whole()) {
            names.entry(*ty).or_default().insert(name.clone());
        }
        let mut client = Self {
            manner,
            wildcards: ResourceType::ALL.into_iter().filter(|ty| ty.is_listed_whole()).collect(),
            names,
            holds,
            held_before: BTreeSet::new(),
            nonces: BTreeMap::new(),
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
        };
        client.open();
        client
    }

    fn open(&mut self) {
        self.inbox.clear();
        self.outbox.clear();
        self.nonces.clear();
        self.held_before = self.holds.keys().map(|(ty, _)| *ty).collect();
        for ty in ResourceType::ALL {
            let held = self.holds.iter().filter(|((of, _), _)| *of == ty);
            let held = held.map(|((_, name), body)| (name.clone(), version(body).to_string())).collect();
            let names = self.names.get(&ty).cloned().unwrap_or_default();
            let mut subscribe: Vec<String> = names.into_iter().collect();
            let is_implied = ty.is_listed_whole() && subscribe.is_empty() && !self.manner.says_wildcard;
            if self.wildcards.contains(&ty) && !is_implied {
                subscribe.push("*".to_owned());
            }
            if subscribe.is_empty() && ty.is_listed_whole() && !self.wildcards.contains(&ty) {
                // Nothing is asked for, and an empty request would ask for all.
                continue;
            }
            self.request(ty, String::new(), None, Interest::Change { subscribe, unsubscribe: vec![], held });
        }
    }

    fn wants(&self, ty: ResourceType, name: &str) -> bool {
        self.wildcards.contains(&ty) || self.names.get(&ty).is_some_and(|names| names.contains(name))
    }

    fn subscribe(&mut self, ty: ResourceType, name: &str) {
        self.names.entry(ty).or_default().insert(name.to_owned());
        self.spontaneous(ty, &[name], &[]);
    }

    fn unsubscribe(&mut self, ty: ResourceType, name: &str) {
        if self.names.entry(ty).or_default().remove(name) {
            if self.manner.protocol == Protocol::Delta || !self.wants(ty, name) {
                self.holds.remove(&(ty, name.to_owned()));
            }
            self.spontaneous(ty, &[], &[name]);
        }
    }

    fn wildcard(&mut self, ty: ResourceType, all: bool) {
        let has_words = match self.manner.protocol {
            Protocol::Delta => true,
            // An empty list, which never was anything else, cannot say that it is no wildcard.
            Protocol::StateOfTheWorld => ty.is_listed_whole() && self.manner.says_wildcard,
        };
        if !has_words {
            return;
        }
        if all && self.wildcards.insert(ty) {
            self.spontaneous(ty, &["*"], &[]);
        }
        if !all && self.wildcards.remove(&ty) {
            let names = self.names.get(&ty).cloned().unwrap_or_default();
            self.holds.retain(|(of, name), _| *of != ty || names.contains(name));
            self.spontaneous(ty, &[], &["*"]);
        }
    }

    fn spontaneous(&mut self, ty: ResourceType, subscribe: &[&str], unsubscribe: &[&str]) {
        let nonce = match self.manner.protocol {
            Protocol::Delta => String::new(),
            Protocol::StateOfTheWorld => {
                self.nonces.get(&ty).and_then(|nonces| nonces.last()).cloned().unwrap_or_default()
            }
        };
        let (subscribe, unsubscribe) = (strings(subscribe), strings(unsubscribe));
        self.request(ty, nonce, None, Interest::Change { subscribe, unsubscribe, held: HashMap::new() });
    }

    fn repeat(&mut self, ty: ResourceType) {
        let nonces = self.nonces.get(&ty).map_or(&[][..], Vec::as_slice);
        if let [.., nonce, _] = nonces {
            self.request(ty, nonce.clone(), None, nothing_new());
        }
    }

    fn request(&mut self, ty: ResourceType, nonce: String, error: Option<String>, interest: Interest) {
        let interest = match self.manner.protocol {
            Protocol::Delta => interest,
            Protocol::StateOfTheWorld => {
                let wildcard = self.wildcards.contains(&ty) && self.manner.says_wildcard;
                let names = self.names.get(&ty).into_iter().flatten().cloned();
                // Once there are names, an empty list is none: then the wildcard has to be said.
                let has_names = self.names.contains_key(&ty);
                let wildcard = wildcard || (self.wildcards.contains(&ty) && has_names);
                Interest::Exactly(names.chain(wildcard.then(|| "*".to_owned())).collect())
            }
        };
        self.outbox.push_back(Request {
            node: None,
            type_url: ty.type_url().to_owned(),
            nonce,
            error,
            holds_nothing: !self.held_before.contains(&ty),
            interest,
        });
    }

    fn receive(&mut self, response: &Response) {
        let ty = response.ty;
        let bad: Vec<&str> =
            response.resources.iter().filter(|resource| is_bad(resource)).map(Resource::name).collect();
        if bad.is_empty() || self.manner.applies_good {
            self.apply(response);
        }
        let error = match self.manner.words {
            _ if bad.is_empty() => None,
            Words::Listed => Some(format!("Error adding/updating cluster(s) {}: no", bad.join(": no, "))),
            Words::Mentioned => Some(format!("there is something about '{}'", bad[0])),
            Words::None => Some("no".to_owned()),
        };
        self.nonces.entry(ty).or_default().push(response.nonce.clone());
        self.request(ty, response.nonce.clone(), error, nothing_new());
    }

    fn apply(&mut self, response: &Response) {
        let ty = response.ty;
        if self.manner.protocol == Protocol::StateOfTheWorld && ty.is_listed_whole() {
            let listed: BTreeSet<&str> = response.resources.iter().map(Resource::name).collect();
            self.holds.retain(|(of, name), _| *of != ty || listed.contains(name.as_str()));
        }
        if self.manner.protocol == Protocol::Delta {
            for name in &response.removed {
                self.holds.remove(&(ty, name.to_string()));
            }
        }
        for resource in response.resources.iter().filter(|resource| !is_bad(resource)) {
            if self.wants(ty, resource.name()) {
                let body = String::from_utf8_lossy(resource.body()).into_owned();
                self.holds.insert((ty, resource.name().to_owned()), body);
            }
        }
    }
}

fn nothing_new() -> Interest {
    Interest::Change { subscribe: vec![], unsubscribe: vec![], held: HashMap::new() }
}

struct World {
    stream: Stream,
    client: Client,
    /// What the client has rejected beyond doubt and must not see again while it is unchanged.
    rejected: BTreeSet<(ResourceType, String)>,
}

impl World {
    fn new(manner: Manner) -> Self {
        Self::with(Stream::new(manner.protocol, &[]), Client::new(manner, BTreeMap::new()))
    }

    fn with(stream: Stream, client: Client) -> Self {
        Self { stream, client, rejected: BTreeSet::new() }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Set(ty, name, body) => {
                if self.stream.cache.apply([Change::Set(ty, name.to_owned(), body.into())]) {
                    self.rejected.remove(&(ty, name.to_owned()));
                }
            }
            Step::Remove(ty, name) => {
                self.stream.cache.apply([Change::Remove(ty, name.to_owned())]);
                self.rejected.remove(&(ty, name.to_owned()));
            }
            Step::Update => self.stream.session.update(self.stream.cache.state()),
            Step::Subscribe(ty, name) => self.client.subscribe(ty, name),
            Step::Unsubscribe(ty, name) => self.client.unsubscribe(ty, name),
            Step::Wildcard(ty, all) => self.client.wildcard(ty, all),
            Step::Repeat(ty) => self.client.repeat(ty),
            Step::Send => self.send(),
            Step::Receive => {
                if let Some(response) = self.client.inbox.pop_front() {
                    self.client.receive(&response);
                }
            }
            Step::Arrive => {
                if let Some(request) = self.client.outbox.pop_front() {
                    self.arrive(request);
                }
            }
            Step::Wait => self.stream.now += self.stream.session.limits.patience,
            Step::Reconnect => {
                self.stream.reconnect();
                self.client.open();
            }
            Step::Restart => {
                self.stream.reconnect();
                self.client.holds.clear();
                self.client.open();
            }
        }
        self.stream.check_summary();
    }

    fn send(&mut self) {
        let responses = self.stream.responses();
        for response in &responses {
            assert!(
                !self.stream.session.state.is_restored() || !self.client.held_before.contains(&response.ty),
                "a restored state is not for a client that holds something: {response:?}"
            );
            for resource in response.resources.iter().filter(|resource| is_bad(resource)) {
                let key = (response.ty, resource.name().to_owned());
                assert!(!self.rejected.contains(&key), "{key:?} is sent again");
            }
        }
        self.client.inbox.extend(responses);
    }

    fn arrive(&mut self, request: Request) {
        let ty = ResourceType::from_type_url(&request.type_url).expect("a known type");
        if ty == Clusters && self.stream.session.may_begin_anew && request.holds_nothing {
            self.rejected.clear();
        }
        self.stream.session.request(request, Timestamp::UNIX_EPOCH).expect("within the limits");
        let state = self.stream.cache.state();
        for (name, nack) in self.stream.rejections.of(ty) {
            if state.resource(ty, &name).is_some_and(|resource| resource.version() == nack.version) {
                self.rejected.insert((ty, name.to_string()));
            }
        }
    }

    /// Lets everything arrive that is on its way.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.take(Step::Update);
            self.take(Step::Send);
            if self.client.inbox.is_empty() && self.client.outbox.is_empty() {
                return;
            }
            while !self.client.inbox.is_empty() {
                self.take(Step::Receive);
            }
            while !self.client.outbox.is_empty() {
                self.take(Step::Arrive);
            }
        }
        panic!("there is no end to it");
    }

    fn check(&self) {
        let state = self.stream.cache.state();
        for (ty, name) in ResourceType::ALL.into_iter().flat_map(|ty| NAMES.map(|name| (ty, name))) {
            let holds = self.client.holds.get(&(ty, name.to_owned())).map(String::as_str);
            match state.resource(ty, name).map(Resource::body) {
                _ if !self.client.wants(ty, name) => assert_eq!(holds, None, "{ty} {name}"),
                Some(b"bad") => {
                    assert_ne!(holds, Some("bad"), "{ty} {name}");
                    assert!(self.rejected.contains(&(ty, name.to_owned())), "{ty} {name} is not found out");
                }
                Some(body) => {
                    assert_eq!(holds.map(str::as_bytes), Some(body), "{ty} {name}");
                    let acknowledged = Some(Some(Version::of(body)));
                    assert_eq!(self.stream.holds(ty, name), acknowledged, "{ty} {name}");
                }
                // The state of the world has no words for the removal of anything but these.
                None if self.client.manner.protocol == Protocol::Delta || ty.is_listed_whole() => {
                    assert_eq!(holds, None, "{ty} {name}");
                }
                None => {}
            }
        }
    }

    /// A client that has everything comes back, and is only told again of what there is not or what it may not have.
    fn check_that_a_reconnect_costs_nothing(&mut self) {
        self.take(Step::Reconnect);
        while !self.client.outbox.is_empty() {
            self.take(Step::Arrive);
        }
        let state = self.stream.cache.state();
        for response in self.stream.responses() {
            let ty = response.ty;
            assert!(response.resources.iter().all(is_bad), "{response:?}");
            assert!(response.removed.iter().all(|name| self.client.wants(ty, name)), "{response:?}");
            assert!(
                response.removed.iter().all(|name| state.resource(ty, name).is_none_or(is_bad)),
                "{response:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn a_client_ends_up_with_what_the_server_has(manner in manner(), steps in steps()) {
        let mut world = World::new(manner);
        for step in steps {
            world.take(step);
        }
        world.settle();
        world.check();
        if manner.protocol == Protocol::Delta {
            world.check_that_a_reconnect_costs_nothing();
        }
    }

    #[test]
    fn a_restored_state_takes_nothing_and_gives_way_to_the_next(
        manner in manner(),
        restored in holdings(),
        held in holdings(),
        quiet in prop::collection::vec(select(&[Step::Send, Step::Receive, Step::Arrive, Step::Wait]), 0..40),
        steps in steps(),
    ) {
        let cache = Cache::new();
        cache.restore(restored.iter().map(|((ty, name), body)| (*ty, name.clone(), body.clone().into())));
        let client = Client::new(manner, held.clone());
        let mut world = World::with(Stream::of(manner.protocol, cache, Limits::default()), client);
        for step in quiet {
            world.take(step);
        }
        for (key, body) in &held {
            prop_assert_eq!(world.client.holds.get(key), Some(body), "it keeps what it held");
        }
        world.settle();
        if held.is_empty() {
            for (ty, name) in restored.keys().filter(|(ty, _)| ty.is_listed_whole()) {
                prop_assert_eq!(world.stream.holds(*ty, name), Some(Some(version(&restored[&(*ty, name.clone())]))));
            }
        }
        for step in steps {
            world.take(step);
        }
        world.stream.cache.apply([]);
        world.settle();
        world.check();
    }

    #[test]
    fn delta_and_state_of_the_world_end_alike(steps in steps()) {
        let is_quiet = |step: &Step| match step {
            Step::Set(_, _, body) => *body != "bad",
            Step::Remove(ty, _) | Step::Wildcard(ty, _) => ty.is_listed_whole(),
            _ => true,
        };
        let ends = [Protocol::Delta, Protocol::StateOfTheWorld].map(|protocol| {
            let manner = Manner { protocol, words: Words::None, applies_good: false, says_wildcard: true };
            let mut world = World::new(manner);
            for step in steps.iter().filter(|step| is_quiet(step)) {
                world.take(*step);
            }
            world.settle();
            world.client.holds
        });
        prop_assert_eq!(&ends[0], &ends[1]);
    }
}
