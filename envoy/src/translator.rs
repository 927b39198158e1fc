//! From what a domain looks like to what its gateway is told, object by object.

use std::collections::BTreeSet;

use model::{Changed, DomainId, InboundRoute, OutboundRoute, PortScope, Service, Snapshot};

use crate::client_authorities::{client_authorities, shown_by};
use crate::clusters::{handshake_cluster, peer_clusters, service_cluster};
use crate::endpoints::service_assignment;
use crate::gateway::{Gateway, Side};
use crate::listener::listener;
use crate::owner::{Owner, owner};
use crate::resource::Resource;
use crate::routes;
use crate::scopes::{inbound_scope, outbound_scope, own_scopes};
use crate::secrets::{own_authority, own_secrets, peer_secrets};
use crate::settings::{KeyMaterial, Settings};
use crate::tracing::tracing_cluster;
use crate::transit::transit_cluster;

/// Translates the [`Snapshot`]s of a domain into the resources of one gateway.
///
/// Every resource is made of one object alone, or of none: so what changes about an object changes its own resources. The
/// exception are the authorities of client certificates, which Envoy wants as one.
#[derive(Clone, Debug)]
pub struct Translator {
    gateway: Gateway,
    settings: Settings,
}

/// What a gateway has to be told when one snapshot takes the place of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Resources that are new or different.
    pub set: Vec<Resource>,
    /// Types and names of resources that are gone.
    pub removed: Vec<(&'static str, String)>,
}

impl Translator {
    /// A translator for the gateway of `domain` that has these settings.
    #[must_use]
    pub fn new(domain: &DomainId, settings: Settings) -> Self {
        Self { gateway: Gateway::new(domain, &settings), settings }
    }

    /// All resources.
    #[must_use]
    pub fn translate(&self, snapshot: &Snapshot, keys: &KeyMaterial) -> Vec<Resource> {
        let outbound = snapshot.outbound.values().flat_map(|route| self.outbound(route));
        let inbound = snapshot.inbound.values().flat_map(|route| self.inbound(route));
        let services = snapshot.services.values().flat_map(|service| self.service(service));
        self.constant()
            .into_iter()
            .chain(self.own_secrets(keys))
            .chain([self.client_authorities(snapshot)])
            .chain(outbound)
            .chain(inbound)
            .chain(services)
            .collect()
    }

    /// What is different for `new` than for `old`, at a cost of what differs between them.
    #[must_use]
    pub fn changes(&self, old: &Snapshot, new: &Snapshot) -> Changes {
        let mut changes = Changes::default();
        let mut are_clients_others = false;
        for changed in new.changes_since(old) {
            let (before, after) = match changed {
                Changed::Outbound(destination, route) => (
                    old.outbound.get(destination).map(|route| self.outbound(route)),
                    route.map(|route| self.outbound(route)),
                ),
                Changed::Inbound(source, route) => {
                    let before = old.inbound.get(source);
                    let shown = before.into_iter().flat_map(|route| shown_by(route));
                    are_clients_others |= !shown.eq(route.into_iter().flat_map(|route| shown_by(route)));
                    (before.map(|route| self.inbound(route)), route.map(|route| self.inbound(route)))
                }
                Changed::Service(name, service) => (
                    old.services.get(name).map(|service| self.service(service)),
                    service.map(|service| self.service(service)),
                ),
            };
            changes.add(&before.unwrap_or_default(), after.unwrap_or_default());
        }
        if are_clients_others {
            changes.add(&[self.client_authorities(old)], vec![self.client_authorities(new)]);
        }
        changes
    }

    /// The types and names of the resources of an object in `snapshot`.
    #[must_use]
    pub fn resources_of(&self, owner: &Owner, snapshot: &Snapshot) -> Vec<(&'static str, String)> {
        let resources = match owner {
            Owner::Outbound(destination) => {
                snapshot.outbound.get(destination).map(|route| self.outbound(route))
            }
            Owner::Inbound(source) => snapshot.inbound.get(source).map(|route| self.inbound(route)),
            Owner::Service(name) => snapshot.services.get(name).map(|service| self.service(service)),
        };
        resources.into_iter().flatten().map(|resource| (resource.type_url, resource.name)).collect()
    }

    /// The object that the resource of this type and name was made of; `None` for those of the gateway itself.
    #[must_use]
    pub fn owner(&self, type_url: &str, name: &str) -> Option<Owner> {
        owner(&self.gateway, type_url, name)
    }

    /// What this domain proves itself with, which changes as its certificates are renewed.
    #[must_use]
    pub fn own_secrets(&self, keys: &KeyMaterial) -> Vec<Resource> {
        own_secrets(keys)
    }

    fn client_authorities(&self, snapshot: &Snapshot) -> Resource {
        client_authorities(&self.settings, snapshot.inbound.values().map(|route| &**route))
    }

    /// What does not depend on any object.
    fn constant(&self) -> Vec<Resource> {
        let listeners = Side::ALL.map(|side| listener(side, &self.gateway, &self.settings));
        let routes = [routes::own_services(&self.gateway), routes::handshake(&self.gateway)];
        let others = [handshake_cluster(&self.settings), transit_cluster(), own_authority(&self.settings)];
        let tracing = self.settings.tracing.as_ref().map(tracing_cluster);
        others
            .into_iter()
            .chain(tracing)
            .chain(listeners)
            .chain(own_scopes(&self.gateway))
            .chain(routes)
            .collect()
    }

    fn outbound(&self, route: &OutboundRoute) -> Vec<Resource> {
        let routes = routes::outbound(route, &self.gateway);
        let scope = outbound_scope(&route.destination);
        peer_clusters(route, &self.gateway.domain).chain(peer_secrets(route)).chain([routes, scope]).collect()
    }

    /// A source whose requests another gateway brings has no way in of its own: that gateway has.
    fn inbound(&self, route: &InboundRoute) -> Vec<Resource> {
        match route.carrier {
            Some(_) => Vec::new(),
            None => vec![routes::inbound(route, &self.gateway), inbound_scope(&route.source)],
        }
    }

    /// Nothing leads to a service that nobody may call through the gateway.
    fn service(&self, service: &Service) -> Vec<Resource> {
        let domain = &self.gateway.domain;
        match service.scope {
            PortScope::Cluster | PortScope::Domain => {
                let assignment = service_assignment(service, domain);
                [service_cluster(service, domain)].into_iter().chain(assignment).collect()
            }
            PortScope::Local => Vec::new(),
        }
    }
}

impl Changes {
    fn add(&mut self, before: &[Resource], after: Vec<Resource>) {
        let kept: BTreeSet<_> = after.iter().map(|resource| (resource.type_url, &resource.name)).collect();
        let gone =
            before.iter().filter(|resource| !kept.contains(&(resource.type_url, &resource.name))).cloned();
        self.removed.extend(gone.map(|resource| (resource.type_url, resource.name)));
        self.set.extend(after.into_iter().filter(|resource| !before.contains(resource)));
    }
}
