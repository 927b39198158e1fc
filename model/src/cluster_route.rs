//! `ClusterDomainRoute` → the `DomainRoute` of one side.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use kube::core::ObjectMeta;

use crate::api::{ClusterDomainRoute, DomainRoute};

/// The `DomainRoute` that `cluster_route` stands for in `namespace`, labelled as Kuscia's controller does.
#[must_use]
pub fn expand(cluster_route: &ClusterDomainRoute, namespace: &str) -> DomainRoute {
    let route = &cluster_route.spec.route;
    let own = [
        ("kuscia.secretflow/clusterdomainroute-source".to_owned(), route.source.clone()),
        ("kuscia.secretflow/clusterdomainroute-destination".to_owned(), route.destination.clone()),
    ];
    let labels: BTreeMap<String, String> = cluster_route.labels().clone().into_iter().chain(own).collect();
    DomainRoute {
        metadata: ObjectMeta {
            name: Some(cluster_route.name_any()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: route.clone(),
        status: None,
    }
}
