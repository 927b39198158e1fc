//! What the gateways between this domain and a destination say (`transitMethod: THIRD-DOMAIN`).

use ::http::StatusCode;
use model::{OutboundRoute, Way, quoted};

use super::hops::Hop;
use super::{Finding, Layer};

/// Whether requests of `route` pass gateways of other domains.
pub(super) fn is_detour(route: &OutboundRoute) -> bool {
    matches!(route.way, Way::Transit(_))
}

/// The gateway `at`, on the way to the destination of `route`, does not pass requests on; or the destination does not let
/// in the one before it.
pub(super) fn stopped(route: &OutboundRoute, at: Hop<'_>, status: StatusCode) -> Finding {
    let (destination, name) = (&route.destination, &route.object.name);
    let (domain, gateway, details) = (quoted(at.domain), quoted(at.gateway), quoted(at.details));
    let says = |words: &str| details.contains(words);
    let (reason, what, remedy) = match status.as_u16() {
        _ if says("token_missing") => (
            "HopNotReady",
            format!("the gateway {gateway} has no token yet for the next gateway on the way"),
            format!("it is tried again; if it stays, ask the operator of {domain} for `networkmesh status`"),
        ),
        508 => (
            "TransitLoop",
            format!("requests for {destination} come back to the gateway {gateway}, which they have passed"),
            format!(
                "the domains on the way send them in a circle: compare the transit of their routes to {destination}, \
                 beginning with that of {domain}"
            ),
        ),
        403 if says("address_not_allowed") => (
            "AddressNotAllowed",
            format!("the gateway {gateway} lets the gateway before it in from other addresses only"),
            format!("ask the operator of {domain} to correct sourceWhiteIPList of its route from there"),
        ),
        403 => (
            "ForwardNotAllowed",
            format!("the gateway {gateway} does not forward requests of this domain to {destination}"),
            format!(
                "ask the operator of {domain} to add this DomainRoute {name}, as it is here, which permits that; and to \
                 see that the gateway before it says the truth about where requests come from"
            ),
        ),
        401 => (
            "HopNotAuthenticated",
            format!("the gateway {gateway} does not take the gateway before it for whom it is"),
            format!("see `networkmesh status` of the domain before {domain} on the way"),
        ),
        404 => (
            "NoWayOnward",
            format!("the gateway {gateway} knows no way to {destination}"),
            format!("ask the operator of {domain} to add a route from {domain} to {destination}"),
        ),
        _ => (
            "FailedInTransit",
            format!(
                "the gateway {gateway}, on the way to {destination}, fails with HTTP {status} ({details})"
            ),
            format!("ask the operator of {domain} for `networkmesh status`"),
        ),
    };
    Finding { layer: Layer::Reach, reason, message: format!("{what}; {remedy}") }
}

/// What this domain's own gateway says of the first gateway on the way.
pub(super) fn of_first_hop(route: &OutboundRoute, finding: Finding) -> Finding {
    let Way::Transit(_) = route.way else { return finding };
    let (first_hop, _) = route.first_hop();
    let Finding { layer, reason, message } = finding;
    let name = &first_hop.object.name;
    let message = format!("by the route {name}, on the way to {}: {message}", route.destination);
    Finding { layer, reason, message }
}

/// This domain's own gateway has no token for the first gateway on the way, where that is what `details` say.
pub(super) fn not_begun(route: &OutboundRoute, details: &str) -> Option<Finding> {
    if !is_detour(route) || !details.contains("token_missing") {
        return None;
    }
    let (first_hop, _) = route.first_hop();
    let message = format!(
        "requests for {} leave by the route {}, which has no token yet; see there",
        route.destination, first_hop.object.name
    );
    Some(Finding { layer: Layer::Reach, reason: "HopNotReady", message })
}
