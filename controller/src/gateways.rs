//! Gateways that are gone for good: a Deployment gives every new pod a new name, and nobody deletes the old Gateway.

use jiff::{SignedDuration, Timestamp};

use crate::action::Action;
use crate::world::{Place, World};

/// How long a gateway is silent that does not come back. It compares two machines' clocks, so it is generous, and
/// whoever is heard stays whatever its clock says.
const ABANDONED_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// What is to be done about the gateway at `place`.
pub(crate) fn reconcile(world: &World, place: &Place, now: Timestamp) -> Vec<Action> {
    let Some(gateway) = world.gateways.get(place).filter(|_| is_abandoned(world, place, now)) else {
        return Vec::new();
    };
    vec![Action::DeleteGateway {
        place: place.clone(),
        uid: gateway.metadata.uid.clone(),
        version: gateway.metadata.resource_version.clone(),
    }]
}

/// Whether the gateway at `place` does not come back.
pub(crate) fn is_abandoned(world: &World, place: &Place, now: Timestamp) -> bool {
    let Some(gateway) = world.gateways.get(place) else { return false };
    let heartbeat = gateway.status.as_ref().and_then(|status| status.heartbeat_time.as_ref());
    let last = heartbeat.or(gateway.metadata.creation_timestamp.as_ref());
    last.is_some_and(|last| now.duration_since(last.0) > ABANDONED_AFTER)
        && !world.live(&place.namespace).contains(&place.name)
}
