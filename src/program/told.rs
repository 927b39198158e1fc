//! What the gateways are told: the snapshot, and for a while what its names led to before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use envoy::Owner;
use model::{Changed, DomainId, OutboundRoute, PortScope, Service, ServiceName, Snapshot};
use tokio::time::Instant;

/// How much longer something stays than the clients may keep its address: that is how long the removal of its name and
/// the last call may take.
const GRACE: Duration = Duration::from_secs(1);

/// Until when the gateways keep what is gone. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Lingering {
    time: Duration,
    ends: Arc<Mutex<Ends>>,
}

/// The same, by name and by time.
#[derive(Debug, Default)]
struct Ends {
    of: BTreeMap<Owner, Instant>,
    order: BTreeSet<(Instant, Owner)>,
}

/// The snapshot that the gateways are told.
///
/// Clients that have resolved a name call on for as long as they may keep the answer. So what names led to the gateway
/// for, labelled services and routes to other domains, stays that long after it is gone from the domain's own snapshot,
/// unless something new takes its name. Ways in never stay: who is shut out is shut out at once.
pub(crate) struct Told {
    snapshot: Snapshot,
    lingering: Lingering,
}

impl Lingering {
    /// Nothing is gone yet. Clients may keep an answer for the time `ttl`.
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { time: ttl + GRACE, ends: Arc::default() }
    }

    /// Until when the gateways keep this, if it is gone.
    pub(crate) fn end_of(&self, owner: &Owner) -> Option<Instant> {
        self.lock().of.get(owner).copied()
    }

    /// When the gateways lose the next one.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.lock().order.first().map(|(end, _)| *end)
    }

    fn begin(&self, owner: Owner, now: Instant) {
        let end = now + self.time;
        let mut ends = self.lock();
        ends.order.insert((end, owner.clone()));
        ends.of.insert(owner, end);
    }

    fn end(&self, owner: &Owner) {
        let mut ends = self.lock();
        if let Some(end) = ends.of.remove(owner) {
            ends.order.remove(&(end, owner.clone()));
        }
    }

    /// The destinations to which a way lingers.
    fn ways(&self) -> Vec<DomainId> {
        let destination = |owner: &Owner| match owner {
            Owner::Outbound(destination) => Some(destination.clone()),
            Owner::Inbound(_) | Owner::Service(_) => None,
        };
        self.lock().of.keys().filter_map(destination).collect()
    }

    /// Takes those whose time is over.
    fn take_over(&self, now: Instant) -> Vec<Owner> {
        let mut ends = self.lock();
        let mut over = Vec::new();
        while ends.order.first().is_some_and(|(end, _)| *end <= now)
            && let Some((_, owner)) = ends.order.pop_first()
        {
            ends.of.remove(&owner);
            over.push(owner);
        }
        over
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// All of the first snapshot, and nothing else.
    pub(super) fn new(first: &Snapshot, lingering: Lingering) -> Self {
        Self { snapshot: first.clone(), lingering }
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(super) fn lingering(&self) -> &Lingering {
        &self.lingering
    }

    /// Makes the changes that lead from the domain's snapshot `old` to `new`, but lets what is gone linger.
    pub(super) fn follow(&mut self, old: &Snapshot, new: &Snapshot, now: Instant) {
        let Snapshot { domain: _, outbound: _, inbound, forwarded, services: _, rejected } = new;
        self.snapshot.inbound = inbound.clone();
        self.snapshot.forwarded = forwarded.clone();
        self.snapshot.rejected = rejected.clone();
        let mut are_ways_others = false;
        for changed in new.changes_since(old) {
            match changed {
                Changed::Inbound(..) => {}
                Changed::Outbound(destination, route) => {
                    are_ways_others = true;
                    let owner = Owner::Outbound(destination.clone());
                    match route {
                        Some(route) => {
                            self.lingering.end(&owner);
                            self.snapshot.outbound.insert(destination.clone(), Arc::clone(route));
                        }
                        None => self.lingering.begin(owner, now),
                    }
                }
                Changed::Service(name, Some(service)) => {
                    self.lingering.end(&Owner::Service(name.clone()));
                    self.snapshot.services.insert(name.clone(), Arc::clone(service));
                }
                Changed::Service(name, None) => self.remove_service(name, now),
            }
        }
        if are_ways_others {
            self.drop_cut_detours();
        }
        self.expire(now);
    }

    /// Drops what has lingered long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        for owner in self.lingering.take_over(now) {
            match owner {
                Owner::Outbound(destination) => drop(self.snapshot.outbound.remove(&destination)),
                Owner::Service(name) => drop(self.snapshot.services.remove(&name)),
                Owner::Inbound(_) => {}
            }
        }
    }

    /// A labelled service stays for those who got the gateway's address for it: the domain's own applications.
    fn remove_service(&mut self, name: &ServiceName, now: Instant) {
        let Some(service) = self.snapshot.services.remove(name) else { return };
        if !service.through_gateway {
            return;
        }
        let service = match service.scope {
            PortScope::Cluster => Arc::new(Service { scope: PortScope::Domain, ..Service::clone(&service) }),
            PortScope::Domain | PortScope::Local => service,
        };
        self.snapshot.services.insert(name.clone(), service);
        self.lingering.begin(Owner::Service(name.clone()), now);
    }

    /// A detour that is gone uses the clusters of the way to its first gateway. Where these are others now, it ends.
    fn drop_cut_detours(&mut self) {
        let is_cut = |route: &OutboundRoute| {
            let (hop, direct) = route.first_hop();
            let now = self.snapshot.outbound.get(&hop.destination);
            now.and_then(|hop| hop.direct()) != Some(direct)
        };
        let ways = self.lingering.ways().into_iter();
        let cut = ways.filter(|way| self.snapshot.outbound.get(way).is_some_and(|route| is_cut(route)));
        for destination in cut.collect::<Vec<_>>() {
            self.snapshot.outbound.remove(&destination);
            self.lingering.end(&Owner::Outbound(destination));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::program::tests::{open_route, service, snapshot};

    const TTL: Duration = Duration::from_secs(5);

    /// What alice's gateways are told, step by step.
    struct Alice {
        told: Told,
        snapshot: Arc<Snapshot>,
        now: Instant,
    }

    impl Alice {
        fn new(manifests: &[Value]) -> Self {
            let snapshot = snapshot("alice", manifests);
            let told = Told::new(&snapshot, Lingering::new(TTL));
            Self { told, snapshot, now: Instant::now() }
        }

        /// Makes these all the objects of the domain.
        fn follow(&mut self, manifests: &[Value]) {
            let old = std::mem::replace(&mut self.snapshot, snapshot("alice", manifests));
            self.told.follow(&old, &self.snapshot, self.now);
        }

        /// What the gateways are told then: the names of services, of destinations and of sources.
        fn told(&mut self, after: Duration) -> String {
            self.now += after;
            self.told.expire(self.now);
            let Snapshot { services, outbound, inbound, .. } = self.told.snapshot();
            let services = services.keys().map(|name| name.as_str().to_owned());
            let outbound = outbound.keys().map(|destination| format!("to|{destination}"));
            let inbound = inbound.keys().map(|source| format!("from|{source}"));
            services.chain(outbound).chain(inbound).collect::<Vec<_>>().join(" ")
        }
    }

    #[test]
    fn what_a_name_led_to_the_gateway_for_stays_while_clients_may_call() {
        let all = [
            service("inner", true, "10.0.0.1:80"),
            service("web", false, "10.0.0.1:80"),
            open_route("alice", "bob", None),
            open_route("bob", "alice", None),
        ];
        let mut alice = Alice::new(&all);
        assert_eq!(alice.told(TTL), "inner web to|bob from|bob");
        assert_eq!(alice.told.lingering().next_end(), None);
        alice.follow(&[]);
        assert_eq!(alice.told(TTL), "inner to|bob", "neither what led elsewhere, nor a way in");
        let inner = Owner::Service("inner".parse().expect("a name"));
        assert_eq!(alice.told.lingering().end_of(&inner), alice.told.lingering().next_end());
        assert_eq!(alice.told(GRACE), "");
        assert_eq!(alice.told.lingering().next_end(), None);
    }

    #[test]
    fn a_service_that_is_gone_serves_nobody_from_elsewhere() {
        let mut alice = Alice::new(&[service("inner", true, "10.0.0.1:80")]);
        alice.follow(&[]);
        let scope = |alice: &Alice| alice.told.snapshot().services["inner"].scope;
        assert_eq!(scope(&alice), PortScope::Domain);
        alice.follow(&[service("inner", true, "10.0.0.1:80")]);
        assert_eq!(scope(&alice), PortScope::Cluster);
    }

    #[test]
    fn what_takes_a_name_stays_as_long_as_it_is_there() {
        let first = [service("inner", true, "10.0.0.1:80"), open_route("alice", "bob", None)];
        let second = [service("inner", false, "10.0.0.2:80"), open_route("alice", "bob", None)];
        let mut alice = Alice::new(&first);
        alice.follow(&[]);
        alice.follow(&second);
        assert_eq!(alice.told.snapshot(), &*alice.snapshot);
        assert_eq!(alice.told(2 * TTL), "inner to|bob");

        alice.follow(&first);
        alice.follow(&[]);
        alice.told(TTL / 2);
        alice.follow(&first);
        alice.follow(&[]);
        assert_eq!(alice.told(TTL), "inner to|bob", "the time begins anew");
        assert_eq!(alice.told(GRACE), "");
    }

    #[test]
    fn a_detour_goes_with_the_way_to_its_first_gateway() {
        let to_bob = open_route("alice", "bob", None);
        let both = [to_bob.clone(), open_route("alice", "carol", Some("bob"))];
        let mut alice = Alice::new(&both);
        alice.follow(&[]);
        assert_eq!(alice.told(TTL), "to|bob to|carol");
        assert_eq!(alice.told(GRACE), "");

        alice.follow(&both);
        alice.follow(std::slice::from_ref(&to_bob));
        assert_eq!(alice.told(TTL), "to|bob to|carol");
        let mut elsewhere = to_bob;
        elsewhere["spec"]["endpoint"]["ports"][0]["protocol"] = "GRPC".into();
        alice.follow(&[elsewhere]);
        assert_eq!(alice.told(Duration::ZERO), "to|bob", "it would lead to a port that is not there");
        assert_eq!(alice.told.lingering().next_end(), None);
    }
}
