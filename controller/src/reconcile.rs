//! What is to be done about a key.

use jiff::Timestamp;

use crate::action::Action;
use crate::world::{Key, World};
use crate::{cluster_route, gateways, namespaces, tokens};

/// What is to be done about `key`, at `now`. Nothing, where all is as it should be.
pub(crate) fn reconcile(world: &World, key: &Key, now: Timestamp) -> Vec<Action> {
    match key {
        Key::Namespace(name) => namespaces::reconcile(world, name),
        Key::ClusterRoute(name) => cluster_route::reconcile(world, name, now),
        Key::Tokens(place) => tokens::reconcile(world, place),
        Key::Gateway(place) => gateways::reconcile(world, place, now),
    }
}

#[cfg(test)]
mod tests;
