//! Which names are there, and which wait for what.

use std::collections::BTreeMap;
use std::sync::Arc;

use dns::NameChange;
use envoy::{Owner, Translator};
use jiff::Timestamp;
use model::{Changed, Service, Snapshot};
use xds::ResourceType;

use crate::program::needs;

/// The names of a snapshot.
pub(super) struct Book {
    translator: Translator,
    snapshot: Arc<Snapshot>,
    /// Those of the snapshot's services and routes to other domains that are not shown as they are.
    open: BTreeMap<Owner, Waiting>,
}

/// A name that is not shown as it is.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) since: Timestamp,
    /// What gateways must hold.
    pub(super) resources: Vec<(ResourceType, String)>,
    /// Where it is to lead.
    pub(super) lead: Lead,
    /// Where it leads meanwhile, if it is shown.
    pub(super) shown: Option<Lead>,
}

/// Where a name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lead {
    /// Past the gateway.
    Direct,
    /// To the gateway.
    Gateway,
}

impl Lead {
    fn of(service: &Service) -> Self {
        if service.through_gateway { Self::Gateway } else { Self::Direct }
    }
}

impl Book {
    pub(super) fn new(translator: Translator, snapshot: Snapshot) -> Self {
        Self { translator, snapshot: Arc::new(snapshot), open: BTreeMap::new() }
    }

    /// Whether names wait.
    pub(super) fn is_any_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// What the name of this waits for, if it does.
    pub(super) fn waiting(&self, owner: &Owner) -> Option<&Waiting> {
        self.open.get(owner)
    }

    /// Whether there is this service, or route to another domain.
    pub(super) fn knows(&self, owner: &Owner) -> bool {
        match owner {
            Owner::Outbound(destination) => self.snapshot.outbound.contains_key(destination),
            Owner::Service(name) => self.snapshot.services.contains_key(name),
            Owner::Inbound(_) => false,
        }
    }

    /// Goes on to `snapshot`, at a cost of what differs. What is gone is hidden, and what is shown already follows at once;
    /// what is new, or leads to another place, waits.
    pub(super) fn follow(&mut self, snapshot: Arc<Snapshot>, now: Timestamp) -> Vec<NameChange> {
        let old = std::mem::replace(&mut self.snapshot, snapshot);
        let new = Arc::clone(&self.snapshot);
        let mut changes = Vec::new();
        for changed in new.changes_since(&old) {
            match changed {
                Changed::Inbound(..) => {}
                Changed::Outbound(destination, None) => {
                    self.open.remove(&Owner::Outbound(destination.clone()));
                    changes.push(NameChange::NoRoute(destination.clone()));
                }
                Changed::Outbound(destination, Some(_)) => {
                    let owner = Owner::Outbound(destination.clone());
                    if !old.outbound.contains_key(destination) || self.open.contains_key(&owner) {
                        self.wait(owner, Lead::Gateway, None, now);
                    }
                }
                Changed::Service(name, None) => {
                    self.open.remove(&Owner::Service(name.clone()));
                    changes.push(NameChange::NoService(name.clone()));
                }
                Changed::Service(name, Some(service)) => {
                    let owner = Owner::Service(name.clone());
                    let shown = match self.open.get(&owner) {
                        Some(waiting) => waiting.shown,
                        None => old.services.get(name).map(|service| Lead::of(service)),
                    };
                    let lead = Lead::of(service);
                    changes.extend(shown.map(|shown| NameChange::Service(leading(service, shown))));
                    if shown == Some(lead) {
                        self.open.remove(&owner);
                    } else {
                        self.wait(owner, lead, shown, now);
                    }
                }
            }
        }
        changes
    }

    /// Shows those of the names that wait which gateways can serve.
    pub(super) fn take_served(&mut self, is_served: impl Fn(&Waiting) -> bool) -> Vec<NameChange> {
        let served = self.open.extract_if(.., |_, waiting| is_served(waiting));
        let shown = served.filter_map(|(owner, _)| match owner {
            Owner::Outbound(destination) => Some(NameChange::Route(destination)),
            Owner::Service(name) => self.snapshot.services.get(&name).cloned().map(NameChange::Service),
            Owner::Inbound(_) => None,
        });
        shown.collect()
    }

    fn wait(&mut self, owner: Owner, lead: Lead, shown: Option<Lead>, now: Timestamp) {
        let since = self.open.get(&owner).map_or(now, |waiting| waiting.since);
        let resources = needs(&self.translator, &owner, &self.snapshot);
        self.open.insert(owner, Waiting { since, resources, lead, shown });
    }
}

/// The service, but with a name that still leads where it is shown to.
fn leading(service: &Arc<Service>, shown: Lead) -> Arc<Service> {
    if Lead::of(service) == shown {
        return Arc::clone(service);
    }
    Arc::new(Service { through_gateway: shown == Lead::Gateway, ..Service::clone(service) })
}
