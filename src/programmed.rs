//! The condition `Programmed` of routes: whether the gateways hold what was made of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use envoy::{Owner, Translator};
use jiff::Timestamp;
use model::api::{Condition, ConditionStatus, DomainRouteStatus, Time};
use model::{Changed, ObjectRef, Snapshot, StatusChange};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use xds::{Rejection, ResourceType};

use crate::handshake::Ledger;
use crate::program::{Gateways, needs};

/// Pause between two looks at what the gateways hold. After a start there are many answers and many routes.
const PAUSE: Duration = Duration::from_millis(100);

/// How long nothing of a route may have been rejected before it counts as accepted again. An Envoy that comes back and
/// rejects in a loop must not cost a write each time.
const RECOVERY: Duration = Duration::from_secs(3);

/// Writes the condition of every route whose answer is known, until `shutdown`.
///
/// While a gateway has not answered, or none is connected, the condition stays as it is.
pub(crate) async fn keep_programmed(
    translator: Translator,
    gateways: Gateways,
    ledger: Ledger,
    instance: String,
    shutdown: CancellationToken,
) {
    let mut snapshots = gateways.programmed.clone();
    let mut rejections = gateways.clients.rejection_changes();
    let mut answers = gateways.clients.changes();
    let empty = Snapshot::empty(snapshots.borrow().domain.clone());
    let mut watch = Watch {
        translator,
        gateways,
        instance,
        snapshot: Arc::new(empty),
        open: BTreeMap::new(),
        rejected: BTreeMap::new(),
    };
    loop {
        watch.follow(Arc::clone(&snapshots.borrow_and_update()));
        rejections.borrow_and_update();
        answers.borrow_and_update();
        for (route, change) in watch.verdicts() {
            ledger.note(&route, change).await;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(PAUSE) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = snapshots.changed() => if changed.is_err() { return },
            _ = rejections.changed() => {}
            _ = answers.changed(), if !watch.open.is_empty() => {}
            () = sleep(RECOVERY), if !watch.rejected.is_empty() => {}
        }
    }
}

struct Watch {
    translator: Translator,
    gateways: Gateways,
    /// The name of this gateway.
    instance: String,
    snapshot: Arc<Snapshot>,
    /// The routes whose answer is awaited, and their resources.
    open: BTreeMap<Owner, Vec<(ResourceType, String)>>,
    /// The routes of which something is or was rejected, and when it was last seen to be.
    rejected: BTreeMap<Owner, Instant>,
}

impl Watch {
    /// What changed has to be answered anew.
    fn follow(&mut self, snapshot: Arc<Snapshot>) {
        let old = std::mem::replace(&mut self.snapshot, snapshot);
        let snapshot = Arc::clone(&self.snapshot);
        for changed in snapshot.changes_since(&old) {
            match changed {
                Changed::Outbound(destination, _) => self.await_answer(Owner::Outbound(destination.clone())),
                Changed::Inbound(source, _) => self.await_answer(Owner::Inbound(source.clone())),
                Changed::Service(..) => {}
            }
        }
    }

    fn await_answer(&mut self, route: Owner) {
        let resources = needs(&self.translator, &route, &self.snapshot);
        if resources.is_empty() {
            self.open.remove(&route);
        } else {
            self.open.insert(route, resources);
        }
    }

    /// The conditions that are known now and not shown yet.
    fn verdicts(&mut self) -> Vec<(ObjectRef, StatusChange)> {
        let now = Instant::now();
        let rejections = self.rejections();
        self.rejected.extend(rejections.keys().map(|route| (route.clone(), now)));
        // What is not rejected any more may be accepted, or gone with the gateway that rejected it.
        let recovered = self.rejected.extract_if(.., |_, seen| now.duration_since(*seen) >= RECOVERY);
        let recovered: Vec<Owner> = recovered.map(|(route, _)| route).collect();
        recovered.into_iter().for_each(|route| self.await_answer(route));
        let accepted: Vec<Owner> = self
            .open
            .iter()
            .filter(|(route, resources)| {
                !self.rejected.contains_key(*route) && self.gateways.is_held(resources)
            })
            .map(|(route, _)| route.clone())
            .collect();
        let mut verdicts = Vec::new();
        for (route, rejection) in &rejections {
            self.open.remove(route);
            let condition = Condition { gateway: Some(self.instance.clone()), ..rejected(rejection) };
            verdicts.extend(self.verdict(route, condition));
        }
        for route in accepted {
            self.open.remove(&route);
            verdicts.extend(self.verdict(&route, accepted_by_all()));
        }
        verdicts
    }

    /// What gateways reject of routes, as it is now: of each route, the first resource by node, type and name.
    fn rejections(&self) -> BTreeMap<Owner, Rejection> {
        let state = self.gateways.cache.state();
        let is_current = |rejection: &Rejection| {
            let newest = state.resource(rejection.ty, &rejection.name);
            newest.is_some_and(|resource| resource.version() == rejection.nack.version)
        };
        let mut all = self.gateways.clients.rejections();
        all.sort_by(|a, b| (&a.node, a.ty, &a.name).cmp(&(&b.node, b.ty, &b.name)));
        let mut rejections = BTreeMap::new();
        for rejection in all.into_iter().filter(is_current) {
            let owner = self.translator.owner(rejection.ty.type_url(), &rejection.name);
            if let Some(route @ (Owner::Outbound(_) | Owner::Inbound(_))) = owner {
                rejections.entry(route).or_insert(rejection);
            }
        }
        rejections
    }

    fn verdict(&self, route: &Owner, condition: Condition) -> Option<(ObjectRef, StatusChange)> {
        let (object, status) = match route {
            Owner::Outbound(destination) => {
                self.snapshot.outbound.get(destination).map(|route| (&route.object, &route.status))?
            }
            Owner::Inbound(source) => {
                self.snapshot.inbound.get(source).map(|route| (&route.object, &route.status))?
            }
            Owner::Service(_) => return None,
        };
        let change = StatusChange::Condition(condition);
        change.apply(&mut DomainRouteStatus::clone(status)).then(|| (object.clone(), change))
    }
}

fn accepted_by_all() -> Condition {
    condition(ConditionStatus::True, "Acknowledged", String::new())
}

/// The condition of an object of which this is rejected.
pub(crate) fn rejected(rejection: &Rejection) -> Condition {
    let Rejection { ty, name, node, nack } = rejection;
    // Envoy tells of several resources in several lines.
    let words = nack.message.lines().collect::<Vec<_>>().join(" ");
    let message = format!("Envoy {node} rejects {ty} {name} and keeps the version before, if any: {words}");
    condition(ConditionStatus::False, "Rejected", message)
}

fn condition(status: ConditionStatus, reason: &str, message: String) -> Condition {
    Condition {
        type_: "Programmed".to_owned(),
        status,
        reason: reason.to_owned(),
        message,
        gateway: None,
        last_transition_time: Some(Time(Timestamp::now())),
    }
}

#[cfg(test)]
mod tests {
    use model::DomainId;

    use super::*;
    use crate::program::tests::{open_route, snapshot, translator};

    /// The names of the resources that are awaited for `route` at `domain`, which knows that alice reaches carol through bob.
    fn awaited(domain: &str, route: &Owner) -> Vec<String> {
        let routes = [("alice", "bob", None), ("bob", "carol", None), ("alice", "carol", Some("bob"))];
        let snapshot = snapshot(
            domain,
            &routes.map(|(source, destination, transit)| open_route(source, destination, transit)),
        );
        let mut watch = Watch {
            translator: translator(&snapshot.domain),
            gateways: Gateways::new(Arc::clone(&snapshot)).0,
            instance: "gateway".to_owned(),
            snapshot,
            open: BTreeMap::new(),
            rejected: BTreeMap::new(),
        };
        watch.await_answer(route.clone());
        watch.open[route].iter().map(|(_, name)| name.clone()).collect()
    }

    #[test]
    fn a_detour_needs_the_routes_by_which_its_requests_leave_and_come() {
        let id = |name: &str| name.parse::<DomainId>().expect("a domain ID");
        let leaving = awaited("alice", &Owner::Outbound(id("carol")));
        for name in ["to|carol", "to|bob", "alice-to-bob-http"] {
            assert!(leaving.iter().any(|known| known == name), "{name}: {leaving:?}");
        }
        let coming = awaited("carol", &Owner::Inbound(id("alice")));
        assert!(coming.iter().any(|known| known == "from|bob"), "{coming:?}");
        let direct = awaited("alice", &Owner::Outbound(id("bob")));
        assert_eq!(
            direct.iter().filter(|name| *name == "to|bob").count(),
            2,
            "a scope, and routes: {direct:?}"
        );
    }
}
