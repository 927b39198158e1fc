//! Manifest text → objects.

use kube::Resource as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{FieldErrors, Problem};
use crate::{Kind, Object, ObjectRef, route};

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
    let values: Vec<Value> =
        serde_saphyr::from_multiple_with_options(text, serde_saphyr::options! { with_snippet: false })
            .map_err(|error| ManifestError(error.to_string()))?;
    let mut documents = Vec::new();
    for (position, value) in values.into_iter().enumerate() {
        read_document(value, &format!("document {}", position + 1), namespace, &mut documents);
    }
    Ok(documents)
}

fn read_document(mut value: Value, place: &str, namespace: &str, documents: &mut Vec<Document>) {
    if value.is_null() {
        return;
    }
    let text_of = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text_of("apiVersion"), text_of("kind"));
    if api_version.is_empty() || kind.is_empty() {
        let mut errors = FieldErrors::default();
        let problem = "apiVersion or kind is missing";
        errors.add("kind", Problem::new(problem, "start the document with apiVersion and kind"));
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
        Some(kind) => read_object(kind, &value, place, namespace),
        None => Document::Ignored { api_version, kind },
    });
}

fn read_object(kind: Kind, value: &Value, place: &str, namespace: &str) -> Document {
    let mut unknown_fields = Vec::new();
    let unknown = &mut unknown_fields;
    let object = match kind {
        Kind::Domain => typed(value, unknown).map(|object| Object::Domain(Box::new(object))),
        Kind::DomainRoute => typed(value, unknown).map(|object| Object::DomainRoute(Box::new(object))),
        Kind::ClusterDomainRoute => {
            typed(value, unknown).map(|object| Object::ClusterDomainRoute(Box::new(object)))
        }
        Kind::Gateway => typed(value, unknown).map(|object| Object::Gateway(Box::new(object))),
        Kind::Service => typed(value, unknown).map(|object| Object::Service(Box::new(object))),
        Kind::Endpoints => typed(value, unknown).map(|object| Object::Endpoints(Box::new(object))),
        Kind::EndpointSlice => typed(value, unknown).map(|object| Object::EndpointSlice(Box::new(object))),
    };
    let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    match object {
        Ok(_) if name.is_empty() => {
            let mut errors = FieldErrors::default();
            errors.add("metadata.name", Problem::new("is missing", "give the object a name"));
            Document::Broken { object: format!("{kind} in {place}"), errors }
        }
        Ok(object) => Document::Read { object: object.in_namespace(namespace), unknown_fields },
        Err(errors) => {
            let namespace = value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or(namespace);
            let namespace = if kind.is_namespaced() { namespace } else { "" };
            let object = ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() };
            Document::Broken { object: object.to_string(), errors }
        }
    }
}

fn typed<T: DeserializeOwned>(value: &Value, unknown_fields: &mut Vec<String>) -> Result<T, FieldErrors> {
    let mut note = |path: serde_ignored::Path<'_>| unknown_fields.push(path.to_string());
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    serde_ignored::deserialize(deserializer, &mut note).map_err(|error: serde_json::Error| {
        let mut errors = FieldErrors::default();
        let remedy = "see `networkmesh crds` for the fields and their types";
        errors.add(track.path().to_string(), Problem::new(error.to_string(), remedy));
        errors
    })
}

impl Object {
    fn in_namespace(mut self, namespace: &str) -> Self {
        let metadata = match &mut self {
            Self::DomainRoute(object) => object.meta_mut(),
            Self::Gateway(object) => object.meta_mut(),
            Self::Service(object) => object.meta_mut(),
            Self::Endpoints(object) => object.meta_mut(),
            Self::EndpointSlice(object) => object.meta_mut(),
            Self::Domain(_) | Self::ClusterDomainRoute(_) => return self,
        };
        if metadata.namespace.as_deref().is_none_or(str::is_empty) {
            metadata.namespace = Some(namespace.to_owned());
        }
        self
    }

    /// Checks what can be checked of the object alone, without keys and without the domain that it is for.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(&self) -> Result<(), FieldErrors> {
        match self {
            Self::DomainRoute(object) => route::check_fields(object),
            Self::ClusterDomainRoute(object) => {
                route::check_fields(&crate::cluster_route::expand(object, ""))
            }
            Self::Service(object) => crate::service::parse(object, None, [].iter()).map(|_| ()),
            Self::Domain(object) => crate::index::domain_certificate(object).map(|_| ()),
            Self::Gateway(_) | Self::Endpoints(_) | Self::EndpointSlice(_) => Ok(()),
        }
    }
}
