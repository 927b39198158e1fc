//! Which domains forward the requests of a route (`transitMethod: THIRD-DOMAIN`).

use std::collections::BTreeSet;

use model::api::DomainRouteSpec;

use crate::world::World;

/// The domains between the ends of `route`, as far as the `ClusterDomainRoute`s tell: that of its own detour, and those of
/// the detours on the way there and on the way from there. Each needs the route, as its permission to forward.
pub(crate) fn forwarders<'a>(world: &'a World, route: &'a DomainRouteSpec) -> BTreeSet<&'a str> {
    let mut forwarders = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![route];
    while let Some(part) = open.pop() {
        let ends = (part.source.as_str(), part.destination.as_str());
        let Some(transit) = part.forwarder().filter(|_| seen.insert(ends)) else { continue };
        forwarders.insert(transit);
        let parts = [(ends.0, transit), (transit, ends.1)];
        open.extend(parts.iter().filter_map(|(source, destination)| between(world, source, destination)));
    }
    forwarders.remove(route.source.as_str());
    forwarders.remove(route.destination.as_str());
    forwarders
}

fn between<'a>(world: &'a World, source: &str, destination: &str) -> Option<&'a DomainRouteSpec> {
    let cluster_route = world.cluster_routes.get(&format!("{source}-{destination}"))?;
    let route = &cluster_route.spec.route;
    (route.source == source && route.destination == destination).then_some(route)
}
