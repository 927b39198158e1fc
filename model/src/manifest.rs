//! Manifest text → objects.

mod typed;

use serde_json::Value;
use serde_saphyr::{Options, UserMessageFormatter};

use crate::error::{FieldErrors, Problem};
use crate::{Kind, Object, ObjectRef};

/// The text holds no YAML or JSON documents; nothing of it can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; check the syntax near there (tabs, indentation, quotes)")]
pub struct ManifestError(String);

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// An object that can be read.
    Read {
        /// The object.
        object: Object,
        /// Fields that are unknown for its kind, as paths: likely misspelt.
        unknown_fields: Vec<String>,
    },
    /// An object of a kind that the mesh does not read.
    Ignored {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// An object of which a field has the wrong type or is missing.
    Broken {
        /// Which object, as far as that can be told: its kind, namespace and name, or its place in the text.
        object: String,
        /// What is wrong.
        errors: FieldErrors,
    },
}

/// Reads all documents of YAML or JSON `text`. A `List` stands for its items; a namespaced object without a namespace
/// belongs to `namespace`.
///
/// # Errors
/// The text is not YAML. Wrong objects are no errors here but [`Document::Broken`].
pub fn read_manifests(text: &str, namespace: &str) -> Result<Vec<Document>, ManifestError> {
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(text, yaml_options())
        .map_err(|error| ManifestError(error.render_with_formatter(&UserMessageFormatter)))?;
    let mut documents = Vec::new();
    for (position, value) in values.into_iter().enumerate() {
        read_document(value, &format!("document {}", position + 1), namespace, &mut documents);
    }
    Ok(documents)
}

/// Reads one object of `kind` as an API server sends it. Unknown fields are ignored: the server may know more of the
/// kind.
///
/// # Errors
/// A field has the wrong type or is missing. The errors do not show what stands there.
pub fn read_object(kind: Kind, value: &Value) -> Result<Object, FieldErrors> {
    read(kind, value, &mut Vec::new())
}

/// Wide enough for the routes and services of tens of thousands of domains in one text, and narrow for what aliases may
/// unfold to. The depth stays at the parser's own limit.
fn yaml_options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 100_000,
            max_events: 20_000_000,
            max_nodes: 10_000_000,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        // A snippet would show what stands near the error, and that may be secret.
        with_snippet: false,
    }
}

fn read_document(mut value: Value, place: &str, namespace: &str, documents: &mut Vec<Document>) {
    if value.is_null() {
        return;
    }
    let text_of = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text_of("apiVersion"), text_of("kind"));
    if api_version.is_empty() || kind.is_empty() {
        let field = if api_version.is_empty() { "apiVersion" } else { "kind" };
        let problem = Problem::new("is missing", "start the document with apiVersion and kind");
        let errors = FieldErrors::one(field, problem);
        documents.push(Document::Broken { object: place.to_owned(), errors });
        return;
    }
    if kind == "List"
        && let Some(Value::Array(items)) = value.get_mut("items").map(Value::take)
    {
        for (position, item) in items.into_iter().enumerate() {
            read_document(item, &format!("{place}, items[{position}]"), namespace, documents);
        }
        return;
    }
    documents.push(match Kind::of_manifest(&api_version, &kind) {
        Some(kind) => read_one(kind, &value, place, namespace),
        None => Document::Ignored { api_version, kind },
    });
}

fn read_one(kind: Kind, value: &Value, place: &str, namespace: &str) -> Document {
    let mut unknown_fields = Vec::new();
    let object = read(kind, value, &mut unknown_fields);
    let text_of =
        |pointer: &str| value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let name = text_of("/metadata/name");
    let object = object.and_then(|object| match name {
        Some(_) => Ok(object.in_namespace(namespace)),
        None => Err(FieldErrors::one("metadata.name", Problem::new("is missing", "give the object a name"))),
    });
    let errors = match object {
        Ok(object) => return Document::Read { object, unknown_fields },
        Err(errors) => errors,
    };
    let Some(name) = name else { return Document::Broken { object: format!("{kind} in {place}"), errors } };
    let namespace = text_of("/metadata/namespace").unwrap_or(namespace);
    let namespace = if kind.is_namespaced() { namespace } else { "" };
    let object = ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() };
    Document::Broken { object: object.to_string(), errors }
}

fn read(kind: Kind, value: &Value, unknown: &mut Vec<String>) -> Result<Object, FieldErrors> {
    match kind {
        Kind::Domain => typed::read(value, unknown).map(Object::Domain),
        Kind::DomainRoute => typed::read(value, unknown).map(Object::DomainRoute),
        Kind::ClusterDomainRoute => typed::read(value, unknown).map(Object::ClusterDomainRoute),
        Kind::Gateway => typed::read(value, unknown).map(Object::Gateway),
        Kind::Service => typed::read(value, unknown).map(Object::Service),
        Kind::Endpoints => typed::read(value, unknown).map(Object::Endpoints),
        Kind::EndpointSlice => typed::read(value, unknown).map(Object::EndpointSlice),
    }
}
