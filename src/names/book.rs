//! Which names are there, and which wait for what.

use std::collections::BTreeMap;
use std::sync::Arc;

use dns::NameChange;
use envoy::{Owner, Translator};
use jiff::Timestamp;
use model::{Changed, PortScope, Service, Snapshot};
use xds::ResourceType;

use crate::program::needs;

/// The names of a snapshot.
pub(super) struct Book {
    translator: Translator,
    snapshot: Arc<Snapshot>,
    /// Those of the snapshot's services and routes to other domains that are not shown as they are.
    waiting: BTreeMap<Owner, Waiting>,
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
        Self { translator, snapshot: Arc::new(snapshot), waiting: BTreeMap::new() }
    }

    /// Whether names wait.
    pub(super) fn is_any_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What the name of this waits for, if it does.
    pub(super) fn waiting(&self, owner: &Owner) -> Option<&Waiting> {
        self.waiting.get(owner)
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
    /// what is new, or leads to another place, waits for the gateways, if they are told of it.
    pub(super) fn follow(&mut self, snapshot: Arc<Snapshot>, now: Timestamp) -> Vec<NameChange> {
        let old = std::mem::replace(&mut self.snapshot, snapshot);
        let new = Arc::clone(&self.snapshot);
        let mut changes = Vec::new();
        for changed in new.changes_since(&old) {
            match changed {
                Changed::Inbound(..) => {}
                Changed::Outbound(destination, None) => {
                    self.waiting.remove(&Owner::Outbound(destination.clone()));
                    changes.push(NameChange::NoRoute(destination.clone()));
                }
                Changed::Outbound(destination, Some(_)) => {
                    let owner = Owner::Outbound(destination.clone());
                    if !old.outbound.contains_key(destination) || self.waiting.contains_key(&owner) {
                        self.wait(owner, Lead::Gateway, None, now);
                    }
                }
                Changed::Service(name, None) => {
                    self.waiting.remove(&Owner::Service(name.clone()));
                    changes.push(NameChange::NoService(name.clone()));
                }
                Changed::Service(name, Some(service)) => {
                    let owner = Owner::Service(name.clone());
                    let shown = match self.waiting.get(&owner) {
                        Some(waiting) => waiting.shown,
                        None => old.services.get(name).map(|service| Lead::of(service)),
                    };
                    let lead = Lead::of(service);
                    if shown == Some(lead) || service.scope == PortScope::Local {
                        self.waiting.remove(&owner);
                        changes.push(NameChange::Service(Arc::clone(service)));
                    } else {
                        self.wait(owner, lead, shown, now);
                        changes.push(match shown {
                            Some(shown) => NameChange::Service(leading(service, shown)),
                            None => NameChange::Pending(name.clone()),
                        });
                    }
                }
            }
        }
        changes
    }

    /// Shows those of the names that wait which gateways can serve.
    pub(super) fn take_served(&mut self, is_served: impl Fn(&Waiting) -> bool) -> Vec<NameChange> {
        let served = self.waiting.extract_if(.., |_, waiting| is_served(waiting));
        let shown = served.filter_map(|(owner, _)| match owner {
            Owner::Outbound(destination) => Some(NameChange::Route(destination)),
            Owner::Service(name) => self.snapshot.services.get(&name).cloned().map(NameChange::Service),
            Owner::Inbound(_) => None,
        });
        shown.collect()
    }

    fn wait(&mut self, owner: Owner, lead: Lead, shown: Option<Lead>, now: Timestamp) {
        let since = self.waiting.get(&owner).map_or(now, |waiting| waiting.since);
        let resources = needs(&self.translator, &owner, &self.snapshot);
        self.waiting.insert(owner, Waiting { since, resources, lead, shown });
    }
}

/// The service, but with a name that still leads where it is shown to.
fn leading(service: &Service, shown: Lead) -> Arc<Service> {
    Arc::new(Service { through_gateway: shown == Lead::Gateway, ..service.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::program::tests::{open_route, service, snapshot, translator};

    /// Domain alice, step by step.
    struct Alice(Book);

    impl Alice {
        fn new() -> Self {
            let empty = Snapshot::empty("alice".parse().expect("a domain ID"));
            Self(Book::new(translator(&empty.domain), empty))
        }

        /// What changes once the objects of the domain are these.
        fn follow(&mut self, manifests: &[Value]) -> Vec<String> {
            shown(&self.0.follow(snapshot("alice", manifests), Timestamp::UNIX_EPOCH))
        }

        /// What changes once gateways serve what needs this resource.
        fn serve(&mut self, resource: &str) -> Vec<String> {
            let needs = |waiting: &Waiting| waiting.resources.iter().any(|(_, name)| name == resource);
            shown(&self.0.take_served(needs))
        }
    }

    fn shown(changes: &[NameChange]) -> Vec<String> {
        let show = |change: &NameChange| match change {
            NameChange::Service(service) if service.through_gateway => {
                format!("{} gateway", service.name.as_str())
            }
            NameChange::Service(service) => format!("{} {:?}", service.name.as_str(), service.endpoints),
            NameChange::Pending(name) => format!("{} pending", name.as_str()),
            NameChange::NoService(name) => format!("no {}", name.as_str()),
            NameChange::Route(domain) => format!("*.{domain}"),
            NameChange::NoRoute(domain) => format!("no *.{domain}"),
        };
        changes.iter().map(show).collect()
    }

    #[test]
    fn what_is_new_is_shown_once_it_is_served() {
        let mut alice = Alice::new();
        let manifests = [
            service("web", false, "10.0.0.1:80"),
            service("inner", true, "10.0.0.2:80"),
            open_route("alice", "bob", None),
            open_route("carol", "alice", None),
        ];
        assert_eq!(alice.follow(&manifests), ["inner pending", "web pending"]);
        assert!(alice.0.is_any_waiting());
        assert_eq!(alice.serve("svc|web.alice.svc"), ["web [10.0.0.1:80]"]);
        assert_eq!(alice.serve("svc|inner.alice.svc"), ["inner gateway"]);
        assert_eq!(alice.serve("alice-to-bob-http"), ["*.bob"]);
        assert!(!alice.0.is_any_waiting(), "a way in is no name");
    }

    #[test]
    fn a_detour_needs_the_cluster_of_its_first_gateway() {
        let mut alice = Alice::new();
        let routes = [open_route("alice", "bob", None), open_route("alice", "carol", Some("bob"))];
        alice.follow(&routes);
        assert_eq!(alice.serve("to|carol"), ["*.carol"]);
        alice.follow(&[]);
        alice.follow(&routes);
        assert_eq!(alice.serve("alice-to-bob-http"), ["*.bob", "*.carol"]);
    }

    #[test]
    fn new_addresses_of_what_is_shown_are_shown_at_once() {
        let mut alice = Alice::new();
        alice.follow(&[service("web", false, "10.0.0.1:80")]);
        assert_eq!(alice.follow(&[service("web", false, "10.0.0.2:80")]), ["web pending"]);
        assert_eq!(alice.serve("svc|web.alice.svc"), ["web [10.0.0.2:80]"]);
        assert_eq!(alice.follow(&[service("web", false, "10.0.0.3:80")]), ["web [10.0.0.3:80]"]);
        assert!(!alice.0.is_any_waiting());
    }

    #[test]
    fn a_name_leads_where_it_led_until_the_other_place_is_served() {
        let mut alice = Alice::new();
        alice.follow(&[service("web", false, "10.0.0.1:80")]);
        alice.serve("svc|web.alice.svc");
        assert_eq!(alice.follow(&[service("web", true, "10.0.0.1:80")]), ["web [10.0.0.1:80]"]);
        assert_eq!(
            alice.follow(&[service("web", true, "10.0.0.2:80")]),
            ["web [10.0.0.2:80]"],
            "it is at its new address meanwhile"
        );
        assert_eq!(alice.serve("svc|web.alice.svc"), ["web gateway"]);
        assert_eq!(alice.follow(&[service("web", false, "10.0.0.2:80")]), ["web gateway"]);
        assert_eq!(alice.follow(&[service("web", true, "10.0.0.2:80")]), ["web gateway"]);
        assert!(!alice.0.is_any_waiting(), "the change was taken back");
    }

    #[test]
    fn what_gateways_are_told_nothing_of_leads_past_them_at_once() {
        let local = |through_gateway| {
            let mut manifest = service("web", through_gateway, "10.0.0.1:80");
            manifest["items"][0]["metadata"]["labels"]["kuscia.secretflow/port-scope"] = "Local".into();
            manifest
        };
        let shown = service("web", true, "10.0.0.1:80");
        let mut alice = Alice::new();
        for through_gateway in [true, false] {
            assert_eq!(alice.follow(&[local(through_gateway)]), ["web [10.0.0.1:80]"], "it waits for nobody");
            assert!(!alice.0.is_any_waiting());
            assert_eq!(alice.follow(std::slice::from_ref(&shown)), ["web [10.0.0.1:80]"]);
            assert_eq!(alice.serve("svc|web.alice.svc"), ["web gateway"]);
            assert_eq!(alice.follow(&[local(through_gateway)]), ["web [10.0.0.1:80]"]);
            assert!(!alice.0.is_any_waiting(), "the gateway serves it no more");
            alice.follow(std::slice::from_ref(&shown));
            assert_eq!(alice.follow(&[local(through_gateway)]), ["web [10.0.0.1:80]"]);
            assert!(!alice.0.is_any_waiting(), "the gateway was never asked");
            alice.follow(&[]);
        }
    }

    #[test]
    fn what_is_gone_is_hidden_at_once_and_waits_anew_when_it_is_back() {
        let mut alice = Alice::new();
        let manifests = [service("web", true, "10.0.0.1:80"), open_route("alice", "bob", None)];
        for _ in 0..2 {
            assert_eq!(alice.follow(&manifests), ["web pending"]);
            assert_eq!(alice.serve("svc|web.alice.svc"), ["web gateway"]);
            assert_eq!(alice.serve("to|bob"), ["*.bob"]);
            assert_eq!(alice.follow(&[]), ["no *.bob", "no web"]);
        }
        alice.follow(&manifests);
        alice.follow(&[]);
        assert!(!alice.0.is_any_waiting(), "nothing waits for what is gone");
    }
}
