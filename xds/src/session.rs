//! One client's stream, without the stream: requests and states go in, responses come out.
//!
//! ```text
//!            Request ──► parse, find type ──► answer: ACK │ NACK   ┐
//!                                             interest: names, "*" ├─► per type: what the client holds,
//!            State ────► names that changed ───────────────────────┘   what it has still to be sent
//!                                                                               │
//!            Response ◄── make-before-break: which type may send now ◄──────────┘
//! ```
//!
//! Delta and state-of-the-world differ in how a request states its interest and in how a response is written
//! down ([`wire`]); all else is the same. For every type a [`Subscription`] keeps what the client has acknowledged
//! of each name, and compares it with the newest state whenever either changes. So there is no queue of updates:
//! while a response is unanswered, changes only mark names, and the next response carries the newest content.
//!
//! - A type has at most one response outstanding. A version counts as held once its response is acknowledged.
//! - Additions go in the order of [`ResourceType::ALL`], and listeners and routes wait until clusters, endpoints,
//!   secrets and extension configs have been answered. Removals go in reverse order once all additions have been
//!   answered.
//! - All waits but those of removals for listeners and routes are bounded by [`Limits::patience`]. Envoy answers
//!   clusters when they are warm, which a slow name server delays, or never if one breaks its rules late enough.
//! - A client that rejects a response has one bad resource or several ([`nack`]). Those its message names for
//!   certain are held back; otherwise parts of the response are sent again, down to one resource, until the culprit
//!   is alone. A rejected version is not sent again until the content changes; the client keeps what it accepted last.
//! - Secrets and extension configs go one by one, as Envoy acknowledges a bad one when it sees it twice.
//! - An updated cluster in Envoy waits for its endpoints to be sent once more, so they are.

mod nack;
mod subscription;
mod wire;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use envoy_types::pb::envoy::config::cluster::v3::cluster::EdsClusterConfig;
use jiff::Timestamp;
use prost::Message;
use tracing::debug;

use crate::{
    cache::State,
    limits::Limits,
    resource::{Resource, ResourceType, Version},
    status::{ResourceStatus, TypeStatus, TypeSummary},
};
pub use nack::Nack;
pub(crate) use nack::Rejections;
use subscription::{Batch, Subscription};
#[cfg(feature = "bench")]
pub(crate) use wire::Interest;
pub use wire::Protocol;
pub(crate) use wire::{Request, Response};

/// A client asked for more than [`Limits`] allow.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("the request mentions more than {0} names")]
    RequestNames(usize),
    #[error("the stream subscribes to more than {0} names of a type")]
    TypeNames(usize),
    #[error("a name is longer than {0} bytes")]
    NameBytes(usize),
}

/// The state machine of one stream. It neither reads clocks nor does I/O.
#[derive(Debug)]
pub(crate) struct Session {
    protocol: Protocol,
    limits: Limits,
    state: Arc<State>,
    subscriptions: [Subscription; ResourceType::ALL.len()],
    rejections: Rejections,
    /// Whether a first request for clusters from a client that holds none can only come from a new process.
    may_begin_anew: bool,
    /// Whether the client has said that it holds something from an earlier stream.
    holds_something: bool,
    nonces: u64,
}

impl Session {
    /// A session with a client that has rejected these versions in earlier streams.
    pub(crate) fn new(protocol: Protocol, limits: Limits, rejections: Rejections) -> Self {
        let subscription = |ty| Subscription::new(ty, protocol, rejections.clone());
        Self {
            protocol,
            limits,
            state: Arc::default(),
            subscriptions: ResourceType::ALL.map(subscription),
            rejections,
            may_begin_anew: true,
            holds_something: false,
            nonces: 0,
        }
    }

    /// The same with a client that need not be new because this stream is: it has others, or asks for a type alone.
    pub(crate) fn amid_others(self) -> Self {
        Self { may_begin_anew: false, ..self }
    }

    /// Takes a request that arrived at this time.
    ///
    /// Requests for unknown types and answers to anything but the outstanding response are ignored.
    pub(crate) fn request(&mut self, request: Request, at: Timestamp) -> Result<(), Violation> {
        let Some(ty) = ResourceType::from_type_url(&request.type_url) else {
            debug!(type_url = request.type_url, "ignored a request for an unknown type");
            return Ok(());
        };
        self.check_names(&request)?;
        // Envoy asks for clusters first.
        if ty == ResourceType::Cluster && std::mem::take(&mut self.may_begin_anew) && request.holds_nothing {
            self.begin_anew();
        }
        if !request.holds_nothing && !self.subscription(ty).has_started() {
            self.keep_what_it_holds();
        }
        let subscription = &mut self.subscriptions[ty as usize];
        if self.protocol == Protocol::StateOfTheWorld && subscription.is_stale(&request.nonce) {
            // The client sends all its names again when it answers the response that crossed this request.
            debug!(%ty, nonce = request.nonce, "ignored a request with a stale nonce");
            subscription.note_dropped(&self.state, &request.interest);
            return Ok(());
        }
        if !request.nonce.is_empty() {
            subscription.answer(&self.state, &request.nonce, request.error.as_deref(), at);
        }
        if subscription.subscribe(&self.state, request.interest) > self.limits.names_per_type {
            return Err(Violation::TypeNames(self.limits.names_per_type));
        }
        Ok(())
    }

    /// A client that begins without any cluster is a new process. What made the last one reject something, such as a
    /// port in use or a missing file, may be mended.
    fn begin_anew(&mut self) {
        self.rejections.clear();
        for subscription in &mut self.subscriptions {
            subscription.review_open(&self.state);
        }
    }

    /// Takes a new state. Costs as much as differs from the last one that this client was told of.
    ///
    /// A restored state may be older than what the client holds, so only a client that holds nothing hears of it.
    pub(crate) fn update(&mut self, state: Arc<State>) {
        if state.is_restored() && self.holds_something {
            return;
        }
        let old = std::mem::replace(&mut self.state, state);
        if !old.is_loaded() && !self.state.is_restored() && self.state.is_loaded() {
            self.rejections.forget_gone(&self.state);
        }
        for subscription in &mut self.subscriptions {
            subscription.update(&old, &self.state);
        }
    }

    /// The client has said that it holds something: what it was to be told from a restored state is forgotten.
    fn keep_what_it_holds(&mut self) {
        self.holds_something = true;
        if self.state.is_restored() {
            let restored = std::mem::take(&mut self.state);
            for subscription in &mut self.subscriptions {
                subscription.update(&restored, &self.state);
            }
        }
    }

    /// The next response to send, if there is one at this time. Ask until there is none.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Response> {
        if !self.state.is_loaded() {
            return None;
        }
        for subscription in &mut self.subscriptions {
            if subscription.waits_until(self.limits.patience).is_some_and(|end| end <= now) {
                subscription.expire(&self.state);
            }
        }
        let may_send = |ty: ResourceType| !self.is_waiting(ty, now);
        let supplies_answered = ResourceType::ALL.into_iter().all(|ty| ty.directs_traffic() || may_send(ty));
        let addition = ResourceType::ALL.into_iter().find(|ty| {
            let in_order = supplies_answered || !ty.directs_traffic();
            in_order && may_send(*ty) && self.subscription(*ty).has_additions()
        });
        if let Some(ty) = addition {
            // What a part of a list leaves out would be taken from a client that holds it from an earlier stream.
            let max_bytes = if self.protocol.lists_all(ty) { usize::MAX } else { self.limits.response_bytes };
            let batch = self.subscriptions[ty as usize].take_additions(&self.state, max_bytes);
            if ty == ResourceType::Cluster {
                self.send_endpoints_of(&batch);
            }
            return Some(Response { denies: true, ..self.send(ty, batch, now) });
        }
        let traffic_settled = ResourceType::ALL.into_iter().filter(|ty| ty.directs_traffic()).all(|ty| {
            let subscription = self.subscription(ty);
            !subscription.has_unanswered() && !subscription.has_additions()
        });
        if !traffic_settled || !supplies_answered {
            return None;
        }
        let mut last_first = ResourceType::ALL.into_iter().rev();
        let ty = last_first.find(|ty| may_send(*ty) && self.subscription(*ty).has_removals())?;
        let batch = self.subscriptions[ty as usize].take_removals();
        Some(self.send(ty, batch, now))
    }

    /// When [`Session::next`] may have a response without any input, because its patience ends.
    pub(crate) fn wakeup(&self, now: Instant) -> Option<Instant> {
        let ends = self.subscriptions.iter().filter_map(|it| it.waits_until(self.limits.patience));
        ends.filter(|end| *end > now).min()
    }

    /// Whether the client subscribes to this resource and, if so, which version it holds: for certain, and not only until
    /// it reads what is on its way.
    pub(crate) fn holds(&self, ty: ResourceType, name: &str) -> Option<Option<Version>> {
        let subscription = self.subscription(ty);
        let held = || subscription.held_version(&self.state, name);
        subscription.wants(name).then(|| held().filter(|held| !subscription.may_lose(name, *held)))
    }

    /// What the client asks for, has been sent and has answered, for each type it subscribes to.
    pub(crate) fn status(&self) -> BTreeMap<ResourceType, TypeStatus> {
        let mut types = BTreeMap::new();
        for ty in ResourceType::ALL {
            let subscription = self.subscription(ty);
            let subscribed = subscription.subscribed(&self.state);
            let mut resources: BTreeMap<String, ResourceStatus> = BTreeMap::new();
            for (name, held) in subscription.known(&self.state) {
                let version = held.version();
                resources
                    .insert(name.to_owned(), ResourceStatus { sent: version, acked: version, nack: None });
            }
            for (name, status) in self.unsettled(ty) {
                resources.insert(name.to_string(), status);
            }
            if subscribed > 0 || !resources.is_empty() {
                types.insert(ty, TypeStatus::new(subscribed, resources));
            }
        }
        types
    }

    /// The counts of [`Session::status`] and what is rejected. Costs as much as that, and what is not in step with the
    /// state.
    pub(crate) fn summary(&self) -> BTreeMap<ResourceType, TypeSummary> {
        let mut types = BTreeMap::new();
        for ty in ResourceType::ALL {
            let subscription = self.subscription(ty);
            let unsettled = self.unsettled(ty);
            if !subscription.is_used(&self.state) && unsettled.is_empty() {
                continue;
            }
            let names = unsettled.keys().filter(|name| subscription.wants(name));
            let held = names.filter(|name| subscription.held_version(&self.state, name).is_some()).count();
            let settled = subscription.held_count(&self.state) - held;
            let subscribed = subscription.subscribed(&self.state);
            types.insert(ty, TypeSummary::new(subscribed, settled, unsettled));
        }
        types
    }

    /// What became of the resources of which the client's last word is not that it holds them: those it rejects, and
    /// those it has not answered.
    fn unsettled(&self, ty: ResourceType) -> BTreeMap<Arc<str>, ResourceStatus> {
        let subscription = self.subscription(ty);
        let held = |name: &str| {
            let wanted = subscription.wants(name);
            let version = wanted.then(|| subscription.held_version(&self.state, name)).flatten();
            ResourceStatus { sent: version, acked: version, nack: None }
        };
        let mut resources: BTreeMap<Arc<str>, ResourceStatus> = BTreeMap::new();
        for (name, nack) in self.rejections.of(ty) {
            if subscription.wants(&name) {
                let status = ResourceStatus { sent: Some(nack.version), nack: Some(nack), ..held(&name) };
                resources.insert(name, status);
            }
        }
        for (name, content) in subscription.unanswered().flat_map(|response| &response.batch) {
            let status = resources.entry(Arc::clone(name)).or_insert_with(|| held(name));
            status.sent = content.as_ref().map(Resource::version);
        }
        resources
    }

    /// How many resources [`Session::status`] may tell of, at most, without looking at each.
    pub(crate) fn entries(&self) -> usize {
        self.subscriptions.iter().map(|subscription| subscription.entries(&self.state)).sum()
    }

    /// The resource that this session is to bring its client to.
    pub(crate) fn resource(&self, ty: ResourceType, name: &str) -> Option<&Resource> {
        self.state.resource(ty, name)
    }

    fn check_names(&self, request: &Request) -> Result<(), Violation> {
        if request.interest.names().count() > self.limits.names_per_request {
            return Err(Violation::RequestNames(self.limits.names_per_request));
        }
        if request.interest.names().any(|name| name.len() > self.limits.name_bytes) {
            return Err(Violation::NameBytes(self.limits.name_bytes));
        }
        Ok(())
    }

    fn subscription(&self, ty: ResourceType) -> &Subscription {
        &self.subscriptions[ty as usize]
    }

    /// Whether the answer to a response of this type is awaited.
    fn is_waiting(&self, ty: ResourceType, now: Instant) -> bool {
        self.subscription(ty).waits_until(self.limits.patience).is_some_and(|end| end > now)
    }

    /// Envoy warms an updated cluster until its endpoints are sent, even if it has them (xDS protocol, "Resource
    /// warming"), and even if it rejected them when the cluster was another: it may have been the cluster's fault.
    fn send_endpoints_of(&mut self, clusters: &Batch) {
        let endpoints = &mut self.subscriptions[ResourceType::ClusterLoadAssignment as usize];
        for resource in clusters.iter().filter_map(|(_, content)| content.as_ref()) {
            if let Some(name) = endpoints_name(resource) {
                self.rejections.remove(ResourceType::ClusterLoadAssignment, &name);
                endpoints.send_again(&self.state, &name);
            }
        }
    }

    fn send(&mut self, ty: ResourceType, batch: Batch, now: Instant) -> Response {
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        let subscription = &mut self.subscriptions[ty as usize];
        let resources = if self.protocol.lists_all(ty) {
            subscription.listing(&self.state, &batch)
        } else {
            batch.iter().filter_map(|(_, content)| content.clone()).collect()
        };
        let removed = batch.iter().filter(|(_, content)| content.is_none()).map(|(name, _)| Arc::clone(name));
        let removed = removed.collect();
        let response = Response { ty, nonce: nonce.clone(), resources, removed, denies: false };
        subscription.sent(&self.state, nonce, batch, now);
        response
    }
}

/// What is read of an `envoy.config.cluster.v3.Cluster`. All else is skipped, which costs far less than decoding it.
#[derive(Message)]
struct ClusterHead {
    #[prost(message, optional, tag = "3")]
    eds_cluster_config: Option<EdsClusterConfig>,
}

/// The name under which a cluster asks for its endpoints, if it does.
fn endpoints_name(cluster: &Resource) -> Option<Arc<str>> {
    let service = ClusterHead::decode(cluster.body()).ok()?.eds_cluster_config?.service_name;
    Some(Arc::from(if service.is_empty() { cluster.name() } else { &service }))
}
