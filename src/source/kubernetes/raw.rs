//! Objects as the API server sends them.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, DynamicResourceScope};
use kube::{Api, Client, Resource};
use model::api::{ClusterDomainRoute, Domain, DomainRoute, Gateway};
use model::{FieldErrors, Kind, Object, read_object};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object that may be anything, so that one that cannot be read disturbs no other.
#[derive(Clone)]
pub(super) struct Raw {
    /// Name, UID, version and generation, no more.
    metadata: ObjectMeta,
    value: Value,
}

impl Raw {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// What stands in it, as an object of `namespace`.
    ///
    /// # Errors
    /// It cannot be read as one of `kind`.
    pub(super) fn read(mut self, kind: Kind, namespace: &str) -> Result<Object, FieldErrors> {
        if let Some(metadata) = self.value.get_mut("metadata").and_then(Value::as_object_mut)
            && kind.is_namespaced()
        {
            metadata.insert("namespace".to_owned(), Value::from(namespace));
        }
        read_object(kind, &self.value).or_else(|errors| {
            // The mesh writes the status of routes itself, and must be able to write over a broken one.
            let status = self.value.as_object_mut().and_then(|route| route.remove("status"));
            if kind != Kind::DomainRoute || status.is_none() {
                return Err(errors);
            }
            let route = read_object(kind, &self.value).map_err(|_| errors.clone())?;
            tracing::warn!(route = self.name(), %errors, "the status of a route cannot be read and begins anew");
            Ok(route)
        })
    }

    /// The field at the JSON pointer.
    pub(super) fn field(&self, pointer: &str) -> Option<&Value> {
        self.value.pointer(pointer)
    }
}

/// No more than the name: the rest may be secret.
impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw").field("name", &self.metadata.name).finish_non_exhaustive()
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            // Half of many objects, and nobody reads it.
            metadata.remove("managedFields");
        }
        let field = |field: &str| value.get("metadata").and_then(|metadata| metadata.get(field));
        let text = |name: &str| field(name).and_then(Value::as_str).map(ToOwned::to_owned);
        let metadata = ObjectMeta {
            name: text("name"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            generation: field("generation").and_then(Value::as_i64),
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, value })
    }
}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.kind)
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.group)
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.version)
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.plural)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The objects of `kind`: those of `namespace`, or of the cluster where they stand in no namespace.
pub(super) fn api(kind: Kind, client: Client, namespace: &str) -> Api<Raw> {
    let resource = resource(kind);
    if kind.is_namespaced() {
        Api::namespaced_with(client, namespace, &resource)
    } else {
        Api::all_with(client, &resource)
    }
}

/// How the API server calls `kind`.
pub(super) fn resource(kind: Kind) -> ApiResource {
    match kind {
        Kind::Domain => ApiResource::erase::<Domain>(&()),
        Kind::DomainRoute => ApiResource::erase::<DomainRoute>(&()),
        Kind::ClusterDomainRoute => ApiResource::erase::<ClusterDomainRoute>(&()),
        Kind::Gateway => ApiResource::erase::<Gateway>(&()),
        Kind::Service => ApiResource::erase::<Service>(&()),
        Kind::Endpoints => ApiResource::erase::<Endpoints>(&()),
        Kind::EndpointSlice => ApiResource::erase::<EndpointSlice>(&()),
    }
}
