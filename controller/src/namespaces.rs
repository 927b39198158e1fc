//! The namespaces of domains. A namespace is never deleted: what a domain leaves behind is its operator's.

use std::collections::BTreeMap;

use model::DomainId;

use crate::action::Action;
use crate::world::{KnownDomain, World};

/// Says whose namespace it is.
pub(crate) const DOMAIN_LABEL: &str = "kuscia.secretflow/domain-name";

/// Marks the namespace of a domain that was deleted.
pub(crate) const DELETED_LABEL: &str = "kuscia.secretflow/deleted";

/// The role of a domain, where it has one.
pub(crate) const ROLE_LABEL: &str = "kuscia.secretflow/role";

/// The protocol that a domain prefers, where it says so.
pub(crate) const PROTOCOL_LABEL: &str = "kuscia.secretflow/interconn-protocols";

/// The role of another institution's domain.
pub(crate) const PARTNER: &str = "partner";

/// What is to be done about the namespace of the domain `name`. Partners have one too, as with Kuscia.
pub(crate) fn reconcile(world: &World, name: &str) -> Vec<Action> {
    // Whatever a Domain is called, it must not get at the namespaces of Kubernetes.
    if !name.parse::<DomainId>().is_ok_and(|id| !id.is_reserved()) {
        return Vec::new();
    }
    let labels = match (world.domains.get(name), world.namespaces.get(name)) {
        (Some(domain), None) => {
            let labels = wanted(name, domain)
                .into_iter()
                .filter_map(|(label, value)| Some((label.to_owned(), value?)));
            return vec![Action::CreateNamespace { name: name.to_owned(), labels: labels.collect() }];
        }
        (Some(domain), Some(namespace)) if !namespace.is_terminating => {
            let wrong = wanted(name, domain)
                .into_iter()
                .filter(|(label, value)| namespace.labels.get(*label) != value.as_ref());
            wrong.map(|(label, value)| (label.to_owned(), value)).collect()
        }
        (None, Some(namespace))
            if !namespace.is_terminating
                && namespace.labels.get(DOMAIN_LABEL).is_some_and(|domain| domain == name)
                && !namespace.labels.contains_key(DELETED_LABEL) =>
        {
            BTreeMap::from([(DELETED_LABEL.to_owned(), Some("true".to_owned()))])
        }
        _ => BTreeMap::new(),
    };
    if labels.is_empty() {
        return Vec::new();
    }
    vec![Action::LabelNamespace { name: name.to_owned(), labels }]
}

/// The labels of the namespace of `domain`; those without value are to be absent.
fn wanted(name: &str, domain: &KnownDomain) -> [(&'static str, Option<String>); 4] {
    [
        (DOMAIN_LABEL, Some(name.to_owned())),
        (DELETED_LABEL, None),
        (ROLE_LABEL, Some(domain.role.clone()).filter(|role| !role.is_empty())),
        (PROTOCOL_LABEL, domain.protocol.clone()),
    ]
}
