//! The configuration that Envoys are given, as JSON.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::Deserialize;
use serde_json::{Value, json};
use xds::{Cache, ResourceType};

/// What to dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Selection {
    /// Listeners (LDS).
    Listeners,
    /// Route configurations (RDS).
    Routes,
    /// Clusters (CDS).
    Clusters,
    /// Endpoints of clusters (EDS).
    Endpoints,
    /// Certificates and keys (SDS).
    Secrets,
    /// Filter configurations, such as the accepted tokens (ECDS).
    Extensions,
    /// All of them.
    All,
}

impl Selection {
    fn types(self) -> &'static [(&'static str, ResourceType)] {
        const ALL: [(&str, ResourceType); 6] = [
            ("listeners", ResourceType::Listener),
            ("routes", ResourceType::RouteConfiguration),
            ("clusters", ResourceType::Cluster),
            ("endpoints", ResourceType::ClusterLoadAssignment),
            ("secrets", ResourceType::Secret),
            ("extensions", ResourceType::TypedExtensionConfig),
        ];
        match self {
            Self::Listeners => &ALL[..1],
            Self::Routes => &ALL[1..2],
            Self::Clusters => &ALL[2..3],
            Self::Endpoints => &ALL[3..4],
            Self::Secrets => &ALL[4..5],
            Self::Extensions => &ALL[5..],
            Self::All => &ALL,
        }
    }
}

/// Every selected resource with its version, by kind. Keys and tokens are blanked unless `show_secrets`.
pub(crate) fn dump(cache: &Cache, selection: Selection, show_secrets: bool) -> Value {
    let state = cache.state();
    let resources = |ty: ResourceType| {
        let resource = |resource: &std::sync::Arc<xds::Resource>| {
            let mut config = envoy::to_json(ty.type_url(), resource.body())
                .unwrap_or_else(|error| json!({"error": error.to_string()}));
            if !show_secrets {
                envoy::redact(&mut config);
            }
            json!({"name": &**resource.name(), "version": resource.version(), "config": config})
        };
        state.resources(ty).map(resource).collect::<Vec<Value>>()
    };
    let kinds: BTreeMap<&str, Vec<Value>> =
        selection.types().iter().map(|(name, ty)| (*name, resources(*ty))).collect();
    json!(kinds)
}
