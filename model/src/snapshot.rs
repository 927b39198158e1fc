//! What a domain looks like at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::FieldErrors;
use crate::{DomainId, InboundRoute, ObjectRef, OutboundRoute, Service, ServiceName};

/// The whole valid configuration of a domain. It never changes; a new one replaces it.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The domain itself.
    pub domain: DomainId,
    /// The ways out, by destination.
    pub outbound: BTreeMap<DomainId, Arc<OutboundRoute>>,
    /// The ways in, by source.
    pub inbound: BTreeMap<DomainId, Arc<InboundRoute>>,
    /// The services of this domain.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// Objects whose newest version is not in force, and why. An earlier, good version of them may be above.
    pub rejected: BTreeMap<ObjectRef, FieldErrors>,
}

impl Snapshot {
    /// A domain without anything.
    #[must_use]
    pub fn empty(domain: DomainId) -> Self {
        Self {
            domain,
            outbound: BTreeMap::new(),
            inbound: BTreeMap::new(),
            services: BTreeMap::new(),
            rejected: BTreeMap::new(),
        }
    }
}
