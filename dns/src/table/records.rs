//! All that is in the zone.

use std::sync::Arc;

use hickory_proto::rr::Record;
use model::DomainId;

use super::Names;
use crate::zone::apex;

impl Names {
    /// All records of the zone `svc.` as they are now, the SOA first. The names of other domains' services are wildcards
    /// (RFC 4592).
    pub fn records(&self) -> impl Iterator<Item = Record> + use<> {
        let table = self.read();
        let (zone, serial) = (Arc::clone(&table.zone), table.serial);
        let mut services: Vec<_> = table.services.values().map(|entry| Arc::clone(&entry.service)).collect();
        let mut domains: Vec<DomainId> = table.domains.iter().cloned().collect();
        // The rest is done while names may change.
        drop(table);
        services.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        domains.sort_unstable();

        let own = zone.apex(serial).into_iter().map(|data| zone.record(apex(), data)).chain(zone.glue());
        let own: Vec<Record> = own.collect();
        let others: Vec<Record> = domains.iter().flat_map(|domain| zone.wildcard(domain)).collect();
        let services = services.into_iter().flat_map(move |service| zone.records_of(&service));
        own.into_iter().chain(services).chain(others)
    }
}
