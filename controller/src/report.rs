//! The status of a `ClusterDomainRoute`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;
use model::api::{
    ClusterDomainRoute, ClusterDomainRouteStatus, ClusterDomainRouteTokenStatus, Condition, ConditionStatus,
    DomainRoute, DomainRouteToken, EndpointStatus, Time,
};

use crate::action::Action;
use crate::cluster_route::{Refusal, homes, owner_of};
use crate::tokens::needs_token;
use crate::world::{Place, World};

/// The two sides of a route, as far as they live here.
struct Sides<'a> {
    source: Option<&'a DomainRoute>,
    destination: Option<&'a DomainRoute>,
}

/// Brings the status of `cluster_route` up to date, if it is not.
pub(crate) fn report(
    world: &World,
    cluster_route: &ClusterDomainRoute,
    refusal: Option<Refusal>,
    now: Timestamp,
) -> Option<Action> {
    let before = cluster_route.status.clone().unwrap_or_default();
    let sides = Sides::of(world, cluster_route);
    let ready = readiness(world, cluster_route, &sides, refusal.as_ref());
    let mut status = ClusterDomainRouteStatus {
        token_status: sides.tokens(),
        endpoint_statuses: endpoints(world, cluster_route),
        conditions: before.conditions.clone(),
    };
    let accepted = match refusal {
        None => holds("Accepted", "Valid", String::new()),
        Some(Refusal { reason, message }) => fails("Accepted", reason, message),
    };
    let is_news = accepted.status == ConditionStatus::False
        && !before.conditions.iter().any(|before| {
            (&before.type_, &before.reason, &before.message)
                == (&accepted.type_, &accepted.reason, &accepted.message)
        });
    let warning = is_news.then(|| accepted.clone());
    set(&mut status.conditions, accepted, now);
    set(&mut status.conditions, ready, now);
    if needs_token(&cluster_route.spec.route) {
        let (running, pending) = negotiation(&sides);
        set(&mut status.conditions, running, now);
        set(&mut status.conditions, pending, now);
    } else {
        status.conditions.retain(|condition| condition.type_ != "Running" && condition.type_ != "Pending");
    }
    if cluster_route.status.as_ref() == Some(&status) {
        return None;
    }
    Some(Action::WriteClusterRouteStatus {
        name: cluster_route.name_any(),
        uid: cluster_route.metadata.uid.clone(),
        version: cluster_route.metadata.resource_version.clone(),
        status: Box::new(status),
        warning,
    })
}

impl<'a> Sides<'a> {
    fn of(world: &'a World, cluster_route: &ClusterDomainRoute) -> Self {
        let (name, route) = (cluster_route.name_any(), &cluster_route.spec.route);
        let homes = homes(world, cluster_route);
        let side = |end: &String| {
            let route = world.routes.get(&Place::new(end, &name)).filter(|_| homes.contains(&end.as_str()));
            route.filter(|route| owner_of(route) == Some(&name))
        };
        Self { source: side(&route.source), destination: side(&route.destination) }
    }

    fn all(&self) -> impl Iterator<Item = &'a DomainRoute> {
        self.source.into_iter().chain(self.destination)
    }

    /// The tokens of both sides, sealed as they are stored. The times at which they were last heard of are left out:
    /// each would have to be written twice.
    fn tokens(&self) -> ClusterDomainRouteTokenStatus {
        let newest = self.all().filter_map(newest).max_by_key(|token| token.revision);
        let tokens = |side: Option<&DomainRoute>| {
            let tokens =
                side.and_then(|route| route.status.as_ref()).map(|status| status.token_status.tokens.clone());
            let silent = |token| DomainRouteToken { heart_beat_time: None, ..token };
            tokens.unwrap_or_default().into_iter().map(silent).collect()
        };
        ClusterDomainRouteTokenStatus {
            revision: newest.map_or(0, |token| token.revision),
            revision_time: newest.and_then(|token| token.revision_time.clone()),
            source_tokens: tokens(self.source),
            destination_tokens: tokens(self.destination),
        }
    }
}

/// The newest token of a side, if one was ever made.
fn newest(route: &DomainRoute) -> Option<&DomainRouteToken> {
    let newest = &route.status.as_ref()?.token_status.revision_token;
    (newest.revision != 0 || !newest.token.is_empty()).then_some(newest)
}

fn ready_revisions(route: &DomainRoute) -> impl Iterator<Item = i64> {
    let tokens = route.status.as_ref().map(|status| &status.token_status.tokens);
    tokens.into_iter().flatten().filter(|token| token.is_ready).map(|token| token.revision)
}

/// The condition `Ready`: requests can take this route, as far as the sides that live here know. The reasons are
/// Kuscia's.
fn readiness(
    world: &World,
    cluster_route: &ClusterDomainRoute,
    sides: &Sides<'_>,
    refusal: Option<&Refusal>,
) -> Condition {
    let route = &cluster_route.spec.route;
    let (source, destination) = (&route.source, &route.destination);
    let not_ready = |reason, message| fails("Ready", reason, message);
    if sides.all().next().is_none() {
        return match refusal {
            Some(refusal) => not_ready(refusal.reason, refusal.message.clone()),
            None => not_ready("Pending", "the DomainRoutes are being made".to_owned()),
        };
    }
    let silent = sides.all().filter_map(ResourceExt::namespace).find(|home| world.live(home).is_empty());
    if let Some(home) = silent {
        return not_ready(
            "HeartBeatTimeout",
            format!("no gateway of {home} is alive; start one, or see its log"),
        );
    }
    if sides
        .source
        .and_then(|route| route.status.as_ref())
        .is_some_and(|status| status.is_destination_unreachable)
    {
        let message = format!("{source} does not reach {destination}; see networkmesh status at {source}");
        return not_ready("DestinationUnreachable", message);
    }
    if !needs_token(route) {
        return holds("Ready", "Success", String::new());
    }
    let sending = match sides.source.map(|route| (route, ready_revisions(route).last())) {
        Some((route, None))
            if !route.status.as_ref().is_some_and(|status| status.is_destination_authorized) =>
        {
            let message = format!("{destination} has not accepted {source} yet; see its route and its keys");
            return not_ready("DestinationIsNotAuthrized", message);
        }
        Some((_, None)) => return not_ready("TokenNotGenerate", format!("{source} has no token yet")),
        Some((_, revision)) => revision,
        None => None,
    };
    if let Some(route) = sides.destination {
        if ready_revisions(route).next().is_none() {
            return not_ready("TokenNotGenerate", format!("{destination} has no token yet"));
        }
        if let Some(revision) = sending.filter(|sent| !ready_revisions(route).any(|known| known == *sent)) {
            let message = format!("{source} sends token {revision}, which {destination} does not have");
            return not_ready("TokenRevisionNotMatch", message);
        }
    }
    holds("Ready", "Success", String::new())
}

/// The conditions `Running`: the sides negotiate the next token, and `Pending`: they wait for the time of the next one.
fn negotiation(sides: &Sides<'_>) -> (Condition, Condition) {
    let is_settled = |route: &DomainRoute| newest(route).is_some_and(|newest| newest.is_ready);
    let settled = sides.all().next().is_some() && sides.all().all(is_settled);
    let reason = if settled { "TokenReady" } else { "Negotiating" };
    let condition = |type_, status: bool| {
        let make = if status { holds } else { fails };
        make(type_, reason, String::new())
    };
    (condition("Running", !settled), condition("Pending", settled))
}

/// What the live gateways of the source say of the endpoint's ports, by gateway and port.
fn endpoints(world: &World, cluster_route: &ClusterDomainRoute) -> BTreeMap<String, EndpointStatus> {
    let route = &cluster_route.spec.route;
    let mut statuses = BTreeMap::new();
    for gateway in world.live(&route.source) {
        let Some(object) = world.gateways.get(&Place::new(&route.source, &gateway)) else { continue };
        let networks =
            object.status.as_ref().map(|status| status.network_status.as_slice()).unwrap_or_default();
        for port in &route.endpoint.ports {
            let cluster = format!("{}-to-{}-{}", route.source, route.destination, port.name);
            let network =
                networks.iter().find(|network| network.type_ == "DomainRoute" && network.name == cluster);
            if let Some(network) = network {
                let endpoint_healthy = network.healthy_endpoints_count > 0;
                statuses.insert(format!("{gateway}-{}", port.name), EndpointStatus { endpoint_healthy });
            }
        }
    }
    statuses
}

fn holds(type_: &str, reason: &str, message: String) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: ConditionStatus::True,
        reason: reason.to_owned(),
        message,
        gateway: None,
        last_transition_time: None,
    }
}

fn fails(type_: &str, reason: &str, message: String) -> Condition {
    Condition { status: ConditionStatus::False, ..holds(type_, reason, message) }
}

/// Puts `condition` in the place of the one of its type. The transition time is kept where the status stays the same.
fn set(conditions: &mut Vec<Condition>, mut condition: Condition, now: Timestamp) {
    // Kubernetes keeps whole seconds.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    match conditions.iter_mut().find(|before| before.type_ == condition.type_) {
        Some(before) => {
            let kept = before.last_transition_time.take().filter(|_| before.status == condition.status);
            condition.last_transition_time = Some(kept.unwrap_or(Time(now)));
            *before = condition;
        }
        None => {
            condition.last_transition_time = Some(Time(now));
            conditions.push(condition);
        }
    }
}
