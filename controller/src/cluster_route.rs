//! A `ClusterDomainRoute` → the `DomainRoute`s of its domains that live here: both ends, and those that forward in between.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _};
use model::api::{ClusterDomainRoute, DomainRoute, TokenConfig};
use model::{Object, expand_cluster_route};

use crate::action::Action;
use crate::detour::forwarders;
use crate::report;
use crate::tokens::needs_token;
use crate::world::{Place, World, is_terminating};

/// Why a `ClusterDomainRoute` is not, or not wholly, in force. Reason and message of its `Accepted` condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What is to be done about the `ClusterDomainRoute` of this name.
pub(crate) fn reconcile(world: &World, name: &str, now: Timestamp) -> Vec<Action> {
    let Some(cluster_route) = world.cluster_routes.get(name).filter(|route| !is_terminating(*route)) else {
        return world.owned_by(name).filter_map(delete).collect();
    };
    let (mut actions, verdict) = follow(world, cluster_route);
    actions.extend(report::report(world, cluster_route, verdict.err(), now));
    actions
}

/// The name of the `ClusterDomainRoute` that `route` says it belongs to.
pub(crate) fn owner_of(route: &DomainRoute) -> Option<&str> {
    let group = ClusterDomainRoute::group(&());
    let owner = route.owner_references().iter().find(|owner| owner.controller == Some(true))?;
    let is_ours = owner.kind == "ClusterDomainRoute" && owner.api_version.split('/').next() == Some(&group);
    is_ours.then_some(owner.name.as_str())
}

/// The namespaces of the domains of a route that live here.
pub(crate) fn homes<'a>(world: &'a World, cluster_route: &'a ClusterDomainRoute) -> Vec<&'a str> {
    let mut domains = domains(world, cluster_route);
    domains.retain(|domain| world.is_home(domain));
    domains
}

/// The ends of a route, and the domains that forward in between.
fn domains<'a>(world: &'a World, cluster_route: &'a ClusterDomainRoute) -> Vec<&'a str> {
    let route = &cluster_route.spec.route;
    let mut domains = vec![route.source.as_str(), route.destination.as_str()];
    domains.dedup();
    domains.extend(forwarders(world, route));
    domains
}

/// Makes the `DomainRoute`s what they should be, unless they would be wrong: then the last good ones stay.
fn follow(world: &World, cluster_route: &ClusterDomainRoute) -> (Vec<Action>, Result<(), Refusal>) {
    let homes = homes(world, cluster_route);
    let wanted: Vec<DomainRoute> = homes.iter().map(|home| expand(world, cluster_route, home)).collect();
    let checked = wanted.iter().try_for_each(|route| Object::DomainRoute(Box::new(route.clone())).check());
    if let Err(errors) = checked {
        return (Vec::new(), Err(Refusal { reason: "Invalid", message: errors.to_string() }));
    }
    let verdict =
        if wanted.is_empty() { Err(nobody_here(cluster_route)) } else { missing_key(world, &wanted) };
    let mut actions: Vec<Action> = world
        .owned_by(&cluster_route.name_any())
        .filter(|route| is_misplaced(world, cluster_route, route))
        .filter_map(delete)
        .collect();
    let mut in_the_way = Vec::new();
    for mut route in wanted {
        let place = Place::of(route.meta());
        match world.routes.get(&place) {
            Some(existing) if is_terminating(existing) => {}
            Some(existing) if owner_of(existing).is_none() => in_the_way.push(place.to_string()),
            // The one that it belongs to does away with it.
            Some(existing) if owner_of(existing) != Some(&place.name) => {}
            Some(existing) if is_same(existing, &route) => {}
            Some(existing) => {
                route.metadata.resource_version.clone_from(&existing.metadata.resource_version);
                actions.push(Action::ApplyRoute(Box::new(route)));
            }
            None => actions.push(Action::CreateRoute(Box::new(route))),
        }
    }
    if in_the_way.is_empty() {
        return (actions, verdict);
    }
    let message = format!(
        "DomainRoute {} was not made from this ClusterDomainRoute and stays as it is; delete it, or this one",
        in_the_way.join(" and ")
    );
    (actions, Err(Refusal { reason: "DomainRouteInTheWay", message }))
}

/// The `DomainRoute` that `cluster_route` wants in the namespace `home`.
fn expand(world: &World, cluster_route: &ClusterDomainRoute, home: &str) -> DomainRoute {
    let mut route = expand_cluster_route(cluster_route, home);
    route.metadata.owner_references = cluster_route.controller_owner_ref(&()).map(|owner| {
        // Nobody has to wait for the routes to be gone before the ClusterDomainRoute is.
        vec![OwnerReference { block_owner_deletion: Some(false), ..owner }]
    });
    let (source, destination) = (route.spec.source.clone(), route.spec.destination.clone());
    if let Some(tokens) = &mut route.spec.token_config {
        let name = cluster_route.name_any();
        fill(&mut tokens.source_public_key, world, &source, &name, |tokens| &tokens.source_public_key);
        fill(&mut tokens.destination_public_key, world, &destination, &name, |tokens| {
            &tokens.destination_public_key
        });
    }
    route
}

/// Fills in the key of `domain` where the `ClusterDomainRoute` `name` leaves it out: from the domain's certificate, or
/// else what stands in its `DomainRoute`s already. A certificate that is lost or broken must not break a route.
fn fill(key: &mut String, world: &World, domain: &str, name: &str, part: fn(&TokenConfig) -> &String) {
    if !key.is_empty() {
        return;
    }
    let certified = world.domains.get(domain).and_then(|domain| domain.key.as_ref().ok()?.as_ref());
    let in_force = world.owned_by(name).filter_map(|route| route.spec.token_config.as_ref()).map(part);
    *key = certified
        .into_iter()
        .chain(in_force.filter(|key| !key.is_empty()))
        .next()
        .cloned()
        .unwrap_or_default();
}

/// The refusal of routes that lack a key. They are made all the same: gateways may know the key from elsewhere.
fn missing_key(world: &World, wanted: &[DomainRoute]) -> Result<(), Refusal> {
    let Some(spec) = wanted.iter().map(|route| &route.spec).find(|spec| needs_token(spec)) else {
        return Ok(());
    };
    let keys = spec.token_config.as_ref().map(|tokens| {
        [(&spec.source, &tokens.source_public_key), (&spec.destination, &tokens.destination_public_key)]
    });
    let lacking: Vec<String> = keys
        .into_iter()
        .flatten()
        .filter(|(_, key)| key.is_empty())
        .map(|(domain, _)| lacking_key(world, domain))
        .collect();
    if lacking.is_empty() {
        return Ok(());
    }
    Err(Refusal { reason: "PublicKeyMissing", message: lacking.join("\n") })
}

fn lacking_key(world: &World, domain: &str) -> String {
    match world.domains.get(domain).map(|domain| &domain.key) {
        None => {
            format!("there is no Domain {domain} to take its public key from; create it with its certificate")
        }
        Some(Err(errors)) => format!("Domain {domain}: {errors}"),
        Some(Ok(_)) => {
            format!("Domain {domain} has no certificate to take its public key from; set its spec.cert")
        }
    }
}

fn nobody_here(cluster_route: &ClusterDomainRoute) -> Refusal {
    let route = &cluster_route.spec.route;
    Refusal {
        reason: "NoDomainHere",
        message: format!(
            "neither {} nor {} is a domain of this cluster; create the Domain of one of them",
            route.source, route.destination
        ),
    }
}

/// Whether `route`, which belongs to `cluster_route`, is none of those that it wants. It stays where its domain has left the
/// cluster: what a domain leaves behind is its operator's.
fn is_misplaced(world: &World, cluster_route: &ClusterDomainRoute, route: &DomainRoute) -> bool {
    let namespace = route.namespace().unwrap_or_default();
    route.name_any() != cluster_route.name_any()
        || !domains(world, cluster_route).contains(&namespace.as_str())
}

fn is_same(existing: &DomainRoute, wanted: &DomainRoute) -> bool {
    let owners = |route: &DomainRoute| {
        route.owner_references().iter().find(|owner| owner.controller == Some(true)).cloned()
    };
    existing.spec == wanted.spec && existing.labels() == wanted.labels() && owners(existing) == owners(wanted)
}

fn delete(route: &DomainRoute) -> Option<Action> {
    (!is_terminating(route))
        .then(|| Action::DeleteRoute { place: Place::of(route.meta()), uid: route.metadata.uid.clone() })
}
