//! Whatever happens in whatever order, in the end the client holds what the server has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::{prelude::*, sample::select};

use super::*;

const TYPES: [ResourceType; 5] = [Clusters, Endpoints, Filters, Listeners, Routes];
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
    /// The server sends what it may send.
    Send,
    /// The client takes one response.
    Receive,
    /// One request of the client arrives.
    Arrive,
    /// The server's patience ends.
    Wait,
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let resource = || (select(&TYPES), select(&NAMES));
    let named = || (select(&[Endpoints, Filters, Routes]), select(&NAMES));
    prop_oneof![
        6 => (resource(), select(&BODIES)).prop_map(|((ty, name), body)| Step::Set(ty, name, body)),
        2 => resource().prop_map(|(ty, name)| Step::Remove(ty, name)),
        4 => Just(Step::Update),
        3 => named().prop_map(|(ty, name)| Step::Subscribe(ty, name)),
        1 => named().prop_map(|(ty, name)| Step::Unsubscribe(ty, name)),
        6 => Just(Step::Send),
        6 => Just(Step::Receive),
        8 => Just(Step::Arrive),
        1 => Just(Step::Wait),
        1 => Just(Step::Reconnect),
    ]
}

/// How a client words its rejections.
#[derive(Clone, Copy, Debug)]
enum Words {
    Listed,
    Mentioned,
    None,
}

/// A client that rejects what is bad.
struct Client {
    protocol: Protocol,
    words: Words,
    /// Whether it applies the good resources of a response it rejects.
    applies_good: bool,
    names: BTreeMap<ResourceType, BTreeSet<String>>,
    holds: BTreeMap<(ResourceType, String), String>,
    nonces: BTreeMap<ResourceType, String>,
    inbox: VecDeque<Response>,
    outbox: VecDeque<Request>,
}

impl Client {
    fn open(&mut self) {
        self.inbox.clear();
        self.outbox.clear();
        self.nonces.clear();
        for ty in TYPES {
            let names = self.names.get(&ty).cloned().unwrap_or_default();
            let wanted = |name: &String| names.contains(name) || ty.is_listed_whole();
            let held = self.holds.iter().filter(|((of, name), _)| *of == ty && wanted(name));
            let held = held.map(|((_, name), body)| (name.clone(), version(body).to_string())).collect();
            let subscribe = names.iter().cloned().collect();
            self.request(ty, String::new(), None, Interest::Change { subscribe, unsubscribe: vec![], held });
        }
    }

    fn subscribe(&mut self, ty: ResourceType, name: &str) {
        self.names.entry(ty).or_default().insert(name.to_owned());
        let subscribe = strings(&[name]);
        self.spontaneous(ty, Interest::Change { subscribe, unsubscribe: vec![], held: HashMap::new() });
    }

    fn unsubscribe(&mut self, ty: ResourceType, name: &str) {
        if self.names.entry(ty).or_default().remove(name) {
            self.holds.remove(&(ty, name.to_owned()));
            let unsubscribe = strings(&[name]);
            self.spontaneous(ty, Interest::Change { subscribe: vec![], unsubscribe, held: HashMap::new() });
        }
    }

    fn spontaneous(&mut self, ty: ResourceType, interest: Interest) {
        let nonce = match self.protocol {
            Protocol::Delta => String::new(),
            Protocol::StateOfTheWorld => self.nonces.get(&ty).cloned().unwrap_or_default(),
        };
        self.request(ty, nonce, None, interest);
    }

    fn request(&mut self, ty: ResourceType, nonce: String, error: Option<String>, interest: Interest) {
        let interest = match self.protocol {
            Protocol::Delta => interest,
            Protocol::StateOfTheWorld => {
                Interest::Exactly(self.names.get(&ty).into_iter().flatten().cloned().collect())
            }
        };
        self.outbox.push_back(Request {
            node: None,
            type_url: ty.type_url().to_owned(),
            nonce,
            error,
            holds_nothing: false,
            interest,
        });
    }

    fn receive(&mut self, response: &Response) {
        let ty = response.ty;
        let bad: Vec<&str> =
            response.resources.iter().filter(|resource| is_bad(resource)).map(Resource::name).collect();
        if bad.is_empty() || self.applies_good {
            self.apply(response);
        }
        let error = match self.words {
            _ if bad.is_empty() => None,
            Words::Listed => Some(format!("Error adding/updating cluster(s) {}: no", bad.join(": no, "))),
            Words::Mentioned => Some(format!("there is something about '{}'", bad[0])),
            Words::None => Some("no".to_owned()),
        };
        self.nonces.insert(ty, response.nonce.clone());
        let interest = Interest::Change { subscribe: vec![], unsubscribe: vec![], held: HashMap::new() };
        self.request(ty, response.nonce.clone(), error, interest);
    }

    fn apply(&mut self, response: &Response) {
        let ty = response.ty;
        if self.protocol == Protocol::StateOfTheWorld && ty.is_listed_whole() {
            let listed: BTreeSet<&str> = response.resources.iter().map(Resource::name).collect();
            self.holds.retain(|(of, name), _| *of != ty || listed.contains(name.as_str()));
        }
        if self.protocol == Protocol::Delta {
            for name in &response.removed {
                self.holds.remove(&(ty, name.to_string()));
            }
        }
        for resource in response.resources.iter().filter(|resource| !is_bad(resource)) {
            let name = resource.name().to_string();
            if ty.is_listed_whole() || self.names.get(&ty).is_some_and(|names| names.contains(&name)) {
                self.holds.insert((ty, name), String::from_utf8_lossy(resource.body()).into_owned());
            }
        }
    }
}

struct World {
    stream: Stream,
    client: Client,
    /// What the client has rejected beyond doubt and must not see again while it is unchanged.
    rejected: BTreeSet<(ResourceType, String)>,
}

impl World {
    fn new(protocol: Protocol, words: Words, applies_good: bool) -> Self {
        let mut client = Client {
            protocol,
            words,
            applies_good,
            names: BTreeMap::new(),
            holds: BTreeMap::new(),
            nonces: BTreeMap::new(),
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
        };
        client.open();
        Self { stream: Stream::new(protocol, &[]), client, rejected: BTreeSet::new() }
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
            Step::Send => {
                let responses = self.stream.responses();
                for response in &responses {
                    for resource in response.resources.iter().filter(|resource| is_bad(resource)) {
                        let key = (response.ty, resource.name().to_string());
                        assert!(!self.rejected.contains(&key), "{key:?} is sent again");
                    }
                }
                self.client.inbox.extend(responses);
            }
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
        }
    }

    fn arrive(&mut self, request: Request) {
        let ty = ResourceType::from_type_url(&request.type_url).expect("a known type");
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
        for ty in TYPES {
            for name in NAMES {
                let wants = ty.is_listed_whole()
                    || self.client.names.get(&ty).is_some_and(|names| names.contains(name));
                let holds = self.client.holds.get(&(ty, name.to_owned())).map(String::as_str);
                let serves = state.resource(ty, name).map(Resource::body);
                match serves {
                    _ if !wants => assert_eq!(holds, None, "{ty} {name}"),
                    Some(b"bad") => {
                        assert_ne!(holds, Some("bad"), "{ty} {name}");
                        assert!(
                            self.rejected.contains(&(ty, name.to_owned())),
                            "{ty} {name} is not found out"
                        );
                    }
                    Some(body) => {
                        assert_eq!(holds.map(str::as_bytes), Some(body), "{ty} {name}");
                        let acknowledged = Some(Some(Version::of(body)));
                        assert_eq!(self.stream.holds(ty, name), acknowledged, "{ty} {name}");
                    }
                    // The state of the world has no words for the removal of anything but these.
                    None if self.client.protocol == Protocol::Delta || ty.is_listed_whole() => {
                        assert_eq!(holds, None, "{ty} {name}");
                    }
                    None => {}
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn a_client_ends_up_with_what_the_server_has(
        protocol in select(&[Protocol::Delta, Protocol::StateOfTheWorld]),
        words in select(&[Words::Listed, Words::Mentioned, Words::None]),
        applies_good in any::<bool>(),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(protocol, words, applies_good);
        for step in steps {
            world.take(step);
        }
        world.settle();
        world.check();
    }

    #[test]
    fn delta_and_state_of_the_world_end_alike(steps in prop::collection::vec(step(), 0..120)) {
        let is_quiet = |step: &Step| !matches!(step, Step::Set(_, _, "bad") | Step::Remove(Endpoints | Filters | Routes, _));
        let ends = [Protocol::Delta, Protocol::StateOfTheWorld].map(|protocol| {
            let mut world = World::new(protocol, Words::None, false);
            for step in steps.iter().filter(|step| is_quiet(step)) {
                world.take(*step);
            }
            world.settle();
            world.client.holds
        });
        prop_assert_eq!(&ends[0], &ends[1]);
    }
}
