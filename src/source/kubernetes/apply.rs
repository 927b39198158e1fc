//! One write of the status of a route.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use model::Kind;
use model::api::DomainRouteStatus;
use serde::Deserialize as _;
use serde_json::json;
use tokio::time::timeout;

use super::raw::{self, Raw};
use super::routes::KnownRoute;

/// The field manager of everything that a mesh writes.
const FIELD_MANAGER: &str = "networkmesh";

/// How long a write may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of a write.
pub(super) struct Written {
    /// The version that it was computed from.
    pub(super) from: KnownRoute,
    /// The version that it made.
    pub(super) result: Result<KnownRoute, WriteError>,
}

/// Why a status was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The API server does not want it, or cannot be asked.
    Refused(kube::Error),
    /// No answer in time.
    Silence,
}

/// Writes the whole status of the version that is `known`, or nothing where that is not the newest one.
pub(super) async fn apply(api: Api<Raw>, known: KnownRoute, status: DomainRouteStatus) -> Written {
    let resource = raw::resource(Kind::DomainRoute);
    let patch = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": known.name, "uid": known.uid, "resourceVersion": known.version},
        "status": status,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let written = timeout(PATIENCE, api.patch_status(&known.name, &parameters, &Patch::Apply(patch))).await;
    let result = match written {
        Ok(result) => result.map(|raw| version_after(&known, &raw)).map_err(WriteError::Refused),
        Err(_elapsed) => Err(WriteError::Silence),
    };
    Written { from: known, result }
}

/// What a route is after a write, as the API server answers.
fn version_after(from: &KnownRoute, raw: &Raw) -> KnownRoute {
    let status = raw.field("/status").and_then(|status| DomainRouteStatus::deserialize(status).ok());
    KnownRoute {
        version: raw.resource_version().unwrap_or_else(|| from.version.clone()),
        status: status.unwrap_or_else(|| from.status.clone()),
        ..from.clone()
    }
}
