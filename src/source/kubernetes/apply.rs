//! One write of the status of a route.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use model::Kind;
use model::api::DomainRouteStatus;
use serde::Deserialize as _;
use serde_json::{Value, json};
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
    let written = timeout(PATIENCE, write(&api, &known, &status)).await;
    let result = match written {
        Ok(result) => result.map(|raw| version_after(&known, &raw)).map_err(WriteError::Refused),
        Err(_elapsed) => Err(WriteError::Silence),
    };
    Written { from: known, result }
}

async fn write(api: &Api<Raw>, known: &KnownRoute, status: &DomainRouteStatus) -> kube::Result<Raw> {
    let resource = raw::resource(Kind::DomainRoute);
    let patch = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": known.name, "uid": known.uid, "resourceVersion": known.version},
        "status": status,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let written = api.patch_status(&known.name, &parameters, &Patch::Apply(patch)).await?;
    if status_of(&written).is_some_and(|written| written.token_status == status.token_status) {
        return Ok(written);
    }
    // Fields that another manager has set and this one leaves out stay. In tokens that would be wrong.
    let status = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
    let found = written.field("/status").cloned().unwrap_or_default();
    let patch = json!({
        "metadata": {"uid": known.uid, "resourceVersion": written.resource_version()},
        "status": without_others(status, &found),
    });
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch_status(&known.name, &parameters, &Patch::Merge(patch)).await
}

/// The merge patch (RFC 7396) that makes what is `found` what is `wanted`.
fn without_others(mut wanted: Value, found: &Value) -> Value {
    if let (Value::Object(wanted), Value::Object(found)) = (&mut wanted, found) {
        for (field, found) in found {
            let wanted = wanted.entry(field).or_insert(Value::Null);
            *wanted = without_others(wanted.take(), found);
        }
    }
    wanted
}

fn status_of(raw: &Raw) -> Option<DomainRouteStatus> {
    raw.field("/status").and_then(|status| DomainRouteStatus::deserialize(status).ok())
}

/// What a route is after a write, as the API server answers.
fn version_after(from: &KnownRoute, raw: &Raw) -> KnownRoute {
    KnownRoute {
        version: raw.resource_version().unwrap_or_else(|| from.version.clone()),
        status: status_of(raw).unwrap_or_else(|| from.status.clone()),
        ..from.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_takes_away_what_others_have_added() {
        let wanted = json!({"kept": 1, "map": {"kept": 1}, "list": [1]});
        let found = json!({"kept": 2, "other": 1, "map": {"kept": 1, "other": {"a": 1}}, "list": [2, 3]});
        let patch = json!({"kept": 1, "other": null, "map": {"kept": 1, "other": null}, "list": [1]});
        assert_eq!(without_others(wanted, &found), patch);
    }
}
