//! One value of a manifest → one object, or an error that names the field and does not show what stood there.

use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::Value;
use serde_path_to_error::Track;

use crate::error::{FieldErrors, Problem};

/// Reads an object and notes the fields that its type does not have.
pub(super) fn read<T: DeserializeOwned>(
    value: &Value,
    unknown_fields: &mut Vec<String>,
) -> Result<T, FieldErrors> {
    // The derived kinds know these two without a field for them.
    let mut note = |path: Path<'_>| match field_path(&path) {
        path if matches!(path.as_str(), "apiVersion" | "kind") => {}
        path => unknown_fields.push(path),
    };
    let mut track = Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    serde_ignored::deserialize(deserializer, &mut note)
        .map_err(|error: serde_json::Error| field_error(&track.path().to_string(), &error.to_string()))
}

/// A path as Kubernetes writes it: `spec.ports[0].name`.
fn field_path(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", field_path(parent)),
        Path::Map { parent, key } => join(&field_path(parent), key),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            field_path(parent)
        }
    }
}

fn join(parent: &str, field: &str) -> String {
    if parent.is_empty() { field.to_owned() } else { format!("{parent}.{field}") }
}

fn field_error(path: &str, message: &str) -> FieldErrors {
    const REMEDY: &str = "see `networkmesh crds` for the fields and their types";
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    if let Some(field) = missing {
        let parent = if path == "." { "" } else { path };
        return FieldErrors::one(join(parent, field), Problem::new("is missing", REMEDY));
    }
    FieldErrors::one(path, Problem::new(without_value(message), REMEDY))
}

/// What serde says, less the value that it quotes: that may be a secret.
fn without_value(message: &str) -> String {
    let says_type = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
    match message.rsplit_once(", expected ") {
        Some((found, expected)) if says_type.iter().any(|prefix| message.starts_with(prefix)) => {
            let found = found.split(['"', '`']).next().unwrap_or_default().trim_end();
            format!("{found}, expected {expected}")
        }
        _ => "cannot be read as what this field holds".to_owned(),
    }
}
