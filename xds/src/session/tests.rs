//! The protocol, without a socket. Responses are written as `Type name=content -removed`.

mod convergence;

use std::collections::HashMap;

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::cluster::EdsClusterConfig;

use super::{wire::Interest, *};
use crate::cache::{Cache, Change};
use ResourceType::{
    Cluster as Clusters, ClusterLoadAssignment as Endpoints, Listener as Listeners,
    RouteConfiguration as Routes, ScopedRouteConfiguration as Scopes, Secret as Secrets,
    TypedExtensionConfig as Filters,
};

/// A session with the cache it serves and a clock.
struct Stream {
    session: Session,
    cache: Cache,
    rejections: Rejections,
    now: Instant,
    /// State-of-the-world: the names of each type, as every answer repeats them.
    names: HashMap<ResourceType, Vec<String>>,
}

impl Stream {
    fn new(protocol: Protocol, resources: &[(ResourceType, &str, &str)]) -> Self {
        Self::limited(protocol, resources, Limits::default())
    }

    fn limited(protocol: Protocol, resources: &[(ResourceType, &str, &str)], limits: Limits) -> Self {
        let cache = Cache::new();
        let owned = |(ty, name, body): &(ResourceType, &str, &str)| {
            (*ty, (*name).to_owned(), Bytes::copy_from_slice(body.as_bytes()))
        };
        cache.replace(resources.iter().map(owned));
        let rejections = Rejections::default();
        let mut session = Session::new(protocol, limits, rejections.clone());
        session.update(cache.state());
        Self { session, cache, rejections, now: Instant::now(), names: HashMap::new() }
    }

    /// The same client in a new stream.
    fn reconnect(&mut self) {
        let limits = self.session.limits.clone();
        self.session = Session::new(self.session.protocol, limits, self.rejections.clone());
        self.session.update(self.cache.state());
    }

    fn set(&mut self, ty: ResourceType, name: &str, body: &str) {
        self.apply([Change::Set(ty, name.to_owned(), Bytes::copy_from_slice(body.as_bytes()))]);
    }

    fn remove(&mut self, ty: ResourceType, name: &str) {
        self.apply([Change::Remove(ty, name.to_owned())]);
    }

    fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.cache.apply(changes);
        self.session.update(self.cache.state());
    }

    fn subscribe(&mut self, ty: ResourceType, names: &[&str]) {
        self.change(ty, names, &[], &[]);
    }

    fn unsubscribe(&mut self, ty: ResourceType, names: &[&str]) {
        self.change(ty, &[], names, &[]);
    }

    fn change(&mut self, ty: ResourceType, add: &[&str], remove: &[&str], held: &[(&str, &str)]) {
        let interest = Interest::Change {
            subscribe: strings(add),
            unsubscribe: strings(remove),
            held: held.iter().map(|(name, body)| ((*name).to_owned(), version(body).to_string())).collect(),
        };
        self.request(ty, "", None, interest).expect("within the limits");
    }

    /// State-of-the-world: names all the client wants, in answer to the response with this nonce.
    fn ask(&mut self, ty: ResourceType, names: &[&str], nonce: &str) {
        self.names.insert(ty, strings(names));
        self.request(ty, nonce, None, Interest::Exactly(strings(names))).expect("within the limits");
    }

    fn ack(&mut self, response: &Response) {
        self.answer(response, None);
    }

    fn nack(&mut self, response: &Response, message: &str) {
        self.answer(response, Some(message.to_owned()));
    }

    fn answer(&mut self, response: &Response, error: Option<String>) {
        let interest = match self.session.protocol {
            Protocol::Delta => {
                Interest::Change { subscribe: vec![], unsubscribe: vec![], held: HashMap::new() }
            }
            Protocol::StateOfTheWorld => {
                Interest::Exactly(self.names.get(&response.ty).cloned().unwrap_or_default())
            }
        };
        self.request(response.ty, &response.nonce, error, interest).expect("within the limits");
    }

    fn request(
        &mut self,
        ty: ResourceType,
        nonce: &str,
        error: Option<String>,
        interest: Interest,
    ) -> Result<(), Violation> {
        let (type_url, nonce) = (ty.type_url().to_owned(), nonce.to_owned());
        self.session.request(
            Request { node: None, type_url, nonce, error, holds_nothing: false, interest },
            Timestamp::UNIX_EPOCH,
        )
    }

    /// The responses that go out now.
    fn responses(&mut self) -> Vec<Response> {
        std::iter::from_fn(|| self.session.next(self.now)).collect()
    }

    /// The only response that goes out now.
    fn response(&mut self) -> Response {
        let mut responses = self.responses();
        assert_eq!(responses.len(), 1, "{responses:?}");
        responses.remove(0)
    }

    /// Accepts every response until there is none; says what they were.
    fn settle(&mut self) -> Vec<String> {
        let mut shown = Vec::new();
        while let Some(response) = self.session.next(self.now) {
            shown.push(show(&response));
            self.ack(&response);
        }
        shown
    }

    /// Rejects every response that carries a bad resource, with this message, and accepts the others.
    fn settle_but(&mut self, message: &str, is_bad: impl Fn(&Resource) -> bool) -> Vec<String> {
        let mut shown = Vec::new();
        while let Some(response) = self.session.next(self.now) {
            shown.push(show(&response));
            assert!(shown.len() < 100, "there is no end to it: {shown:?}");
            if response.resources.iter().any(|resource| is_bad(resource)) {
                self.nack(&response, message);
            } else {
                self.ack(&response);
            }
        }
        shown
    }

    fn holds(&self, ty: ResourceType, name: &str) -> Option<Option<Version>> {
        self.session.holds(ty, name)
    }
}

fn delta(resources: &[(ResourceType, &str, &str)]) -> Stream {
    Stream::new(Protocol::Delta, resources)
}

fn sotw(resources: &[(ResourceType, &str, &str)]) -> Stream {
    Stream::new(Protocol::StateOfTheWorld, resources)
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn version(body: &str) -> Version {
    Version::of(body.as_bytes())
}

fn is_bad(resource: &Resource) -> bool {
    resource.body() == "bad"
}

fn show(response: &Response) -> String {
    let mut text = response.ty.to_string();
    for resource in &response.resources {
        text += &format!(" {}={}", resource.name(), String::from_utf8_lossy(resource.body()));
    }
    for name in &response.removed {
        text += &format!(" -{name}");
    }
    text
}

#[test]
fn a_wildcard_gets_everything_and_then_only_what_changes() {
    let mut stream = delta(&[(Clusters, "a", "1"), (Clusters, "b", "1")]);
    stream.subscribe(Clusters, &[]);
    assert_eq!(stream.settle(), ["Cluster a=1 b=1"]);
    stream.set(Clusters, "b", "2");
    assert_eq!(stream.settle(), ["Cluster b=2"]);
    stream.remove(Clusters, "a");
    assert_eq!(stream.settle(), ["Cluster -a"]);
}

#[test]
fn an_asterisk_is_a_wildcard_for_every_type_until_it_is_unsubscribed() {
    let mut stream = delta(&[(Routes, "a", "1")]);
    stream.subscribe(Routes, &["*"]);
    assert_eq!(stream.settle(), ["RouteConfiguration a=1"]);
    stream.unsubscribe(Routes, &["*"]);
    stream.set(Routes, "a", "2");
    assert_eq!(stream.settle(), [""; 0]);
}

#[test]
fn an_empty_first_request_for_routes_asks_for_nothing() {
    let mut stream = delta(&[(Routes, "a", "1")]);
    stream.subscribe(Routes, &[]);
    assert_eq!(stream.settle(), [""; 0]);
}

#[test]
fn names_get_what_they_name() {
    let mut stream = delta(&[(Endpoints, "a", "1"), (Endpoints, "b", "1")]);
    stream.subscribe(Endpoints, &["a"]);
    assert_eq!(stream.settle(), ["ClusterLoadAssignment a=1"]);
    stream.set(Endpoints, "b", "2");
    assert_eq!(stream.settle(), [""; 0]);
    stream.subscribe(Endpoints, &["b"]);
    assert_eq!(stream.settle(), ["ClusterLoadAssignment b=2"]);
}

#[test]
fn a_missing_resource_is_denied_once_and_sent_when_it_comes() {
    let mut stream = delta(&[]);
    stream.subscribe(Routes, &["later"]);
    assert_eq!(stream.settle(), ["RouteConfiguration -later"]);
    stream.set(Routes, "other", "1");
    assert_eq!(stream.settle(), [""; 0]);
    stream.set(Routes, "later", "1");
    assert_eq!(stream.settle(), ["RouteConfiguration later=1"]);
}

#[test]
fn what_is_unsubscribed_is_not_sent_and_what_is_asked_for_again_is() {
    let mut stream = delta(&[(Routes, "a", "1")]);
    stream.subscribe(Routes, &["a"]);
    stream.settle();
    stream.unsubscribe(Routes, &["a"]);
    stream.set(Routes, "a", "2");
    assert_eq!(stream.settle(), [""; 0]);
    stream.subscribe(Routes, &["a"]);
    assert_eq!(stream.settle(), ["RouteConfiguration a=2"]);
    stream.subscribe(Routes, &["a"]);
    assert_eq!(stream.settle(), ["RouteConfiguration a=2"], "the client may have dropped it meanwhile");
}

#[test]
fn a_name_unsubscribed_under_a_wildcard_is_told_what_it_still_is() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    stream.subscribe(Clusters, &["*", "a", "gone"]);
    assert_eq!(stream.settle(), ["Cluster a=1 -gone"]);
    stream.unsubscribe(Clusters, &["a", "gone", "never"]);
    assert_eq!(stream.settle(), ["Cluster a=1 -gone"]);
}

#[test]
fn nobody_is_told_anything_before_there_is_a_state() {
    let mut session = Session::new(Protocol::Delta, Limits::default(), Rejections::default());
    let interest = Interest::Change {
        subscribe: vec![],
        unsubscribe: vec![],
        held: HashMap::from([("a".to_owned(), version("1").to_string())]),
    };
    let (type_url, nonce) = (Clusters.type_url().to_owned(), String::new());
    let request = Request { node: None, type_url, nonce, error: None, holds_nothing: false, interest };
    session.request(request, Timestamp::UNIX_EPOCH).expect("within the limits");
    assert_eq!(session.next(Instant::now()), None);

    let cache = Cache::new();
    cache.replace([(Clusters, "b".to_owned(), Bytes::from("1"))]);
    session.update(cache.state());
    assert_eq!(session.next(Instant::now()).map(|added| show(&added)), Some("Cluster b=1".to_owned()));
}

#[test]
fn a_new_client_is_told_that_there_is_nothing() {
    for mut stream in [delta(&[]), sotw(&[])] {
        match stream.session.protocol {
            Protocol::Delta => stream.subscribe(Clusters, &[]),
            Protocol::StateOfTheWorld => stream.ask(Clusters, &[], ""),
        }
        assert_eq!(stream.settle(), ["Cluster"]);
    }
}

#[test]
fn changes_coalesce_while_a_response_is_outstanding() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    stream.subscribe(Clusters, &[]);
    let first = stream.response();
    for body in ["2", "3"] {
        stream.set(Clusters, "a", body);
        stream.set(Clusters, "b", body);
        assert_eq!(stream.responses(), []);
    }
    stream.ack(&first);
    assert_eq!(stream.settle(), ["Cluster a=3 b=3"]);
}

#[test]
fn a_change_that_is_taken_back_while_it_is_on_its_way_is_sent_back() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    stream.subscribe(Clusters, &[]);
    stream.settle();
    stream.set(Clusters, "a", "2");
    let second = stream.response();
    stream.set(Clusters, "a", "1");
    stream.ack(&second);
    assert_eq!(stream.settle(), ["Cluster a=1"]);
}

#[test]
fn a_resource_removed_while_it_is_on_its_way_is_removed_afterwards() {
    for mut stream in [delta(&[(Clusters, "a", "1")]), sotw(&[(Clusters, "a", "1")])] {
        match stream.session.protocol {
            Protocol::Delta => stream.subscribe(Clusters, &[]),
            Protocol::StateOfTheWorld => stream.ask(Clusters, &[], ""),
        }
        let first = stream.response();
        stream.remove(Clusters, "a");
        assert_eq!(stream.responses(), []);
        stream.ack(&first);
        assert_eq!(stream.settle(), ["Cluster -a"]);
    }
}

#[test]
fn a_version_counts_once_it_is_acknowledged() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    assert_eq!(stream.holds(Clusters, "a"), None, "not subscribed");
    stream.subscribe(Clusters, &[]);
    let first = stream.response();
    assert_eq!(stream.holds(Clusters, "a"), Some(None));
    stream.ack(&first);
    assert_eq!(stream.holds(Clusters, "a"), Some(Some(version("1"))));
    stream.set(Clusters, "a", "bad");
    let second = stream.response();
    stream.nack(&second, "no");
    assert_eq!(stream.holds(Clusters, "a"), Some(Some(version("1"))));
}

#[test]
fn an_answer_with_another_nonce_is_none() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    stream.subscribe(Clusters, &[]);
    let first = stream.response();
    for nonce in ["", "0", "17", "nonsense"] {
        stream.ack(&Response { nonce: nonce.to_owned(), ..first.clone() });
        assert_eq!(stream.holds(Clusters, "a"), Some(None));
    }
    stream.ack(&first);
    stream.nack(&first, "too late");
    assert_eq!(stream.holds(Clusters, "a"), Some(Some(version("1"))));
    assert_eq!(stream.settle(), [""; 0]);
}

#[test]
fn a_delta_request_with_a_stale_nonce_still_changes_names() {
    let mut stream = delta(&[(Routes, "a", "1"), (Routes, "b", "1")]);
    stream.subscribe(Routes, &["a"]);
    stream.settle();
    let interest = Interest::Change { subscribe: strings(&["b"]), unsubscribe: vec![], held: HashMap::new() };
    stream.request(Routes, "nonsense", None, interest).expect("within the limits");
    assert_eq!(stream.settle(), ["RouteConfiguration b=1"]);
}

#[test]
fn a_client_that_comes_back_is_sent_the_difference() {
    let mut stream = delta(&[(Clusters, "same", "1"), (Clusters, "changed", "2"), (Clusters, "new", "1")]);
    let held = [("same", "1"), ("changed", "1"), ("gone", "1")];
    stream.change(Clusters, &[], &[], &held);
    assert_eq!(stream.settle(), ["Cluster changed=2 new=1", "Cluster -gone"]);
    stream.reconnect();
    stream.change(Clusters, &["*"], &[], &[("same", "1"), ("changed", "2"), ("new", "1")]);
    stream.change(Routes, &[], &[], &[("not wanted any more", "1")]);
    assert_eq!(stream.holds(Clusters, "changed"), Some(Some(version("2"))));
    assert_eq!(stream.settle(), [""; 0]);
    stream.reconnect();
    stream.change(Clusters, &[], &[], &[("same", "1"), ("changed", "2"), ("new", "1")]);
    assert_eq!(stream.settle(), [""; 0]);
}

#[test]
fn versions_of_another_server_are_replaced() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    let held = HashMap::from([("a".to_owned(), "v1".to_owned())]);
    let interest = Interest::Change { subscribe: vec![], unsubscribe: vec![], held };
    stream.request(Clusters, "left over from the last stream", None, interest).expect("within the limits");
    assert_eq!(stream.settle(), ["Cluster a=1"]);
}

#[test]
fn a_named_culprit_is_held_back_and_the_others_go_on() {
    let mut stream = delta(&[(Clusters, "a", "1"), (Clusters, "b", "bad"), (Clusters, "c", "1")]);
    stream.subscribe(Clusters, &[]);
    let all = stream.response();
    stream.nack(&all, "Error adding/updating cluster(s) b: is bad");
    assert_eq!(stream.settle(), ["Cluster a=1 c=1"]);
    stream.set(Clusters, "a", "2");
    assert_eq!(stream.settle(), ["Cluster a=2"], "the culprit is not sent again unchanged");
    stream.set(Clusters, "b", "2");
    assert_eq!(stream.settle(), ["Cluster b=2"], "its new content is tried");
}

#[test]
fn a_mentioned_suspect_is_tried_alone_first() {
    let names = ["a", "b", "c", "d"].map(|name| (Routes, name, if name == "c" { "bad" } else { "1" }));
    let mut stream = delta(&names);
    stream.subscribe(Routes, &["a", "b", "c", "d"]);
    assert_eq!(
        stream.settle_but("only one wildcard domain is permitted in route c", is_bad),
        [
            "RouteConfiguration a=1 b=1 c=bad d=1",
            "RouteConfiguration c=bad",
            "RouteConfiguration a=1 b=1 d=1"
        ],
    );
}

#[test]
fn a_resource_that_is_mentioned_by_chance_is_not_condemned() {
    let mut stream = delta(&[(Routes, "a", "bad"), (Routes, "route", "1")]);
    stream.subscribe(Routes, &["a", "route"]);
    stream.settle_but("there is something wrong with a route", is_bad);
    assert_eq!(stream.holds(Routes, "route"), Some(Some(version("1"))));
    assert_eq!(stream.holds(Routes, "a"), Some(None));
}

#[test]
fn unnamed_culprits_are_found_by_halving() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut stream =
        delta(&names.map(|name| (Routes, name, if matches!(name, "b" | "f") { "bad" } else { "1" })));
    stream.subscribe(Routes, &names);
    let shown = stream.settle_but("something is wrong", is_bad);
    for name in names {
        let held = (!matches!(name, "b" | "f")).then(|| version("1"));
        assert_eq!(stream.holds(Routes, name), Some(held), "{name}: {shown:?}");
    }
    assert!(shown.len() <= 11, "six resources are no more than eleven groups: {shown:?}");
    assert_eq!(shown.iter().filter(|response| *response == "RouteConfiguration b=bad").count(), 1);
}

#[test]
fn a_client_that_rejects_everything_is_left_in_peace() {
    let resources = ["a", "b", "c", "d", "e"].map(|name| (Clusters, name, "1"));
    let mut stream = delta(&resources);
    stream.subscribe(Clusters, &["*", "gone"]);
    assert!(stream.settle_but("no", |_| true).len() < 12);

    let mut stream = sotw(&resources);
    stream.ask(Clusters, &[], "");
    assert!(stream.settle_but("no", |_| true).len() < 12);
    stream.remove(Clusters, "a");
    assert_eq!(stream.settle_but("no", |_| true), ["Cluster -a"], "who knows whether it has applied some");
}

#[test]
fn a_rejection_outlives_the_stream() {
    let mut stream = delta(&[(Clusters, "a", "1"), (Clusters, "b", "1")]);
    stream.subscribe(Clusters, &[]);
    stream.settle();
    stream.set(Clusters, "b", "bad");
    stream.settle_but("no", is_bad);
    stream.reconnect();
    stream.change(Clusters, &[], &[], &[("a", "1"), ("b", "1")]);
    assert_eq!(stream.settle(), [""; 0]);
    stream.reconnect();
    stream.subscribe(Clusters, &[]);
    assert_eq!(stream.settle(), ["Cluster a=1"], "a client that lost the good version gets none");
    stream.set(Clusters, "b", "2");
    assert_eq!(stream.settle(), ["Cluster b=2"]);
    assert_eq!(stream.session.status()[&Clusters].resources["b"].nack, None);
}

#[test]
fn a_new_process_is_sent_what_the_last_one_rejected() {
    let mut stream = delta(&[(Clusters, "a", "1"), (Listeners, "b", "bad")]);
    stream.subscribe(Clusters, &[]);
    stream.subscribe(Listeners, &[]);
    stream.settle_but("port in use", is_bad);
    stream.reconnect();
    stream.subscribe(Listeners, &[]);
    let interest = Interest::Change { subscribe: vec![], unsubscribe: vec![], held: HashMap::new() };
    let type_url = Clusters.type_url().to_owned();
    let nonce = String::new();
    let first = Request { node: None, type_url, nonce, error: None, holds_nothing: true, interest };
    for _ in 0..2 {
        stream.session.request(first.clone(), Timestamp::UNIX_EPOCH).expect("within the limits");
    }
    assert_eq!(stream.settle_but("port in use", is_bad), ["Cluster a=1", "Listener b=bad"]);
    stream.session.request(first, Timestamp::UNIX_EPOCH).expect("within the limits");
    assert_eq!(stream.settle(), [""; 0], "only the first request tells of a new process");
}

#[test]
fn the_status_tells_what_was_sent_acknowledged_and_rejected() {
    let mut stream = delta(&[(Clusters, "a", "1"), (Clusters, "b", "1"), (Clusters, "c", "1")]);
    stream.subscribe(Clusters, &[]);
    stream.settle();
    stream.set(Clusters, "a", "bad");
    stream.settle_but("it is bad", is_bad);
    stream.set(Clusters, "b", "2");
    stream.response();
    let status = &stream.session.status()[&Clusters];
    assert_eq!((status.subscribed, status.sent, status.acked, status.nacked), (3, 3, 1, 1));
    let a = &status.resources["a"];
    assert_eq!((a.sent, a.acked), (Some(version("bad")), Some(version("1"))));
    let nack = a.nack.as_ref().expect("it was rejected");
    assert_eq!(
        (nack.version, nack.message.as_str(), nack.at),
        (version("bad"), "it is bad", Timestamp::UNIX_EPOCH)
    );
    let b = &status.resources["b"];
    assert_eq!((b.sent, b.acked, &b.nack), (Some(version("2")), Some(version("1")), &None));
}

const CHAIN: [(ResourceType, &str, &str); 4] =
    [(Clusters, "c", "1"), (Endpoints, "c", "1"), (Listeners, "l", "1"), (Routes, "r", "1")];

fn chain() -> Stream {
    let mut stream = delta(&CHAIN);
    stream.subscribe(Routes, &["r"]);
    stream.subscribe(Listeners, &[]);
    stream.subscribe(Endpoints, &["c"]);
    stream.subscribe(Clusters, &[]);
    stream
}

#[test]
fn listeners_and_routes_wait_until_clusters_and_endpoints_are_answered() {
    let mut stream = chain();
    let supplies = stream.responses();
    let shown: Vec<_> = supplies.iter().map(show).collect();
    assert_eq!(
        shown,
        ["Cluster c=1", "ClusterLoadAssignment c=1"],
        "endpoints do not wait: they warm clusters"
    );
    stream.ack(&supplies[1]);
    assert_eq!(stream.responses(), []);
    stream.nack(&supplies[0], "a rejection is an answer");
    assert_eq!(stream.settle(), ["Listener l=1", "RouteConfiguration r=1"]);
}

#[test]
fn removals_come_last_and_in_reverse_order() {
    let mut stream = chain();
    stream.settle();
    let changes = CHAIN.map(|(ty, name, _)| Change::Remove(ty, name.to_owned()));
    let added = Change::Set(Clusters, "new".to_owned(), Bytes::from("1"));
    stream.apply(changes.into_iter().chain([added]));
    let first = stream.response();
    assert_eq!(show(&first), "Cluster new=1");
    stream.ack(&first);
    let second = stream.response();
    assert_eq!(show(&second), "RouteConfiguration -r");
    stream.ack(&second);
    assert_eq!(stream.settle(), ["Listener -l", "ClusterLoadAssignment -c", "Cluster -c"]);
}

#[test]
fn a_scope_comes_after_the_routes_it_leads_to_and_goes_before_them() {
    let mut stream = delta(&[(Routes, "r", "1")]);
    stream.subscribe(Scopes, &[]);
    stream.subscribe(Routes, &["r"]);
    assert_eq!(
        stream.settle(),
        ["RouteConfiguration r=1", "ScopedRouteConfiguration"],
        "Envoy waits for an answer even if there is no scope"
    );
    stream.apply(
        [(Scopes, "s", "1"), (Routes, "r", "2")]
            .map(|(ty, name, body)| Change::Set(ty, name.to_owned(), Bytes::from(body))),
    );
    assert_eq!(stream.settle(), ["RouteConfiguration r=2", "ScopedRouteConfiguration s=1"]);
    stream.apply([(Scopes, "s"), (Routes, "r")].map(|(ty, name)| Change::Remove(ty, name.to_owned())));
    assert_eq!(stream.settle(), ["ScopedRouteConfiguration -s", "RouteConfiguration -r"]);
}

#[test]
fn the_state_of_the_world_lists_all_scopes() {
    let mut stream = sotw(&[]);
    stream.ask(Scopes, &[], "");
    assert_eq!(stream.settle(), ["ScopedRouteConfiguration"]);
    stream.set(Scopes, "a", "1");
    stream.set(Scopes, "b", "1");
    assert_eq!(stream.settle(), ["ScopedRouteConfiguration a=1 b=1"]);
    stream.remove(Scopes, "a");
    assert_eq!(stream.settle(), ["ScopedRouteConfiguration b=1 -a"]);
}

#[test]
fn clusters_stay_until_the_routes_that_leave_them_are_acknowledged() {
    let mut stream = chain();
    stream.settle();
    stream.apply([
        Change::Set(Routes, "r".to_owned(), Bytes::from("2")),
        Change::Remove(Clusters, "c".to_owned()),
    ]);
    let routes = stream.response();
    assert_eq!(show(&routes), "RouteConfiguration r=2");
    stream.now += stream.session.limits.patience * 2;
    assert_eq!(stream.responses(), [], "for this there is no end of patience");
    stream.ack(&routes);
    assert_eq!(stream.settle(), ["Cluster -c"]);
}

#[test]
fn the_wait_for_an_answer_is_bounded() {
    let mut stream = chain();
    assert_eq!(stream.session.wakeup(stream.now), None);
    let supplies = stream.responses();
    assert_eq!(supplies.len(), 2);
    let end = stream.session.wakeup(stream.now).expect("there is something to wait for");
    stream.set(Clusters, "new", "1");
    assert_eq!(stream.responses(), []);

    stream.now = end;
    let late = stream.responses();
    let shown: Vec<_> = late.iter().map(show).collect();
    assert_eq!(shown, ["Cluster new=1"], "and the listeners wait for that");
    stream.now += stream.session.limits.patience;
    assert_eq!(stream.settle(), ["Listener l=1", "RouteConfiguration r=1"]);

    stream.nack(&supplies[0], "no");
    stream.ack(&late[0]);
    assert_eq!(stream.holds(Clusters, "c"), Some(None));
    assert_eq!(stream.holds(Clusters, "new"), Some(Some(version("1"))));
}

#[test]
fn what_an_answer_passes_over_is_sent_again() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    stream.subscribe(Clusters, &[]);
    stream.response();
    stream.now += stream.session.limits.patience;
    stream.set(Clusters, "b", "1");
    let second = stream.response();
    stream.ack(&second);
    assert_eq!(stream.settle(), ["Cluster a=1"]);
}

#[test]
fn a_client_that_never_answers_costs_a_bounded_memory() {
    let mut stream = delta(&[(Clusters, "a", "0")]);
    stream.subscribe(Clusters, &[]);
    for round in 1..=20 {
        stream.responses();
        stream.set(Clusters, "a", &round.to_string());
        stream.now += stream.session.limits.patience;
    }
    assert_eq!(stream.session.subscription(Clusters).unanswered().count(), 8);
}

#[test]
fn an_updated_cluster_is_followed_by_its_endpoints() {
    let cluster = |name: &str, service: &str| Cluster {
        name: name.to_owned(),
        eds_cluster_config: Some(EdsClusterConfig { service_name: service.to_owned(), eds_config: None }),
        ..Cluster::default()
    };
    let set = |cluster: Cluster| Change::Set(Clusters, cluster.name.clone(), cluster.encode_to_vec().into());
    let mut stream = delta(&[(Endpoints, "a", "1"), (Endpoints, "b-service", "1")]);
    stream.apply([set(cluster("a", "")), set(cluster("b", "b-service"))]);
    stream.subscribe(Clusters, &[]);
    stream.settle();
    stream.change(Endpoints, &["a", "b-service"], &[], &[("a", "1"), ("b-service", "1")]);
    assert_eq!(
        stream.settle(),
        ["ClusterLoadAssignment a=1 b-service=1"],
        "a client that comes back has both but gets them, for its clusters were updated"
    );
    stream.apply([set(Cluster { alt_stat_name: "x".to_owned(), ..cluster("b", "b-service") })]);
    let shown = stream.settle();
    assert!(shown[0].starts_with("Cluster b="), "{shown:?}");
    assert_eq!(shown[1..], ["ClusterLoadAssignment b-service=1"]);
}

#[test]
fn secrets_and_extension_configs_go_one_by_one() {
    for mut stream in [
        delta(&[(Filters, "a", "bad"), (Filters, "b", "1"), (Secrets, "a", "1"), (Secrets, "b", "1")]),
        sotw(&[(Filters, "a", "bad"), (Filters, "b", "1"), (Secrets, "a", "1"), (Secrets, "b", "1")]),
    ] {
        for ty in [Filters, Secrets] {
            match stream.session.protocol {
                Protocol::Delta => stream.subscribe(ty, &["a", "b"]),
                Protocol::StateOfTheWorld => stream.ask(ty, &["a", "b"], ""),
            }
        }
        assert_eq!(
            stream.settle_but("it does not compile", is_bad),
            ["Secret a=1", "Secret b=1", "TypedExtensionConfig a=bad", "TypedExtensionConfig b=1"]
        );
    }
}

#[test]
fn a_large_response_is_split() {
    let limits = Limits { response_bytes: 10, ..Limits::default() };
    let resources = [
        (Routes, "a", "12345"),
        (Routes, "b", "123"),
        (Routes, "c", "1234567890 and more"),
        (Routes, "d", "1"),
    ];
    let mut stream = Stream::limited(Protocol::Delta, &resources, limits);
    stream.subscribe(Routes, &["a", "b", "c", "d"]);
    assert_eq!(
        stream.settle(),
        [
            "RouteConfiguration a=12345 b=123",
            "RouteConfiguration c=1234567890 and more",
            "RouteConfiguration d=1"
        ]
    );
}

#[test]
fn the_state_of_the_world_lists_all_clusters_and_removes_by_absence() {
    let mut stream = sotw(&[(Clusters, "a", "1"), (Clusters, "b", "1")]);
    stream.ask(Clusters, &[], "");
    assert_eq!(stream.settle(), ["Cluster a=1 b=1"]);
    stream.apply([
        Change::Set(Clusters, "c".to_owned(), Bytes::from("1")),
        Change::Remove(Clusters, "a".to_owned()),
    ]);
    assert_eq!(stream.settle(), ["Cluster a=1 b=1 c=1", "Cluster b=1 c=1 -a"], "first make, then break");
}

#[test]
fn the_state_of_the_world_sends_only_the_routes_that_changed() {
    let mut stream = sotw(&[(Routes, "a", "1"), (Routes, "b", "1"), (Routes, "c", "1")]);
    stream.ask(Routes, &["a", "b", "missing"], "");
    let first = stream.response();
    assert_eq!(show(&first), "RouteConfiguration a=1 b=1");
    stream.ack(&first);
    stream.set(Routes, "b", "2");
    let second = stream.response();
    assert_eq!(show(&second), "RouteConfiguration b=2");
    stream.ack(&second);
    stream.remove(Routes, "a");
    assert_eq!(stream.settle(), [""; 0], "there are no words for it");
    stream.ask(Routes, &["b", "c"], &second.nonce);
    assert_eq!(stream.settle(), ["RouteConfiguration c=1"]);
}

#[test]
fn the_state_of_the_world_keeps_the_last_good_version_of_a_bad_resource() {
    let mut stream = sotw(&[(Clusters, "a", "1"), (Clusters, "b", "1")]);
    stream.ask(Clusters, &[], "");
    stream.settle();
    stream.apply(
        [("a", "bad"), ("b", "2"), ("c", "bad")]
            .map(|(name, body)| Change::Set(Clusters, name.to_owned(), Bytes::from(body))),
    );
    let all = stream.response();
    assert_eq!(show(&all), "Cluster a=bad b=2 c=bad");
    stream.nack(&all, "Error adding/updating cluster(s) a: no, c: no");
    assert_eq!(stream.settle(), ["Cluster a=1 b=2"]);
    stream.set(Clusters, "c", "1");
    assert_eq!(stream.settle(), ["Cluster a=1 b=2 c=1"]);
}

#[test]
fn the_state_of_the_world_halves_what_is_new_and_keeps_what_is_not() {
    let mut stream = sotw(&[(Clusters, "old", "1")]);
    stream.ask(Clusters, &[], "");
    stream.settle();
    stream.apply(
        [("x", "1"), ("y", "bad")]
            .map(|(name, body)| Change::Set(Clusters, name.to_owned(), Bytes::from(body))),
    );
    assert_eq!(
        stream.settle_but("no", is_bad),
        ["Cluster old=1 x=1 y=bad", "Cluster old=1 x=1", "Cluster old=1 x=1 y=bad", "Cluster old=1 x=1"]
    );
    stream.set(Clusters, "x", "2");
    assert_eq!(stream.settle(), ["Cluster old=1 x=2"]);
}

#[test]
fn the_state_of_the_world_is_told_even_to_a_client_that_rejects_all_that_is_new() {
    let mut stream = sotw(&[(Clusters, "a", "bad")]);
    stream.ask(Clusters, &[], "");
    assert_eq!(
        stream.settle_but("no", is_bad),
        ["Cluster a=bad", "Cluster"],
        "it may hold some that are gone"
    );
}

#[test]
fn a_stale_request_in_the_state_of_the_world_is_ignored() {
    let mut stream = sotw(&[(Routes, "a", "1"), (Routes, "b", "1")]);
    stream.ask(Routes, &["a"], "");
    let first = stream.response();
    stream.ask(Routes, &["a", "b"], "");
    assert_eq!(stream.responses(), []);
    stream.ack(&first);
    assert_eq!(stream.settle(), ["RouteConfiguration b=1"], "the answer repeats the names");
}

#[test]
fn an_empty_list_after_names_is_no_wildcard() {
    let mut stream = sotw(&[(Clusters, "a", "1"), (Clusters, "b", "1")]);
    stream.ask(Clusters, &["a"], "");
    let first = stream.response();
    assert_eq!(show(&first), "Cluster a=1");
    stream.ask(Clusters, &[], &first.nonce);
    stream.set(Clusters, "b", "2");
    assert_eq!(stream.settle(), [""; 0]);
    let nonce = first.nonce;
    stream.ask(Clusters, &["*"], &nonce);
    assert_eq!(stream.settle(), ["Cluster a=1 b=2"]);
}

#[test]
fn a_session_that_missed_states_compares_everything() {
    let mut stream = delta(&[(Clusters, "a", "1"), (Clusters, "b", "1")]);
    stream.subscribe(Clusters, &[]);
    stream.settle();
    stream.cache.apply([Change::Remove(Clusters, "b".to_owned())]);
    for body in 0..200 {
        stream.cache.apply([Change::Set(Clusters, "a".to_owned(), body.to_string().into())]);
    }
    let state = stream.cache.state();
    assert!(state.changes_since(1).is_none(), "that is too long ago");
    stream.session.update(state);
    assert_eq!(stream.settle(), ["Cluster a=199", "Cluster -b"]);
}

#[test]
fn requests_for_unknown_types_are_ignored() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    for type_url in ["", "nonsense", "type.googleapis.com/envoy.service.runtime.v3.Runtime"] {
        let interest =
            Interest::Change { subscribe: strings(&["*"]), unsubscribe: vec![], held: HashMap::new() };
        let (type_url, nonce, error) = (type_url.to_owned(), "1".to_owned(), Some("no".to_owned()));
        let request = Request { node: None, type_url, nonce, error, holds_nothing: false, interest };
        assert_eq!(stream.session.request(request, Timestamp::UNIX_EPOCH), Ok(()));
    }
    assert_eq!(stream.responses(), []);
}

#[test]
fn names_are_limited_in_length_and_number() {
    let limits = Limits { names_per_request: 3, names_per_type: 4, name_bytes: 5, ..Limits::default() };
    let mut stream = Stream::limited(Protocol::Delta, &[], limits);
    let interest = |add: &[&str], remove: &[&str], held: &[&str]| Interest::Change {
        subscribe: strings(add),
        unsubscribe: strings(remove),
        held: held.iter().map(|name| ((*name).to_owned(), String::new())).collect(),
    };
    let mut request = |interest| stream.request(Routes, "", None, interest);
    assert_eq!(request(interest(&["123456"], &[], &[])), Err(Violation::NameBytes(5)));
    assert_eq!(request(interest(&[], &[], &["123456"])), Err(Violation::NameBytes(5)));
    assert_eq!(request(interest(&["a", "b"], &["c"], &["d"])), Err(Violation::RequestNames(3)));
    assert_eq!(request(interest(&["a", "b", "c"], &[], &[])), Ok(()));
    assert_eq!(request(interest(&["c", "d"], &[], &[])), Ok(()));
    assert_eq!(request(interest(&["e"], &[], &[])), Err(Violation::TypeNames(4)));
    let mut stream = Stream::limited(Protocol::StateOfTheWorld, &[], stream.session.limits.clone());
    let names = Interest::Exactly(strings(&["a", "b", "c", "d"]));
    assert_eq!(stream.request(Routes, "", None, names), Err(Violation::RequestNames(3)));
}
