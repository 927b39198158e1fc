//! What can be wrong with manifests only in the presence of others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use model::api::DomainRoute;
use model::{Object, ObjectRef, Problem, expand_cluster_route};

use super::report::Finding;

/// Objects that are defined more than once.
pub(super) fn duplicates(objects: &[(PathBuf, Object)]) -> Vec<Finding> {
    let mut first_files: BTreeMap<ObjectRef, &Path> = BTreeMap::new();
    let mut findings = Vec::new();
    for (file, object) in objects {
        let reference = object.reference();
        if let Some(first) = first_files.get(&reference) {
            let problem = if *first == file {
                "is defined twice in this file".to_owned()
            } else {
                format!("is defined in {} too", first.display())
            };
            findings.push(Finding::of_object(file, &reference, Problem::new(problem, "keep one of the two")));
        } else {
            first_files.insert(reference, file);
        }
    }
    findings
}

/// Token routes without the public key of the other domain, neither in the route nor as a `Domain`.
pub(super) fn missing_keys(objects: &[(PathBuf, Object)]) -> Vec<Finding> {
    let certified: BTreeSet<String> = objects
        .iter()
        .filter_map(|(_, object)| match object {
            Object::Domain(domain) if !domain.spec.cert.is_empty() => Some(object.reference().name),
            _ => None,
        })
        .collect();
    let finding = |(file, object): &(PathBuf, Object)| {
        let (field, peer) = match object {
            Object::DomainRoute(route) => missing_key(route, &certified)?,
            Object::ClusterDomainRoute(route) => missing_key(&expand_cluster_route(route, ""), &certified)?,
            _ => return None,
        };
        let remedy =
            format!("put the public key of {peer} there, or add a Domain {peer} with its certificate");
        let problem = Problem::new("is missing", remedy);
        Some(Finding::of_field(file, object.reference(), format!("spec.tokenConfig.{field}"), problem))
    };
    objects.iter().filter_map(finding).collect()
}

/// The field without a key, and the domain whose key belongs there. A domain knows its own key: where the namespace
/// does not tell which of the two is the other domain, one key is enough.
fn missing_key(route: &DomainRoute, certified: &BTreeSet<String>) -> Option<(&'static str, String)> {
    let config = route.spec.token_config.as_ref()?;
    if route.spec.authentication_type != "Token" {
        return None;
    }
    let source = ("sourcePublicKey", &config.source_public_key, &route.spec.source);
    let destination = ("destinationPublicKey", &config.destination_public_key, &route.spec.destination);
    let is_missing =
        |(_, key, domain): &(&str, &String, &String)| key.is_empty() && !certified.contains(*domain);
    let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
    let missing = if namespace == route.spec.source {
        is_missing(&destination).then_some(destination)
    } else if namespace == route.spec.destination {
        is_missing(&source).then_some(source)
    } else if route.spec.transit.is_some() && !namespace.is_empty() {
        // It permits that domain to forward, and makes no tokens there.
        None
    } else {
        (is_missing(&source) && is_missing(&destination)).then_some(destination)
    };
    missing.map(|(field, _, domain)| (field, domain.clone()))
}
