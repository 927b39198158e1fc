//! The configuration that Envoys are given, as JSON, and the names that clients are.

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
    /// Which requests take which route configuration (SRDS).
    Scopes,
    /// The names that the DNS answers, as a master file (RFC 1035).
    Names,
    /// All that Envoys are given.
    All,
}

impl Selection {
    /// The selected types, and what they are called in a dump.
    fn types(self) -> impl Iterator<Item = (&'static str, ResourceType)> {
        const KINDS: [(Selection, &str, ResourceType); 6] = [
            (Selection::Listeners, "listeners", ResourceType::Listener),
            (Selection::Routes, "routes", ResourceType::RouteConfiguration),
            (Selection::Clusters, "clusters", ResourceType::Cluster),
            (Selection::Endpoints, "endpoints", ResourceType::ClusterLoadAssignment),
            (Selection::Secrets, "secrets", ResourceType::Secret),
            (Selection::Scopes, "scopes", ResourceType::ScopedRouteConfiguration),
        ];
        let selected = KINDS.into_iter().filter(move |(kind, ..)| self == Self::All || self == *kind);
        selected.map(|(_, name, ty)| (name, ty))
    }
}

/// A resource as a message without keys and tokens, for whoever asks for the status of clients. `None` for secrets.
pub(crate) fn redacted(ty: ResourceType, _name: &str, body: &[u8]) -> Option<Vec<u8>> {
    if ty == ResourceType::Secret {
        return None;
    }
    let mut config = envoy::to_json(ty.type_url(), body).ok()?;
    envoy::redact(&mut config);
    envoy::from_json(ty.type_url(), &config).ok()
}

/// Every selected resource with its version, by kind. Keys and tokens are blanked unless `show_secrets`.
pub(crate) fn dump(cache: &Cache, selection: Selection, show_secrets: bool) -> Value {
    let state = cache.state();
    let resources = |ty: ResourceType| {
        let resource = |resource: &xds::Resource| {
            let mut config = envoy::to_json(ty.type_url(), resource.body())
                .unwrap_or_else(|error| json!({"error": error.to_string()}));
            if !show_secrets {
                envoy::redact(&mut config);
            }
            json!({"name": resource.name(), "version": resource.version(), "config": config})
        };
        state.resources(ty).map(resource).collect::<Vec<Value>>()
    };
    let kinds: BTreeMap<&str, Vec<Value>> =
        selection.types().map(|(name, ty)| (name, resources(ty))).collect();
    json!(kinds)
}
