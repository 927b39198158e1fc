//! The protocol, without a socket. Responses are written as `Type name=content -removed`.

mod answers;
mod convergence;
mod interest;
mod order;
mod reconnect;
mod rejections;
mod state_of_the_world;

use std::collections::HashMap;

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster::EdsClusterConfig};

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
        cache.replace(owned(resources));
        Self::of(protocol, cache, limits)
    }

    fn of(protocol: Protocol, cache: Cache, limits: Limits) -> Self {
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
        self.check_summary();
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
        let request = Request { node: None, type_url, nonce, error, holds_nothing: false, interest };
        let taken = self.session.request(request, Timestamp::UNIX_EPOCH);
        self.check_summary();
        taken
    }

    /// Nothing may be counted otherwise than one by one.
    fn check_summary(&self) {
        let counted = |(ty, status): (ResourceType, TypeStatus)| {
            let nacks = status.resources.into_iter().filter_map(|(name, it)| Some((name, it.nack?)));
            let TypeStatus { subscribed, sent, acked, nacked, .. } = status;
            (ty, TypeSummary { subscribed, sent, acked, nacked, rejected: nacks.collect() })
        };
        let counted: BTreeMap<_, _> = self.session.status().into_iter().map(counted).collect();
        assert_eq!(self.session.summary(), counted);
    }

    /// The responses that go out now.
    fn responses(&mut self) -> Vec<Response> {
        let responses = std::iter::from_fn(|| self.session.next(self.now)).collect();
        self.check_summary();
        responses
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
            if response.resources.iter().any(&is_bad) {
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

fn owned(resources: &[(ResourceType, &str, &str)]) -> Vec<(ResourceType, String, Bytes)> {
    let owned = |(ty, name, body): &(ResourceType, &str, &str)| {
        (*ty, (*name).to_owned(), Bytes::copy_from_slice(body.as_bytes()))
    };
    resources.iter().map(owned).collect()
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn version(body: &str) -> Version {
    Version::of(body.as_bytes())
}

fn is_bad(resource: &Resource) -> bool {
    resource.body() == b"bad"
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
