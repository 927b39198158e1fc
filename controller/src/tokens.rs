//! The controller's part in the tokens of a `DomainRoute`. The gateways do the rest, and this too where they can.

use model::api::{DomainRoute, DomainRouteSpec, DomainRouteStatus};
use model::settle_tokens;

use crate::action::Action;
use crate::world::{Place, World, is_terminating};

/// What is to be done about the tokens of the route at `place`.
pub(crate) fn reconcile(world: &World, place: &Place) -> Vec<Action> {
    let Some(route) = world.routes.get(place).filter(|route| !is_terminating(*route)) else {
        return Vec::new();
    };
    if !needs_token(&route.spec) {
        return Vec::new();
    }
    let action = if place.namespace == route.spec.source {
        initializer(world, place, route)
    } else if place.namespace == route.spec.destination {
        settled(world, place, route)
    } else {
        None
    };
    action.into_iter().collect()
}

/// Whether the two domains of a route have to agree on a token.
pub(crate) fn needs_token(spec: &DomainRouteSpec) -> bool {
    spec.authentication_type == "Token" || spec.body_encryption.is_some()
}

/// The gateway that starts negotiations: the one that does, while it is alive, or else the first one that is.
fn initializer(world: &World, place: &Place, route: &DomainRoute) -> Option<Action> {
    let live = world.live(&place.namespace);
    let before = route.status.as_ref().map(|status| status.token_status.revision_initializer.as_str());
    if before.is_some_and(|before| live.contains(before)) {
        return None;
    }
    Some(Action::SetInitializer {
        place: place.clone(),
        version: route.metadata.resource_version.clone(),
        gateway: live.into_iter().next()?,
    })
}

/// A token is ready once all live gateways have it. They settle that among themselves, but where the last of those that
/// were waited for is gone, it may be that nobody notices.
fn settled(world: &World, place: &Place, route: &DomainRoute) -> Option<Action> {
    let status = route.status.as_ref()?;
    let token_status = settle_tokens(&status.token_status, &world.live(&place.namespace))?;
    Some(Action::WriteRouteStatus {
        place: place.clone(),
        version: route.metadata.resource_version.clone(),
        status: Box::new(DomainRouteStatus { token_status, ..status.clone() }),
    })
}
